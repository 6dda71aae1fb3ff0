"""Raw images as people bring them: DICOM files, and copies of radiographs as PNG or JPEG."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siimdet.imaging.dicom import read_radiograph
from siimdet.imaging.png import read_grey
from siimdet.imaging.radiograph import Radiograph


def read_raw(path: Path, *, is_dicom: bool, voi: int = 1) -> Radiograph | NDArray[np.unsignedinteger]:
    """What the grey pipeline takes; or the pixels u8[H, W] of a copy of 8 bits, which are grey levels as they are.

    What a copy of 16 bits holds is often a detector's 12: as it is it would be all but black.
    `voi` is as for read_radiograph. Raises: ImageError for a file that cannot be read.
    """
    if is_dicom:
        return read_radiograph(path, voi=voi)
    pixels = read_grey(path)
    return Radiograph.plain(pixels) if pixels.dtype == np.uint16 else pixels
