"""Transforms of training images; boxes move along."""

from siimdet.augment.augmenter import MIN_SIDE, MIN_VISIBLE, Augmenter

__all__ = ["MIN_SIDE", "MIN_VISIBLE", "Augmenter"]
