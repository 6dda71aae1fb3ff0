"""Learning rates as plain functions of epoch and step, so that resuming needs no scheduler state."""

import math
from collections.abc import Callable

LearningRate = Callable[[int, int], float]
"""(epoch, step within the epoch), both from 0, to the learning rate of that optimiser step."""


def cosine_floor(lr: float, *, epochs: int, floor: float, step_every: int = 1) -> LearningRate:
    """lr x (½ (1 + cos(π t / epochs)) (1 - floor) + floor), t = epoch // step_every.

    With `step_every` 2 as in the report (S1), 35 epochs end near lr / 2; with 1 they reach the floor.
    """

    def rate(epoch: int, step: int) -> float:
        t = epoch // step_every
        return lr * (0.5 * (1 + math.cos(math.pi * t / epochs)) * (1 - floor) + floor)

    return rate


def constant(lr: float) -> LearningRate:
    """Always lr."""
    return lambda epoch, step: lr


def stepped(lr: float, *, gamma: float, step_every: int) -> LearningRate:
    """lr x gamma ^ (epoch // step_every)."""
    return lambda epoch, step: lr * gamma ** (epoch // step_every)


def warmed_up(rate: LearningRate, *, warmup_steps: int, steps: int) -> LearningRate:
    """`rate` times a factor that rises evenly from 1 / warmup_steps to 1 over the first optimiser steps."""
    return lambda epoch, step: rate(epoch, step) * min(1.0, (epoch * steps + step + 1) / warmup_steps)


def one_cycle(lr: float, *, epochs: int, steps: int) -> LearningRate:
    """Up from lr / 25 over 30 % of all steps, then down to nearly zero, both on a cosine.

    Source: Smith and Topin, arXiv:1708.07120, with the annealing that PyTorch uses.
    """
    total = epochs * steps
    peak = max(1.0, 0.3 * total - 1)

    def rate(epoch: int, step: int) -> float:
        t = epoch * steps + step
        if t <= peak:
            return _anneal(lr / 25, lr, t / peak)
        return _anneal(lr, lr / 25e4, (t - peak) / max(1.0, total - 1 - peak))

    return rate


def _anneal(start: float, end: float, part: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(part, 1.0)))
