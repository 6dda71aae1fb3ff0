"""One raw image as grey pixels of 8 or 16 bits, and what its file says of itself."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import ImageSize
from siimdet.imaging.grayscale import Scaling, to_grey
from siimdet.imaging.radiograph import Radiograph
from siimdet.imaging.raw import read_raw

COPIES = (".png", ".jpg", ".jpeg")
"""Suffixes of copies, whose grey levels stay as they are if they have 8 bits."""

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
    """Read a DICOM file or a copy (PNG, JPEG) of 16 bits with the grey pipeline, one of 8 bits as it is."""
    is_dicom = path.suffix.lower() not in (*COPIES, *OTHERS)
    image = read_raw(path, is_dicom=is_dicom, voi=grey.voi)
    if not isinstance(image, Radiograph):
        columns = {"bits": "8", "photometric": ""}
        return RawImage(at_depth(image, grey.bit_depth), "", is_dicom=False, columns=columns)
    return RawImage(
        to_grey(image, bit_depth=grey.bit_depth, scaling=grey.scaling),
        image.patient_id,
        is_dicom=is_dicom,
        study_id=image.study_uid,
        columns={"bits": str(image.bits_stored), "photometric": image.photometric},
        scaled_otherwise=grey.scaling == "window" and image.voi is None,
    )


def at_depth(image: NDArray[np.unsignedinteger], bit_depth: int) -> NDArray[np.unsignedinteger]:
    """An image u8[H, W] at 8 or 16 bits: full scale stays full scale."""
    return image.astype(np.uint16) * np.uint16(257) if bit_depth == 16 else image
