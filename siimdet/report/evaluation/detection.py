"""Boxes: each detector beside the file itself, precision over recall, and sensitivity over false positives."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from siimdet.report.elements import element, number, table
from siimdet.report.evaluation.contents import Detector, Evaluation
from siimdet.report.figures import Axis, Line, colour, line_chart, swatch
from siimdet.scoring.froc import RATES, froc
from siimdet.scoring.voc import ClassCurve, voc_map
from siimdet.submission.judged import Case, JudgedBoxes
from siimdet.submission.table import CLASSES, OPACITY_ID

MOST_POINTS = 200
"""Of a curve: a chart of 360 px shows no more."""
MOST_CLASSES = 6
"""As many curves have a colour of their own."""
MOST_FALSE = 8.0
"""False positives per image at the right end of the FROC chart, at most."""


def box_class(boxes: JudgedBoxes) -> int:
    """The class whose boxes are looked at closely: opacity of a submission, else the one with most truths."""
    if boxes.classes.names == CLASSES.names:
        return OPACITY_ID
    return int(np.bincount(boxes.truth.class_ids, minlength=len(boxes.classes)).argmax())


def detectors(evaluation: Evaluation) -> list[Detector]:
    """Each detector and the file itself last, by their class of boxes; none for a classifier."""
    own = evaluation.judged
    if own.boxes is None:
        return []
    given = {name: scored.judged for name, scored in evaluation.detectors.items()} | {evaluation.name: own}
    return [_detector(name, judged.cases, judged.boxes) for name, judged in given.items() if judged.boxes]


def detection(evaluation: Evaluation) -> list[Element]:
    """The table of detectors, their precision-recall and FROC curves, and the curves of all classes."""
    found = detectors(evaluation)
    if not found:
        return []
    own = found[-1]
    name = own.boxes.classes.names[box_class(own.boxes)]
    if not own.curve.truths:
        return [element("p", f"No image that was scored has a true box of {name}: there is no curve.")]
    images = len(evaluation.judged.cases)
    curves = [_precision_recall(found, name), _froc(found, name, images)]
    further = [*_all_classes(own.boxes), _sensitivities(found, images)]
    return [_figures(found, name), *(element("div", *pair, class_="pair") for pair in (curves, further))]


def _detector(name: str, cases: tuple[Case, ...], boxes: JudgedBoxes) -> Detector:
    curve = voc_map(boxes.truth, boxes.predictions, boxes.classes).curves[box_class(boxes)]
    return Detector(name, cases, boxes, curve, curve.operating_point(len(cases)))


def _figures(found: Sequence[Detector], name: str) -> Element:
    """S1's table: a row per figure, a column per detector."""
    points = [detector.point for detector in found]
    rows = [_best_marked("AP@.5", [detector.curve.ap for detector in found])]
    for text, field in (("F1", "f1"), ("Recall", "recall"), ("Precision", "precision")):
        rows.append(_best_marked(text, [point and getattr(point, field) for point in points]))
    for text, field in (("Threshold", "threshold"), ("False positives per image", "false_positives_per_image")):
        rows.append((text, *(number(point and getattr(point, field)) for point in points)))
    caption = f"Boxes of {name}. All but AP hold at the threshold where F1 is best."
    caption += " The best of a row is bold." if len(found) > 1 else ""
    return table(caption, ("Figure", *named(found)), rows, class_="card detectors")


def named(found: Sequence[Detector]) -> list[Element]:
    """The names of the detectors over their columns, with the colours of their lines."""
    return [
        element("span", swatch(index), element("span", detector.name), class_=f"named {colour(index)}")
        for index, detector in enumerate(found)
    ]


def _best_marked(text: str, values: Sequence[float | None]) -> tuple[str | Element, ...]:
    best = max((value for value in values if value is not None), default=None)
    marked = len(values) > 1
    return (text, *(element("strong", number(v)) if marked and v == best and v else number(v) for v in values))


def _precision_recall(found: Sequence[Detector], name: str) -> Element:
    lines = [Line(each.name, envelope(each.curve), _mark(each)) for each in found]
    values = [f"AP {number(each.curve.ap)}" for each in found]
    note = "Monotone envelope, its area is the AP. A dot is the threshold where F1 is best."
    return chart_card(f"Precision over recall, {name}", note, lines, values, Axis("recall", 1), Axis("precision", 1))


def _mark(detector: Detector) -> tuple[float, float] | None:
    return None if detector.point is None else (detector.point.recall, detector.point.precision)


def _froc(found: Sequence[Detector], name: str, images: int) -> Element:
    curves = [froc(detector.curve, images) for detector in found]
    reached = max((float(curve.false_positives[-1]) for curve in curves if curve), default=0.0)
    high = min(MOST_FALSE, max(1.0, reached))
    lines, values = [], []
    for detector, curve in zip(found, curves, strict=True):
        assert curve is not None, "detectors of one truth, which has boxes"
        shown = curve.false_positives <= high
        lines.append(Line(detector.name, steps(curve.false_positives[shown], curve.sensitivity[shown])))
        values.append(f"mean {number(curve.mean_sensitivity)}")
    note = "FROC: the share of the true boxes that is found, over what it costs in false boxes."
    axes = Axis("false positives per image", high), Axis("sensitivity", 1)
    return chart_card(f"Sensitivity over false positives, {name}", note, lines, values, *axes)


def _sensitivities(found: Sequence[Detector], images: int) -> Element:
    curves = [froc(detector.curve, images) for detector in found]
    rows = [(f"{rate:g}", *(number(curve and curve.at(rate)) for curve in curves)) for rate in RATES]
    rows.append(("mean", *(number(curve and curve.mean_sensitivity) for curve in curves)))
    caption = "Sensitivity at the usual numbers of false positives per image."
    return table(caption, ("False positives per image", *named(found)), rows, class_="card rates")


def _all_classes(boxes: JudgedBoxes) -> list[Element]:
    """Precision over recall of the classes, the most frequent ones of many."""
    curves = [curve for curve in voc_map(boxes.truth, boxes.predictions, boxes.classes).curves if curve.truths]
    if len(curves) < 2:
        return []
    shown = sorted(curves, key=lambda curve: -curve.truths)[:MOST_CLASSES]
    shown = [curve for curve in curves if curve in shown]
    lines = [Line(curve.name, envelope(curve)) for curve in shown]
    values = [f"AP {number(curve.ap)}" for curve in shown]
    note = "One curve a class, as the score counts them."
    if len(shown) < len(curves):
        note += f" The {len(shown)} most frequent of {len(curves)} classes."
    return [chart_card("Precision over recall, by class", note, lines, values, Axis("recall", 1), Axis("precision", 1))]


def chart_card(
    title: str, note: str, lines: Sequence[Line], values: Sequence[str], x: Axis, y: Axis, *, diagonal: bool = False
) -> Element:
    """A chart with its heading, how to read it, and a legend of names and values."""
    items = [
        element("li", swatch(index), element("span", line.name), element("span", value, class_="figure"))
        for index, (line, value) in enumerate(zip(lines, values, strict=True))
    ]
    described = ", ".join(f"{line.name} {value}" for line, value in zip(lines, values, strict=True))
    chart = line_chart(lines, x, y, description=f"{title}: {described}", diagonal=diagonal)
    legend = element("ul", *items, class_="legend")
    return element(
        "figure", element("figcaption", element("h3", title), element("p", note), legend), chart, class_="card"
    )


def envelope(curve: ClassCurve) -> NDArray[np.float64]:
    """Corners f64[P, 2] of the monotone envelope, from recall 0 to the highest that is reached."""
    if not curve.hits.any():
        return np.zeros((0, 2))
    highest = np.maximum.accumulate(curve.precision[::-1])[::-1]
    reached, first = np.unique(curve.recall, return_index=True)
    if reached[0] == 0:
        reached, first = reached[1:], first[1:]
    kept = _thinned(reached)
    left = np.concatenate([[0.0], reached[kept][:-1]])
    corners = np.stack([np.stack([left, highest[first][kept]], 1), np.stack([reached, highest[first]], 1)[kept]], 1)
    return corners.reshape(-1, 2)


def steps(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners f64[P, 2] of a curve that rises at x f64[N], thinned to what a chart shows."""
    kept = _thinned(x)
    x, y = x[kept], y[kept]
    return np.stack([np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]], 1)


def _thinned(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indices of at most MOST_POINTS of rising values, the first and the last among them."""
    if len(values) <= MOST_POINTS:
        return np.arange(len(values))
    wanted = np.linspace(values[0], values[-1], MOST_POINTS)
    return np.unique(np.searchsorted(values, wanted).clip(0, len(values) - 1))
