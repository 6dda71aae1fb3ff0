"""Kernels that give the same numbers in every run."""

import contextlib
import os
from collections.abc import Iterator

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
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.backends.cudnn.deterministic = cudnn
        del os.environ["CUBLAS_WORKSPACE_CONFIG"]
        if workspace is not None:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace
