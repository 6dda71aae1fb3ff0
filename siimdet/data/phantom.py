"""Seeded chest phantoms: lungs, ribs, vessels and heart, with opacities whose boxes are exact.

They are the data of the tests and of `siimdet demo`: hard enough that a detector has to learn (an
opacity raises the grey level by at most twice the local noise, and ribs, vessels and the heart are
brighter than it), honest enough that a score on them is earned. Coordinates are fractions of the
image, x to the right (the patient's left), y downwards; grey is 0 for air and 1 for metal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.floating]
Kind = Literal["ground_glass", "consolidation", "nodule", "mass", "plate", "effusion"]
Pattern = Literal["negative", "typical", "indeterminate", "atypical"]

GRID = 256
"""Side of the square on which anatomy and noise are drawn before they are stretched to the image."""

NOISE_SD = 0.05
"""Standard deviation of the noise on the grid, in grey levels of [0, 1]."""

MOTTLE = np.float32(0.4)
"""Part of the noise's variance that is coarse."""

CONTRAST = (1.5, 1.9)
"""Range of an opacity's peak, in units of NOISE_SD."""

ELEMENT_NOISE_SD = 0.035
"""Standard deviation of the noise that `stretch` adds to every pixel."""

BOX_LEVEL = np.float32(np.exp(-1))
"""The box of an opacity holds exactly the grid cells where it reaches this part of its peak."""


@dataclass(frozen=True, slots=True)
class Opacity:
    """One opacity: kind, centre, half extents (fractions of the image) and contrast (units of NOISE_SD)."""

    kind: Kind
    x: float
    y: float
    half_width: float
    half_height: float
    contrast: float


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """A rendered phantom.

    Shapes: image f32[GRID, GRID] in [0, 1]; boxes f64[N, 4] xyxy as fractions of the image, a row per opacity.
    """

    image: Grey
    boxes: NDArray[np.float64]
    opacities: tuple[Opacity, ...]
    cardiomegaly: bool


@dataclass(frozen=True, slots=True)
class Thorax:
    """What varies between patients: fractions of the image."""

    centre: float
    lung_offset: float
    lung_half_width: float
    lung_half_height: float
    lung_y: float
    heart_half_width: float

    @property
    def enlarged(self) -> bool:
        """Whether the heart is wider than half the chest (cardiothoracic ratio)."""
        return self.heart_half_width > 0.13


def sample_thorax(rng: np.random.Generator, *, cardiomegaly: bool = False) -> Thorax:
    """Draw a patient."""
    heart = rng.uniform(0.14, 0.17) if cardiomegaly else rng.uniform(0.08, 0.11)
    return Thorax(
        centre=0.5 + rng.uniform(-0.03, 0.03),
        lung_offset=rng.uniform(0.19, 0.22),
        lung_half_width=rng.uniform(0.13, 0.16),
        lung_half_height=rng.uniform(0.29, 0.34),
        lung_y=rng.uniform(0.44, 0.49),
        heart_half_width=heart,
    )


def sample_opacities(rng: np.random.Generator, pattern: Pattern, thorax: Thorax) -> tuple[Opacity, ...]:
    """Draw the opacities of a study class, after the reporting language from which SIIM took its classes.

    Typical is bilateral, peripheral and basal ground glass; indeterminate is one-sided ground glass in
    the upper half; atypical is a lobar consolidation or a nodule.
    Source: Litmanovich et al., J. Thorac. Imaging 35 (2020).
    """
    side = int(rng.choice((-1, 1)))
    if pattern == "typical":
        return tuple(
            _place(rng, "ground_glass", thorax, which, across=(0.2, 0.6), along=(0.15, 0.65)) for which in (side, -side)
        )
    if pattern == "indeterminate":
        return (_place(rng, "ground_glass", thorax, side, across=(-0.5, 0.1), along=(-0.6, -0.1)),)
    if pattern == "atypical":
        if rng.random() < 0.6:
            return (_place(rng, "consolidation", thorax, side, across=(-0.1, 0.1), along=(-0.5, 0.5)),)
        return (_place(rng, "mass", thorax, side, across=(-0.5, 0.5), along=(-0.5, 0.5)),)
    return ()


def sample_finding(rng: np.random.Generator, kind: Kind, thorax: Thorax) -> Opacity:
    """Draw one opacity of a kind anywhere in the lungs that it occurs."""
    side = int(rng.choice((-1, 1)))
    along = (0.75, 0.9) if kind == "effusion" else (-0.6, 0.6)
    return _place(rng, kind, thorax, side, across=(-0.4, 0.4), along=along)


def render(
    rng: np.random.Generator, thorax: Thorax, opacities: Sequence[Opacity] = (), *, noise_sd: float = NOISE_SD
) -> Phantom:
    """Draw a phantom; the same generator state gives the same picture."""
    lungs = _lungs(thorax)
    image = _anatomy(rng, thorax, lungs)
    boxes = np.zeros((len(opacities), 4))
    for row, opacity in enumerate(opacities):
        profile = opacity_profile(rng, opacity, lungs)
        boxes[row] = profile_box(profile)
        image += opacity.contrast * NOISE_SD * profile
    image += noise_sd * _noise(rng)
    return Phantom(np.clip(image, 0, 1), boxes, tuple(opacities), thorax.enlarged)


def opacity_profile(rng: np.random.Generator, opacity: Opacity, lungs: Grey) -> Grey:
    """The shape of one opacity on the grid, peak 1, with a lumpy texture, fading at the lung's border."""
    y, x = _grid()
    u, v = (x - opacity.x) / opacity.half_width, (y - opacity.y) / opacity.half_height
    if opacity.kind in ("nodule", "mass"):
        shape = np.exp(-((u**2 + v**2) ** 3))
    elif opacity.kind == "consolidation":  # a lobe: straight upper border along the fissure
        shape = np.exp(-(np.abs(u) ** 6) - np.abs(v) ** 10)
    elif opacity.kind == "plate":
        shape = np.exp(-(u**4) - v**2)
    elif opacity.kind == "effusion":  # fills the recess, higher at the chest wall
        shape = np.exp(-(u**4) - v**6) * _sigmoid(14 * (v + 0.3 - 0.4 * np.abs(u)))
    else:
        shape = np.exp(-((u**2 + v**2) ** 2))
    if opacity.kind != "effusion":
        shape = shape * np.clip(lungs * 1.5, 0, 1)
    lumps = cv2.resize(rng.standard_normal((14, 14), dtype=np.float32), (GRID, GRID), interpolation=cv2.INTER_CUBIC)
    shape = shape * (1 + 0.12 * np.clip(lumps, -2, 2))
    return (shape / shape.max()).astype(np.float32)


def profile_box(profile: Grey) -> NDArray[np.float64]:
    """Bounding box f64[4] xyxy, as fractions, of the cells at BOX_LEVEL or above."""
    inside = profile >= BOX_LEVEL
    columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64) / GRID


def stretch(rng: np.random.Generator, phantom: Phantom, width: int, height: int) -> Grey:
    """The phantom as an f32[height, width] radiograph in [0, 1].

    Stretching smooths the noise of the grid; noise per detector element brings its standard deviation
    back to NOISE_SD, so that the contrast is what it says in the written image too.
    """
    image = cv2.resize(phantom.image, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.clip(image + ELEMENT_NOISE_SD * rng.standard_normal((height, width), dtype=np.float32), 0, 1)


def _place(
    rng: np.random.Generator,
    kind: Kind,
    thorax: Thorax,
    side: int,
    *,
    across: tuple[float, float],
    along: tuple[float, float],
) -> Opacity:
    """Place an opacity in a lung: `across` from the hilum (-1) to the chest wall (1), `along` from apex to base."""
    extents: dict[Kind, tuple[tuple[float, float], tuple[float, float]]] = {
        "ground_glass": ((0.07, 0.11), (0.08, 0.15)),
        "consolidation": ((0.11, 0.14), (0.08, 0.13)),
        "nodule": ((0.035, 0.05), (0.035, 0.05)),
        "mass": ((0.055, 0.075), (0.055, 0.075)),
        "plate": ((0.08, 0.12), (0.02, 0.03)),
        "effusion": ((0.10, 0.13), (0.07, 0.11)),
    }
    width, height = (rng.uniform(*bounds) for bounds in extents[kind])
    return Opacity(
        kind=kind,
        x=thorax.centre + side * (thorax.lung_offset + rng.uniform(*across) * thorax.lung_half_width),
        y=thorax.lung_y + rng.uniform(*along) * thorax.lung_half_height,
        half_width=width,
        half_height=width if kind in ("nodule", "mass") else height,
        contrast=rng.uniform(*CONTRAST),
    )


def _grid() -> tuple[Grey, Grey]:
    axis = ((np.arange(GRID) + 0.5) / GRID).astype(np.float32)
    return axis[:, None], axis[None, :]


def _noise(rng: np.random.Generator) -> Grey:
    """Noise of mean 0 and standard deviation 1, f32[GRID, GRID]: part quantum noise, part mottle of some cells' width.

    Were it white alone, reducing the image would average it away and leave the opacities glaring.
    """
    white, coarse = (rng.standard_normal((GRID, GRID), dtype=np.float32) for _ in range(2))
    mottle = cv2.GaussianBlur(coarse, (0, 0), 1.8)
    mottle /= mottle.std()
    return np.sqrt(1 - MOTTLE) * white + np.sqrt(MOTTLE) * mottle


def _sigmoid(value: Grey) -> Grey:
    return (1 / (1 + np.exp(-np.clip(value, -60, 60)))).astype(np.float32)


def _lungs(thorax: Thorax) -> Grey:
    y, x = _grid()
    fields = [
        _sigmoid(
            14
            * (
                1
                - ((x - thorax.centre - side * thorax.lung_offset) / thorax.lung_half_width) ** 2
                - ((y - thorax.lung_y) / thorax.lung_half_height) ** 2
            )
        )
        for side in (-1, 1)
    ]
    return np.maximum(*fields)


def _anatomy(rng: np.random.Generator, thorax: Thorax, lungs: Grey) -> Grey:
    y, x = _grid()
    body = _sigmoid(40 * (0.45 + 0.03 * np.cos(9 * y) - np.abs(x - thorax.centre)))
    image = 0.60 * body + 0.04 * y - 0.36 * lungs
    image += 0.14 * np.exp(-(((x - thorax.centre) / 0.035) ** 2))  # spine and mediastinum
    heart_x = thorax.centre + 0.35 * thorax.heart_half_width
    image += 0.26 * np.exp(-((((x - heart_x) / thorax.heart_half_width) ** 2 + ((y - 0.64) / 0.13) ** 2) ** 2))
    bones = np.zeros((GRID, GRID), np.float32)
    for side in (-1, 1):
        _draw_ribs(rng, bones, thorax, side)
        _draw_vessels(rng, bones, thorax, side)
    return (image + bones).astype(np.float32)


def _draw_ribs(rng: np.random.Generator, canvas: Grey, thorax: Thorax, side: int) -> None:
    spacing, start = rng.uniform(0.072, 0.085), rng.uniform(0.14, 0.18)
    reach = np.linspace(0.03, 0.37, 24)
    for rib in range(8):
        bow = 0.10 * np.sin(reach / 0.37 * np.pi * 0.75) - 0.02
        line = np.stack([thorax.centre + side * reach, start + rib * spacing - bow + 0.25 * reach**2], axis=1)
        _draw_line(canvas, line, width=0.02, grey=rng.uniform(0.05, 0.08))
    clavicle = np.array([[0.04, 0.15], [0.18, 0.12], [0.34, 0.08]])
    clavicle[:, 0] = thorax.centre + side * clavicle[:, 0]
    _draw_line(canvas, clavicle, width=0.028, grey=rng.uniform(0.08, 0.11))


def _draw_vessels(rng: np.random.Generator, canvas: Grey, thorax: Thorax, side: int) -> None:
    hilum = np.array([thorax.centre + side * 0.07, thorax.lung_y + rng.uniform(-0.03, 0.03)])
    for _ in range(9):
        angle, length = rng.uniform(-1.3, 1.3), rng.uniform(0.08, 0.2)
        bend = rng.uniform(-0.04, 0.04)
        step = np.linspace(0, 1, 8)[:, None]
        direction = np.array([side * np.cos(angle), np.sin(angle)])
        across = np.array([-direction[1], direction[0]])
        line = hilum + step * length * direction + bend * step**2 * across
        _draw_line(canvas, line, width=rng.uniform(0.008, 0.014), grey=rng.uniform(0.05, 0.09))


def _draw_line(canvas: Grey, line: NDArray[np.float64], *, width: float, grey: float) -> None:
    layer = np.zeros_like(canvas)
    points = np.round(line * GRID * 16).astype(np.int32)
    cv2.polylines(layer, [points], False, 1.0, max(1, round(width * GRID)), cv2.LINE_AA, shift=4)
    canvas += np.float32(grey) * cv2.GaussianBlur(layer, (5, 5), 1.0)
