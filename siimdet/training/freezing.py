"""Which modules of a model train, and what their batches need."""

import fnmatch
from collections.abc import Collection, Sequence

from torch import nn

from siimdet.errors import ConfigError


def freeze_all_but(model: nn.Module, globs: Sequence[str], *, idle: Sequence[str] = ()) -> tuple[nn.Module, ...]:
    """Let only modules that match a glob train; return those that must stay in evaluation mode.

    A module trains with everything below it: `head`, `body.layer4`, `body.layer?`. Modules named in `idle`
    do not train whatever matches. What an earlier call froze trains again where it matches now.
    Raises: ConfigError for a glob that matches nothing, or if nothing that has weights is left.
    """
    trains: set[nn.Module] = set()
    for pattern in globs:
        matched = [module for name, module in model.named_modules() if fnmatch.fnmatchcase(name, pattern)]
        if not matched:
            names = ", ".join(name for name, _ in model.named_children())
            raise ConfigError("config", "trainable", found=repr(pattern), expected=f"a glob of modules below {names}")
        trains.update(below for module in matched for below in module.modules())
    for name, module in model.named_children():
        if name in idle:
            trains.difference_update(module.modules())
    if not any(True for module in trains for _ in module.parameters(recurse=False)):
        raise ConfigError("config", "trainable", found=", ".join(globs), expected="modules that have weights")
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(module in trains)
    frozen = tuple(module for module in model.modules() if module not in trains)
    # A container above a module that trains must not put that one into evaluation mode.
    return tuple(module for module in frozen if not any(below in trains for below in module.modules()))


def check_batch(
    model: nn.Module, frozen: Collection[nn.Module], *, batch_size: int, images: int, processes: int
) -> None:
    """Refuse batches that leave a process one image where a batch norm of features trains: it has no deviation.

    Raises: ConfigError.
    """
    norms = any(isinstance(module, nn.BatchNorm1d) and module not in frozen for module in model.modules())
    smallest = min(batch_size, images) // processes
    if norms and smallest < 2:
        found, expected = f"{smallest} images a process", "2 or more: a batch norm of the head or body trains"
        raise ConfigError("config", "batch_size", found=found, expected=expected)
