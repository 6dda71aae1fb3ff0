"""Trainings in phases: what every phase has, and how phases share keys.

A key of a phase that stands beside `phases` holds for every phase that does not say otherwise; a file
without `phases` is one phase, named after its kind.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from siimdet.config.augment import Augment
from siimdet.config.base import Count, Positive, Strict
from siimdet.config.training import Amp, Optimiser, Schedule, Training

PhaseName = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]


class Phase(Strict):
    """A stretch of epochs with settings of its own. It goes on from the weights that the phase before ended with."""

    epochs: Count
    image_size: Annotated[int, Field(ge=32)]
    """Side of the model's square input, px."""
    batch_size: Count
    """Images per forward pass, over all processes."""
    accumulate: Count = 1
    """Batches whose gradients make one optimiser step."""
    trainable: Annotated[tuple[str, ...], Field(min_length=1)] = ("*",)
    """Globs of the modules that train; the rest keeps weights and batch-norm statistics."""
    optimiser: Optimiser
    schedule: Schedule
    augment: Augment = Augment()
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of the moving average of the weights, which is then what is validated and kept."""
    patience: Count | None = None
    """Epochs without a better one after which the phase ends."""
    amp: Amp
    """Automatic mixed precision. true: fp16 with gradient scaling on CUDA, bf16 on the CPU."""
    gradient_clip: Positive | None = None
    """Largest norm of the gradient of all weights."""


class PhasedTraining(Training):
    """A training in phases; a subclass says what its phases are."""

    phase_type: ClassVar[type[Phase]] = Phase

    @model_validator(mode="before")
    @classmethod
    def _share(cls, tree: Any) -> Any:
        """Give every phase the keys that stand beside `phases`."""
        if not isinstance(tree, Mapping):
            return tree
        keys = cls.phase_type.model_fields
        shared = {key: value for key, value in tree.items() if key in keys}
        own = {key: value for key, value in tree.items() if key not in keys}
        phases = tree.get("phases", {}) or {tree["kind"]: {}}
        if not isinstance(phases, Mapping):
            return own
        return {**own, "phases": {name: _merged(shared, phase) for name, phase in phases.items()}}


def _merged(shared: Mapping[str, Any], own: Any) -> Any:
    if not isinstance(own, Mapping):
        return shared if own is None else own
    merged = dict(shared)
    for key, value in own.items():
        nested = isinstance(merged.get(key), Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(merged[key], value) if nested else value
    return merged
