"""Phantoms of CT slices as the folders that MIA-COV19D ships, with what is wrong in it: `._*` files and a black slice.

The same seed gives the same files, byte for byte. Coordinates are fractions of the slice.
"""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from siimdet.core.files import atomic_write

SIDE = 128
"""Side of a slice, px; those of MIA-COV19D have 512."""

LESIONS = 0.5
"""Grey that a lesion adds at its peak: air in a lung is .15, the tissue around it .65."""

_NOISE_SD = 0.05
_APPLE_DOUBLE = bytes.fromhex("00051607000200004d6163204f532058")
"""How the files begin that macOS leaves beside others on foreign disks: `Mac OS X` after magic and version."""


def write_mia_cov19d(root: Path, *, patients: int, slices: int, seed: int = 0) -> None:
    """MIA-COV19D: train/ and validation/ of CLASS/SCAN/NUMBER.jpg, CLASS covid and non-covid.

    `patients` training scans of each class and a quarter as many for validation, two at least; `slices` of each
    scan, from the lungs' base to their apex. Slices of covid scans have lesions, but for the last one.
    Every scan has a `._0.jpg` beside its 0.jpg, and the first covid scan one slice more, all black.
    """
    for part, scans in (("train", patients), ("validation", max(2, patients // 4))):
        for label in ("covid", "non-covid"):
            for scan in range(scans):
                folder = root / part / label / f"ct_scan_{scan}"
                rng = np.random.default_rng((seed, part == "train", label == "covid", scan))
                _write_scan(rng, folder, slices, covid=label == "covid")
    _write_jpeg(root / "train" / "covid" / "ct_scan_0" / f"{slices}.jpg", np.zeros((SIDE, SIDE)))


def _write_scan(rng: np.random.Generator, folder: Path, slices: int, *, covid: bool) -> None:
    width, height = rng.uniform(0.13, 0.17), rng.uniform(0.22, 0.28)
    for number in range(slices):
        place = (number + 0.5) / slices
        size = np.sqrt(1 - (1.6 * (place - 0.5)) ** 2)  # lungs are widest in the middle
        lesions = covid and number < slices - 1  # they spare the apex
        _write_jpeg(folder / f"{number}.jpg", _draw(rng, width * size, height * size, lesions=lesions))
    with atomic_write(folder / "._0.jpg", "wb") as stream:
        stream.write(_APPLE_DOUBLE.ljust(4096, b"\0"))


def _draw(rng: np.random.Generator, width: float, height: float, *, lesions: bool) -> NDArray[np.float64]:
    """A slice f64[SIDE, SIDE] in [0, 1]: a body with two lungs of these half axes, and ground glass at their backs."""
    image = 0.65 * _ellipse(0.5, 0.5, 0.44, 0.38)
    for side in (-1, 1):
        x = 0.5 + 0.2 * side
        lung = _ellipse(x, 0.5, width, height)
        image -= 0.5 * lung
        for _ in range(2 * lesions):
            across, down = rng.uniform(-0.5, 0.5) * width, rng.uniform(0, 0.6) * height
            extent = rng.uniform(0.09, 0.12)
            image += LESIONS / 2 * lung * _ellipse(x + across, 0.5 + down, extent, extent)
    image += 0.2 * _ellipse(0.5, 0.75, 0.05, 0.05)  # a vertebra
    return image + _NOISE_SD * rng.standard_normal(image.shape)


def _ellipse(x: float, y: float, width: float, height: float) -> NDArray[np.float64]:
    """1 within an ellipse of these half axes and 0 outside, with a border a few pixels wide."""
    axis = (np.arange(SIDE) + 0.5) / SIDE
    distance = np.hypot((axis[None, :] - x) / width, (axis[:, None] - y) / height)
    return 1 / (1 + np.exp(np.clip(20 * (distance - 1), -60, 60)))


def _write_jpeg(path: Path, image: NDArray[np.float64]) -> None:
    _, encoded = cv2.imencode(".jpg", np.round(np.clip(image, 0, 1) * 255).astype(np.uint8))
    with atomic_write(path, "wb") as stream:
        stream.write(encoded)
