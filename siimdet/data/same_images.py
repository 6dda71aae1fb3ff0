"""Identical and near-identical images of data sets, found by their pixels.

Every image is read once and kept as a print with its code (siimdet.data.image_print). Matrix products of
all codes give the pairs that may be the same; a closer look decides. For 112,120 images that is 0.7 GB and
three minutes on two cores, besides the reading.

Copies make groups. Each later image of a group is reported with the first one alone: an image that is there
10,000 times gives 9,999 pairs.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import ImageRecord
from siimdet.data.image_print import CODE_LENGTH, SIDE, code_of, print_of, similarity
from siimdet.imaging.png import read_grey

SAME = 0.89
"""Least similarity of a copy. 99 % of the copies of radiographs that are compressed to JPEG quality 30, reduced to
a quarter, windowed, inverted, trimmed or framed come to 0.90 and more, mostly 0.98; what is then smaller than 100 px
may stay below. Different patients come to 0.75 at most (1.6 million real pairs), two exposures of one patient to
0.89, neighbouring slices of one CT to 0.91."""

NEAR = 0.7
"""Least cosine of two codes worth a look. One pair of different patients in 100,000 has more. 99 % of the copies that
are trimmed or framed by 2 % of each side have 0.85 and more; trimmed by 4 %, most have less and go unseen."""

MOST_ASPECT = 1.5
"""Most that the aspect ratios of copies may differ, as a factor: films of 5:4 are often stretched to squares."""

_ROWS, _COLUMNS = 2048, 8192  # codes per matrix product, for memory


@dataclass(frozen=True, slots=True, eq=False)
class Prints:
    """What is kept of N images, in the order of their records.

    Shapes: ranks u8[N, 64, 64], codes f32[N, CODE_LENGTH], aspects f64[N] width / height. `hashes` are
    SHA-256 of size and pixels, None for an image of one grey.
    """

    ranks: NDArray[np.uint8]
    codes: NDArray[np.float32]
    aspects: NDArray[np.float64]
    hashes: tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """Image `right` shows what image `left` shows; both are indices of records.

    `similarity` is that of their details, 1 for equal pixels. `inverted`: one is the negative of the other.
    """

    left: int
    right: int
    similarity: float
    identical: bool
    inverted: bool


def read_prints(root: Path, records: Sequence[ImageRecord], *, read: Callable[[], None] | None = None) -> Prints:
    """Read the images of a data set, in threads, and keep their prints; `read` is called after each.

    Raises: ImageError for an image that cannot be read.
    """
    prints = Prints(
        np.zeros((len(records), SIDE, SIDE), np.uint8),
        np.zeros((len(records), CODE_LENGTH), np.float32),
        np.array([record.stored.width / record.stored.height for record in records]),
        (),
    )
    hashes: list[bytes | None] = []

    def digest(index: int) -> bytes | None:
        image = read_grey(root / records[index].path)
        prints.ranks[index] = print_of(image)
        prints.codes[index] = code_of(prints.ranks[index])
        if image.min() == image.max():
            return None
        return hashlib.sha256(f"{image.dtype}{image.shape}".encode() + image.tobytes()).digest()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for key in pool.map(digest, range(len(records))):
            hashes.append(key)
            if read is not None:
                read()
    return replace(prints, hashes=tuple(hashes))


def copies_within(prints: Prints) -> list[Copy]:
    """The copies in one data set, `left` before `right`: each later image of a group with its first.

    An image that is like the first ones of two groups is reported with both.
    """
    by_hash: dict[bytes, int] = {}
    equals = [index if key is None else by_hash.setdefault(key, index) for index, key in enumerate(prints.hashes)]
    near = _near_copies(prints, np.array(sorted(by_hash.values()), np.intp))
    copies = []
    for index, equal in enumerate(equals):
        if equal in near:
            copies += [replace(copy, right=index) for copy in near[equal]]
        elif equal != index:
            copies.append(Copy(equal, index, 1.0, True, False))
    return copies


def copies_between(
    left: Prints, right: Prints, left_copies: Sequence[Copy], right_copies: Sequence[Copy]
) -> list[Copy]:
    """The images of one data set that another holds too, sorted.

    `left_copies` and `right_copies` are what `copies_within` found in each. Where a group of one is a group
    of the other, the first image of each is reported with all of the other: so every image is named, and if
    any pair stands for training on the one side and for evaluation on the other, one of these does. Of
    images that are equal to the pixel each right one is reported with the first left one, too. What is a copy
    by way of others may be less similar itself than SAME.
    """
    left_groups, right_groups = _groups(left, left_copies), _groups(right, right_copies)
    equal = _equal(left, right)
    left_first, right_first = ({copy.right: copy.left for copy in copies} for copies in (left_copies, right_copies))
    same = {(left_first.get(i, i), right_first.get(j, j)) for i, j in equal}
    columns = np.array(list(right_groups), np.intp)
    for rows in _blocks(np.array(list(left_groups), np.intp), _ROWS):
        pairs = map(tuple, _look_alikes(left, rows, right, columns).tolist())
        same.update((i, j) for i, j in pairs if _copy(left, i, right, j) is not None)
    found = {*equal, *same}
    for i, j in same:
        found.update((other, j) for other in left_groups[i])
        found.update((i, other) for other in right_groups[j])
    return [_compare(left, i, right, j) for i, j in sorted(found)]


def _equal(left: Prints, right: Prints) -> set[tuple[int, int]]:
    first = {key: i for i, key in reversed(list(enumerate(left.hashes))) if key is not None}
    return {(first[key], j) for j, key in enumerate(right.hashes) if key is not None and key in first}


def _near_copies(prints: Prints, indices: NDArray[np.intp]) -> dict[int, list[Copy]]:
    """Per image the first ones that it is a copy of, among sorted `indices` of images of which no two are equal."""
    first = np.zeros(len(prints.hashes), np.bool_)
    near: dict[int, list[Copy]] = {}
    for rows in _blocks(indices, _ROWS):
        first[rows] = True
        pairs = _look_alikes(prints, rows, prints, np.flatnonzero(first))
        later, earlier = pairs[pairs[:, 1] < pairs[:, 0]].T
        # In order: what comes before an image is known to be a first one or not when its turn comes.
        starts = np.searchsorted(later, rows)
        for index, candidates in zip(rows.tolist(), np.split(earlier, starts[1:]), strict=True):
            found = (_copy(prints, i, prints, index) for i in candidates[first[candidates]].tolist())
            if copies := [copy for copy in found if copy is not None]:
                near[index] = copies
                first[index] = False
    return near


def _groups(prints: Prints, copies: Sequence[Copy]) -> dict[int, list[int]]:
    """The later images of every first one; images of one grey are in no group."""
    later = {copy.right for copy in copies}
    groups = {i: [] for i, key in enumerate(prints.hashes) if key is not None and i not in later}
    for copy in copies:
        groups[copy.left].append(copy.right)
    return groups


def _blocks(indices: NDArray[np.intp], size: int) -> Iterator[NDArray[np.intp]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def _look_alikes(left: Prints, rows: NDArray[np.intp], right: Prints, columns: NDArray[np.intp]) -> NDArray[np.intp]:
    """Pairs [P, 2] of images with close codes, of either sign, sorted by both."""
    found = [np.zeros((0, 2), np.intp)]
    codes = left.codes[rows]
    for part in _blocks(columns, _COLUMNS):
        i, j = np.nonzero(np.abs(codes @ right.codes[part].T) >= NEAR)
        found.append(np.stack([rows[i], part[j]], axis=1))
    pairs = np.concatenate(found)
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _copy(left: Prints, i: int, right: Prints, j: int) -> Copy | None:
    aspects = left.aspects[i] / right.aspects[j]
    copy = _compare(left, i, right, j)
    return copy if copy.similarity >= SAME and 1 / MOST_ASPECT <= aspects <= MOST_ASPECT else None


def _compare(left: Prints, i: int, right: Prints, j: int) -> Copy:
    if left.hashes[i] == right.hashes[j]:
        return Copy(i, j, 1.0, True, False)
    inverted = bool(left.codes[i] @ right.codes[j] < 0)
    value = similarity(left.ranks[i], right.ranks[j], inverted=inverted)
    return Copy(i, j, round(value, 3), False, inverted)
