"""The shortcut audit: how well what is no disease tells the labels, and the score with the borders blanked."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import LabelSpace
from siimdet.data.border_features import border_features
from siimdet.report.counts import count
from siimdet.report.elements import DASH, element, table
from siimdet.report.evaluation.contents import Evaluation
from siimdet.report.evaluation.detection import box_class
from siimdet.report.evaluation.difference import paired
from siimdet.report.evaluation.score import measure
from siimdet.scoring.shortcuts import LabelAuroc, audit, model_aurocs, size_features, source_features
from siimdet.submission.judged import NO_CASE, PLURALS, Case, Judged, JudgedBoxes, JudgedClasses

MOST_VALUES = 20
MOST_IMAGES = 2000
"""Of more, as many are drawn for the border, whose files have to be read."""
SEED = 0
MODEL = "the file itself"

_HOW = (
    "AUROC of a label told by a small predictor that sees nothing of the lungs, out of fold, no patient on both sides. "
    ".5 is a guess, and what one hopes for. Well above it the data give the label away; where the file itself is no "
    "better, one cannot tell what its model learned. Intervals are of resampled patients and a little too narrow: one "
    "that just misses .5 shows nothing."
)


def shortcuts(evaluation: Evaluation) -> list[Element]:
    """The audit of every label, then the score with the borders blanked where that file is given."""
    judged = evaluation.judged
    parts = _audited(judged)
    if evaluation.blanked is not None:
        name, pair = evaluation.blanked
        said = "The same models on images whose borders are black. A loss shows that they use the border."
        parts += [element("h3", "The score with the borders blanked"), element("p", said)]
        parts += paired(evaluation.name, name, pair)
    return parts


def _audited(judged: Judged) -> list[Element]:
    labels = _labels(judged)
    kept = np.flatnonzero(labels.case_of != NO_CASE)
    cases = [judged.cases[number] for number in labels.case_of[kept].tolist()]
    truth, owners = labels.truth[kept], _owners(cases)
    features, notes = _features(cases)
    with_files = _with_files(cases)
    found = audit(features, truth, labels.classes, owners)
    if with_files is not None:
        drawn = [path for number in with_files.tolist() if (path := cases[number].path) is not None]
        border = {"border": border_features(drawn).astype(np.float64)}
        found |= audit(border, truth[with_files], labels.classes, [owners[n] for n in with_files.tolist()])
        notes.append(f"border: the outer tenth of each side, of {count(len(drawn))} {PLURALS[labels.unit]}")
    if not found:
        text = "Nothing is known of where the images come from: --dataset tells it, or --sources and --patients do."
        return [element("p", text)]
    columns = {MODEL: model_aurocs(labels.probabilities[kept], truth, labels.classes, owners)} | found
    rows = [(name, *(_cell(each[name]) for each in columns.values())) for name in labels.classes.names]
    caption = f"AUROC of {PLURALS[labels.unit]} by label; {'; '.join(notes)}."
    named = [MODEL, *(f"{name} alone" for name in found)]
    return [element("p", _HOW), table(caption, ("Label", *named), rows, class_="card audit")]


def _labels(judged: Judged) -> JudgedClasses:
    """The classes, or of a detector whether an image has a box, by its highest score."""
    if judged.classes is not None:
        return judged.classes
    assert judged.boxes is not None, "neither boxes nor classes"
    return _boxed(judged.boxes)


def _boxed(boxes: JudgedBoxes) -> JudgedClasses:
    class_id = box_class(boxes)
    space = LabelSpace("boxed", (f"has a box of {boxes.classes.names[class_id]}",))
    columns = boxes.of_ids(np.arange(len(boxes.ids)), [class_id])
    return JudgedClasses(boxes.ids, "image", *columns, space, boxes.case_of, exclusive=False)


def _owners(cases: Sequence[Case]) -> list[str]:
    return [case.study_id if case.patient_id is None else case.patient_id for case in cases]


def _features(cases: Sequence[Case]) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """What is known of the cases without reading their files, and what it is in words."""
    columns = {name: None for case in cases for name in case.source}
    texts = {name: [case.source.get(name, "") for case in cases] for name in columns}
    texts = {name: values for name, values in texts.items() if 2 <= len(set(values)) <= MOST_VALUES}
    features: dict[str, NDArray[np.float64]] = {}
    notes = []
    if texts:
        features["source"] = source_features(texts)
        notes.append(f"source: {', '.join(texts)}")
    if len({case.size for case in cases} - {None}) > 1:
        features["size"] = size_features([case.size for case in cases])
        notes.append("size: width, height and their ratio")
    if any(case.patient_id is None for case in cases):
        notes.append("folds are of studies, for patients are not known")
    return features, notes


def _with_files(cases: Sequence[Case]) -> NDArray[np.int64] | None:
    """Numbers of the cases whose files are read."""
    numbers = np.flatnonzero([case.path is not None for case in cases])
    if not len(numbers):
        return None
    if len(numbers) > MOST_IMAGES:
        numbers = np.sort(np.random.default_rng(SEED).choice(numbers, MOST_IMAGES, replace=False))
    return numbers


def _cell(found: LabelAuroc) -> Element:
    if found.auroc is None:
        return element("td", DASH, " ", element("small", found.reason or ""))
    return measure(found.auroc, found.interval)
