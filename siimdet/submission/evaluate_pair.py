"""`evaluate` of two files: how much better the second is than the first, on the same resamples."""

from dataclasses import dataclass
from typing import Any

from siimdet.errors import SubmissionError
from siimdet.scoring.paired import paired_difference
from siimdet.submission.judged import Judged
from siimdet.submission.scored import CLASS_FIGURES, SAMPLES, Drawn, Scored, resampled


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Two files, and how much the second is better: of every resample second - first."""

    first: Scored
    second: Scored
    drawn: Drawn

    def differences(self) -> dict[str, float | None]:
        """second - first of the figures that are resampled."""
        one, two = self.first.figures, self.second.figures
        return {name: _difference(one[name], two[name]) for name in self.drawn.figures.values}

    def as_dict(self) -> dict[str, Any]:
        """Figures of both files, `difference`, its `intervals`, `bootstrap`."""
        differences = {"first": self.first.figures, "second": self.second.figures, "difference": self.differences()}
        return differences | self.drawn.as_dict()


def evaluate_pair(first: Scored, second: Scored, *, samples: int = SAMPLES) -> Pair:
    """Two scored files on the same resamples.

    Raises: SubmissionError unless they are of one kind and of the same ids.
    """
    found, expected = _resampled_names(second.judged), _resampled_names(first.judged)
    if found != expected:
        expected = f"{', '.join(expected)}, those of {first.file}"
        raise SubmissionError(second.file, "figures", found=", ".join(found), expected=expected)
    if odd := sorted(set(first.judged.ids) ^ set(second.judged.ids)):
        said = f"{odd[0]!r} in one of the files ({len(odd)} such ids)"
        expected = f"the ids of {first.file}: others are not comparable"
        # An image in which a detector found nothing does not stand in its file.
        expected += "" if first.judged.classes else "; for boxes leave --only-submitted out"
        raise SubmissionError(second.file, "id", found=said, expected=expected)
    one, two = resampled(first, samples), resampled(second, samples)
    assert one.drawn is not None and two.drawn is not None, "resampled without a draw"
    difference = paired_difference(one.drawn.figures, two.drawn.figures)
    return Pair(one, two, Drawn(difference, one.drawn.resamples, one.drawn.unit))


def _resampled_names(judged: Judged) -> tuple[str, ...]:
    return CLASS_FIGURES if judged.boxes is None else (*judged.boxes.classes.names, "mAP")


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else second - first
