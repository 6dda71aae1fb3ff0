"""The curves in docs/trials.md: a figure of several trainings by epoch, as an SVG.

    python tools/draw_curves.py docs/lungs.svg "siimdet=runs/yolo/metrics.jsonl:ap50" "plain=plain.log:ap50"

Reads a run's metrics.jsonl, ultralytics' results.csv, or the lines `epoch 3/8: loss 0.6, ap50 0.98, 134 s` of
tools/plain_detectors.py.
"""

import csv
import json
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot

matplotlib.rcParams["svg.hashsalt"] = "siimdet"  # the same curves give the same file


def values(path: Path, figure: str) -> list[float]:
    """A figure of every epoch."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line)[figure] for line in text.splitlines()]
    if path.suffix == ".csv":
        return [float(row[figure]) for row in csv.DictReader(text.splitlines(), skipinitialspace=True)]
    return [float(found) for found in re.findall(rf"^epoch .*\b{re.escape(figure)} ([\d.]+)", text, re.MULTILINE)]


def main(out: Path, curves: list[str]) -> None:
    """Draw curves given as NAME=FILE:FIGURE."""
    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for curve in curves:
        name, _, source = curve.partition("=")
        path, _, key = source.rpartition(":")
        found = values(Path(path), key)
        axes.plot(range(1, len(found) + 1), found, marker=".", label=name)
    axes.set(xlabel="epoch", ylabel="AP at IoU .5, val", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
