"""What `evaluate` finds out about a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siimdet.errors import SubmissionError
from siimdet.scoring.bootstrap import ResampledFigures, Resamples, described, resampled_ap
from siimdet.scoring.classification_bootstrap import resampled_classification
from siimdet.submission.judged import PLURALS, Judged
from siimdet.submission.units import SEED

SAMPLES = 1000
"""Resamples where none are asked for: a difference, or a report, without intervals says nothing."""

CLASS_FIGURES = ("accuracy", "f1", "auroc")
"""Those of classes that are resampled; of boxes they are AP by class and mAP."""


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Figures of resamples of a file's patients or studies, which `unit` names."""

    figures: ResampledFigures
    resamples: Resamples
    unit: str

    def as_dict(self) -> dict[str, Any]:
        """`intervals` by figure, and `bootstrap`, which says of what."""
        return described(self.figures, self.resamples, unit=self.unit)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The figures of a file, what they were made of, and those of resamples if asked for."""

    file: Path
    figures: dict[str, Any]
    judged: Judged
    drawn: Drawn | None = None

    def as_dict(self) -> dict[str, Any]:
        """The figures, then `intervals` and `bootstrap` if there are any."""
        return self.figures | (self.drawn.as_dict() if self.drawn else {})


def resampled(scored: Scored, samples: int) -> Scored:
    """The same with the figures of as many resamples: of boxes AP and mAP, of classes accuracy, f1 and auroc.

    Raises: SubmissionError unless there are two owners: one alone can be drawn in one way.
    """
    judged = scored.judged
    resamples = Resamples.of(judged.owners, samples=samples, seed=SEED)
    if resamples.units < 2:
        found = f"rows of {resamples.units} {judged.unit}"
        raise SubmissionError(scored.file, "intervals", found=found, expected="of two or more, to draw among")
    return Scored(scored.file, scored.figures, judged, Drawn(_figures(judged, resamples), resamples, judged.unit))


def _figures(judged: Judged, resamples: Resamples) -> ResampledFigures:
    boxes, classes = judged.boxes, judged.classes
    if boxes is not None:
        return resampled_ap(boxes.truth, boxes.predictions, boxes.classes, resamples)
    assert classes is not None, "neither boxes nor classes"
    return resampled_classification(
        classes.probabilities,
        classes.truth,
        classes.classes,
        resamples,
        exclusive=classes.exclusive,
        decisions=classes.decisions,
    )


def drawn_text(bootstrap: Mapping[str, Any]) -> str:
    """What intervals are of, such as `95 % of 1000 resamples of 40 patients`, by Drawn's `bootstrap`."""
    level = f"{bootstrap['level']:.0%}".replace("%", " %")
    return f"{level} of {bootstrap['samples']} resamples of {bootstrap['units']} {PLURALS[bootstrap['unit']]}"
