"""Which images of data sets look alike: groups of copies, found by their codes and confirmed by a look.

Matrix products of all codes give the pairs that may be the same; a closer look decides. Copies of copies make
one group, even where its ends are not alike themselves. An image of a group is not looked at for another of the
same group: 10,000 copies of one image take about 10,000 looks.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from siimdet.data.image_print import WINDOWS, closest, similarity
from siimdet.data.prints import Prints

SAME = 0.82
"""Least similarity of a copy. The highest of different patients in NIH and RSNA, 1.1 million pairs, is 0.77. 99 % of
the copies that are compressed to JPEG quality 30, reduced to a third, windowed, squashed, or cropped or framed by 6 %
come to 0.91 and more. 99 % pass after CLAHE of clip limit 2, all after a turn by 2 degrees, 92 % with words burnt in.
Two exposures of one patient minutes apart come to 0.89, neighbouring slices of one CT to 0.92: they may pass."""

NEAR = 0.7
"""Least cosine of two codes worth a look, the highest of all windows. One pair of different patients in 7,000 has
more. 99 % of the copies that are cropped or framed by up to 8 % of every side have 0.74 and more."""

MOST_LOOKS = 64
"""An image is looked at beside as many others at most, those of the closest codes."""

_ROWS, _COLUMNS = 2048, 4096  # images per matrix product, for memory


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


class Groups:
    """Which of `size` images belong together (union-find)."""

    def __init__(self, size: int) -> None:
        self._above = list(range(size))

    def __len__(self) -> int:
        return len(self._above)

    def of(self, index: int) -> int:
        """The group of an image, named by the first in it."""
        above = self._above
        while above[index] != index:
            above[index] = above[above[index]]
            index = above[index]
        return index

    def join(self, one: int, two: int) -> bool:
        """Make two images' groups one; False if they are already."""
        first, second = sorted((self.of(one), self.of(two)))
        self._above[second] = first
        return first != second


def compare(left: Prints, i: int, right: Prints, j: int) -> Copy:
    """How alike two images are, whether they pass for copies or not."""
    if left.hashes[i] is not None and left.hashes[i] == right.hashes[j]:
        return Copy(i, j, 1.0, True, False)
    cosine, start = closest(left.codes[i].astype(np.float32), right.codes[j].astype(np.float32))
    value = similarity(left.ranks[i], right.ranks[j], inverted=cosine < 0, start=start)
    return Copy(i, j, round(value, 3), False, cosine < 0)


def links_within(prints: Prints, indices: NDArray[np.intp], groups: Groups) -> list[Copy]:
    """Copies that join images of sorted `indices` to earlier ones: one less than every group that they make has."""
    links = []
    for rows in _blocks(indices, _ROWS):
        columns = indices[indices <= rows[-1]]
        links += _link(prints, columns, prints, rows, groups, 0)
    return links


def links_between(left: Prints, i: NDArray[np.intp], right: Prints, j: NDArray[np.intp], groups: Groups) -> list[Copy]:
    """Copies that join the images `i` of one data set to `j` of another, whose groups are counted after the left's."""
    links = []
    for rows in _blocks(j, _ROWS):
        links += _link(left, i, right, rows, groups, len(left.records))
    return links


def _link(
    left: Prints, columns: NDArray[np.intp], right: Prints, rows: NDArray[np.intp], groups: Groups, offset: int
) -> list[Copy]:
    """Look at the candidates of every row, the closest first, until each of their groups is refused or joined."""
    waiting = [(row, iter(found)) for row, found in _candidates(left, columns, right, rows)]
    links = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while waiting:
            looks, still = [], []
            for row, queue in waiting:
                own = groups.of(row + offset)
                column = next((column for column in queue if groups.of(column) != own), None)
                if column is not None:
                    looks.append((column, row))
                    still.append((row, queue))
            waiting = still
            for copy in pool.map(lambda pair: compare(left, pair[0], right, pair[1]), looks):
                if copy.similarity >= SAME and groups.join(copy.left, copy.right + offset):
                    links.append(copy)
    return links


def _candidates(
    left: Prints, columns: NDArray[np.intp], right: Prints, rows: NDArray[np.intp]
) -> Iterator[tuple[int, list[int]]]:
    """Of every row that has some, the columns with close codes of either sign, the closest first.

    Within one data set only earlier images count.
    """
    found: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]] = []
    codes = right.codes[rows].astype(np.float32)
    for part in _blocks(columns, _COLUMNS):
        cosines = _cosines(codes, left.codes[part].astype(np.float32))
        if left is right:
            cosines[part[None] >= rows[:, None]] = 0
        i, j = np.nonzero(_closest_columns(cosines))
        found.append((i, part[j], cosines[i, j]))
    if not found:
        return
    i, j, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.lexsort((j, -values, i))
    i, j = i[order], j[order]
    starts = np.searchsorted(i, np.arange(len(rows) + 1))
    for row, start, end in zip(rows.tolist(), starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        if start < end:
            yield row, j[start : min(end, start + MOST_LOOKS)].tolist()


def _closest_columns(cosines: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The cosines that are NEAR, of every row MOST_LOOKS at most."""
    near = cosines >= NEAR
    if near.sum(axis=1).max(initial=0) > MOST_LOOKS:
        highest = np.zeros_like(near)
        np.put_along_axis(highest, np.argpartition(cosines, -MOST_LOOKS, axis=1)[:, -MOST_LOOKS:], True, axis=1)
        near &= highest
    return near


def _cosines(rows: NDArray[np.float32], columns: NDArray[np.float32]) -> NDArray[np.float32]:
    """The furthest from 0 of the cosines of the whole of each with every window of the other, f32[R, C], >= 0."""
    best = np.abs(rows[:, 0] @ columns[:, 0].T)
    for window in range(1, WINDOWS):
        np.maximum(best, np.abs(rows[:, 0] @ columns[:, window].T), out=best)
        np.maximum(best, np.abs(rows[:, window] @ columns[:, 0].T), out=best)
    return best


def _blocks(indices: Sequence[int] | NDArray[np.intp], size: int) -> Iterator[NDArray[np.intp]]:
    values = np.asarray(indices, np.intp)
    for start in range(0, len(values), size):
        yield values[start : start + size]
