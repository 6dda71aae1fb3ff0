"""`siimdet --help` against importing the stack eagerly, each in a process of its own."""

import subprocess
import sys

from pairs import compare

STACK = "import torch, torchvision, albumentations, polars, pydicom, numba, sklearn, matplotlib, typer"
HELP = [sys.executable, "-m", "siimdet", "--help"]


def run(command: list[str]) -> str:
    """Standard output of a command that must succeed."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    """Print the row; both sides show the same help, one after importing everything."""
    eager = [sys.executable, "-c", f"{STACK}; from siimdet.cli import run; run(['--help'])"]
    compare(
        "siimdet --help",
        "eager imports",
        lambda: run(eager),
        lambda: run(HELP),
        equal=lambda theirs, ours: theirs == ours,
    )


if __name__ == "__main__":
    main()
