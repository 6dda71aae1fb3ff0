"""How a YOLO is trained, as plain values; the defaults are the report's (SYSTEMS S1)."""

from dataclasses import dataclass
from typing import Literal

Overlap = Literal["giou", "diou", "ciou"]


@dataclass(frozen=True, kw_only=True, slots=True)
class YoloSettings:
    """Everything a YOLO training depends on besides data, starting weights and device.

    The report's loss is .075 box + .05 class + .75 objectness on anchors (YOLOv5, whose own weights are
    .05, .5 and 1). ultralytics 8 is anchor-free: no objectness; class scores are trained towards the
    overlap at every grid point, so with one class they are the objectness; box edges are distributions
    with a loss of their own. It states YOLOv5's own weights as 7.5 box, .5 class, 1.5 distribution. The
    report's departures carried over: box and distribution x .075/.05, class x .75/1.
    """

    architecture: str = "yolov5l.yaml"
    """Table of ultralytics with a scale letter; the report: YOLOv5-l."""
    image_size: int = 512
    """Side of the square input, pixels, a multiple of 32; images are stretched to it. The report: 512."""
    epochs: int = 30
    """Passes over the training images; the report: 30 on RSNA, then 35 on SIIM."""
    batch: int = 3
    """Images per forward pass; the report: 3."""
    nominal_batch: int = 64
    """Images per optimiser step: gradients of round(nominal_batch / batch) passes are summed. The report: 64."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov's momentum, or AdamW; the report: SGD."""
    lr: float = 0.01
    """Peak learning rate per optimiser step (lr0); the report: .01."""
    final_lr_fraction: float = 0.05
    """Floor of the cosine as a fraction of `lr` (lrf): lr (1/2 (1 + cos(pi e/E)) .95 + .05) in epoch e of E."""
    momentum: float = 0.937
    """Momentum of SGD, beta 1 of AdamW; the report: .937."""
    weight_decay: float = 5e-4
    """Decay of convolution weights, not of biases and norms, per step of `nominal_batch`; the report: 5e-4."""
    warmup_iterations: int = 1000
    """Forward passes in which rates rise from 0, momentum from `warmup_momentum`. The report: 1,000."""
    warmup_bias_lr: float = 0.1
    """Rate of the biases at the first pass, falling to `lr`; YOLOv5's default. 0 suits AdamW."""
    warmup_momentum: float = 0.8
    """Momentum of SGD at the first pass; YOLOv5's default."""
    norm_momentum: float = 0.03
    """Share of each batch in batch norm's running statistics; ultralytics' own. A run of a few hundred passes needs
    .1: the variance of 1 that they start from otherwise silences the network in evaluation while training goes well."""
    overlap: Overlap = "giou"
    """Box loss 1 - overlap; the report: GIoU. ultralytics itself knows CIoU only."""
    box_weight: float = 11.25
    """Weight of the box loss (box); the report's .075."""
    class_weight: float = 0.375
    """Weight of the class loss (cls); the report's .75 objectness and .05 class in one."""
    distribution_weight: float = 2.25
    """Weight of the distribution focal loss (dfl); keeps ultralytics' ratio of 1 : 5 to the box loss."""
    flip_vertical: float = 0.1
    """Probability (flipud); the report: .1."""
    flip_horizontal: float = 0.5
    """Probability (fliplr); the report: .5."""
    value_jitter: float = 0.4
    """Grey values are scaled by 1 +- up to this; V of the report's HSV jitter at YOLOv5's default (hsv_v)."""
    mixup: float = 0.5
    """Probability that an image is blended with another, boxes of both kept; the report: .5."""
    mosaic: float = 0.0
    """Probability that an image becomes a corner of four; not in the report. ultralytics' default is 1."""
    translate: float = 0.0
    """Shift of the image by up to this fraction of its side; not in the report."""
    scale: float = 0.0
    """Zoom by 1 +- up to this; not in the report. With mosaic, .5 is ultralytics' default."""
    amp: bool = True
    """Half precision with loss scaling on CUDA; on a CPU training is always float32. The report: autocast."""
    workers: int = 0
    """Processes that load images; 0 loads in the training process. It changes no number."""
    seed: int = 0
    """Seed of weights, order and augmentation."""

    def __post_init__(self) -> None:
        if self.image_size < 64 or self.image_size % 32:
            raise ValueError(f"image_size is {self.image_size}, expected a multiple of 32 from 64 on")
        if min(self.epochs, self.batch, self.nominal_batch) < 1:
            raise ValueError("epochs, batch and nominal_batch must be at least 1")
