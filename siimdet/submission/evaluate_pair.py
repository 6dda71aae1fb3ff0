"""`evaluate` of two files: how much better the second is than the first, on the same resamples."""

from pathlib import Path
from typing import Any

from siimdet.core.types import Split
from siimdet.errors import SubmissionError
from siimdet.scoring.paired import paired_difference
from siimdet.submission.evaluate import evaluate_file
from siimdet.submission.scored import Drawn, Scored

SAMPLES = 1000
"""Resamples where none are asked for: a difference without its interval says nothing."""


def evaluate_pair(
    first: Path,
    second: Path,
    dataset: Path | None,
    split: Split | None,
    tables: tuple[Path, Path] | None,
    *,
    only_submitted: bool,
    samples: int = SAMPLES,
) -> dict[str, Any]:
    """Figures of both files, `difference` (second - first) of those that are resampled, its `intervals`, `bootstrap`.

    The files are of one kind and of the same ids.
    Raises: SubmissionError for others; as evaluate_file.
    """
    one, two = (
        evaluate_file(file, dataset, split, tables, only_submitted=only_submitted, check_only=False, bootstrap=samples)
        for file in (first, second)
    )
    drawn = _paired(first, second, one, two)
    names = drawn.figures.values
    return {
        "first": one.figures,
        "second": two.figures,
        "difference": {name: _difference(one.figures[name], two.figures[name]) for name in names},
        **drawn.as_dict(),
    }


def _paired(first: Path, second: Path, one: Scored, two: Scored) -> Drawn:
    assert one.drawn is not None, "no resamples were asked for"
    assert two.drawn is not None, "no resamples were asked for"
    if one.drawn.figures.values.keys() != two.drawn.figures.values.keys():
        found, expected = (", ".join(scored.drawn.figures.values) for scored in (two, one) if scored.drawn)
        raise SubmissionError(second, "figures", found=found, expected=f"{expected}, those of {first}")
    if odd := sorted(set(one.ids) ^ set(two.ids)):
        found = f"{odd[0]!r} in one of the files ({len(odd)} such ids)"
        raise SubmissionError(second, "id", found=found, expected=f"the ids of {first}: others are not comparable")
    difference = paired_difference(one.drawn.figures, two.drawn.figures)
    return Drawn(difference, one.drawn.resamples, one.drawn.unit)


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else second - first
