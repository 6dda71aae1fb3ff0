"""Kernels that give the same numbers in every run."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def deterministic_kernels(device: torch.device) -> Iterator[None]:
    """Choose deterministic kernels on CUDA, where the fast ones add in any order; the CPU's are so as they are.

    An operator that has none warns instead of failing. The caller's switches come back at the end.
    """
    if device.type != "cuda":
        yield
        return
    workspace, cudnn = os.environ.get("CUBLAS_WORKSPACE_CONFIG"), torch.backends.cudnn.deterministic
    memory: Any = torch.utils.deterministic
    enabled, fills = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
    memory.fill_uninitialized_memory = False  # costs time, and changes no number of a sound program
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.backends.cudnn.deterministic = cudnn
        memory.fill_uninitialized_memory = fills
        del os.environ["CUBLAS_WORKSPACE_CONFIG"]
        if workspace is not None:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace
