"""Which device a command runs on."""

from typing import Literal

import torch

from siimdet.core.distributed import launched, local_rank
from siimdet.errors import UserError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


def pick_device(name: DeviceName) -> torch.device:
    """The device of that name; `auto` is CUDA where there is one, else the CPU.

    Under torchrun every process of a machine gets a CUDA device of its own.
    Raises: UserError if it is not there.
    """
    if name == "auto":
        return pick_device("cuda" if torch.cuda.is_available() else "cpu")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[name]:
        there = ", ".join(key for key, holds in available.items() if holds)
        raise UserError("--device", name, found="no such device here", expected=there)
    if name != "cuda" or not launched():
        return torch.device(name)
    if local_rank() >= torch.cuda.device_count():
        found, expected = f"process {local_rank() + 1} of this machine", f"at most {torch.cuda.device_count()}"
        raise UserError("torchrun", "--nproc-per-node", found=found, expected=f"{expected}, one per CUDA device")
    torch.cuda.set_device(local_rank())
    return torch.device("cuda", local_rank())
