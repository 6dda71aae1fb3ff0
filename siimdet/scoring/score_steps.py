"""What lies at or above each distinct score: the steps of which curves and average precision are made.

Sorting is most of the work. Scores become integers of opposite order, which are sorted digit by digit from the least
significant one (Knuth, The Art of Computer Programming, volume 3, section 5.2.5, algorithm R). Every pass is linear,
and digits in which all scores are alike cost none, such as half of them where the scores were float32.
"""

import numba
import numpy as np
from numpy.typing import NDArray

_BITS = 11  # of a digit; the counts of all digits fit a core's first caches
_DIGITS = 6
_MASK = np.uint64((1 << _BITS) - 1)
_SIGN = np.uint64(1 << 63)


def score_steps(
    scores: NDArray[np.float64], hits: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """The distinct scores f64[S], best first; how many hits and how many scores are as good or better, both i64[S].

    Shapes: scores f64[N] without NaN and hits bool[N], in any order.
    """
    return _steps(_sorted(scores.view(np.uint64)), _sorted(scores[hits].view(np.uint64)))


def step_ends(scores: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a score is the last of its equals, bool[N] of sorted scores f64[N]."""
    return np.append(scores[1:] != scores[:-1], True)[: len(scores)]


@numba.njit
def _flipped(bits):
    """The bits of a float as an integer of opposite order, and back: positive floats are ordered as their bits are."""
    return bits if bits & _SIGN else ~bits ^ _SIGN


@numba.njit
def _sorted(bits):
    """Keys u64[N] of floats' bits u64[N]: _flipped, from the best float's on."""
    places = np.zeros((_DIGITS, 1 << _BITS), np.int64)
    keys, spare = np.empty_like(bits), np.empty_like(bits)
    for p in range(len(bits)):
        keys[p] = key = _flipped(np.uint64(0) if bits[p] == _SIGN else bits[p])  # -0.0 is 0.0
        for digit in range(_DIGITS):
            places[digit, (key >> np.uint64(digit * _BITS)) & _MASK] += 1
    for digit in range(_DIGITS):
        shift, place = np.uint64(digit * _BITS), 0
        if len(keys) and places[digit, (keys[0] >> shift) & _MASK] == len(keys):
            continue
        for value in range(1 << _BITS):
            place, places[digit, value] = place + places[digit, value], place
        for key in keys:
            value = (key >> shift) & _MASK
            spare[places[digit, value]] = key
            places[digit, value] += 1
        keys, spare = spare, keys
    return keys


@numba.njit
def _steps(keys, hits):
    """score_steps of sorted keys u64[N] of all scores and u64[H] of the hits'."""
    steps, found, counts = np.empty(len(keys), np.uint64), np.empty(len(keys), np.int64), np.empty(len(keys), np.int64)
    step, hit = 0, 0
    for p in range(len(keys)):
        if p + 1 < len(keys) and keys[p + 1] == keys[p]:
            continue
        while hit < len(hits) and hits[hit] <= keys[p]:
            hit += 1
        steps[step], found[step], counts[step] = _flipped(keys[p]), hit, p + 1
        step += 1
    return steps[:step].view(np.float64), found[:step], counts[:step]


@numba.njit
def area_under_envelope(found, counts):
    """Sum over hits of the best precision at or below their step: AP times the truths, of found and counts i64[S]."""
    area, envelope = 0.0, 0.0
    for step in range(len(found) - 1, -1, -1):
        gained = found[step] - (found[step - 1] if step else 0)
        if gained:  # precision is best where there is a hit
            envelope = max(envelope, found[step] / counts[step])
            area += gained * envelope
    return area
