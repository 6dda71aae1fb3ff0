"""The trainings of detectors."""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from siimdet.config.base import Count, Positive, Probability, Triple
from siimdet.config.phases import Phase, PhasedTraining, PhaseName
from siimdet.config.training import Resize, Training

STAGES = 4
"""Stages of a body, of strides 4 to 32."""


class DetectorTraining(PhasedTraining):
    """A detector of torchvision's family: a body, a feature pyramid, and a head."""

    resize: Resize
    """How an image becomes the square: distorted, padded, or its shorter side fitted (x 8/7) and the centre cut out."""
    mean: Triple
    """Subtracted from grey in [0, 1], for each channel of the body."""
    std: tuple[Positive, Positive, Positive]
    body: str
    """A ResNet or ResNeXt of torchvision, or a network of timm with stages of strides 4 to 32."""
    weights: str
    """Where the body starts: `none`, `imagenet`, a run directory, a .safetensors, .pt or .pth."""
    init_from: Path | None = None
    """Run directory of a detector of this kind to start from, head included; takes the place of `weights`."""
    only_positives: bool = False
    """Train on images with boxes alone; validation keeps all."""
    validation_batch_size: Count
    inference_size: Annotated[int, Field(ge=32)]
    """Side of the input outside training, px."""
    finest_stage: Annotated[int, Field(ge=1, le=STAGES)]
    """First stage of the body in the pyramid; its stride is 2^(stage + 1)."""
    fpn_channels: Count = 256
    freeze_batch_norm: bool = True
    nms_iou: Probability = 0.5
    phases: Annotated[dict[PhaseName, Phase], Field(min_length=1)]

    coarser_levels: ClassVar[int] = 2
    """Levels of the pyramid above those of the body's stages."""

    @property
    def levels(self) -> int:
        """Levels of the pyramid."""
        return STAGES + 1 - self.finest_stage + self.coarser_levels


class FasterRCNNTraining(DetectorTraining):
    """Faster R-CNN with a feature pyramid."""

    kind: Literal["faster_rcnn"]
    coarser_levels: ClassVar[int] = 1
    finest_stage: Annotated[int, Field(ge=1, le=STAGES)] = 1
    box_head_features: Count = 1024
    anchor_sizes: tuple[Count, ...]
    """Sides of the square anchors, px of the input, one per pyramid level."""
    anchor_ratios: tuple[Positive, ...] = (0.5, 1.0, 2.0)
    proposals: Count = 1000
    """Regions that the first stage passes on; twice as many in training."""
    training_regions: Count = 512
    """Regions per image that the second stage's loss samples."""
    box_loss: Literal["smooth_l1", "giou", "diou", "ciou"] = "smooth_l1"
    """Of the second stage's boxes."""

    @model_validator(mode="after")
    def _levels(self) -> Self:
        _one_per_level(self.anchor_sizes, self.levels)
        return self


class RetinaNetTraining(DetectorTraining):
    """RetinaNet (Lin et al., arXiv:1708.02002)."""

    kind: Literal["retinanet"]
    finest_stage: Annotated[int, Field(ge=1, le=STAGES)] = 2
    anchor_sizes: tuple[Count, ...]
    """Sides of the smallest square anchors, px of the input, one per pyramid level."""
    anchor_octaves: Count = 3
    """Anchors per size: size x 2^(k / anchor_octaves)."""
    anchor_ratios: tuple[Positive, ...] = (0.5, 1.0, 2.0)
    box_loss: Literal["smooth_l1", "giou", "diou", "ciou"] = "smooth_l1"

    @model_validator(mode="after")
    def _levels(self) -> Self:
        _one_per_level(self.anchor_sizes, self.levels)
        return self


class FCOSTraining(DetectorTraining):
    """FCOS (Tian et al., arXiv:1904.01355), which has no anchors."""

    kind: Literal["fcos"]
    finest_stage: Annotated[int, Field(ge=1, le=STAGES)] = 2
    box_loss: Literal["giou"] = "giou"
    """Its distances to the sides of a box are learnt by their overlap alone."""

    @model_validator(mode="after")
    def _norms(self) -> Self:
        if self.fpn_channels % 32 or self.fpn_channels < 64:
            raise ValueError(
                f"found fpn_channels {self.fpn_channels}, expected a multiple of 32 from 64 on: norms of 32 groups"
            )
        return self


def _one_per_level(anchor_sizes: tuple[int, ...], levels: int) -> None:
    if len(anchor_sizes) != levels:
        raise ValueError(f"found {len(anchor_sizes)} anchor_sizes, expected {levels}: one per pyramid level")


class YoloTraining(Training):
    """YOLO through ultralytics; docs/train-detector.md maps the report's settings onto these."""

    kind: Literal["yolo"]
    epochs: Count
    image_size: Annotated[int, Field(ge=64)]
    """Side of the model's square input, px."""
    batch_size: Count
    only_positives: bool = False
    """Train on images with boxes alone; validation keeps all."""
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
        if self.image_size % 32:
            raise ValueError(f"found image_size {self.image_size}, expected a multiple of 32")
        return self
