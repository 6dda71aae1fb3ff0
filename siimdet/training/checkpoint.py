"""state/last.pt: what a training needs to go on, in a form that torch reads with weights_only.

Written to a temporary name and renamed: a SIGKILL at any moment leaves the old state or the new one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from siimdet.core.files import atomic_write
from siimdet.errors import RunError

STATE = "state/last.pt"


def save_state(run: Path, state: Mapping[str, Any]) -> None:
    """Replace the state on disk; tensors, numbers, strings, lists and dicts only."""
    with atomic_write(run / STATE, "wb") as stream:
        torch.save({**state, "rng": _rng_state()}, stream)


def load_state(run: Path, *, config: str) -> dict[str, Any]:
    """Read the state of an interrupted training and restore torch's generators.

    Raises: RunError if there is none, it is damaged, or it belongs to another config.
    """
    path = run / STATE
    if not path.is_file():
        raise RunError(path, "file", found="nothing", expected="the state of an interrupted training")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive raises whatever its reader trips over
        raise RunError(path, "content", found=type(error).__name__, expected="a state that siimdet wrote") from error
    if state["config"] != config:
        raise RunError(path, "config", found="another config", expected="the one in config.yaml, to resume")
    cpu, *cuda = state["rng"]
    torch.set_rng_state(torch.tensor(cpu, dtype=torch.uint8))
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([torch.tensor(values, dtype=torch.uint8) for values in cuda])
    return state


def _rng_state() -> list[list[int]]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return [state.tolist() for state in (torch.get_rng_state(), *cuda)]
