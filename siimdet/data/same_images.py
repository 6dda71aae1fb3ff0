"""Identical and near-identical images of data sets: which pairs of every group of copies are reported.

Every image of a group (siimdet.data.look_alikes) is named in a pair, and in one that leaks if the group has any
image that it leaks to. The number of pairs stays below twice that of the images.

The codes and prints of NIH's 112,120 images take 1.4 GB. Comparing them is 100 TFLOP of matrix products and a
million looks: by extrapolation forty minutes on two cores, besides the reading; a tenth of the images takes half a
minute.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from siimdet.core.types import ImageRecord
from siimdet.data.look_alikes import MOST_LOOKS, Copy, Groups, compare, links_between, links_within
from siimdet.data.prints import Prints

Leaks = Callable[[ImageRecord, ImageRecord], bool]
"""Whether two images may not be the same: by their splits and folds alone, and the same in either order."""

_Pair = tuple[int, int]


def copies_within(prints: Prints, leaks: Leaks) -> list[Copy]:
    """The copies in one data set, `left` before `right`, sorted.

    Each later image of a group comes with the earlier one that joined it to the group. An image that leaks to none
    of those, but to another of its group, comes with that too, the closest by their codes; the two may then be
    less similar themselves than SAME.
    """
    groups = Groups(len(prints.records))
    first: dict[bytes, int] = {}
    found: dict[_Pair, Copy] = {}
    for index, key in enumerate(prints.hashes):
        if key is not None and groups.join(first.setdefault(key, index), index):
            found[first[key], index] = Copy(first[key], index, 1.0, True, False)
    for link in links_within(prints, np.array(sorted(first.values()), np.intp), groups):
        found[link.left, link.right] = link
    return _compared(prints, prints, found, _leaks_within(prints, _members(groups), found, leaks))


def copies_between(
    left: Prints, right: Prints, left_copies: Iterable[Copy], right_copies: Iterable[Copy], leaks: Leaks
) -> list[Copy]:
    """The images of one data set that another holds too, sorted.

    `left_copies` and `right_copies` are what `copies_within` found in each. Where a group has images of both, each
    of them comes with one of the other, the closest by their codes, and with one that it leaks to. What is a copy
    by way of others may be less similar itself than SAME.
    """
    offset = len(left.records)
    groups = Groups(offset + len(right.records))
    for copies, start in ((left_copies, 0), (right_copies, offset)):
        for copy in copies:
            groups.join(copy.left + start, copy.right + start)
    found: dict[_Pair, Copy] = {}
    first = {key: i for i, key in reversed(list(enumerate(left.hashes))) if key is not None}
    for j, key in enumerate(right.hashes):
        if key in first:
            groups.join(first[key], j + offset)
            found[first[key], j] = Copy(first[key], j, 1.0, True, False)
    rows, columns = (_unequal(prints) for prints in (left, right))
    for link in links_between(left, rows, right, columns, groups):
        found[link.left, link.right] = link
    return _compared(left, right, found, _named_between(left, right, _members(groups), found, leaks))


def _unequal(prints: Prints) -> np.ndarray:
    """The first image of every hash."""
    first = {key: i for i, key in reversed(list(enumerate(prints.hashes))) if key is not None}
    return np.array(sorted(first.values()), np.intp)


def _members(groups: Groups) -> list[list[int]]:
    """The images of every group of two and more."""
    members: defaultdict[int, list[int]] = defaultdict(list)
    for index in range(len(groups)):
        members[groups.of(index)].append(index)
    return [group for group in members.values() if len(group) > 1]


def _leaks_within(prints: Prints, members: Iterable[list[int]], found: Iterable[_Pair], leaks: Leaks) -> set[_Pair]:
    """Pairs for the images that leak to one of their group, but to none that they were found with."""
    leaking = {index for pair in found if leaks(*(prints.records[i] for i in pair)) for index in pair}
    pairs: set[_Pair] = set()
    for group in members:
        sides = _by_side(prints, group)
        for index in group:
            others = _leaking_to(prints.records[index], prints, sides, leaks)
            if index not in leaking and others:
                other = _closest_of(prints, index, prints, others)
                leaking.update((index, other))
                pairs.add((min(index, other), max(index, other)))
    return pairs


def _named_between(
    left: Prints, right: Prints, members: Iterable[list[int]], found: Iterable[_Pair], leaks: Leaks
) -> set[_Pair]:
    """Pairs for the images of either data set that are in none yet, or leak but are in none that does."""
    offset = len(left.records)
    named, leaking = set(), set()
    for i, j in found:
        named.update((i, j + offset))
        if leaks(left.records[i], right.records[j]):
            leaking.update((i, j + offset))
    pairs: set[_Pair] = set()
    for group in members:
        here, there = [i for i in group if i < offset], [j - offset for j in group if j >= offset]
        if not here or not there:
            continue
        for mine, own, start, theirs, other in ((here, left, 0, there, right), (there, right, offset, here, left)):
            sides = _by_side(other, theirs)
            for index in mine:
                node = index + start
                others = _leaking_to(own.records[index], other, sides, leaks)
                if (others and node in leaking) or (not others and node in named):
                    continue
                partner = _closest_of(own, index, other, others or theirs[:MOST_LOOKS])
                both = {node, partner + offset - start}
                named |= both
                leaking |= both if others else set()
                pairs.add((index, partner) if start == 0 else (partner, index))
    return pairs


def _by_side(prints: Prints, group: Iterable[int]) -> dict[tuple, list[int]]:
    """A few images of each split and fold."""
    sides: defaultdict[tuple, list[int]] = defaultdict(list)
    for index in group:
        side = sides[prints.records[index].split, prints.records[index].fold]
        if len(side) < MOST_LOOKS:
            side.append(index)
    return sides


def _leaking_to(record: ImageRecord, prints: Prints, sides: Mapping[tuple, list[int]], leaks: Leaks) -> list[int]:
    return [index for side in sides.values() if leaks(record, prints.records[side[0]]) for index in side]


def _closest_of(prints: Prints, index: int, others: Prints, candidates: Sequence[int]) -> int:
    code = prints.codes[index, 0].astype(np.float32)
    cosines = np.abs(others.codes[np.asarray(candidates), 0].astype(np.float32) @ code)
    return candidates[int(np.argmax(cosines))]


def _compared(left: Prints, right: Prints, found: Mapping[_Pair, Copy], further: set[_Pair]) -> list[Copy]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        added = pool.map(lambda pair: compare(left, pair[0], right, pair[1]), sorted(further - found.keys()))
        return sorted((*found.values(), *added), key=lambda copy: (copy.left, copy.right))
