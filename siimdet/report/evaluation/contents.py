"""What the report on an evaluation shows, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from siimdet.scoring.voc import ClassCurve, OperatingPoint
from siimdet.submission.evaluate_pair import Pair
from siimdet.submission.judged import Case, Judged, JudgedBoxes
from siimdet.submission.scored import Scored


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """One file of predictions and what it is set beside.

    `name` is the file's, to show. `detectors` are those whose boxes were fused into it, by name: COCO results over the
    same images. `other` is a second file of that kind and `blanked` the same models' file on images whose borders
    were blanked; both as pairs whose first is this file. `runs` are run directories by the name to show.
    """

    title: str
    subtitle: str
    name: str
    scored: Scored
    detectors: Mapping[str, Scored] = field(default_factory=dict)
    other: tuple[str, Pair] | None = None
    blanked: tuple[str, Pair] | None = None
    runs: Mapping[str, Path] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def judged(self) -> Judged:
        """The file's predictions beside the truth."""
        assert self.scored.judged is not None, "a file that was checked only has no report"
        return self.scored.judged


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """Boxes of one class, in one file; None for a figure that nothing defines.

    `point` is where F1 is best: the boxes from its threshold on are those that the detector stands by. They are in the
    pixels of its own `cases`: original ones of a submission, stored ones of COCO results.
    """

    name: str
    cases: tuple[Case, ...]
    boxes: JudgedBoxes
    curve: ClassCurve
    point: OperatingPoint | None
