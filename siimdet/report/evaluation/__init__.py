"""The report on an evaluation: one HTML file of what a file of predictions is worth, and where it fails."""

from pathlib import Path

from siimdet.report.elements import table
from siimdet.report.evaluation.breakdowns import breakdowns
from siimdet.report.evaluation.classes import classes
from siimdet.report.evaluation.contents import Evaluation
from siimdet.report.evaluation.detection import detection
from siimdet.report.evaluation.difference import difference
from siimdet.report.evaluation.images import images
from siimdet.report.evaluation.score import opening, score
from siimdet.report.evaluation.shortcuts import shortcuts
from siimdet.report.evaluation.training import training_curves
from siimdet.report.page import write_page

__all__ = ["Evaluation", "write_evaluation"]


def write_evaluation(path: Path | str, evaluation: Evaluation) -> None:
    """Write the report as one HTML file, atomically; equal evaluations give equal bytes.

    Raises: ImageError for a radiograph that cannot be read; RunError for a broken metrics.jsonl.
    """
    sections = {
        "Score": score(evaluation),
        "Difference": difference(evaluation),
        "Detection": detection(evaluation),
        "Classes": classes(evaluation),
        "Breakdown": breakdowns(evaluation),
        "Shortcuts": shortcuts(evaluation),
        "Images": images(evaluation),
        "Training": training_curves(evaluation.runs) if evaluation.runs else [],
        "Facts": [table("What was evaluated", ("Fact", "Value"), list(evaluation.facts.items()), class_="card facts")],
    }
    write_page(
        Path(path),
        title=evaluation.title,
        subtitle=evaluation.subtitle,
        opening=opening(evaluation),
        sections={name: parts for name, parts in sections.items() if parts},
    )
