"""The processes of one torchrun: who we are, and what all of them agree on.

Outside torchrun there is one process, rank 0 of 1, and nothing here communicates.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed, nn

from siimdet.errors import UserError

Value = TypeVar("Value")
_PATIENCE = timedelta(hours=6)
"""How long a process waits for another, which may read all of NIH into a cache; torch's own is 10 or 30 minutes."""


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes of a torchrun until the block ends; alone, do nothing.

    CPU tensors travel over gloo, CUDA tensors over nccl.
    """
    if not launched():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def launched() -> bool:
    """Whether torchrun started us as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and {"RANK", "MASTER_ADDR"} <= os.environ.keys()


def rank() -> int:
    """Our number among the processes, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def local_rank() -> int:
    """Our number among the processes of this machine: the CUDA device that is ours."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def gathered(value: Value) -> list[Value]:
    """Everybody's value, by rank; any object that pickles."""
    if world() == 1:
        return [value]
    values: list[Value | None] = [None] * world()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def summed(values: Sequence[float]) -> list[float]:
    """Element-wise sums over all processes, in float64."""
    if world() == 1:
        return list(values)
    total = torch.tensor(values, dtype=torch.float64)
    distributed.all_reduce(total)
    return total.tolist()


def together(action: Callable[[], Value]) -> Value:
    """Do something that may fail for one process alone: then it fails for all of them, with the same UserError.

    Otherwise the others would wait for the lost one until they are killed.
    """
    result, failure = None, None
    try:
        result = action()
    except UserError as error:
        failure = error
    first = next((error for error in gathered(failure) if error is not None), None)
    if first is not None:
        raise first
    return result  # type: ignore[return-value]


def by_first(action: Callable[[], object]) -> None:
    """Let rank 0 alone do something, such as write a file; what fails there fails everywhere, as in `together`."""
    together(lambda: action() if rank() == 0 else None)


def interleaved(parts: Sequence[Sequence[Value]]) -> list[Value]:
    """Undo the division of a list into every world-th item from each rank on."""
    longest = max((len(part) for part in parts), default=0)
    return [part[place] for place in range(longest) for part in parts if place < len(part)]


def same_buffers(model: nn.Module) -> None:
    """Give every process the buffers of rank 0: batch norms have seen other images in each."""
    if world() > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)
