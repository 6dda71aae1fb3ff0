"""The state of a training on our loop, generators included."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from siimdet.core.distributed import by_first, gathered, rank, world
from siimdet.errors import RunError
from siimdet.models.state import check_identity, read_state, write_state

STATE = "state/last.pt"


def save_state(run: Path, state: Mapping[str, Any], *, device: torch.device) -> None:
    """Replace the state on disk; tensors, numbers, strings, lists and dicts only. Every process must call it."""
    generators = [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]
    everybodys = gathered([generator.tolist() for generator in generators])
    by_first(lambda: write_state(run / STATE, {**state, "rng": everybodys}))


def load_state(run: Path, *, identity: str, device: torch.device) -> dict[str, Any]:
    """Read the state of an interrupted training and restore this process's generators of the CPU and of `device`.

    Raises: RunError if there is none, it is damaged, or it belongs to another config, other data or
    another number of processes.
    """
    state = read_state(run / STATE)
    check_identity(run / STATE, state, identity)
    if len(state["rng"]) != world():
        found, expected = f"a state of {len(state['rng'])} processes", f"{world()}, as many as now"
        raise RunError(run / STATE, "rng", found=found, expected=expected)
    own = state["rng"][rank()]
    torch.set_rng_state(torch.tensor(own[0], dtype=torch.uint8))
    if device.type == "cuda" and len(own) > 1:
        torch.cuda.set_rng_state(torch.tensor(own[1], dtype=torch.uint8), device)
    return state
