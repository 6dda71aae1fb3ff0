"""What the trainings share: where they start, how weights move, and how fast."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from siimdet.config.base import Count, Positive, Strict

Resize = Literal["stretch", "letterbox", "shorter"]
Amp = bool | Literal["fp16", "bf16"]


class Optimiser(Strict):
    """How weights move."""

    name: Literal["sgd", "adam", "adamw"]
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
    """How the learning rate moves within a phase."""

    name: Literal["constant", "cosine_floor", "one_cycle", "step"]
    """cosine_floor: by the epoch, from lr to floor x lr. one_cycle: by the step, up for 30 %, then down to zero.
    step: x gamma every step_every epochs."""
    floor: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Part of lr that cosine_floor ends at."""
    step_every: Count = 1
    """Epochs between two values of cosine_floor (2 reproduces S1's report, which ends near lr / 2) and of step."""
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Factor of step."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimiser steps over which the rate rises from zero to the schedule's own; not for one_cycle, which rises."""

    @model_validator(mode="after")
    def _one_rise(self) -> Self:
        if self.name == "one_cycle" and self.warmup_steps:
            raise ValueError("found warmup_steps with one_cycle, expected 0: it rises by itself")
        return self


class Training(Strict):
    """What every training has."""

    seed: Annotated[int, Field(ge=0)] = 0
    fold: Annotated[int, Field(ge=0)] | None = None
    """This fold of the data set is validation; none: its own train and val splits."""
    exclude_patients: tuple[Path, ...] = ()
    """Data sets whose patients are left out: RSNA's images are NIH images."""
    mix_in: tuple[Path, ...] = ()
    """Data sets whose train images are trained on as well, such as pseudo-labelled ones."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that load images; 0 loads in the training process."""
    cache: Path | None = None
    """Folder for the images at the model's size: read once, then mapped into memory."""
