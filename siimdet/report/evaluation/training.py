"""Curves of trainings: loss and score of every run over its epochs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from siimdet.report.elements import element, number
from siimdet.report.figures import Axis, Line, line_chart, swatch
from siimdet.training.journal import read_journal

LOSSES = ("train_loss", "val_loss")
SCORES = {"ap50": ("ap50", "f1", "precision", "recall"), "accuracy": ("accuracy", "auroc", "ap", "f1")}
"""Journal fields to draw, by the one that tells a detector from a classifier."""

LABELS = {"train_loss": "training", "val_loss": "validation", "ap50": "AP@.5", "auroc": "AUROC", "ap": "AP", "f1": "F1"}


def training_curves(runs: Mapping[str, Path]) -> list[Element]:
    """Loss and score over the epochs, two charts for each run, from its metrics.jsonl."""
    if not runs:
        return [element("p", "No run was given.")]
    return [part for name, run in runs.items() for part in (element("h3", name), _run(name, read_journal(run)))]


def _run(name: str, entries: Sequence[Mapping[str, Any]]) -> Element:
    losses = _lines(entries, LOSSES)
    fields = next((fields for key, fields in SCORES.items() if any(key in entry for entry in entries)), ())
    scores = _lines(entries, fields)
    charts = [
        _over_epochs(f"{name}: {kind}", kind, lines, high)
        for kind, lines, high in (("loss", losses, None), ("validation score", scores, 1.0))
        if lines
    ]
    return element("div", *charts, class_="pair") if charts else element("p", "No epoch was recorded.")


def _lines(entries: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> list[Line]:
    lines = [Line(field, _points(entries, field)) for field in fields]
    return [line for line in lines if len(line.points)]


def _points(entries: Sequence[Mapping[str, Any]], field: str) -> NDArray[np.float64]:
    """f64[P, 2]: epoch over all phases, from 1, and value, without the epochs in which nothing defined it."""
    values = [(epoch, entry[field]) for epoch, entry in enumerate(entries, start=1) if entry.get(field) is not None]
    return np.array([point for point in values if math.isfinite(point[1])], np.float64).reshape(-1, 2)


def _over_epochs(title: str, kind: str, lines: Sequence[Line], high: float | None) -> Element:
    if high is None:
        high = max(float(line.points[:, 1].max()) for line in lines) * 1.05 or 1.0
    epochs = max(float(line.points[:, 0].max()) for line in lines)
    names = [LABELS.get(line.name, line.name) for line in lines]
    last = [number(float(line.points[-1, 1])) for line in lines]
    described = ", ".join(f"{name} {value}" for name, value in zip(names, last, strict=True))
    chart = line_chart(
        lines, Axis("epoch", epochs, whole=True), Axis(kind, high), description=f"{title} over epochs, last {described}"
    )
    return element("figure", element("figcaption", _legend(names, last)), chart, class_="card")


def _legend(names: Sequence[str], values: Sequence[str]) -> Element:
    items = [
        element("li", swatch(index), element("span", name), element("span", value, class_="figure"))
        for index, (name, value) in enumerate(zip(names, values, strict=True))
    ]
    return element("ul", *items, class_="legend")
