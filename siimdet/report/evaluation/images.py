"""Radiographs with predictions over the truth: the best, the worst and some without boxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from siimdet.core.boxes import scale_boxes
from siimdet.core.types import ImageSize
from siimdet.report.elements import element, number
from siimdet.report.evaluation.contents import Detector, Evaluation
from siimdet.report.evaluation.detection import box_class, detectors
from siimdet.report.figures import Boxes, colour, radiograph, thumbnail
from siimdet.scoring.voc import find_hits
from siimdet.submission.judged import NO_CASE, Case, Judged, JudgedClasses

BEST = WORST = 4
FALSE_ALARMS = CLEAN = 2
SURE = 6
LONGER_SIDE = 400


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the file's shown boxes make of an image: truths hit and missed, boxes that hit none."""

    case: int
    hits: int
    missed: int
    false: int

    @property
    def f1(self) -> float:
        """2 hits / (boxes + truths); 1 where there is neither."""
        total = 2 * self.hits + self.missed + self.false
        return 2 * self.hits / total if total else 1.0


def images(evaluation: Evaluation) -> list[Element]:
    """A few images under headings that say how they were chosen."""
    found = detectors(evaluation)
    judged = evaluation.judged
    if not found:
        assert judged.classes is not None, "neither boxes nor classes"
        return _by_class(judged, judged.classes)
    parts = [
        element("p", f"Ranked by how well the boxes of {found[-1].name} meet the truth, from its threshold on."),
        _legend(found),
    ]
    if all(case.path is None for case in judged.cases):
        parts.append(element("p", "No image files were given: boxes are drawn on frames of the images' proportions."))
    for heading, group in choose(judged.cases, agreements(judged.cases, found[-1])).items():
        cards = (_card(judged, found, chosen) for chosen in group)
        parts += [element("h3", heading), element("div", *cards, class_="gallery")]
    return parts


def agreements(cases: Sequence[Case], detector: Detector) -> list[Agreement]:
    """Every case by the rules of the score (siimdet.scoring.voc), for boxes from the threshold on."""
    boxes, class_id = detector.boxes, box_class(detector.boxes)
    shown = (boxes.predictions.class_ids == class_id) & _stands(detector)
    hits = find_hits(boxes.truth, boxes.predictions, boxes.classes)

    def per_case(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        owners = boxes.case_of[rows]
        return np.bincount(owners[owners != NO_CASE], minlength=len(cases))

    truths = per_case(boxes.truth.images[boxes.truth.class_ids == class_id])
    drawn, hit = per_case(boxes.predictions.images[shown]), per_case(boxes.predictions.images[shown & hits])
    rows = zip(hit.tolist(), (truths - hit).tolist(), (drawn - hit).tolist(), strict=True)
    return [Agreement(case, *counts) for case, counts in enumerate(rows)]


def choose(cases: Sequence[Case], everything: Sequence[Agreement]) -> dict[str, list[Agreement]]:
    """The images to show under each heading, none twice; ties go to more boxes, then to the image id."""

    def name(agreement: Agreement) -> str:
        return cases[agreement.case].image_id

    with_boxes = [a for a in everything if a.hits + a.missed]
    best = sorted(with_boxes, key=lambda a: (-a.f1, -a.hits, name(a)))[:BEST]
    taken = {a.case for a in best}
    others = [a for a in with_boxes if a.case not in taken]
    worst = sorted(others, key=lambda a: (a.f1, -a.missed - a.false, name(a)))[:WORST]
    without = sorted((a for a in everything if not a.hits + a.missed), key=lambda a: (-a.false, name(a)))
    box_free = [*without[:FALSE_ALARMS], *without[FALSE_ALARMS:][-CLEAN:]]
    groups = {"Closest to the truth": best, "Furthest from the truth": worst, "No box in the truth": box_free}
    return {heading: group for heading, group in groups.items() if group}


def _stands(detector: Detector) -> NDArray[np.bool_]:
    """The predictions that a detector stands by; without a threshold none."""
    scores = detector.boxes.predictions.scores
    return np.zeros(len(scores), bool) if detector.point is None else scores >= detector.point.threshold


def _legend(found: Sequence[Detector]) -> Element:
    items = [element("li", element("span", class_="key truth", aria_hidden="true"), "truth, dashed")]
    for index, each in enumerate(found):
        drawn = "no threshold, none drawn" if each.point is None else f"score {each.point.threshold:.2f} or more"
        key = element("span", class_=f"key {colour(index)}", aria_hidden="true")
        items.append(element("li", key, f"{each.name}: {drawn}"))
    return element("ul", *items, class_="legend on-film")


def _card(judged: Judged, found: Sequence[Detector], chosen: Agreement) -> Element:
    case = judged.cases[chosen.case]
    caption = element(
        "figcaption",
        element("p", element("code", case.image_id), class_="id"),
        element("p", _outcome(chosen)),
        *_labels(judged, chosen.case),
    )
    return element("figure", _picture(case, chosen.case, found), caption, class_="card shot")


def _outcome(chosen: Agreement) -> str:
    truths = chosen.hits + chosen.missed
    false = f"{chosen.false} false" if chosen.false else "none false"
    return f"{chosen.hits} of {truths} found, {false}" if truths else f"nothing to find, {false}"


def _picture(case: Case, number_of: int, found: Sequence[Detector]) -> Element:
    own = found[-1].boxes
    mine = (own.case_of[own.truth.images] == number_of) & (own.truth.class_ids == box_class(own))
    truth, predicted = own.truth.xyxy[mine], [_shown_boxes(each, case.image_id) for each in found]
    size = case.size or _extent([truth, predicted[-1][0]])
    image = _frame(size) if case.path is None else thumbnail(case.path, LONGER_SIDE)
    drawn = ImageSize(image.shape[1], image.shape[0])
    overlays, counts = [], [f"{len(truth)} true boxes"]
    for index, (each, (xyxy, scores, space)) in enumerate(zip(found, predicted, strict=True)):
        texts = [number(score, 2) for score in scores.tolist()]
        overlays.append(Boxes(scale_boxes(xyxy, space or size, drawn), colour(index), texts))
        counts.append(f"{each.name} {len(xyxy)}")
    overlays.append(Boxes(scale_boxes(truth, size, drawn), "truth"))
    return radiograph(image, overlays, description=f"Radiograph {case.image_id}: {', '.join(counts)}")


def _shown_boxes(
    detector: Detector, image_id: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], ImageSize | None]:
    """The boxes of an image that a detector stands by, their scores, and the size in whose pixels they are."""
    boxes = detector.boxes
    case = next(number for number, case in enumerate(detector.cases) if case.image_id == image_id)
    rows = _stands(detector) & (boxes.case_of[boxes.predictions.images] == case)
    rows &= boxes.predictions.class_ids == box_class(boxes)
    return boxes.predictions.xyxy[rows], boxes.predictions.scores[rows], detector.cases[case].size


def _extent(boxes: Sequence[NDArray[np.float64]]) -> ImageSize:
    """A size that holds the boxes of an image whose own is not known."""
    corners = np.concatenate([xyxy[:, 2:] for xyxy in boxes])
    width, height = np.ceil(corners.max(axis=0, initial=1)).astype(int).tolist()
    return ImageSize(width, height)


def _frame(size: ImageSize) -> NDArray[np.uint8]:
    scale = LONGER_SIDE / max(size.width, size.height)
    return np.full((max(1, round(size.height * scale)), max(1, round(size.width * scale))), 24, np.uint8)


def _labels(judged: Judged, case: int) -> list[Element]:
    """Truth and probabilities of the classes of a case."""
    classes = judged.classes
    if classes is None:
        return []
    key = judged.cases[case].study_id if classes.unit == "study" else classes.ids[_row(classes, case)]
    return [] if key not in classes.ids else _class_bars(classes, classes.ids.index(key))


def _row(classes: JudgedClasses, case: int) -> int:
    return int(np.flatnonzero(classes.case_of == case)[0])


def _class_bars(classes: JudgedClasses, row: int) -> list[Element]:
    labels, names = classes.truth[row].tolist(), classes.classes.names
    true = [name for name, label in zip(names, labels, strict=True) if label == 1]
    truth = ", ".join(true) or ("unknown" if np.isnan(labels).any() else "none of the classes")
    heading = element("p", f"Truth of the {classes.unit}: ", element("strong", truth))
    rows = [
        element(
            "li",
            element("span", name),
            element("span", class_="bar", style=f"--value:{value:.3f}", aria_hidden="true"),
            element("span", number(value, 2), class_="figure"),
            class_="true" if label == 1 else "",
        )
        for name, value, label in zip(names, classes.probabilities[row].tolist(), labels, strict=True)
    ]
    return [heading, element("ul", *rows, class_="classes", aria_label="Predicted probabilities")]


def _by_class(judged: Judged, classes: JudgedClasses) -> list[Element]:
    """The rows whose true classes got the highest and the lowest probability."""
    certainty = np.where(classes.truth == 1, classes.probabilities, 1 - classes.probabilities)
    certainty = np.where(np.isnan(classes.truth), np.nan, certainty)
    known = np.flatnonzero(~np.isnan(certainty).any(axis=1))
    order = known[np.argsort(certainty[known].mean(axis=1), kind="stable")]
    groups = {"Closest to the truth": order[::-1][:SURE], "Furthest from the truth": order[:-SURE][:SURE]}
    parts = [element("p", "Ranked by the probability that was given to what is true.")]
    for heading, rows in groups.items():
        cards = [_class_card(judged, classes, row) for row in rows.tolist()]
        parts += [element("h3", heading), element("div", *cards, class_="gallery")] if cards else []
    return parts


def _class_card(judged: Judged, classes: JudgedClasses, row: int) -> Element:
    case = judged.cases[classes.case_of[row]]
    image = _frame(case.size or ImageSize(1, 1)) if case.path is None else thumbnail(case.path, LONGER_SIDE)
    picture = radiograph(image, [], description=f"Radiograph {case.image_id}")
    caption = element(
        "figcaption", element("p", element("code", classes.ids[row]), class_="id"), *_class_bars(classes, row)
    )
    return element("figure", picture, caption, class_="card shot")
