"""What commands say beside their results, on stderr."""

import os
import sys


def say(text: str) -> None:
    """Print a line to stderr, once for all processes of a torchrun."""
    if os.environ.get("RANK", "0") == "0":
        print(text, file=sys.stderr)


def refuse(error: object) -> int:
    """Say on one line what the user can mend; returns the exit code of that."""
    say(f"siimdet: {' '.join(str(error).split())}")
    return 2
