"""The report's page: sections put together from its values."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from siimdet.core.labels import SUBMISSION_CLASSES
from siimdet.core.types import SPLITS
from siimdet.data.dataset import by_split
from siimdet.data.summary import count_images
from siimdet.report.contents import MEAN_AP, DetectorRow, RunReport, study_truth
from siimdet.report.counts import counts_table
from siimdet.report.curves import precision_recall, training_curves
from siimdet.report.elements import DASH, element, number, table
from siimdet.report.figures import colour, swatch
from siimdet.report.gallery import card, choose
from siimdet.report.page import stats, write_page
from siimdet.scoring.classification import ClassificationScore, multiclass_score

_FIGURES = {"AP@.5": "ap50", "F1": "f1", "Recall": "recall", "Precision": "precision"}


def write_report(path: Path, report: RunReport) -> None:
    """Write the report as one HTML file, atomically; equal reports give equal bytes.

    Raises: ImageError for a radiograph that cannot be read; RunError for a broken metrics.jsonl.
    """
    studies = _score_studies(report)
    sections = {
        "Score": _score(report, studies),
        "Detectors": _detectors(report),
        "Studies": _studies(report, studies),
        "Radiographs": _gallery(report),
        "Training": training_curves(report.runs),
        "Data": _data(report),
        "Facts": _facts(report),
    }
    write_page(path, title=report.title, subtitle=report.subtitle, opening=_opening(report, studies), sections=sections)


def _opening(report: RunReport, studies: ClassificationScore) -> list[Element]:
    counts = count_images(report.records, report.dataset.boxes)
    last = report.detectors[-1]
    mean = element(
        "p",
        element("span", number(report.score[MEAN_AP]), class_="headline"),
        element("span", f"{MEAN_AP} over six classes", element("br"), "PASCAL VOC 2010, IoU > .5", class_="explains"),
        class_="hero",
    )
    figures = {
        f"AP of opacity, {last.name}": number(last.ap50),
        "study accuracy": number(studies.accuracy),
        "images scored": str(counts["images"]),
        "studies": str(counts["studies"]),
        "patients": str(counts["patients"]),
    }
    return [mean, stats(figures)]


def _score(report: RunReport, studies: ClassificationScore) -> list[Element]:
    counts = count_images(report.records, report.dataset.boxes)
    truths = {name: f"{figures.positives} studies" for name, figures in studies.classes.items()} | {
        "none": f"{counts['images_without_boxes']} images",
        "opacity": f"{counts['boxes']} boxes",
    }
    truths[MEAN_AP] = "mean of the classes"
    rows = [
        (element("span", name, " ", element("small", truths[name])), _bar(report.score[name]))
        for name in (*SUBMISSION_CLASSES, MEAN_AP)
    ]
    caption = "Average precision by class. A class without truth shows a dash and stays out of the mean."
    return [table(caption, ("Class, and how often it is true", "AP"), rows, class_="card score")]


def _bar(value: float | None) -> Element:
    bar = element("span", class_="bar", style=f"--value:{value or 0:.3f}", aria_hidden="true")
    return element("td", element("div", bar, element("span", number(value), class_="figure"), class_="measure"))


def _detectors(report: RunReport) -> list[Element]:
    columns = ("Opacity", *(_named(i, row) for i, row in enumerate(report.detectors)))
    rows = [
        *((label, *_best_marked(report.detectors, field)) for label, field in _FIGURES.items()),
        ("Threshold", *(number(row.threshold) for row in report.detectors)),
    ]
    caption = "F1, recall and precision of the boxes at each detector's threshold. The best of a row is bold."
    figures = table(caption, columns, rows, class_="card detectors")
    return [element("div", figures, precision_recall(report), class_="pair")]


def _named(index: int, row: DetectorRow) -> Element:
    return element("span", swatch(index), element("span", row.name), class_=f"named {colour(index)}")


def _best_marked(rows: Sequence[DetectorRow], field: str) -> list[Element]:
    values = [getattr(row, field) for row in rows]
    best = max((value for value in values if value is not None), default=None)
    marked = len(rows) > 1 and best is not None
    return [
        element("td", element("strong", number(value)) if marked and value == best else number(value))
        for value in values
    ]


def _score_studies(report: RunReport) -> ClassificationScore:
    known = study_truth(report)
    unknown = np.full(len(report.study.space), np.nan, np.float32)
    truth = np.array([known.get(key, unknown) for key in report.study.keys], np.float64)
    return multiclass_score(report.study.values, truth.reshape(-1, len(report.study.space)), report.study.space)


def _studies(report: RunReport, studies: ClassificationScore) -> list[Element]:
    assert studies.confusion is not None
    names = report.study.space.names
    rows = [
        (name, *(_share(count, row.sum(), diagonal=i == j) for j, count in enumerate(row.tolist())))
        for i, (name, row) in enumerate(zip(names, studies.confusion, strict=True))
    ]
    caption = "Confusion matrix: studies by truth (rows) and most probable class (columns), and the share of the row."
    matrix = table(caption, ("Truth", *names), rows, class_="card confusion")
    figures = {"Accuracy": studies.accuracy} | {
        name: studies.macro(name.lower()) for name in ("Precision", "Recall", "F1", "AUROC", "AP")
    }
    listed = [(name, number(value)) for name, value in figures.items()]
    means = table("All but accuracy are means over the classes.", ("Figure", "Value"), listed, class_="card figures")
    return [element("div", matrix, means, class_="pair uneven")]


def _share(count: int, total: int, *, diagonal: bool) -> Element:
    share = count / total if total else 0.0
    percent = element("small", f"{share:.0%}" if total else DASH)
    kind = "right" if diagonal else "wrong"
    return element("td", element("span", str(count)), " ", percent, class_=kind, style=f"--value:{share:.3f}")


def _gallery(report: RunReport) -> list[Element]:
    legend = [element("li", element("span", class_="key truth", aria_hidden="true"), "truth, dashed")]
    for index, row in enumerate(report.detectors):
        drawn = "no threshold, none drawn" if row.threshold is None else f"score {row.threshold:.2f} or more"
        key = element("span", class_=f"key {colour(index)}", aria_hidden="true")
        legend.append(element("li", key, f"{row.name}: {drawn}"))
    parts = [
        element("p", f"Ranked by how well the boxes of {report.detectors[-1].name} meet the truth."),
        element("ul", *legend, class_="legend on-film"),
    ]
    for heading, group in choose(report).items():
        parts.append(element("h3", heading))
        parts.append(element("div", *(card(report, chosen) for chosen in group), class_="gallery"))
    return parts


def _data(report: RunReport) -> list[Element]:
    dataset = report.dataset
    groups = {split: by_split(dataset, split) for split in SPLITS} | {
        "all": dataset.records,
        "scored here": tuple(report.records),
    }
    counts = {name: count_images(records, dataset.boxes) for name, records in groups.items()}
    caption = f"{dataset.source}, {dataset.bit_depth} bits, fingerprint {dataset.fingerprint[:16]}"
    return [counts_table(caption, counts)]


def _facts(report: RunReport) -> list[Element]:
    if not report.facts:
        return [element("p", "None were given.")]
    return [table("How this run was made", ("Fact", "Value"), list(report.facts.items()), class_="card facts")]
