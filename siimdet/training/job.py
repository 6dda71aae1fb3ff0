"""What a training is made of: a job of phases, and what a phase trains with."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from siimdet.data.loader import Batch
from siimdet.training.moving_average import MovingAverage
from siimdet.training.schedules import LearningRate


@dataclass(frozen=True, kw_only=True, eq=False)
class Phase:
    """A stretch of epochs with settings of its own."""

    name: str
    """In messages and in the journal."""
    epochs: int
    steps: int
    """Batches per epoch."""
    losses: Callable[[nn.Module, Batch], dict[str, Tensor]]
    """Named scalar losses of a batch on the model's device, each a mean; their sum is minimised."""
    weight: Callable[[Batch, str], float] = lambda batch, name: float(len(batch.ids))
    """What the mean of a named loss of a batch is over: the processes' shares of a batch count by it."""
    batches: Callable[[int, int], Iterator[Batch]]
    """(epoch, number of batches to skip) to the rest of this process's batches of that epoch."""
    counts: Callable[[Batch], dict[str, int]] = lambda batch: {}
    """What the journal adds up over an epoch's batches, beside losses."""
    evaluate: Callable[[nn.Module], dict[str, Any]]
    """Figures of the model on the validation images, for the journal; the same in every process."""
    score: Callable[[Mapping[str, Any]], float | None]
    """From an epoch's figures to what decides which epoch is kept; higher is better, None counts as worst."""
    keep: Callable[[nn.Module, dict[str, Any]], None]
    """Writes the model as the run's best; called by one process."""
    finish: Callable[[], None] = lambda: None
    """Called by one process when the phase has ended."""
    optimiser: Callable[[nn.Module], torch.optim.Optimizer]
    """Builds the optimiser over a model's parameters that train, once `begin` was called."""
    begin: Callable[[], tuple[nn.Module, ...]] = tuple
    """Decides which parameters train; returns the modules that stay in evaluation mode, statistics and all."""
    learning_rate: LearningRate
    accumulate: int = 1
    """Batches per optimiser step."""
    ema: float | None = None
    """Decay of the moving average, which then is what is validated, kept, and handed to the next phase."""
    patience: int | None = None
    """Epochs without a better one after which the phase ends."""
    amp: torch.dtype | None = None
    """Autocast to this type."""
    gradient_clip: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """Everything that one training is."""

    model: nn.Module
    device: torch.device
    phases: tuple[Phase, ...]
    seed: int = 0
    identity: str = ""
    """Config and data: a state is resumed only under the same ones."""


@dataclass(slots=True)
class Engine:
    """What a phase trains with."""

    optimiser: torch.optim.Optimizer
    scaler: Any
    average: MovingAverage | None
    frozen: tuple[nn.Module, ...]
    trained: nn.Module
    """The model, or what spreads its gradients over the processes."""
