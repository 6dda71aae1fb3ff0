"""Classes of studies, images or patients: confusion, ROC curves, and whether probabilities are what they say."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import LabelSpace
from siimdet.report.elements import DASH, element, number, table
from siimdet.report.evaluation.contents import Evaluation
from siimdet.report.evaluation.detection import MOST_CLASSES, chart_card, steps
from siimdet.report.figures import Axis, Line
from siimdet.scoring.classification import ClassificationScore, multiclass_score, multilabel_score
from siimdet.scoring.curves import roc_curve
from siimdet.scoring.reliability import Reliability, reliability
from siimdet.submission.judged import PLURALS, JudgedBoxes, JudgedClasses
from siimdet.submission.table import CLASSES, IMAGE_SUFFIX

NONE = "none"


def classes(evaluation: Evaluation) -> list[Element]:
    """Confusion, means, ROC and calibration of the classes; of a submission also of `none` over the images."""
    judged, boxes = evaluation.judged.classes, evaluation.judged.boxes
    if judged is None:
        return []
    own = [*_decisions(judged, with_means=boxes is not None), *_probabilities(judged)]
    if boxes is None or boxes.classes.names != CLASSES.names:
        return own
    images = _none(boxes)
    return [element("h3", "Studies"), *own, element("h3", "Images without a box"), *_probabilities(images)]


def _none(boxes: JudgedBoxes) -> JudgedClasses:
    """The class `none` of a submission's images, its confidence as a probability; 0 where it was not named."""
    rows = np.flatnonzero([row_id.endswith(IMAGE_SUFFIX) for row_id in boxes.ids])
    probabilities, truth = boxes.of_ids(rows, [CLASSES.index(NONE)])
    return JudgedClasses(
        ids=tuple(boxes.ids[row].removesuffix(IMAGE_SUFFIX) for row in rows),
        unit="image",
        probabilities=probabilities,
        truth=truth,
        classes=LabelSpace(NONE, (NONE,)),
        case_of=boxes.case_of[rows],
        exclusive=False,
    )


def class_score(judged: JudgedClasses) -> ClassificationScore:
    """The figures of the classes by their decisions."""
    if judged.exclusive:
        return multiclass_score(judged.probabilities, judged.truth, judged.classes, decisions=judged.decisions)
    return multilabel_score(judged.probabilities, judged.truth, judged.classes)


def _decisions(judged: JudgedClasses, *, with_means: bool) -> list[Element]:
    """The confusion matrix of classes that exclude each other; the means where no other section has them."""
    score, units = class_score(judged), PLURALS[judged.unit]
    figures = {"Accuracy": score.accuracy} | {
        name: score.macro(name.lower()) for name in ("Precision", "Recall", "F1", "AUROC", "AP")
    }
    listed = [(name, number(value)) for name, value in figures.items()]
    means = table("All but accuracy are means over the classes.", ("Figure", "Value"), listed, class_="card figures")
    if score.confusion is None:
        return [means] if with_means else []
    names = judged.classes.names
    rows = [
        (name, *(_share(value, row.sum(), diagonal=i == j) for j, value in enumerate(row.tolist())))
        for i, (name, row) in enumerate(zip(names, score.confusion, strict=True))
    ]
    chosen = "most probable class" if judged.decisions is None else "decision"
    caption = f"Confusion matrix: {units} by truth (rows) and {chosen} (columns), and the share of the row."
    matrix = table(caption, ("Truth", *names), rows, class_="card confusion")
    return [element("div", matrix, means, class_="pair uneven") if with_means else matrix]


def _share(value: int, total: int, *, diagonal: bool) -> Element:
    share = value / total if total else 0.0
    percent = element("small", f"{share:.0%}" if total else DASH)
    kind = "right" if diagonal else "wrong"
    return element("td", element("span", str(value)), " ", percent, class_=kind, style=f"--value:{share:.3f}")


def _probabilities(judged: JudgedClasses) -> list[Element]:
    """ROC curves, reliability and its table."""
    columns = list(zip(judged.classes.names, judged.probabilities.T, judged.truth.T, strict=True))
    curves = {name: curve for name, *column in columns if (curve := roc_curve(*column)) is not None}
    if not curves:
        return [element("p", "No class has both positives and negatives: there is no ROC curve.")]
    reliable = {name: reliability(*column) for name, *column in columns if name in curves}
    found = {name: each for name, each in reliable.items() if each is not None}
    positives = dict(zip(judged.classes.names, np.nansum(judged.truth, axis=0).tolist(), strict=True))
    shown = sorted(curves, key=lambda name: -positives[name])[:MOST_CLASSES]
    note = "ROC: the share of the positives that is found, over the share of the negatives that is taken for one."
    note += f" The {len(shown)} most frequent of {len(curves)} classes." if len(shown) < len(curves) else ""
    roc = chart_card(
        "True over false positives",
        note,
        [Line(name, _curve(curves[name].x, curves[name].y)) for name in shown],
        [f"AUROC {number(curves[name].area)}" for name in shown],
        Axis("false positive rate", 1),
        Axis("true positive rate", 1),
    )
    return [element("div", roc, _reliability_chart(found, shown), class_="pair"), _calibration(found)]


def _curve(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    corners = steps(x, y)
    return np.concatenate([corners, [[x[-1], y[-1]]]]) if len(corners) else np.stack([x, y], 1)


def _reliability_chart(found: dict[str, Reliability], shown: Sequence[str]) -> Element:
    lines = [
        Line(
            name,
            np.stack([found[name].mean_probability, found[name].observed], 1),
            spread=np.stack([found[name].low, found[name].high], 1),
        )
        for name in shown
    ]
    note = (
        "Rows by tenths of probability: how many of them are true, with the 95 % interval. On the diagonal a "
        "probability is what it says; below it is too high."
    )
    values = [f"ECE {number(found[name].ece)}" for name in shown]
    axes = Axis("probability", 1), Axis("share that is true", 1)
    return chart_card("Calibration", note, lines, values, *axes, diagonal=True)


def _calibration(found: dict[str, Reliability]) -> Element:
    rows = [(name, number(each.ece), number(each.mce), number(each.brier)) for name, each in found.items()]
    caption = (
        "Expected calibration error: how far probabilities are from the truth on average; maximum: in the worst tenth. "
        "Brier score: mean squared distance from the truth. 0 is best."
    )
    return table(caption, ("Class", "Expected error", "Maximum error", "Brier"), rows, class_="card calibration")
