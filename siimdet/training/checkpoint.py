"""The state of a training on our loop, generators included."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from siimdet.models.state import check_identity, read_state, write_state

STATE = "state/last.pt"


def save_state(run: Path, state: Mapping[str, Any], *, device: torch.device) -> None:
    """Replace the state on disk; tensors, numbers, strings, lists and dicts only."""
    generators = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    write_state(run / STATE, {**state, "rng": [generator.tolist() for generator in generators]})


def load_state(run: Path, *, identity: str, device: torch.device) -> dict[str, Any]:
    """Read the state of an interrupted training and restore the generators of the CPU and of `device`.

    Raises: RunError if there is none, it is damaged, or it belongs to another config or other data.
    """
    state = read_state(run / STATE)
    check_identity(run / STATE, state, identity)
    torch.set_rng_state(torch.tensor(state["rng"][0], dtype=torch.uint8))
    if device.type == "cuda" and len(state["rng"]) > 1:
        torch.cuda.set_rng_state(torch.tensor(state["rng"][1], dtype=torch.uint8), device)
    return state
