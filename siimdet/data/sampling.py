"""Which images an epoch draws, in which order, and which of them a process takes."""

from collections import Counter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from siimdet.errors import ConfigError

Key = tuple[int, ...]
"""(epoch, index) of an item; for one that the epoch has had before a third number, how often."""

Part = tuple[int, int]
"""(rank, world): which of how many processes this one is."""

Value = TypeVar("Value")


def training_keys(
    count: int, *, batch_size: int, seed: int, epoch: int, weights: NDArray | None = None, part: Part = (0, 1)
) -> list[list[Key]]:
    """Keys of one process's share of every batch of an epoch over `count` items.

    `batch_size` counts the images of all processes together. With `weights` f64[count], the chance of
    each item, as many are drawn with replacement; without, each comes once.
    The last, smaller batch is left out where there is a full one: its batch-norm statistics would be noise.
    Raises: ConfigError if a batch has fewer images than there are processes.
    """
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(count) if weights is None else rng.choice(count, count, p=weights)
    full = count - count % batch_size if count >= batch_size else count
    keys = _number(epoch, order[:full].tolist())
    if (smallest := min(batch_size, full)) < part[1]:
        expected = f"{part[1]} or more, one for each process"
        raise ConfigError("config", "batch_size", found=f"batches of {smallest}", expected=expected)
    return [of_part(keys[start : start + batch_size], part) for start in range(0, full, batch_size)]


def of_part(values: list[Value], part: Part) -> list[Value]:
    """Every world-th of the values, from the rank on."""
    rank, world = part
    return values[rank::world]


def balancing_weights(labels: NDArray) -> NDArray[np.float64]:
    """Chance of every row to be drawn, so that each class is drawn as often; their sum is 1.

    Shapes: labels f32[N, K], NaN for unknown, which counts as absent; out f64[N].
    A row weighs what the rarest of its classes does: one over the number of that class's rows. Rows of
    no class are a class of their own, but those of which nothing is known are not drawn.
    """
    positive = np.asarray(labels) == 1
    none = ~positive.any(axis=1, keepdims=True) & ~np.isnan(labels).all(axis=1, keepdims=True)
    members = np.concatenate([positive, none], axis=1)
    weights = (members / np.maximum(members.sum(axis=0), 1)).max(axis=1)
    return weights / weights.sum()


def _number(epoch: int, order: list[int]) -> list[Key]:
    before: Counter[int] = Counter()
    keys: list[Key] = []
    for index in order:
        # A key of two numbers where there is no repeat: an image is then augmented as without weights.
        keys.append((epoch, index, before[index]) if before[index] else (epoch, index))
        before[index] += 1
    return keys
