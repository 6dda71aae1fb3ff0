"""What a phase of a classifier learns: losses of a batch, and what these are means over.

Legend: B images, K classes, D width of the embedding. Outputs come from siimdet.models.classifier.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from siimdet.config import Auxiliary, Task
from siimdet.core.types import ImageRecord, LabelSpace
from siimdet.data.batch import Batch
from siimdet.models.box_mask import box_mask


@dataclass(frozen=True, slots=True)
class Objective:
    """Losses of a batch, and what the mean of each is over."""

    losses: Callable[[nn.Module, Batch], dict[str, Tensor]]
    weight: Callable[[Batch, str], float]


def build_objective(
    task: Task,
    auxiliary: Auxiliary,
    records: Sequence[ImageRecord],
    labels: LabelSpace,
    *,
    device: torch.device,
) -> Objective:
    """What `task` minimises on images of `records`, whose labels weigh the classes where that is asked for."""
    if task.name == "triplet":
        return _triplets(task.margin, device)
    truth = np.array([record.labels for record in records])
    if task.name == "multilabel":
        factors = class_factors(truth, exclusive=False) if task.class_weights else np.ones(len(labels), np.float32)
        return _labels(torch.tensor(factors, device=device), device)
    factors = class_factors(truth, exclusive=True) if task.class_weights else np.ones(len(labels), np.float32)
    return _classes(task, auxiliary, torch.tensor(factors, device=device), device)


def class_factors(truth: NDArray, *, exclusive: bool) -> NDArray[np.float32]:
    """f32[K]: N / (K n_k) for exclusive classes, else negatives / positives, which weigh a class's positives.

    Shapes: truth f32[N, K] of 1, 0 or NaN for unknown. A class without positives weighs as if it had one.
    """
    positives = np.maximum((truth == 1).sum(0), 1)
    if exclusive:
        return (len(truth) / (truth.shape[1] * positives)).astype(np.float32)
    return ((truth == 0).sum(0) / positives).astype(np.float32)


def _labels(factors: Tensor, device: torch.device) -> Objective:
    def losses(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        images, labels = batch.greys(device), batch.labels.to(device, non_blocking=True)
        logits = model(images).float()
        known = ~labels.isnan()
        every = functional.binary_cross_entropy_with_logits(
            logits, labels.nan_to_num(), reduction="none", pos_weight=factors
        )
        return {"bce": (every * known).sum() / known.sum().clamp(min=1)}

    return Objective(losses, lambda batch, name: float((~batch.labels.isnan()).sum()))


def _classes(task: Task, auxiliary: Auxiliary, factors: Tensor, device: torch.device) -> Objective:
    wants = "all" if auxiliary.opacity or auxiliary.mask else "classes"

    def losses(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        images, labels = batch.greys(device), batch.labels.to(device, non_blocking=True)
        found = model(images, output=wants)
        outputs: dict[str, Tensor] = found if wants == "all" else {"classes": found}
        logs = outputs["classes"].float()
        logs = logs if task.name == "nll" else logs.log_softmax(1)
        result = {task.name: _cross_entropy(logs, labels, factors, task.label_smoothing)}
        boxed = torch.tensor([float(len(boxes) > 0) for boxes in batch.boxes], device=device)
        if auxiliary.opacity:
            result["opacity"] = auxiliary.opacity * functional.binary_cross_entropy_with_logits(
                outputs["opacity"].float(), boxed
            )
        if auxiliary.mask:
            logits = outputs["mask"].float()
            target = box_mask(batch.boxes, side=batch.images.shape[-1], cells=logits.shape[-1]).to(device)
            result["mask"] = auxiliary.mask * functional.binary_cross_entropy_with_logits(logits, target)
        return result

    weights = factors.cpu()

    def weight(batch: Batch, name: str) -> float:
        return float((batch.labels * weights).sum()) if name == task.name else float(len(batch.ids))

    return Objective(losses, weight)


def _cross_entropy(logs: Tensor, labels: Tensor, factors: Tensor, smoothing: float) -> Tensor:
    """Weighted mean of -log p; labels f32[B, K] may be mixtures. PyTorch's own for hard labels."""
    targets = labels * (1 - smoothing) + smoothing / labels.shape[1]
    return -(targets * logs * factors).sum() / (labels * factors).sum()


def _triplets(margin: float, device: torch.device) -> Objective:
    def losses(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        embeddings = model(batch.greys(device), output="embedding").float()
        anchors, positives, negatives = embeddings.chunk(3)
        return {"triplet": functional.triplet_margin_loss(anchors, positives, negatives, margin=margin)}

    return Objective(losses, lambda batch, name: len(batch.ids) / 3)
