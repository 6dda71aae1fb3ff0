"""The exponential moving average of a model's weights and batch-norm statistics."""

from typing import Any

from timm.utils.model_ema import ModelEmaV3
from torch import nn


class MovingAverage:
    """Follows a model; the decay rises to its full value over the first steps (timm's warm-up)."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._average = ModelEmaV3(model, decay=decay, use_warmup=True)
        self._steps = 0

    @property
    def model(self) -> nn.Module:
        """The averaged model."""
        return self._average.module

    def update(self, model: nn.Module) -> None:
        """Take an optimiser step of the model in."""
        self._average.update(model, step=self._steps)
        self._steps += 1

    def state_dict(self) -> dict[str, Any]:
        """What resuming needs."""
        return {"steps": self._steps, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another average stopped."""
        self._steps = state["steps"]
        self.model.load_state_dict(state["model"])
