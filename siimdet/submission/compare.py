"""`compare`: classifier runs, and the phases within them, in one table on the same images."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from siimdet.core.types import SPLITS, ImageRecord, Probabilities, Split
from siimdet.data.dataset import Dataset, by_split, filled_split, scored_split
from siimdet.data.manifest import read_dataset
from siimdet.errors import RunError
from siimdet.inference.run import predict_classes, run_records
from siimdet.models.weights import MODEL, build_model, read_spec
from siimdet.submission.evaluate_classes import check_known, holds_one_each, score_classes
from siimdet.training.journal import read_journal
from siimdet.training.keeping import PHASES


def compare_runs(
    runs: Sequence[Path],
    dataset: Path,
    splits: Sequence[Split],
    *,
    phases: bool,
    device: torch.device,
    workers: int = 0,
) -> dict[str, Any]:
    """Figures of every run on every split (the one that is scored by default, if none is given), and of the data.

    `rows` hold run, parameters, seconds of training up to that model, and `splits`: accuracy, f1, auroc and `classes`,
    the F1 of each. With `phases`, the earlier phases of a run stand before it.
    `data` holds how images were divided, images and patients of each split, and the patients that two splits share.
    Raises: RunError for a run of other classes than the data set's, or a detector; DatasetError for a split that is
    empty or has no labels.
    """
    data = read_dataset(dataset)
    wanted = tuple(dict.fromkeys(splits)) or (scored_split(data),)
    for split in wanted:
        check_known(data, np.array([record.labels for record in filled_split(data, split)]))
    models = [model for run in runs for model in (*(_phases(run) if phases else ()), run)]
    for model in models:
        _check_classes(model, data)
    with torch.random.fork_rng(devices=[]):  # a model is built with random weights before it gets its own
        rows = [_row(model, data, wanted, device=device, workers=workers) for model in models]
    return {"data": _division(data), "rows": rows}


def comparison_table(compared: dict[str, Any]) -> tuple[list[str], list[list[object]]]:
    """Header and rows of compare_runs as a table: columns per split."""
    rows = compared["rows"]
    header = ["run", "parameters", "seconds"]
    for split, figures in rows[0]["splits"].items():
        header += [f"{split} {name}" for name in ("accuracy", "f1", "auroc")]
        header += [f"{split} f1 {name}" for name in figures["classes"]]
    return header, [_cells(row) for row in rows]


def _cells(row: dict[str, Any]) -> list[object]:
    cells = [row["run"], row["parameters"], row["seconds"]]
    for figures in row["splits"].values():
        cells += [figures["accuracy"], figures["f1"], figures["auroc"], *figures["classes"].values()]
    return cells


def _row(run: Path, data: Dataset, splits: Sequence[Split], *, device: torch.device, workers: int) -> dict[str, Any]:
    records = {split: run_records(run, data, split) for split in splits}
    everything = tuple({record.image_id: record for part in records.values() for record in part}.values())
    found = predict_classes(run, data, everything, device=device, workers=workers).classes
    return {
        "run": str(run),
        "parameters": _parameters(run),
        "seconds": _seconds(run),
        "splits": {split: _figures(data, found, records[split]) for split in splits},
    }


def _figures(data: Dataset, found: Probabilities, records: Sequence[ImageRecord]) -> dict[str, Any]:
    row_of = {key: row for row, key in enumerate(found.keys)}
    values = found.values[[row_of[record.image_id] for record in records]]
    truth = np.array([record.labels for record in records])
    score = score_classes(values, truth, data.labels, exclusive=holds_one_each(data.records))
    return {
        "accuracy": score.accuracy,
        "f1": score.macro("f1"),
        "auroc": score.macro("auroc"),
        "classes": {name: figures.f1 for name, figures in score.classes.items()},
    }


def _phases(run: Path) -> list[Path]:
    """Runs of the earlier phases, in the order in which they were trained."""
    names = dict.fromkeys(entry["phase"] for entry in read_journal(run))
    return [run / PHASES / name for name in names if (run / PHASES / name / MODEL).is_file()]


def _parameters(run: Path) -> int:
    return sum(parameter.numel() for parameter in build_model(read_spec(run)).parameters())


def _seconds(run: Path) -> float | None:
    """Seconds of the epochs up to the end of the model's phase; None without a journal."""
    within = run.parent.name == PHASES
    entries = read_journal(run.parents[1] if within else run)
    names = list(dict.fromkeys(entry["phase"] for entry in entries))
    kept = names[: names.index(run.name) + 1] if within and run.name in names else names
    mine = [entry["seconds"] for entry in entries if entry["phase"] in kept]
    return round(sum(mine), 2) if mine else None


def _check_classes(run: Path, data: Dataset) -> None:
    found = read_spec(run).classes.names
    if found != data.labels.names:
        expected = f"{', '.join(data.labels.names)}, as in {data.root}"
        raise RunError(run / MODEL, "classes", found=", ".join(found), expected=expected)


def _division(data: Dataset) -> dict[str, Any]:
    patients = {split: {record.patient_id for record in by_split(data, split)} for split in SPLITS}
    details = data.details.get("splits")
    return {
        "split_by": details.get("split_by") if isinstance(details, dict) else None,
        "images": {split: len(by_split(data, split)) for split in SPLITS},
        "patients": {split: len(patients[split]) for split in SPLITS},
        "shared_patients": {f"{a}, {b}": len(patients[a] & patients[b]) for a, b in combinations(SPLITS, 2)},
    }
