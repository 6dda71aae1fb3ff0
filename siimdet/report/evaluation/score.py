"""The score: every class with its interval, and the figures at the head of the page."""

from collections import Counter
from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element

from siimdet.report.counts import count
from siimdet.report.elements import element, number, table
from siimdet.report.evaluation.contents import Evaluation
from siimdet.submission.judged import JudgedBoxes
from siimdet.submission.table import CLASSES, OPACITY_ID

MEAN = "mAP"
CLASS_COLUMNS = {"AP": "ap", "F1": "f1", "Precision": "precision", "Recall": "recall"}
MEANS = {"Accuracy": "accuracy", "F1": "f1", "AUROC": "auroc", "AP": "ap", "Precision": "precision", "Recall": "recall"}

Interval = list[float] | None


def opening(evaluation: Evaluation) -> list[Element]:
    """The headline figure with its interval, then counts."""
    figures, of_boxes = evaluation.scored.figures, evaluation.judged.boxes is not None
    name = MEAN if of_boxes else "auroc" if figures["auroc"] is not None else "accuracy"
    said = _range(_intervals(evaluation).get(name))
    described = {
        MEAN: ("mean AP over the classes that have truth", "PASCAL VOC 2010, IoU > .5"),
        "auroc": ("AUROC, mean over the classes", "the area under the ROC curve; .5 is a guess"),
        "accuracy": ("accuracy", "the share of rows that are right"),
    }[name]
    lines = [*described, *([f"95 % interval {said}"] if said else [])]
    explained = [part for line in lines for part in (line, element("br"))][:-1]
    headline = element("span", number(figures[name]), class_="headline")
    hero = element("p", headline, element("span", *explained, class_="explains"), class_="hero")
    listed = [element("div", element("dt", text), element("dd", value)) for text, value in _counts(figures).items()]
    return [hero, element("dl", *listed, class_="stats")]


def score(evaluation: Evaluation) -> list[Element]:
    """The table of classes, the mean last."""
    if evaluation.judged.boxes is not None:
        return [_of_boxes(evaluation, evaluation.judged.boxes)]
    return _of_classes(evaluation)


def measure(value: float | None, interval: Interval = None) -> Element:
    """A cell with a bar from 0 to 1, its interval as a line over it, and both as text."""
    inner = []
    if interval is not None:
        low, high = interval
        inner.append(element("span", class_="range", style=f"--low:{low:.3f};--high:{high:.3f}"))
    bar = element("span", *inner, class_="bar", style=f"--value:{value or 0:.3f}", aria_hidden="true")
    texts = [number(value), *([" ", element("small", _range(interval))] if interval else [])]
    return element("td", element("div", bar, element("span", *texts, class_="figure"), class_="measure"))


def _of_boxes(evaluation: Evaluation, boxes: JudgedBoxes) -> Element:
    figures, intervals, truths = evaluation.scored.figures, _intervals(evaluation), _truths(boxes)
    rows = [
        (element("span", name, " ", element("small", truths[name])), measure(figures[name], intervals.get(name)))
        for name in (*boxes.classes.names, MEAN)
    ]
    caption = (
        "Average precision by class; the line over a bar is the 95 % interval. A class without truth shows a dash and "
        "stays out of the mean."
    )
    return table(caption, ("Class, and how often it is true", "AP"), rows, class_="card score")


def _of_classes(evaluation: Evaluation) -> list[Element]:
    figures, intervals = evaluation.scored.figures, _intervals(evaluation)
    rows = [
        (
            element("span", name, " ", element("small", f"{count(each['positives'])} positive")),
            measure(each["auroc"]),
            *(number(each[field]) for field in CLASS_COLUMNS.values()),
        )
        for name, each in figures["classes"].items()
    ]
    columns = ("Class, and how often it is true", "AUROC", *CLASS_COLUMNS)
    caption = "Every class against the rest. A class without positives has no figure."
    classes = table(caption, columns, rows, class_="card by-class")
    means = [(name, measure(figures[field], intervals.get(field))) for name, field in MEANS.items()]
    caption = "All but accuracy are means over the classes; the line over a bar is the 95 % interval."
    return [classes, table(caption, ("Figure", "Value"), means, class_="card figures")]


def _truths(boxes: JudgedBoxes) -> dict[str, str]:
    """How often each class is true, in words."""
    counts = Counter(boxes.truth.class_ids.tolist())
    units = {class_id: "boxes" for class_id in range(len(boxes.classes))}
    if boxes.classes is CLASSES:
        units |= {class_id: "studies" for class_id in range(OPACITY_ID - 1)} | {OPACITY_ID - 1: "images"}
    named = {name: f"{count(counts[i])} {units[i]}" for i, name in enumerate(boxes.classes.names)}
    return named | {MEAN: "mean of the classes"}


def _counts(figures: Mapping[str, Any]) -> dict[str, str]:
    texts = {"images": "images scored", "patients": "patients", "studies": "studies", "boxes": "true boxes"}
    texts |= {"predictions": "predictions", "predictions_left_out": "predictions left out"}
    texts |= {"ids_left_out": "ids left out"}
    return {text: count(figures[key]) for key, text in texts.items() if figures.get(key)}


def _intervals(evaluation: Evaluation) -> Mapping[str, Interval]:
    drawn = evaluation.scored.drawn
    return {} if drawn is None else drawn.figures.intervals()


def _range(interval: Interval) -> str:
    return "" if interval is None else f"{number(interval[0])} to {number(interval[1])}"
