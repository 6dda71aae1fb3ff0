"""Is one radiograph a copy of another? A small print of an image, and how alike two prints are.

A copy may be compressed, resized, windowed, brightened, given another gamma, inverted, stretched, or trimmed
or framed by a few per cent. The print is a thumbnail of grey ranks, which no change of contrast moves that
keeps the order of the greys. The lungs' outline and the edges of a frame are alike in most radiographs; so
a band of finer details counts alone, and every neighbourhood weighs the same (difference of Gaussians;
local contrast normalisation, Jarrett et al., ICCV 2009).

The codes of a print, the low DCT coefficients as in pHash (Zauner 2010) of the whole and of windows in it, serve
to find the few pairs worth a look by cosine similarity: what one copy lost at its edges, a window of the other
lacks too. `similarity` is the look: it lays one print onto the other and correlates them.
"""

from collections.abc import Sequence

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
# Gauss-Newton steps, and bounds of scale and of shift in px: a fifth of a side trimmed off is the most.
_STEPS = 4
_BOUNDS = np.array([[0.8, -7, 0.8, -7], [1.25, 7, 1.25, 7]])
# Shares of the sides that the windows of the codes lack at the left, top, right and bottom. A code bears another 2 %.
_WINDOWS = (
    (0.0, 0.0, 0.0, 0.0),
    (0.03, 0.03, 0.03, 0.03),
    (0.06, 0.06, 0.06, 0.06),
    (0.09, 0.0, 0.0, 0.0),
    (0.0, 0.09, 0.0, 0.0),
    (0.0, 0.0, 0.09, 0.0),
    (0.0, 0.0, 0.0, 0.09),
    (0.08, 0.0, 0.08, 0.0),
    (0.0, 0.08, 0.0, 0.08),
)
WINDOWS = len(_WINDOWS)
"""Codes of a print; the first is that of the whole."""


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


def codes_of(ranks: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The codes f32[WINDOWS, CODE_LENGTH] of a print u8[64, 64]: unit vectors, or zeros for what shows too little.

    The codes of the inverted image are their negatives.
    """
    whole = _centred(ranks)
    return np.stack([_code(_warp(whole, place)) for place in _PLACES])


def closest(
    first: NDArray[np.floating], second: NDArray[np.floating]
) -> tuple[float, tuple[float, float, float, float]]:
    """Of the codes [WINDOWS, CODE_LENGTH] of two prints, the cosine that is furthest from 0, and its place.

    The whole of each is compared with every window of the other. The place is where the second print lies on
    the first, for `similarity`.
    """
    cosines = np.concatenate([first @ second[0], (second @ first[0])[1:]])
    best = int(np.argmax(np.abs(cosines)))
    if best >= WINDOWS:
        return float(cosines[best]), _PLACES[best - WINDOWS + 1]
    scale_x, shift_x, scale_y, shift_y = _PLACES[best]
    return float(cosines[best]), (1 / scale_x, -shift_x / scale_x, 1 / scale_y, -shift_y / scale_y)


def similarity(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    *,
    inverted: bool = False,
    start: tuple[float, float, float, float] = (1.0, 0.0, 1.0, 0.0),
) -> float:
    """Correlation of the details of two prints u8[64, 64], -1 to 1, after laying the second onto the first.

    `inverted`: the second is the negative of the first. `start` is the place from which the best one is sought,
    scale and shift in px along x, then along y. Two prints in the other order come out a little different, since
    another one is resampled.
    """
    fixed, moving = _centred(first), _centred(second) * np.float32(-1 if inverted else 1)
    place = _alignment(_details(fixed, _ALIGNING), _details(moving, _ALIGNING), start)
    return _correlation(_details(fixed, _DETAIL), _details(_warp(moving, place), _DETAIL))


def _code(image: _Map) -> NDArray[np.float32]:
    details = _details(image, _DETAIL)
    if np.sqrt(np.average(details * details, weights=_MIDDLE)) < _LEAST_DETAIL:
        return np.zeros(CODE_LENGTH, np.float32)
    values = cv2.dct(details * _MIDDLE)[:_FREQUENCIES, :_FREQUENCIES][_LOW]
    return np.asarray(values / np.linalg.norm(values), np.float32)


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


def _alignment(fixed: _Map, moving: _Map, start: tuple[float, float, float, float]) -> NDArray[np.floating]:
    """Scale and shift along x, then along y, that lay `moving` onto `fixed` (Lucas and Kanade, IJCAI 1981)."""
    place = np.array(start)
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


def _warp(image: _Map, place: Sequence[float] | NDArray[np.floating]) -> _Map:
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


def _place(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    return 1 - left - right, (left - right) * SIDE / 2, 1 - top - bottom, (top - bottom) * SIDE / 2


_PLACES = tuple(_place(*window) for window in _WINDOWS)
_MIDDLE = _window(0.04)
_INSIDE = _window(0.06)  # wider, since aligning draws in what was outside
_FROM_MIDDLE = np.tile(np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2, (SIDE, 1))
_LOW = np.hypot(*np.mgrid[:_FREQUENCIES, :_FREQUENCIES]) < _FREQUENCIES
CODE_LENGTH = int(_LOW.sum())
"""Numbers in a code."""
