"""The trainings of detectors."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from siimdet.config.augment import Augment
from siimdet.config.base import Count, Positive, Probability, Triple
from siimdet.config.training import Amp, DetectorTraining, Optimiser, Resize, Schedule


class FasterRCNNTraining(DetectorTraining):
    """Faster R-CNN with a feature pyramid."""

    kind: Literal["faster_rcnn"]
    resize: Resize
    """How an image becomes the square: distorted, padded, or its shorter side fitted (x 8/7) and the centre cut out."""
    mean: Triple
    """Subtracted from grey in [0, 1], for each channel of the body."""
    std: tuple[Positive, Positive, Positive]
    optimiser: Optimiser
    schedule: Schedule
    amp: Amp
    """Automatic mixed precision. true: fp16 with gradient scaling on CUDA, bf16 on the CPU."""
    augment: Augment = Augment()
    gradient_clip: Positive | None = None
    """Largest norm of the gradient of all weights."""
    body: str
    weights: str
    """Where the body starts: `none`, `imagenet` (from torchvision, downloaded), a run directory, or a .safetensors."""
    init_from: Path | None = None
    """Run directory of a Faster R-CNN to start from, head included; takes the place of `weights`."""
    validation_batch_size: Count
    inference_size: Annotated[int, Field(ge=32)]
    """Side of the input outside training, px."""
    finest_stage: Annotated[int, Field(ge=1, le=4)] = 1
    """First stage of the body in the pyramid; its stride is 2^(stage + 1)."""
    fpn_channels: Count = 256
    box_head_features: Count = 1024
    anchor_sizes: tuple[Count, ...]
    """Sides of the square anchors, px of the input, one per pyramid level."""
    anchor_ratios: tuple[Positive, ...] = (0.5, 1.0, 2.0)
    proposals: Count = 1000
    """Regions that the first stage passes on; twice as many in training."""
    training_regions: Count = 512
    """Regions per image that the second stage's loss samples."""
    freeze_batch_norm: bool = True
    nms_iou: Probability = 0.5

    @model_validator(mode="after")
    def _levels(self) -> Self:
        levels = 6 - self.finest_stage
        if len(self.anchor_sizes) != levels:
            raise ValueError(f"found {len(self.anchor_sizes)} anchor_sizes, expected {levels}: one per pyramid level")
        return self


class YoloTraining(DetectorTraining):
    """YOLO through ultralytics; docs/train.md maps the report's settings onto these."""

    kind: Literal["yolo"]
    architecture: str
    """One of the library's model tables with its scale, such as yolov5l.yaml or yolo11n.yaml."""
    init_from: Path | None = None
    """Run directory of a YOLO, or a file of weights (.safetensors, or the library's own .pt), to start from."""
    nominal_batch: Count
    """Images whose gradients make one optimiser step."""
    optimizer: Literal["sgd", "adamw"]
    lr: Positive
    """Peak learning rate."""
    final_lr_fraction: Probability
    """Part of lr at the end of the cosine."""
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_iterations: Annotated[int, Field(ge=0)]
    """Forward passes over which the learning rate rises."""
    warmup_bias_lr: Annotated[float, Field(ge=0)] = 0.1
    """Learning rate of the biases at the first pass."""
    warmup_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.8
    """Momentum at the first pass."""
    norm_momentum: Annotated[float, Field(gt=0, le=1)] = 0.03
    """How fast batch norms follow their batches; .03 is the library's, short trainings from scratch need more."""
    overlap: Literal["giou", "diou", "ciou"]
    """Box loss: 1 minus this overlap."""
    box_weight: Positive
    class_weight: Positive
    distribution_weight: Positive
    """Weight of the loss on the distributions of box edges; anchor-free YOLOs have no objectness."""
    flip_horizontal: Probability
    flip_vertical: Probability
    value_jitter: Probability
    """Largest relative change of grey values."""
    mixup: Probability
    mosaic: Probability = 0.0
    translate: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest shift as a fraction of the side."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest relative change of size."""
    amp: bool
    """Automatic mixed precision on CUDA."""
    nms_confidence: Probability
    """Lowest confidence that predictions keep."""
    nms_iou: Probability

    @model_validator(mode="after")
    def _stride(self) -> Self:
        if self.image_size % 32 or self.image_size < 64:
            raise ValueError(f"found image_size {self.image_size}, expected a multiple of 32 from 64 on")
        return self
