"""The schema of the YAML files under configs/: one complete file per run.

Every field's docstring gives its unit; defaults that come from the report are written out in the
files under configs/, so that a file shows everything that a run does.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Triple = tuple[float, float, float]


class Strict(BaseModel):
    """Frozen, and a key that is not in the schema is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Affine(Strict):
    """Rotation about the centre and shift, together."""

    p: Probability
    rotate: Annotated[float, Field(ge=0, le=180)]
    """Largest angle, degrees, either way."""
    shift: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Largest shift as a fraction of the side."""


class Cutout(Strict):
    """Circular holes, filled with black."""

    p: Probability
    holes: Count
    """Largest number; 1 to this many are cut."""
    radius: Annotated[float, Field(gt=0, le=0.5)]
    """Largest radius as a fraction of the side."""


class Erase(Strict):
    """One rectangle replaced by noise (Zhong et al., arXiv:1708.04896)."""

    p: Probability
    area: tuple[Positive, Annotated[float, Field(gt=0, le=0.3)]]
    """Smallest and largest part of the image."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.area[0] > self.area[1]:
            raise ValueError(f"found area {list(self.area)}, expected the smaller part first")
        return self


class Augment(Strict):
    """What may happen to a training image; boxes move along. Everything left out does not happen."""

    horizontal_flip: Probability = 0.0
    affine: Affine | None = None
    sharpen: Probability = 0.0
    """Never together with blur: the two share one draw."""
    blur: Probability = 0.0
    brightness_contrast: Probability = 0.0
    cutout: Cutout | None = None
    erase: Erase | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if self.sharpen + self.blur > 1:
            raise ValueError(f"found sharpen + blur = {self.sharpen + self.blur:g}, expected at most 1")
        return self


class Optimiser(Strict):
    """How weights move."""

    name: Literal["sgd", "adamw"]
    lr: Positive
    """Peak learning rate, per optimiser step."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD alone."""
    nesterov: bool = False
    """SGD alone."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("found nesterov without momentum, expected momentum above 0")
        return self


class Schedule(Strict):
    """How the learning rate moves."""

    name: Literal["cosine_floor", "one_cycle"]
    """cosine_floor: by the epoch, from lr to floor x lr. one_cycle: by the step, up for 30 %, then down to zero."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Part of lr that cosine_floor ends at."""
    step_every: Count = 1
    """Epochs between two values of cosine_floor; 2 reproduces the report, which ends near lr / 2."""


class Training(Strict):
    """What every training has."""

    seed: Annotated[int, Field(ge=0)] = 0
    epochs: Count
    image_size: Annotated[int, Field(ge=32)]
    """Side of the model's square input, px."""
    batch_size: Count
    fold: Annotated[int, Field(ge=0)] | None = None
    """This fold of the data set is validation; none: its own train and val splits."""
    exclude_patients: tuple[Path, ...] = ()
    """Data sets whose patients are left out: RSNA's images are NIH images."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that load images; 0 loads in the training process."""


class EngineTraining(Training):
    """What the trainings on our own loop have."""

    resize: Literal["stretch", "letterbox", "shorter"]
    """How an image becomes the square: distorted, padded, or its shorter side fitted (x 8/7) and the centre cut out."""
    mean: Triple
    """Subtracted from grey in [0, 1], for each channel of the body."""
    std: tuple[Positive, Positive, Positive]
    optimiser: Optimiser
    schedule: Schedule
    amp: bool
    """Automatic mixed precision: fp16 with gradient scaling on CUDA, bf16 on the CPU."""
    augment: Augment = Augment()
    gradient_clip: Positive | None = None
    """Largest norm of the gradient of all weights."""
    body: str
    weights: str
    """Where the body starts: `none`, `imagenet` (from torchvision, downloaded), a run directory, or a .safetensors."""


class BackboneTraining(EngineTraining):
    """Multi-label pretraining of a body: binary cross-entropy, unknown labels masked."""

    kind: Literal["backbone"]


class StudyTraining(EngineTraining):
    """The study-level classifier: cross-entropy over classes of which exactly one holds."""

    kind: Literal["study"]
    hidden: Count
    """Width of the head's hidden layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    trainable: Annotated[tuple[str, ...], Field(min_length=1)]
    """Globs of the modules that train; the rest keeps weights and batch-norm statistics."""
    class_weights: bool = False
    """Weigh each class by its inverse frequency."""


class FasterRCNNTraining(EngineTraining):
    """Faster R-CNN with a feature pyramid."""

    kind: Literal["faster_rcnn"]
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
    only_positives: bool = False
    """Train on images with boxes alone; validation keeps all."""

    @model_validator(mode="after")
    def _levels(self) -> Self:
        levels = 6 - self.finest_stage
        if len(self.anchor_sizes) != levels:
            raise ValueError(f"found {len(self.anchor_sizes)} anchor_sizes, expected {levels}: one per pyramid level")
        return self


class YoloTraining(Training):
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
    only_positives: bool = False
    """Train on images with boxes alone; validation keeps all."""

    @model_validator(mode="after")
    def _stride(self) -> Self:
        if self.image_size % 32 or self.image_size < 64:
            raise ValueError(f"found image_size {self.image_size}, expected a multiple of 32 from 64 on")
        return self


class OpacityExponents(Strict):
    """Powers in the product that becomes a box's confidence; 0 leaves a factor out."""

    own: Annotated[float, Field(ge=0)] = 1.0
    """Of the box's score."""
    not_negative: Annotated[float, Field(ge=0)] = 0.0
    """Of 1 - p_negative of the study."""
    image_opacity: Annotated[float, Field(ge=0)] = 0.0
    """Of the image's highest box score."""


class NoneExponents(Strict):
    """Powers in the product that becomes the confidence of `none`; 0 leaves a factor out."""

    own: Annotated[float, Field(ge=0)] = 1.0
    """Of p_negative of the study."""
    image_opacity: Annotated[float, Field(ge=0)] = 0.0
    """Of 1 minus the image's highest box score."""


class Coupling(Strict):
    """How boxes and study probabilities become the rows of a submission."""

    kind: Literal["coupling"]
    fusion_iou: Annotated[float, Field(gt=0, lt=1)] = 0.55
    """Boxes of different detectors that overlap by more are one."""
    fusion_weights: tuple[Positive, ...] | None = None
    """One per detector; equal where left out."""
    nms_iou: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Fused boxes that still overlap by more: the best stays. None: all stay."""
    study_from_images: Literal["mean", "max"] = "mean"
    opacity: OpacityExponents = OpacityExponents()
    none: NoneExponents = NoneExponents()


AnyTraining = BackboneTraining | StudyTraining | FasterRCNNTraining | YoloTraining
AnyConfig = Annotated[AnyTraining | Coupling, Field(discriminator="kind")]
