"""From DICOM, PNG and JPEG files to grey images: decoding, look-up tables, scaling, writing."""
