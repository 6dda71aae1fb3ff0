"""What one image may cost at most; with these a decode stays under 2 GiB."""

MAX_PIXELS = 150_000_000
"""Rows times columns: four times the largest detectors' 6,000 rows of 6,000."""

MAX_SIDE = 65_535
"""Rows or columns: what DICOM and JPEG can say, and OpenCV can read."""

MAX_FILE_BYTES = 256 << 20
"""Of a file, and of a deflated file once inflated."""
