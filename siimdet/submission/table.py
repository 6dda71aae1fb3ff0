"""What a submission holds, checked by value, whether it was read from a file or made by us."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from siimdet.core.labels import STUDY, SUBMISSION_CLASSES
from siimdet.core.types import ImageSize, LabelSpace
from siimdet.data.siim_tables import IMAGE_SUFFIX, STUDY_SUFFIX
from siimdet.errors import SubmissionError

CLASSES = LabelSpace("submission", SUBMISSION_CLASSES)
"""The six classes; those of STUDY come first, then `none` and `opacity`."""

OPACITY_ID = CLASSES.index("opacity")
"""The only class whose box is not the unit box 0 0 1 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Submission:
    """Rows of a submission and their predictions, as parallel columns.

    Shapes: ids R row ids with their suffix, in file order; rows i64[N] index into ids, class_ids
    i64[N] in CLASSES, scores f64[N] in [0, 1], xyxy f64[N, 4] in original pixels. Prediction order
    is file order. `file` is the name that errors carry.
    Raises: SubmissionError for a doubled or unknown kind of id, a class at the wrong level, a score
    outside [0, 1] or NaN, a box inverted, not finite, left of or above its image, or (all classes
    but opacity) other than 0 0 1 1. A box without area is let pass, as the competition does: it is
    a false positive.
    """

    file: str
    ids: tuple[str, ...]
    rows: NDArray[np.int64]
    class_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    xyxy: NDArray[np.float64]

    def __post_init__(self) -> None:
        self._freeze("rows", self.rows, np.int64, (-1,))
        self._freeze("class_ids", self.class_ids, np.int64, (-1,))
        self._freeze("scores", self.scores, np.float64, (-1,))
        self._freeze("xyxy", self.xyxy, np.float64, (-1, 4))
        assert len(self.rows) == len(self.class_ids) == len(self.scores) == len(self.xyxy)
        self._check_ids()
        self._check_values()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def studies(self) -> int:
        """Number of study rows."""
        return sum(row_id.endswith(STUDY_SUFFIX) for row_id in self.ids)

    def error(self, row: int, *, found: object, expected: object) -> SubmissionError:
        """An error that names the row's line and id."""
        return SubmissionError(self.file, row_field(row, self.ids[row]), found=found, expected=expected)

    def _freeze(self, name: str, values: ArrayLike, dtype: type, shape: tuple[int, ...]) -> None:
        array = np.array(values, dtype=dtype, copy=True).reshape(shape)
        array.setflags(write=False)
        object.__setattr__(self, name, array)

    def _check_ids(self) -> None:
        for row, row_id in enumerate(self.ids):
            if not row_id.endswith((STUDY_SUFFIX, IMAGE_SUFFIX)):
                raise self.error(row, found=row_id, expected="an id that ends in _study or _image")
        if len(set(self.ids)) < len(self.ids):
            seen: set[str] = set()
            for row, row_id in enumerate(self.ids):
                if row_id in seen:
                    raise self.error(row, found="the id a second time", expected="every id once")
                seen.add(row_id)

    def _check_values(self) -> None:
        studies = np.array([row_id.endswith(STUDY_SUFFIX) for row_id in self.ids], dtype=bool)
        wrong_level = studies[self.rows] != (self.class_ids < len(STUDY))
        self._refuse(
            wrong_level,
            lambda p: CLASSES.names[self.class_ids[p]],
            lambda p: f"one of {', '.join(STUDY.names)}" if studies[self.rows[p]] else "none or opacity",
        )
        self._refuse(
            ~((self.scores >= 0) & (self.scores <= 1)), lambda p: self.scores[p], lambda _: "a confidence in [0, 1]"
        )
        not_unit = self.class_ids != OPACITY_ID
        not_unit[not_unit] = (self.xyxy[not_unit] != (0, 0, 1, 1)).any(1)
        self._refuse(not_unit, self._box, lambda _: "the box 0 0 1 1 of this class")
        x1, y1, x2, y2 = self.xyxy.T
        sound = (x1 >= 0) & (y1 >= 0) & (x2 >= x1) & (y2 >= y1) & (x2 < np.inf) & (y2 < np.inf)
        self._refuse(~sound, self._box, lambda _: "a box 0 <= xmin <= xmax, 0 <= ymin <= ymax")

    def _box(self, prediction: int) -> str:
        name = CLASSES.names[self.class_ids[prediction]]
        return f"{name} {' '.join(f'{v:g}' for v in self.xyxy[prediction])}"

    def _refuse(
        self, bad: NDArray[np.bool_], found: Callable[[int], object], expected: Callable[[int], object]
    ) -> None:
        if bad.any():
            first = int(bad.argmax())
            raise self.error(int(self.rows[first]), found=found(first), expected=expected(first))


def row_field(row: int, row_id: str) -> str:
    """Where a row stands in its file, for errors: the header is line 1."""
    return f"line {row + 2}, {row_id!r}"


def check_ids(
    submission: Submission, expected: Collection[str], *, complete: bool = True, whose: str = "truth"
) -> None:
    """Raise SubmissionError unless the submission's ids are those expected; `whose` says in it what those are of.

    The competition scores nothing unless every id is there, so one that lacks is an error too;
    `complete=False` lets ids lack and refuses the unknown ones only.
    """
    wanted, given = set(expected), set(submission.ids)
    for row, row_id in enumerate(submission.ids):
        if row_id not in wanted:
            raise submission.error(row, found=f"{len(given - wanted)} unknown ids", expected=f"only ids of the {whose}")
    if complete and wanted - given:
        lacking = sorted(wanted - given)
        raise SubmissionError(
            submission.file,
            "id",
            found=f"no row for {lacking[0]!r} ({len(lacking)} ids lack)",
            expected=f"all {len(wanted)} ids of the {whose}",
        )


def check_inside(submission: Submission, sizes: Mapping[str, ImageSize]) -> None:
    """Raise SubmissionError if an opacity box leaves its image.

    `sizes` are the original sizes by image id (without `_image`); an image it lacks is not checked.
    """
    known = [sizes.get(row_id.removesuffix(IMAGE_SUFFIX)) for row_id in submission.ids]
    limits = np.array([(size.width, size.height) if size else (np.inf, np.inf) for size in known]).reshape(-1, 2)
    outside = (submission.class_ids == OPACITY_ID) & (submission.xyxy[:, 2:] > limits[submission.rows]).any(1)
    if outside.any():
        first = int(outside.argmax())
        row = int(submission.rows[first])
        width, height = limits[row].astype(int)
        raise submission.error(row, found=submission._box(first), expected=f"a box inside its {width}x{height} image")
