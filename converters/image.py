"""One raw image as grey pixels of 8 or 16 bits, and what its file says of itself."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import ImageSize
from siimdet.imaging.dicom import read_radiograph
from siimdet.imaging.grayscale import Scaling, to_grey
from siimdet.imaging.png import read_grey

COPIES = (".png", ".jpg", ".jpeg")
"""Suffixes of copies whose grey levels stay as they are."""

OTHERS = (".jpe", ".jfif", ".bmp", ".gif", ".jp2", ".tif", ".tiff", ".webp")
"""Suffixes of further images: not passed over, but refused by name unless PNG or JPEG is in them."""

COLUMNS = ("bits", "photometric")
"""Source columns of the manifest that the file tells."""


@dataclass(frozen=True, slots=True)
class Grey:
    """How pixels become grey levels; scaling and VOI are of DICOM files."""

    bit_depth: int = 8
    scaling: Scaling = "minmax"
    voi: int = 1
    """Number of the VOI table or window, from 1; 0 for none."""


@dataclass(frozen=True, slots=True, eq=False)
class RawImage:
    """One raw image, ready to be stored.

    Shapes: pixels u8[H, W] or u16[H, W]. Ids are empty where the file does not tell.
    """

    pixels: NDArray[np.unsignedinteger]
    patient_id: str
    is_dicom: bool
    study_id: str = ""
    columns: dict[str, str] = field(default_factory=dict)
    """Cells of COLUMNS."""
    scaled_otherwise: bool = False
    """The asked scaling is by the window, and the file has none: minmax took its place."""

    @property
    def size(self) -> ImageSize:
        """Size of the pixels as decoded."""
        return ImageSize(self.pixels.shape[1], self.pixels.shape[0])


def load_image(path: Path, grey: Grey) -> RawImage:
    """Read a copy (PNG, JPEG) whose grey levels stay as they are, or a DICOM file with its grey pipeline."""
    if path.suffix.lower() in (*COPIES, *OTHERS):
        pixels = read_grey(path)
        columns = {"bits": str(8 * pixels.itemsize), "photometric": ""}
        return RawImage(at_depth(pixels, grey.bit_depth), "", is_dicom=False, columns=columns)
    radiograph = read_radiograph(path, voi=grey.voi)
    return RawImage(
        to_grey(radiograph, bit_depth=grey.bit_depth, scaling=grey.scaling),
        radiograph.patient_id,
        is_dicom=True,
        study_id=radiograph.study_uid,
        columns={"bits": str(radiograph.bits_stored), "photometric": radiograph.photometric},
        scaled_otherwise=grey.scaling == "window" and radiograph.voi is None,
    )


def at_depth(image: NDArray[np.unsignedinteger], bit_depth: int) -> NDArray[np.unsignedinteger]:
    """An 8- or 16-bit image at a bit depth: 0 stays 0 and full scale stays full scale."""
    if bit_depth == 16:
        return image if image.dtype == np.uint16 else image.astype(np.uint16) * np.uint16(257)
    if image.dtype == np.uint8:
        return image
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
