"""`tune`: a coupling fitted on out-of-fold predictions, and what it gains where it was not fitted.

Patients are divided into folds of our own. For each one a coupling is fitted on the others and applied to it; these
held-out rows, pooled, are one submission, scored once. The gain is over what one would hand in otherwise: the default
or, where it is better, the file as it was submitted. It is paired: both are scored on the same resamples of patients.
What is written was fitted on all rows, if the interval of that gain, or of the one over the default, lies above 0.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from siimdet.config import Coupling
from siimdet.core.types import Split
from siimdet.data.splits import assign_folds
from siimdet.errors import SubmissionError
from siimdet.scoring.bootstrap import LEVEL, Resamples, percentile_interval
from siimdet.submission.coupling import coupled_submission
from siimdet.submission.evidence import Evidence
from siimdet.submission.fitting import DEFAULT, CalibrationKind, Fitter
from siimdet.submission.pooling import pooled_rows
from siimdet.submission.score import resampled_score, score_submission
from siimdet.submission.table import CLASSES, Submission
from siimdet.submission.units import SEED

REFERENCES = ("default", "submitted")
"""Over which something may be gained; the first of equals counts."""


@dataclass(frozen=True, slots=True, eq=False)
class Tuned:
    """The coupling to use, those of the folds, and the pooled submission of what these do to the held-out rows."""

    coupling: Coupling
    of_folds: tuple[Coupling, ...]
    pooled: Submission
    figures: dict[str, Any]
    """default, out_of_sample, in_sample and, of a file, submitted: AP by class and mAP. gain over `reference`, which is
    one of REFERENCES, its interval, verdict."""


def tune(
    evidence: Evidence,
    *,
    folds: int,
    samples: int,
    calibrate: CalibrationKind | None = None,
    always: bool = False,
    file: Path | str = "tune",
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Fit a coupling and measure its gain out of sample.

    With `calibrate` each detector's scores are calibrated first, fitted on the same rows as all else. The gain is over
    the better one of the default and the submitted file. The default is chosen where neither that gain nor the one over
    the default has an interval, of `samples` resamples of patients, above 0, unless `always`. `file` is the name that
    errors carry; `progress` is called with (done, total) candidates, of which a fit may need fewer.
    Raises: SubmissionError with fewer patients than folds, or to calibrate what has no detectors.
    """
    if calibrate is not None and not evidence.detectors:
        raise SubmissionError(file, "--calibrate", found="boxes of no one detector", expected="--boxes FILE...")
    fold_of = _folds(evidence, folds, file)
    steps = _Steps(progress)
    fitter = Fitter(evidence, fold_of, calibrate=calibrate, tick=steps.tick)
    *of_folds, fitted = _fits(fitter, [*range(folds), None], steps)
    default = applied(evidence, DEFAULT)
    pooled = pooled_rows(default, [applied(evidence, one) for one in of_folds], fold_of)
    submissions = {"default": default, "in_sample": applied(evidence, fitted), "out_of_sample": pooled}
    if evidence.submitted is not None:
        submissions["submitted"] = evidence.submitted
    figures: dict[str, Any] = {name: _ap(evidence, submission) for name, submission in submissions.items()}
    reference = max((name for name in REFERENCES if name in figures), key=lambda name: figures[name]["mAP"])
    gain = figures["out_of_sample"]["mAP"] - figures[reference]["mAP"]
    interval = _interval(evidence, pooled, submissions[reference], samples)
    is_better = is_sure = _is_above_0(interval)
    if reference != "default" and not is_sure:
        is_better = _is_above_0(_interval(evidence, pooled, default, samples))
    said = {"verdict": "gain" if is_sure else "none", "written": "fitted" if is_better or always else "default"}
    drawn = {"patients": len(set(evidence.patients)), "samples": samples, "level": LEVEL}
    figures |= {"gain": gain, "reference": reference, "interval": interval, **said, "folds": folds, **drawn}
    return Tuned(fitted if said["written"] == "fitted" else DEFAULT, tuple(of_folds), pooled, figures)


def applied(evidence: Evidence, coupling: Coupling) -> Submission:
    """The submission that a coupling makes of the predictions."""
    return coupled_submission(evidence.columns(coupling), coupling)


class _Steps:
    """How many of `total` steps are done, told to `progress`."""

    def __init__(self, progress: Callable[[int, int], None] | None) -> None:
        self.progress = progress
        self.done = self.total = 0

    def tick(self) -> None:
        self.reach(self.done + 1)

    def reach(self, done: int) -> None:
        self.done = done
        if self.progress is not None:
            self.progress(done, self.total)


def _fits(fitter: Fitter, parts: Sequence[int | None], steps: _Steps) -> Iterator[Coupling]:
    """The coupling without each of the folds in `parts`; a fit that needs fewer steps than it may skips the rest."""
    ends = list(accumulate(fitter.most_ticks(first=number == 0) for number in range(len(parts))))
    steps.total = ends[-1]
    for end, held_out in zip(ends, parts, strict=True):
        yield fitter.fit(held_out)
        steps.reach(end)


def _folds(evidence: Evidence, folds: int, file: Path | str) -> NDArray[np.int64]:
    """Fold of every row, i64[R]: patients divided, the six classes balanced."""
    ids, patients = evidence.truth.ids, evidence.patients
    if len(set(patients)) < max(folds, 2):
        raise SubmissionError(file, "--folds", found=f"rows of {len(set(patients))} patients", expected="one per fold")
    class_of = dict(zip(evidence.truth.boxes.images.tolist(), evidence.truth.boxes.class_ids.tolist(), strict=True))
    train: Split = "train"
    numbered = assign_folds(
        dict(zip(ids, patients, strict=True)),
        {key: CLASSES.names[class_of[row]] for row, key in enumerate(ids)},
        dict.fromkeys(ids, train),
        folds=folds,
        seed=SEED,
    )
    return np.array([numbered[key] for key in ids], np.int64)


def _interval(evidence: Evidence, pooled: Submission, reference: Submission, samples: int) -> list[float] | None:
    """Of the difference of the two mAPs, over resamples of patients that both share."""
    patient_of = dict(zip(evidence.truth.ids, evidence.patients, strict=True))
    means = []
    for submission in (pooled, reference):
        resamples = Resamples.of([patient_of[key] for key in submission.ids], samples=samples, seed=SEED)
        means.append(resampled_score(submission, evidence.truth, resamples).values["mAP"])
    return percentile_interval(means[0] - means[1])


def _is_above_0(interval: list[float] | None) -> bool:
    return interval is not None and interval[0] > 0


def _ap(evidence: Evidence, submission: Submission) -> dict[str, Any]:
    voc = score_submission(submission, evidence.truth).voc
    return {**voc.ap, "mAP": voc.mean_ap}
