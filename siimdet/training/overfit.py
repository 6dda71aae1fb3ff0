"""Learn one batch by heart before training: a network that cannot has a fault.

Source: the sanity check of Karpathy's recipe for training neural networks (2019), asked for by S2's report.
"""

import copy
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from siimdet.core.types import LabelSpace
from siimdet.data.batch import Batch
from siimdet.training.job import Phase
from siimdet.training.plots import draw_predictions

log = logging.getLogger(__name__)
PICTURE = "plots/overfit_one_batch.png"
SHOWN = 32
"""Images in the picture, at most."""


def overfit_one_batch(
    model: nn.Module,
    phase: Phase,
    batch: Batch,
    frozen: Collection[nn.Module],
    *,
    steps: int,
    space: LabelSpace,
    device: torch.device,
    run: Path,
) -> float:
    """Train a copy of the model on one batch alone and picture truth and prediction; return the last loss.

    The model and torch's generators stay as they were. Without augmentation, with the phase's own optimiser
    at its peak rate; `frozen` is what `phase.begin` returned.
    """
    cuda = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        learner = copy.deepcopy(model)
        still = [learner.get_submodule(name) for name, module in model.named_modules() if module in frozen]
        optimiser = phase.optimiser(learner)
        losses = [_step(learner, phase, optimiser, batch, still) for _ in range(steps)]
    learner.eval()
    found = learner.predict(batch.greys(device)).cpu().numpy()  # type: ignore[operator]
    truth, chosen = batch.labels.numpy(), found.argmax(1)
    right = int((truth.argmax(1) == chosen).sum())
    log.info(
        "one batch by heart: loss %.4g to %.4g in %d steps, %d of %d images right: %s",
        *(losses[0], losses[-1], steps, right, len(chosen), run / PICTURE),
    )
    shown = slice(0, SHOWN)
    draw_predictions(
        run / PICTURE,
        np.round(batch.greys(torch.device("cpu"))[shown, 0].numpy() * 255).astype(np.uint8),
        [space.names[k] for k in truth[shown].argmax(1)],
        [space.names[k] for k in chosen[shown]],
        found.max(1)[shown].tolist(),
    )
    return losses[-1]


def _step(
    learner: nn.Module, phase: Phase, optimiser: torch.optim.Optimizer, batch: Batch, still: Sequence[nn.Module]
) -> float:
    learner.train()
    for module in still:
        module.eval()
    loss = torch.stack(list(phase.losses(learner, batch).values())).sum()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()
