"""Is one radiograph a copy of another? A small print of an image, and how alike two prints are.

A copy may be compressed, resized, windowed, brightened, given another gamma, inverted, or trimmed or
framed by a few per cent. The print is a thumbnail of grey ranks, which no change of contrast moves that
keeps the order of the greys. The lungs' outline and the edges of a frame are alike in most radiographs; so
a band of finer details counts alone, and every neighbourhood weighs the same (difference of Gaussians;
local contrast normalisation, Jarrett et al., ICCV 2009).

The code of a print, its low DCT coefficients as in pHash (Zauner 2010), serves to find the few pairs worth
a look by cosine similarity. `similarity` is the look: it lays one print onto the other and correlates them.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from siimdet.imaging.resize import shrink

SIDE = 64
"""Side of a print, in px."""

_Map = NDArray[np.floating]

# Grey levels of a thumbnail that are told apart, a quarter of one of 8 bits: finer ones are noise.
_LEVELS = 1024
# Most pixels of one grey that count. Else 0 and 1 in the black of a padded image would be half of all ranks apart.
_MOST_EQUAL = 0.02
# Standard deviations, in px of the print: the two Gaussians of the band and the neighbourhood. What is compared
# survives a reduction to about 100 px; the band for aligning is twice as coarse, so that it reaches twice as far.
_DETAIL = (0.7, 2.0, 3.0)
_ALIGNING = (1.4, 4.0, 6.0)
# Contrast of a neighbourhood, in ranks from 0 to 1, that is not amplified: JPEG's noise in the black around a body.
_FLOOR = 0.05
# Root mean square of the details below which an image shows too little to be compared. The least of 3,602 real
# images is 0.26; gradients and vignettes, all that an empty exposure shows, come to 0.14.
_LEAST_DETAIL = 0.18
# DCT frequencies of the code, in half periods per side. More tell more apart, fewer bear more trimming.
_FREQUENCIES = 24
# Gauss-Newton steps, and bounds of scale and of shift in px: a tenth of a side trimmed off is the most.
_STEPS = 4
_BOUNDS = np.array([[0.9, -4, 0.9, -4], [1.1, 4, 1.1, 4]])


def print_of(image: NDArray[np.unsignedinteger]) -> NDArray[np.uint8]:
    """The print u8[64, 64] of an image u8 or u16 [H, W]: a thumbnail with the ranks of its greys.

    Equal greys share the mean of their ranks, so that clipped ends stay near where they were. The aspect
    ratio is lost.
    """
    # In two steps, for memory: the first rounds to whole greys, of which the second averages 64 and more.
    small = shrink(image, 8 * SIDE).astype(np.float32)
    thumbnail = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    low, high = float(thumbnail.min()), float(thumbnail.max())
    levels = np.rint((thumbnail - low) * ((_LEVELS - 1) / max(high - low, 1e-6))).astype(np.intp)
    counts = np.minimum(np.bincount(levels.ravel(), minlength=_LEVELS), _MOST_EQUAL * levels.size)
    ranks = (np.cumsum(counts) - counts / 2) / counts.sum()
    return np.rint(ranks[levels] * 255).astype(np.uint8)


def code_of(ranks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The code f32[CODE_LENGTH] of a print u8[64, 64]: a unit vector, or zeros if it shows too little.

    The code of the inverted image is its negative.
    """
    details = _details(_centred(ranks), _DETAIL)
    if np.sqrt(np.average(details * details, weights=_MIDDLE)) < _LEAST_DETAIL:
        return np.zeros(CODE_LENGTH, np.float32)
    values = cv2.dct(details * _MIDDLE)[:_FREQUENCIES, :_FREQUENCIES][_LOW]
    return np.asarray(values / np.linalg.norm(values), np.float32)


def similarity(first: NDArray[np.uint8], second: NDArray[np.uint8], *, inverted: bool = False) -> float:
    """Correlation of the details of two prints u8[64, 64], -1 to 1, after laying the second onto the first.

    `inverted`: the second is the negative of the first. Two prints in the other order come out a little
    different, since another one is resampled.
    """
    fixed, moving = _centred(first), _centred(second) * np.float32(-1 if inverted else 1)
    place = _alignment(_details(fixed, _ALIGNING), _details(moving, _ALIGNING))
    return _correlation(_details(fixed, _DETAIL), _details(_warp(moving, place), _DETAIL))


def _centred(ranks: NDArray[np.uint8]) -> _Map:
    return ranks.astype(np.float32) / np.float32(255) - np.float32(0.5)


def _details(image: _Map, sigmas: tuple[float, float, float]) -> _Map:
    inner, outer, neighbourhood = sigmas
    band = _blur(image, inner) - _blur(image, outer)
    return band / np.sqrt(_blur(band * band, neighbourhood) + np.float32(_FLOOR**2))


def _blur(image: _Map, sigma: float) -> _Map:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), np.float32)


def _correlation(first: _Map, second: _Map) -> float:
    first, second = (details - np.average(details, weights=_INSIDE) for details in (first, second))
    power = np.sum(first * first * _INSIDE) * np.sum(second * second * _INSIDE)
    return float(np.sum(first * second * _INSIDE) / np.sqrt(power)) if power > 0 else 0.0


def _alignment(fixed: _Map, moving: _Map) -> NDArray[np.floating]:
    """Scale and shift along x, then along y, that lay `moving` onto `fixed` (Lucas and Kanade, IJCAI 1981)."""
    place = np.array([1.0, 0.0, 1.0, 0.0])
    for _ in range(_STEPS):
        warped = _warp(moving, place)
        along_x, along_y = (cv2.Sobel(warped, cv2.CV_32F, x, 1 - x, scale=1 / 8) for x in (1, 0))
        slopes = np.stack([along_x * _FROM_MIDDLE, along_x, along_y * _FROM_MIDDLE.T, along_y]).reshape(4, -1)
        weighed = slopes * _INSIDE.ravel()
        # Brings the other image to the same contrast; bounded, for where the two have nothing in common.
        gain = np.sum(fixed * warped * _INSIDE) / max(float(np.sum(warped * warped * _INSIDE)), 1e-6)
        error = (fixed / max(float(gain), 0.2) - warped).ravel()
        # A print without slopes would leave the equations without a solution.
        normal = (weighed @ slopes.T).astype(np.float64) + 1e-3 * np.eye(4)
        place = np.clip(place + np.linalg.solve(normal, (weighed @ error).astype(np.float64)), *_BOUNDS)
    return place


def _warp(image: _Map, place: NDArray[np.floating]) -> _Map:
    scale_x, shift_x, scale_y, shift_y = place
    middle = (SIDE - 1) / 2
    matrix = np.array([[scale_x, 0, middle * (1 - scale_x) + shift_x], [0, scale_y, middle * (1 - scale_y) + shift_y]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(warped, np.float32)


def _window(margin: float) -> _Map:
    """Weights [64, 64]: 1 in the middle, falling to 0 before the edges, where a frame or a cut may be."""
    place = (np.arange(SIDE) + 0.5) / SIDE
    rise = np.clip((np.minimum(place, 1 - place) - margin / 2) / (2 * margin), 0, 1)
    rise = rise * rise * (3 - 2 * rise)
    return np.outer(rise, rise).astype(np.float32)


_MIDDLE = _window(0.04)
_INSIDE = _window(0.06)  # wider, since aligning draws in what was outside
_FROM_MIDDLE = np.tile(np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2, (SIDE, 1))
_LOW = np.hypot(*np.mgrid[:_FREQUENCIES, :_FREQUENCIES]) < _FREQUENCIES
CODE_LENGTH = int(_LOW.sum())
"""Numbers in a code."""
