"""Detection of findings on chest radiographs: from DICOM to a scored submission."""

__version__ = "0.1.0"
