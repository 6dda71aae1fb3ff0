"""The pictures of a run: curves over the epochs, the result matrix, ROC and precision-recall, predictions."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from siimdet.core.files import atomic_write
from siimdet.core.types import LabelSpace
from siimdet.scoring.curves import Curve, precision_recall_curve, roc_curve
from siimdet.training.journal import read_journal

_Entries = Sequence[Mapping[str, Any]]
_COLUMNS = 8
"""Images in a row of draw_predictions."""


def draw_curves(run: Path, groups: Mapping[str, Sequence[str]]) -> None:
    """Draw plots/NAME.png for each group NAME of journal fields, a line per field over the epochs.

    Phases stand side by side on one axis of all epochs, a dotted line at each one's start. With several of
    them each also has pictures of its own, plots/PHASE/NAME.png.
    """
    phases = _phases(read_journal(run))
    for name, fields in groups.items():
        _draw_group(run / "plots" / f"{name}.png", phases, name, fields)
        if len(phases) > 1:
            for phase, entries in phases.items():
                _draw_group(run / "plots" / phase / f"{name}.png", {phase: entries}, name, fields)


def draw_confusion(path: Path, confusion: ArrayLike, names: Sequence[str]) -> None:
    """Draw the result matrix: a row per true class, a column per predicted one.

    Shapes: confusion i64[K, K]. See result_matrix for what stands at the right and below.
    """
    counts = np.asarray(confusion, np.int64)
    cells, count = result_matrix(counts), len(names)
    side = 1.2 * count + 2.5
    figure, axes = _axes(figsize=(side, side))
    share = counts / counts.sum(1, keepdims=True).clip(1)
    shade = np.full((count + 1, count + 1), np.nan)
    shade[:count, :count] = share
    axes.imshow(shade, cmap="Blues", vmin=0, vmax=1)
    for row, texts in enumerate(cells):
        for column, text in enumerate(texts):
            dark = shade[row, column] > 0.6
            axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(count + 1), [*map(_plain, names), "recall"], rotation=45, ha="right")
    axes.set_yticks(range(count + 1), [*map(_plain, names), "precision"])
    axes.set(xlabel="predicted", ylabel="true")
    axes.axhline(count - 0.5, color="black", linewidth=1)
    axes.axvline(count - 0.5, color="black", linewidth=1)
    _save(figure, path)


def result_matrix(confusion: NDArray[np.int64]) -> list[list[str]]:
    """The counts as text, each row's recall at its right, each column's precision below it, accuracy in the corner.

    Shapes: confusion i64[K, K] with a row per true class, to K + 1 rows of K + 1. A dash where nothing defines
    the figure.
    """
    right = confusion.diagonal()
    recall, precision = _percents(right, confusion.sum(1)), _percents(right, confusion.sum(0))
    corner = _percents(right.sum(keepdims=True), confusion.sum(keepdims=True).reshape(1))
    rows = [[*map(str, row), end] for row, end in zip(confusion.tolist(), recall, strict=True)]
    return [*rows, [*precision, *corner]]


def draw_roc_pr(folder: Path, probabilities: ArrayLike, truth: ArrayLike, space: LabelSpace) -> None:
    """Draw roc.png and pr.png, a line per class with its area: AUROC, and AP under the monotone envelope.

    Shapes: probabilities f[N, K] in [0, 1]; truth f[N, K] of 1, 0 or NaN for unknown, which counts nowhere.
    A class whose curve nothing defines is left out.
    """
    values, labels = np.asarray(probabilities), np.asarray(truth)
    columns = [(name, values[:, k], labels[:, k]) for k, name in enumerate(space.names)]
    roc = {name: roc_curve(scores, actual) for name, scores, actual in columns}
    _draw_lines(folder / "roc.png", roc, "false positive rate", "true positive rate", chance=True)
    pr = {name: precision_recall_curve(scores, actual) for name, scores, actual in columns}
    _draw_lines(folder / "pr.png", pr, "recall", "precision", chance=False)


def draw_predictions(
    path: Path,
    images: NDArray[np.uint8],
    truth: Sequence[str],
    predicted: Sequence[str],
    probabilities: Sequence[float],
) -> None:
    """Draw images in a grid, above each its truth and the prediction with its probability, green if right, else red.

    Shapes: images u8[N, H, W], N at least 1; truth, predicted and probabilities N each.
    """
    rows = -(-len(images) // _COLUMNS)
    columns = min(len(images), _COLUMNS)
    figure = Figure(figsize=(1.9 * columns, 2.3 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, image, actual, named, value in zip(grid, images, truth, predicted, probabilities, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        colour = "tab:green" if actual == named else "tab:red"
        axes.set_title(f"{_plain(actual)}\n{_plain(named)} {value:.2f}", fontsize=8, color=colour)
    _save(figure, path)


def _phases(entries: _Entries) -> dict[str, list[Mapping[str, Any]]]:
    phases: dict[str, list[Mapping[str, Any]]] = {}
    for entry in entries:
        phases.setdefault(entry["phase"], []).append(entry)
    return phases


def _draw_group(
    path: Path, phases: Mapping[str, Sequence[Mapping[str, Any]]], name: str, fields: Sequence[str]
) -> None:
    figure, axes = _axes(figsize=(6, 4), xlabel="epoch", ylabel=name)
    lengths = [max(entry["epoch"] for entry in entries) + 1 for entries in phases.values()]
    starts = [0, *accumulate(lengths)][: len(lengths)]
    for number, field in enumerate(fields):
        label: str | None = field
        for start, entries in zip(starts, phases.values(), strict=True):
            points = [(start + e["epoch"] + 1, e[field]) for e in entries if e.get(field) is not None]
            if points:
                # Phases are not joined: their losses need not be of one kind.
                axes.plot(*zip(*points, strict=True), color=f"C{number}", marker="o", markersize=3, label=label)
                label = None
    if len(phases) > 1:
        for start, phase in zip(starts, phases, strict=True):
            axes.axvline(start + 0.5, linestyle=":", color="grey")
            axes.annotate(
                _plain(phase), (start + 0.5, 1), (3, 3), xycoords=axes.get_xaxis_transform(), textcoords="offset points"
            )
    if axes.get_legend_handles_labels()[0]:
        axes.legend()
    axes.grid(alpha=0.3)
    _save(figure, path)


def _draw_lines(path: Path, curves: Mapping[str, Curve | None], x: str, y: str, *, chance: bool) -> None:
    figure, axes = _axes(figsize=(5.5, 5), xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    if chance:
        axes.plot((0, 1), (0, 1), linestyle=":", color="grey")
    for name, curve in curves.items():
        if curve is not None:
            axes.plot(curve.x, curve.y, label=f"{curve.area:.3f} {_plain(name)}")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    _save(figure, path)


def _axes(*, figsize: tuple[float, float], **settings: Any) -> tuple[Figure, Axes]:
    figure = Figure(figsize=figsize, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot(**settings)


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=110)


def _percents(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> list[str]:
    return [
        f"{part / whole:.1%}" if whole else "-" for part, whole in zip(parts.tolist(), wholes.tolist(), strict=True)
    ]


def _plain(name: str) -> str:
    # Two dollar signs would turn what is between them into mathematics.
    return name.replace("$", r"\$")
