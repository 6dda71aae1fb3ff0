"""Raw images: finding them below the raw folder, and reading them as grey pixels of 8 or 16 bits."""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import ImageSize
from siimdet.errors import SourceError
from siimdet.imaging.dicom import read_radiograph
from siimdet.imaging.grayscale import to_grey
from siimdet.imaging.png import read_grey

SUFFIXES = (".dcm", ".png", ".jpg", ".jpeg")
"""What an image may be stored as, the preferred first."""


@dataclass(frozen=True, slots=True, eq=False)
class RawImage:
    """One raw image, ready to be stored.

    Shapes: pixels u8[H, W] or u16[H, W]. `patient_id` is empty where the file does not tell.
    """

    pixels: NDArray[np.unsignedinteger]
    patient_id: str
    is_dicom: bool

    @property
    def size(self) -> ImageSize:
        """Size of the pixels as decoded."""
        return ImageSize(self.pixels.shape[1], self.pixels.shape[0])


def load_image(path: Path, bit_depth: int) -> RawImage:
    """Read a DICOM file with its grey pipeline, or a copy (PNG, JPEG) whose grey levels stay as they are."""
    if path.suffix.lower() == ".dcm":
        radiograph = read_radiograph(path)
        return RawImage(to_grey(radiograph, bit_depth=bit_depth), radiograph.patient_id, is_dicom=True)
    return RawImage(at_depth(read_grey(path), bit_depth), "", is_dicom=False)


def at_depth(image: NDArray[np.unsignedinteger], bit_depth: int) -> NDArray[np.unsignedinteger]:
    """An 8- or 16-bit image at a bit depth: 0 stays 0 and full scale stays full scale."""
    if bit_depth == 16:
        return image if image.dtype == np.uint16 else image.astype(np.uint16) * np.uint16(257)
    if image.dtype == np.uint8:
        return image
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


class RawFiles:
    """The image files below a raw folder, by stem."""

    def __init__(self, raw: Path, *, without: Path) -> None:
        """Walk `raw` once, leaving out the folder `without`: an output below it holds images of the same stems."""
        self._raw = raw
        self._found: dict[str, list[Path]] = defaultdict(list)
        skipped = without.resolve()
        seen = {raw.resolve(), skipped}
        for folder, folders, names in os.walk(raw, followlinks=True):
            # Folders may be links, as people keep such downloads elsewhere; one that leads to a known folder is not.
            places = {name: Path(folder, name).resolve() for name in sorted(folders)}
            folders[:] = [name for name, place in places.items() if place not in seen and not seen.add(place)]
            for name in names:
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in SUFFIXES and not name.startswith("._"):
                    self._found[stem].append(Path(folder, name))

    def __contains__(self, stem: str) -> bool:
        return stem in self._found

    def path(self, stem: str) -> Path:
        """The file of a stem: a DICOM file before a copy.

        Raises: SourceError if there is none, or several of the preferred kind.
        """
        ranked: dict[int, list[Path]] = defaultdict(list)
        for path in self._found.get(stem, ()):
            ranked[SUFFIXES.index(path.suffix.lower())].append(path)
        if not ranked:
            expected = f"{stem} with one of {', '.join(SUFFIXES)}"
            raise SourceError(self._raw, "image file", found="none", expected=expected)
        best = ranked[min(ranked)]
        if len(best) > 1:
            found = " and ".join(sorted(path.relative_to(self._raw).as_posix() for path in best))
            raise SourceError(self._raw, "image file", found=found, expected="one file of that name")
        return best[0]
