"""Training steps by the engine's own parts: mixed precision and channels_last against plain fp32.

On the CPU bf16; on CUDA, where there is one, fp16 with loss scaling, and what the loader gives beside it.
Processor seconds stand beside the clock's: with OMP_NUM_THREADS=1 they tell the same on a machine that is busy.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from pairs import compare
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from siimdet.augment import Augmenter
from siimdet.config import Augment, Auxiliary, Optimiser, Task
from siimdet.core.labels import STUDY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.data.loader import Batch, Samples, training_batches
from siimdet.data.phantom import render, sample_opacities, sample_thorax, stretch
from siimdet.data.placement import Placement
from siimdet.imaging.png import write_png
from siimdet.models.bodies import IMAGENET_MEAN, IMAGENET_STD
from siimdet.models.classifier import build_classifier
from siimdet.models.determinism import deterministic_kernels
from siimdet.models.faster_rcnn import build_faster_rcnn
from siimdet.training.epoch import Progress, train_epoch
from siimdet.training.job import Engine, Phase
from siimdet.training.schedules import constant
from siimdet.training.setup import build_optimiser
from siimdet.training.tasks import build_objective

STEPS, LEARNING_RATE, PAIRS = 2, 1e-3, 3
Losses = Callable[[nn.Module, Batch], dict[str, Tensor]]


@dataclass(eq=False)
class Side:
    """One side of a comparison: a training that goes on for STEPS steps with every call, and says their losses."""

    model: nn.Module
    losses: Losses
    batches: list[Batch]
    device: torch.device
    amp: torch.dtype | None
    said: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    """Processor seconds of every call."""

    def __post_init__(self) -> None:
        optimiser = Optimiser(name="sgd", lr=LEARNING_RATE, momentum=0.9, nesterov=False, weight_decay=0)
        self.model.to(self.device)
        self.phase = Phase(
            name="bench",
            epochs=1,
            steps=STEPS,
            losses=self._noted,
            batches=lambda epoch, skip: iter(self.batches),
            evaluate=lambda model: {},
            score=lambda figures: None,
            keep=lambda model, figures: None,
            optimiser=lambda model: build_optimiser(optimiser, model),
            learning_rate=constant(LEARNING_RATE),
            amp=self.amp,
        )
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.amp == torch.float16)
        self.engine = Engine(self.phase.optimiser(self.model), scaler, None, (), self.model)

    def __call__(self) -> list[float]:
        """Train on every batch once."""
        self.said, began = [], time.process_time()
        devices = [0] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices), deterministic_kernels(self.device):
            torch.manual_seed(0)  # Faster R-CNN draws the regions that it learns from
            train_epoch(self.phase, self.engine, self.device, Progress(), stopped=lambda: False, save=lambda: None)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.processor.append(time.process_time() - began)
        return self.said

    def _noted(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        found = self.losses(model, batch)
        self.said.append(sum(loss.item() for loss in found.values()))
        return found


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """A model of always the same random weights, as even-tempered as a trained one.

    Left as they are, the residual branches of random weights let gradients grow to a norm of 500, and losses of
    fp32 alone differ by 5 % between memory formats. Source: Goyal et al., arXiv:1706.02677, section 5.1.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
    for module in model.modules():
        if isinstance(module, Bottleneck):
            nn.init.constant_(cast(Tensor, module.bn3.weight), 0.2)
    return model


def random_batches(size: int, side: int) -> list[Batch]:
    """STEPS batches of random greys, each image of the next study class with one box in its middle."""
    rng = np.random.default_rng(0)
    labels = torch.eye(4)[torch.arange(size) % 4]
    box = torch.tensor([[side / 4, side / 4, side / 2, side / 2]])
    boxes, ids, classes = [box] * size, [str(i) for i in range(size)], [torch.tensor([0])] * size
    greys = torch.from_numpy(rng.random((STEPS, size, 1, side, side), np.float32))
    return [Batch(grey, labels, boxes, classes, [Placement((1, 1), (0, 0))] * size, ids) for grey in greys]


def classifier_losses(device: torch.device) -> Losses:
    """The study level's: cross-entropy of four classes."""
    size = ImageSize(1, 1)
    records = [
        ImageRecord(str(i), str(i), str(i), "", size, size, np.eye(4, dtype=np.float32)[i], "train") for i in range(4)
    ]
    return build_objective(Task(name="cross_entropy"), Auxiliary(), records, STUDY, device=device).losses


def detector_losses(device: torch.device) -> Losses:
    """Those of Faster R-CNN."""

    def losses(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return model(batch.greys(device), *batch.targets(device))

    return losses


def compare_steps(
    item: str,
    build: Callable[[], nn.Module],
    losses: Losses,
    batches: list[Batch],
    device: torch.device,
    amp: torch.dtype | None,
    *,
    tolerance: float,
) -> None:
    """Print the row of one item, and how far the losses of both sides were apart."""
    plain = Side(seeded(build), losses, batches, device, None)
    ours = Side(seeded(build).to(memory_format=torch.channels_last), losses, batches, device, amp)  # type: ignore[call-overload]
    apart: list[float] = []

    def agree(theirs: list[float], mine: list[float]) -> bool:
        apart.append(float(np.max(np.abs(np.array(mine) / theirs - 1))))
        return apart[0] <= tolerance

    result = compare(item, "fp32, contiguous", plain, ours, equal=agree, pairs=PAIRS)
    images = len(batches) * len(batches[0].ids)
    print(f"  losses of the first {STEPS} steps apart by {apart[0]:.2%} at most, allowed {tolerance:.0%}")
    print(f"  images/s: {images / result.baseline_seconds:.2f} against {images / result.our_seconds:.2f}")
    if device.type == "cpu":
        theirs, mine = (np.array(side.processor[1:]) / STEPS for side in (plain, ours))  # the first call warms up
        ratios = theirs / mine
        print(
            f"  processor seconds a step: {np.median(theirs):.2f} against {np.median(mine):.2f}, "
            f"{np.median(ratios):.2f}x ({ratios.min():.2f} to {ratios.max():.2f})"
        )


def classifier(body: str) -> Callable[[], nn.Module]:
    """Builder of a study classifier."""
    return lambda: build_classifier(body, num_classes=4, activation="softmax", mean=IMAGENET_MEAN, std=IMAGENET_STD)


def faster_rcnn() -> nn.Module:
    """Faster R-CNN on ResNeXt-50, with the builder's own settings."""
    return build_faster_rcnn("resnext50_32x4d", num_classes=1, mean=IMAGENET_MEAN, std=IMAGENET_STD)


def loader_speed(*, workers: int, images: int = 64, epochs: int = 4) -> float:
    """Images a second of 224 px that the loader gives, augmented, from phantoms of 1024 px."""
    rng = np.random.default_rng(0)
    size = ImageSize(1024, 1024)
    with tempfile.TemporaryDirectory() as folder:
        records = []
        for index in range(images):
            thorax = sample_thorax(rng)
            grey = stretch(rng, render(rng, thorax, sample_opacities(rng, "typical", thorax)), *(1024, 1024))
            write_png(Path(folder) / f"{index}.png", (grey * 255).astype(np.uint8))
            name = str(index)
            records.append(
                ImageRecord(name, name, name, f"{name}.png", size, size, np.eye(4, dtype=np.float32)[0], "train")
            )
        boxes = {record.image_id: BoxLabels.empty(size) for record in records}
        samples = Samples(
            Path(folder), records * epochs, boxes, side=224, resize="stretch", augmentation=Augmenter(Augment())
        )
        began = time.perf_counter()
        seen = sum(len(b.ids) for b in training_batches(samples, batch_size=16, epoch=0, workers=workers))
        return seen / (time.perf_counter() - began)


def on_cuda() -> None:
    """The GPU's rows: without and with TF32 for the baseline, then the loader's speed."""
    device, batches, workers = torch.device("cuda"), random_batches(32, 224), os.cpu_count() or 1
    for tf32 in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        compare_steps(
            f"ResNeXt-101 32x8d on CUDA, TF32 {'on' if tf32 else 'off'}",
            classifier("resnext101_32x8d"),
            classifier_losses(device),
            batches,
            device,
            torch.float16,
            tolerance=0.01,
        )
    print(f"the loader gives {loader_speed(workers=workers):.0f} images/s at 224 px with {workers} processes")


def main() -> None:
    """Print the CPU's rows, then the GPU's or that there is none."""
    cpu = torch.device("cpu")
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    print(f"{torch.get_num_threads()} threads, {'with' if fast else 'without'} avx512_bf16 or AMX")
    compare_steps(
        "ResNeXt-50 32x4d training, 224 px, batch 8",
        classifier("resnext50_32x4d"),
        classifier_losses(cpu),
        random_batches(8, 224),
        cpu,
        torch.bfloat16,
        tolerance=0.01,
    )
    compare_steps(
        "Faster R-CNN training, 512 px, batch 2",
        faster_rcnn,
        detector_losses(cpu),
        random_batches(2, 512),
        cpu,
        torch.bfloat16,
        tolerance=0.02,
    )
    if torch.cuda.is_available():
        on_cuda()
    else:
        print("no CUDA here: ResNeXt-101 32x8d on a GPU is not measured")


if __name__ == "__main__":
    main()
