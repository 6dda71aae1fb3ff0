"""state/last.pt: what a training needs to go on, in a form that torch reads with weights_only.

Written to a temporary name and renamed: a SIGKILL at any moment leaves the old state or the new one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from siimdet.core.files import atomic_write
from siimdet.errors import RunError


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Replace the state on disk; tensors, numbers, strings, lists and dicts only."""
    with atomic_write(path, "wb") as stream:
        torch.save(dict(state), stream)


def read_state(path: Path) -> dict[str, Any]:
    """The state in a file, tensors on the CPU; nothing in it is executed. Raises: RunError as load_state."""
    if not path.is_file():
        raise RunError(path, "file", found="nothing", expected="the state of an interrupted training")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged archive raises whatever its reader trips over
        raise RunError(path, "content", found=type(error).__name__, expected="a state that siimdet wrote") from error
    if not isinstance(state, dict):
        raise RunError(path, "content", found=type(state).__name__, expected="a state that siimdet wrote")
    return state


def check_identity(path: Path, state: Mapping[str, Any], identity: str) -> None:
    """Raise RunError unless the state belongs to this config and this data."""
    if state.get("identity") != identity:
        expected = "those that the run began with: see its config.yaml"
        raise RunError(path, "identity", found="a state of another config or other data", expected=expected)
