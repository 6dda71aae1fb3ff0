"""Tensors from files that siimdet or others wrote: .safetensors, and .pt or .pth state dicts.

Nothing is executed: safetensors holds no code, and torch reads the others with weights_only.
"""

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from siimdet.errors import RunError

SUFFIXES = (".safetensors", ".pt", ".pth")


def read_weight_file(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU; the prefix `module.` of a parallel training is dropped.

    Raises: RunError if the file is missing, damaged, or holds more than tensors.
    """
    state = read_safetensors(path) if path.suffix == ".safetensors" else _read_state_dict(path)
    return {key.removeprefix("module."): value for key, value in state.items()}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file. Raises: RunError if it is missing or damaged."""
    if not path.is_file():
        raise RunError(path, "file", found="nothing", expected="a .safetensors file")
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise RunError(path, "content", found=error, expected="safetensors") from None


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    expected = "a state dict of tensors alone, which torch reads with weights_only"
    if not path.is_file():
        raise RunError(path, "file", found="nothing", expected="a .pt or .pth file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of strange archives and protocols, which torch.load then refuses
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise RunError(path, "content", found="a pickle of something else", expected=expected) from None
    except Exception as error:  # a damaged archive raises whatever its reader trips over
        raise RunError(path, "content", found=type(error).__name__, expected=expected) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not state:
        raise RunError(path, "content", found=type(state).__name__, expected=expected)
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise RunError(path, key, found=type(value).__name__, expected="a tensor")
    return dict(state)
