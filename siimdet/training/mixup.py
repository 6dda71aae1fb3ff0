"""Mixup: every image with a share of another one of its batch, and the labels likewise.

Source: Zhang et al., arXiv:1710.09412.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from siimdet.data.batch import Batch


def mixed(batches: Iterator[Batch], *, alpha: float, seed: int, epoch: int, skip: int, rank: int) -> Iterator[Batch]:
    """The batches with images and labels mixed in pairs; the share is drawn from Beta(alpha, alpha) per batch.

    What is drawn depends on seed, epoch, the batch's number (from `skip` on) and the process alone. An
    unknown label stays unknown in its mixtures.
    """
    for step, batch in enumerate(batches, start=skip):
        rng = np.random.default_rng((seed, epoch, step, rank))
        share = float(rng.beta(alpha, alpha))
        partners = torch.from_numpy(rng.permutation(len(batch.ids)))
        greys = batch.greys(torch.device("cpu"))
        yield replace(
            batch,
            images=share * greys + (1 - share) * greys[partners],
            labels=share * batch.labels + (1 - share) * batch.labels[partners],
        )
