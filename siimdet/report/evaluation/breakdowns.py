"""Where the score comes from: by size of the boxes, and by where images come from."""

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from siimdet.report.counts import count
from siimdet.report.elements import DASH, element, number, table
from siimdet.report.evaluation.classes import class_score
from siimdet.report.evaluation.contents import Evaluation
from siimdet.report.evaluation.detection import box_class
from siimdet.scoring.breakdown import ap_by_area, ap_by_group, tercile_edges
from siimdet.scoring.voc import ClassCurve
from siimdet.submission.judged import NO_CASE, Case, Judged, JudgedBoxes, JudgedClasses

MOST_VALUES = 8
"""A column of the source with more different values is no kind of image, but an id or a number."""
FEW = 20
"""Of fewer images little can be said."""
UNKNOWN = "unknown"
SIZE = "Image size"

_TERCILES = ("small", "middle", "large")


def breakdowns(evaluation: Evaluation) -> list[Element]:
    """AP by box size, and the score by every column of the source and by the size of images."""
    judged = evaluation.judged
    parts = [] if judged.boxes is None else _by_area(judged, judged.boxes)
    columns = groups(judged.cases)
    if columns:
        parts.append(
            element(
                "p",
                "By where images come from. A difference may come from the mix of cases: what is rare in a group is "
                f"harder there. Of fewer than {FEW} images, marked *, little can be said.",
            )
        )
    return [*parts, *(_by_group(judged, name, values) for name, values in columns.items())]


def groups(cases: Sequence[Case]) -> dict[str, list[str]]:
    """The kind of every case, by each column that tells two kinds or more, and by size."""
    columns = {name: None for case in cases for name in case.source}
    found = {name: [case.source.get(name, "") or UNKNOWN for case in cases] for name in columns}
    found = {name: values for name, values in found.items() if 2 <= len(set(values)) <= MOST_VALUES}
    sizes = _sizes(cases)
    return found | ({SIZE: sizes} if len(set(sizes)) > 1 else {})


def _sizes(cases: Sequence[Case]) -> list[str]:
    """The tercile of each case by its longer side, with the sides that it holds."""
    sides = np.array([max(case.size.width, case.size.height) if case.size else np.nan for case in cases])
    known = sides[~np.isnan(sides)]
    if not len(known):
        return [UNKNOWN] * len(cases)
    edges = tercile_edges(known)
    tercile = np.searchsorted(edges[1:-1], sides, side="right")
    texts = [f"{known[np.searchsorted(edges[1:-1], known, side='right') == t].min():g}" for t in range(len(edges) - 1)]
    ends = [f"{known[np.searchsorted(edges[1:-1], known, side='right') == t].max():g}" for t in range(len(edges) - 1)]
    named = [low if low == high else f"{low} to {high}" for low, high in zip(texts, ends, strict=True)]
    return [UNKNOWN if np.isnan(side) else f"{named[t]} px" for side, t in zip(sides, tercile, strict=True)]


def _by_area(judged: Judged, boxes: JudgedBoxes) -> list[Element]:
    """AP of the class with boxes in terciles of their area."""
    class_id = box_class(boxes)
    mine = boxes.truth.class_ids == class_id
    if not mine.any():
        return []
    frames = _frames(judged.cases, boxes)
    shares = not np.isnan(frames[boxes.truth.images[mine]]).any()
    truth_areas, found_areas = _areas(boxes.truth.xyxy), _areas(boxes.predictions.xyxy)
    if shares:
        truth_areas = truth_areas / frames[boxes.truth.images]
        found_areas = found_areas / frames[boxes.predictions.images]
    edges = tercile_edges(truth_areas[mine])
    scores = ap_by_area(
        boxes.truth,
        boxes.predictions,
        boxes.classes,
        class_id,
        truth_areas=truth_areas,
        predicted_areas=found_areas,
        edges=edges,
    )
    names = _TERCILES if len(scores) == len(_TERCILES) else ("small", "large")[: len(scores)]
    rows = [
        (
            name,
            _range(each.low, each.high, shares),
            count(each.curve.truths),
            number(each.curve.ap),
            _recall(each.curve),
        )
        for name, each in zip(names, scores, strict=True)
    ]
    unit = "share of the image" if shares else "pixels"
    caption = (
        f"{boxes.classes.names[class_id].capitalize()} by area of its boxes, a third each. Boxes that belong to "
        "another third are left out, as COCO does."
    )
    columns = ("Boxes", f"Area, {unit}", "True boxes", "AP@.5", "Recall of all predictions")
    return [table(caption, columns, rows, class_="card areas")]


def _areas(xyxy: NDArray[np.float64]) -> NDArray[np.float64]:
    return (xyxy[:, 2:] - xyxy[:, :2]).prod(axis=1)


def _frames(cases: Sequence[Case], boxes: JudgedBoxes) -> NDArray[np.float64]:
    """Area of the image of every id, NaN where it is not known."""
    areas = [case.size.width * case.size.height if case.size else np.nan for case in cases]
    return np.array([*areas, np.nan])[np.where(boxes.case_of == NO_CASE, len(cases), boxes.case_of)]


def _range(low: float, high: float, shares: bool) -> str:
    def text(value: float) -> str:
        return f"{value:.1%}" if shares else count(round(value))

    if low == 0:
        return "all" if np.isinf(high) else f"below {text(high)}"
    return f"{text(low)} and more" if np.isinf(high) else f"{text(low)} to {text(high)}"


def _recall(curve: ClassCurve) -> str:
    return number(float(curve.recall[-1])) if len(curve.recall) and curve.truths else DASH


def _by_group(judged: Judged, name: str, values: Sequence[str]) -> Element:
    heading = f"By {name.replace('_', ' ').lower() if name == SIZE else name.replace('_', ' ')}."
    images = {value: values.count(value) for value in sorted(set(values), key=_natural)}
    rows = []
    if judged.boxes is not None:
        columns, figures = _ap_columns(judged.boxes, values)
    else:
        assert judged.classes is not None, "neither boxes nor classes"
        columns, figures = _class_columns(judged.classes, values)
    for value, number_of in images.items():
        mark = " *" if number_of < FEW else ""
        rows.append((f"{value}{mark}", count(number_of), *(number(figure) for figure in figures[value])))
    return table(heading, (name.replace("_", " ").capitalize(), "Images", *columns), rows, class_="card groups")


def _ap_columns(boxes: JudgedBoxes, values: Sequence[str]) -> tuple[list[str], Mapping[str, list[float | None]]]:
    """mAP and AP by class of every value; a study belongs to its first image."""
    group_of = [UNKNOWN if case == NO_CASE else str(values[case]) for case in boxes.case_of.tolist()]
    scores = ap_by_group(boxes.truth, boxes.predictions, boxes.classes, group_of)
    found = {each.name: [each.score.mean_ap, *each.score.ap.values()] for each in scores}
    return ["mAP", *boxes.classes.names], found


def _class_columns(judged: JudgedClasses, values: Sequence[str]) -> tuple[list[str], Mapping[str, list[float | None]]]:
    """Accuracy and AUROC of every value; a patient belongs to the first image."""
    kinds = np.array([values[case] for case in judged.case_of.tolist()], dtype=object)
    found = {}
    for kind in set(values):
        rows = kinds == kind
        score = class_score(
            JudgedClasses(
                ids=tuple(np.array(judged.ids, dtype=object)[rows]),
                unit=judged.unit,
                probabilities=judged.probabilities[rows],
                truth=judged.truth[rows],
                classes=judged.classes,
                case_of=judged.case_of[rows],
                exclusive=judged.exclusive,
                decisions=None if judged.decisions is None else judged.decisions[rows],
            )
        )
        aurocs = [figures.auroc for figures in score.classes.values()]
        found[kind] = [score.accuracy, score.macro("auroc"), *aurocs]
    return ["Accuracy", "AUROC", *judged.classes.names], found


def _natural(value: str) -> tuple[bool, float, str]:
    """Numbers by their value, before words."""
    first = value.split(" ")[0]
    return (not first.isdecimal(), float(first) if first.isdecimal() else 0.0, value)
