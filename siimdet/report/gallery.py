"""Radiographs with predictions over the truth: the best, the worst and some without boxes."""

from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from siimdet.core.boxes import scale_boxes
from siimdet.core.types import ImageRecord, ImageSize
from siimdet.report.contents import RunReport, shown, study_truth
from siimdet.report.elements import element, number
from siimdet.report.figures import Boxes, colour, radiograph, thumbnail
from siimdet.scoring.voc import detection_ap

BEST = WORST = 4
FALSE_ALARMS = CLEAN = 2
LONGER_SIDE = 400


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the last detector's shown boxes make of an image: truths hit and missed, boxes that hit none."""

    record: ImageRecord
    hits: int
    missed: int
    false: int

    @property
    def f1(self) -> float:
        """2 hits / (boxes + truths); 1 where there is neither."""
        total = 2 * self.hits + self.missed + self.false
        return 2 * self.hits / total if total else 1.0


def agreement(report: RunReport, record: ImageRecord) -> Agreement:
    """Compare one image by the rules of the score (siimdet.scoring.voc)."""
    truth = report.dataset.boxes[record.image_id]
    found = shown(report, report.detectors[-1], record.image_id)
    curves = detection_ap({record.image_id: truth}, {record.image_id: found}, report.dataset.classes).curves
    hits = sum(int(curve.hits[-1]) for curve in curves if len(curve.hits))
    return Agreement(record, hits, len(truth) - hits, len(found) - hits)


def choose(report: RunReport) -> dict[str, list[Agreement]]:
    """The images to show under each heading, none twice; ties go to more boxes, then to the image id."""
    everything = [agreement(report, record) for record in report.records]
    with_boxes = [a for a in everything if a.hits + a.missed]
    best = sorted(with_boxes, key=lambda a: (-a.f1, -a.hits, a.record.image_id))[:BEST]
    others = [a for a in with_boxes if a not in best]
    worst = sorted(others, key=lambda a: (a.f1, -a.missed - a.false, a.record.image_id))[:WORST]
    without = sorted((a for a in everything if not a.hits + a.missed), key=lambda a: (-a.false, a.record.image_id))
    box_free = [*without[:FALSE_ALARMS], *without[FALSE_ALARMS:][-CLEAN:]]
    groups = {"Closest to the truth": best, "Furthest from the truth": worst, "No box in the truth": box_free}
    return {heading: group for heading, group in groups.items() if group}


def card(report: RunReport, chosen: Agreement) -> Element:
    """One radiograph with its boxes, and below it the study's truth and probabilities."""
    record = chosen.record
    caption = element(
        "figcaption",
        element("p", element("code", record.image_id), class_="id"),
        element("p", f"{report.detectors[-1].name}: {_outcome(chosen)}"),
        *_study(report, record),
    )
    return element("figure", _picture(report, record), caption, class_="card shot")


def _picture(report: RunReport, record: ImageRecord) -> Element:
    image = thumbnail(report.dataset.root / record.path, LONGER_SIDE)
    size = ImageSize(image.shape[1], image.shape[0])
    truth = report.dataset.boxes[record.image_id]
    overlays, counts = [], [f"{len(truth)} true boxes"]
    for index, row in enumerate(report.detectors):
        found = shown(report, row, record.image_id)
        scores = [number(score, 2) for score in found.scores.tolist()]
        overlays.append(Boxes(scale_boxes(found.xyxy, found.size, size), colour(index), scores))
        counts.append(f"{row.name} {len(found)}")
    overlays.append(Boxes(scale_boxes(truth.xyxy, truth.size, size), "truth"))
    return radiograph(image, overlays, description=f"Radiograph {record.image_id}: {', '.join(counts)}")


def _outcome(chosen: Agreement) -> str:
    truths = chosen.hits + chosen.missed
    false = f"{chosen.false} false" if chosen.false else "none false"
    return f"{chosen.hits} of {truths} found, {false}" if truths else f"nothing to find, {false}"


def _study(report: RunReport, record: ImageRecord) -> list[Element]:
    names = report.study.space.names
    labels = study_truth(report)[record.study_id]
    truth = " or ".join(name for name, label in zip(names, labels, strict=True) if label == 1) or "unknown"
    heading = element("p", "Study truth: ", element("strong", truth))
    if record.study_id not in report.study.keys:
        return [heading]
    values = report.study.values[report.study.keys.index(record.study_id)]
    rows = [
        element(
            "li",
            element("span", name),
            element("span", class_="bar", style=f"--value:{value:.3f}", aria_hidden="true"),
            element("span", number(value, 2), class_="figure"),
            class_="true" if label == 1 else "",
        )
        for name, value, label in zip(names, np.asarray(values, float).tolist(), labels, strict=True)
    ]
    return [heading, element("ul", *rows, class_="classes", aria_label="Predicted probabilities of the study")]
