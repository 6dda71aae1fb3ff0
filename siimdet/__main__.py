"""`siimdet` and `python -m siimdet`."""

import sys


def main() -> None:
    """Run the command line and exit: 0 done, 1 our fault, 2 the user's, 3 done with refused inputs."""
    from siimdet.cli import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
