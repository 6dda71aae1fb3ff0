"""Phantoms as the raw directories that SIIM-FISABIO-RSNA, RSNA 2018 and NIH ChestX-ray14 ship.

Same folders, file names, CSV columns and kinds of file as the originals, so that the converters and
everything behind them run as on the real thing. The same seed gives the same files, byte for byte,
with any number of workers.
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np

from siimdet.core.files import atomic_write
from siimdet.data.phantom import (
    Kind,
    Opacity,
    Pattern,
    render,
    sample_finding,
    sample_opacities,
    sample_thorax,
    stretch,
)
from siimdet.data.table import write_table
from siimdet.imaging.dicom import write_radiograph
from siimdet.imaging.dicom_write import Syntax
from siimdet.imaging.png import write_png

STUDY_COLUMNS: dict[Pattern, str] = {
    "negative": "Negative for Pneumonia",
    "typical": "Typical Appearance",
    "indeterminate": "Indeterminate Appearance",
    "atypical": "Atypical Appearance",
}
_PATTERN_SHARES = (0.28, 0.36, 0.18, 0.18)
_FINDINGS: dict[Kind, str] = {
    "ground_glass": "Infiltration",
    "consolidation": "Consolidation",
    "nodule": "Nodule",
    "mass": "Mass",
    "plate": "Atelectasis",
    "effusion": "Effusion",
}
_BOXED = {"Infiltration": "Infiltrate", "Nodule": "Nodule", "Mass": "Mass", "Atelectasis": "Atelectasis"} | {
    "Effusion": "Effusion"
}
"""Findings that BBox_List_2017.csv has, as it spells them."""

_Result = TypeVar("_Result")

SQUARE = 1024
"""Side of RSNA's and NIH's images, px."""


@dataclass(frozen=True, slots=True)
class _SiimImage:
    patient: str
    study: str
    series: str
    image: str
    pattern: Pattern
    boxed: bool
    seed: tuple[int, ...]


def write_siim(root: Path, *, patients: int, seed: int = 0, test_patients: int = 2, workers: int = 1) -> None:
    """SIIM-FISABIO-RSNA COVID-19: train/ and test/ of STUDY/SERIES/IMAGE.dcm, labels and sample_submission.csv.

    A patient has one to three studies, a study one or two images, and boxes on one image at most: a
    second image, and a few single ones, read `none` although their study is positive.
    """
    images = _plan_siim(np.random.default_rng((seed, 1)), patients + test_patients, seed)
    held_back = set(list(dict.fromkeys(image.patient for image in images))[patients:])
    jobs = [(root / ("test" if image.patient in held_back else "train"), image) for image in images]
    boxes = dict(zip((image.image for image in images), _each(_write_siim_image, jobs, workers), strict=True))
    train = [image for image in images if image.patient not in held_back]
    studies = {image.study: image.pattern for image in train}
    header = ("id", "boxes", "label", "StudyInstanceUID")
    write_table(root / "train_image_level.csv", header, (_siim_row(image, boxes[image.image]) for image in train))
    write_table(
        root / "train_study_level.csv",
        ("id", *STUDY_COLUMNS.values()),
        ((f"{study}_study", *(int(pattern == p) for p in STUDY_COLUMNS)) for study, pattern in studies.items()),
    )
    test = [image for image in images if image.patient in held_back]
    rows = [(f"{study}_study", "negative 1 0 0 1 1") for study in dict.fromkeys(image.study for image in test)]
    rows += [(f"{image.image}_image", "none 1 0 0 1 1") for image in test]
    write_table(root / "sample_submission.csv", ("id", "PredictionString"), rows)


def write_rsna(root: Path, *, images: int, seed: int = 0, test_images: int = 2, workers: int = 1) -> None:
    """RSNA Pneumonia Detection 2018: stage_2_train_images/ and stage_2_test_images/, two label tables, a sample.

    DICOM of 1024 px, 8 bits, JPEG baseline, as there. Half of the patients have opacities.
    """
    rng = np.random.default_rng((seed, 2))
    names = [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(images + test_images)]
    classes = rng.choice(("Normal", "No Lung Opacity / Not Normal", "Lung Opacity"), len(names), p=(0.3, 0.2, 0.5))
    jobs = [
        (
            root / ("stage_2_train_images" if index < images else "stage_2_test_images"),
            name,
            str(kind),
            (seed, 2, index),
        )
        for index, (name, kind) in enumerate(zip(names, classes, strict=True))
    ]
    found = list(_each(_write_rsna_image, jobs, workers))[:images]
    rows, details = [], []
    for name, kind, boxes in zip(names, classes, found, strict=False):
        rows += [(name, *_xywh(box), 1) for box in boxes] or [(name, "", "", "", "", 0)]
        details += [(name, str(kind))] * max(1, len(boxes))
    write_table(root / "stage_2_train_labels.csv", ("patientId", "x", "y", "width", "height", "Target"), rows)
    write_table(root / "stage_2_detailed_class_info.csv", ("patientId", "class"), details)
    sample = [(name, "0.5 0 0 100 100") for name in names[images:]]
    write_table(root / "stage_2_sample_submission.csv", ("patientId", "PredictionString"), sample)


def write_nih(root: Path, *, images: int, seed: int = 0, workers: int = 1) -> None:
    """NIH ChestX-ray14: images_001/images/ of 1024 px PNG, Data_Entry, BBox_List and the official lists.

    A quarter of the patients are in the test list; some test images have a box.
    """
    rng = np.random.default_rng((seed, 3))
    names: list[str] = []
    while len(names) < images:
        patient = len({name[:8] for name in names}) + 1
        names += [f"{patient:08d}_{visit:03d}.png" for visit in range(int(rng.integers(1, 4)))]
    names = names[:images]
    jobs = [(root / "images_001" / "images" / name, (seed, 3, index)) for index, name in enumerate(names)]
    found = list(_each(_write_nih_image, jobs, workers))
    people = {name[:8]: (int(rng.integers(20, 90)), str(rng.choice(("F", "M")))) for name in names}
    entries = []
    for name, (labels, _) in zip(names, found, strict=True):
        age, gender = people[name[:8]]
        view = str(rng.choice(("PA", "AP")))
        label = "|".join(sorted(labels)) or "No Finding"
        entries.append((name, label, int(name[9:12]), int(name[:8]), age, gender, view, 2500, 2048, 0.168, 0.168))
    header = [
        "Image Index",
        "Finding Labels",
        "Follow-up #",
        "Patient ID",
        "Patient Age",
        "Patient Gender",
        "View Position",
    ]
    header += ["OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]"]
    write_table(root / "Data_Entry_2017_v2020.csv", header, entries)
    test = {name for name in names if int(name[:8]) % 4 == 0}
    rows = [
        (name, _BOXED[label], *(f"{value:.6f}" for value in _xywh(box)), "", "", "")
        for name, (_, boxes) in zip(names, found, strict=True)
        for label, box in boxes
        if name in test and label in _BOXED
    ]
    write_table(
        root / "BBox_List_2017.csv", ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]", "", "", ""), rows
    )
    for list_name, members in (("train_val_list.txt", set(names) - test), ("test_list.txt", test)):
        with atomic_write(root / list_name) as stream:
            stream.write("\n".join(sorted(members)))


def _plan_siim(rng: np.random.Generator, patients: int, seed: int) -> list[_SiimImage]:
    images: list[_SiimImage] = []
    for _ in range(patients):
        patient = rng.bytes(6).hex()
        for _ in range(int(rng.choice((1, 2, 3), p=(0.75, 0.2, 0.05)))):
            study = rng.bytes(6).hex()
            pattern: Pattern = tuple(STUDY_COLUMNS)[int(rng.choice(4, p=_PATTERN_SHARES))]
            boxed = [pattern != "negative" and rng.random() > 0.02, False]
            for which in range(1 if rng.random() < 0.93 else 2):
                series, image = rng.bytes(6).hex(), rng.bytes(6).hex()
                number = (seed, 1, len(images))
                images.append(_SiimImage(patient, study, series, image, pattern, boxed[which], number))
    return images


def _write_siim_image(folder: Path, plan: _SiimImage) -> list[np.ndarray]:
    rng = np.random.default_rng(plan.seed)
    thorax = sample_thorax(rng)
    opacities = sample_opacities(rng, plan.pattern, thorax) if plan.boxed else ()
    phantom = render(rng, thorax, opacities)
    width, height = (int(side) for side in rng.integers(560, 800, 2))
    grey = stretch(rng, phantom, width, height)
    bits = int(rng.choice((8, 12, 16), p=(0.1, 0.65, 0.25)))
    photometric = str(rng.choice(("MONOCHROME1", "MONOCHROME2"), p=(0.27, 0.73)))
    syntax: Syntax = ("explicit", "implicit", "rle", "jpeg-lossless")[int(rng.choice(4, p=(0.5, 0.1, 0.2, 0.2)))]
    shown = rng.choice(("window", "lut", "none"), p=(0.4, 0.15, 0.45))
    top = 2**bits - 1
    stored = np.round((1 - grey if photometric == "MONOCHROME1" else grey) * top)
    write_radiograph(
        folder / plan.study / plan.series / f"{plan.image}.dcm",
        stored.astype(np.uint8 if bits == 8 else np.uint16),
        patient_id=plan.patient,
        study_uid=f"2.25.{int(plan.study, 16)}",
        series_uid=f"2.25.{int(plan.series, 16)}",
        sop_uid=f"2.25.{int(plan.image, 16)}",
        bits_stored=bits,
        photometric="MONOCHROME1" if photometric == "MONOCHROME1" else "MONOCHROME2",
        syntax=syntax,
        window=(top / 2, top * 0.96) if shown == "window" else None,
        voi_lut=_sigmoid_lut(bits) if shown == "lut" else None,
    )
    return [box * np.array([width, height, width, height]) for box in phantom.boxes]


def _sigmoid_lut(bits: int) -> np.ndarray:
    """A VOI LUT of the mild S shape that detectors' consoles write."""
    level = np.linspace(-2.2, 2.2, 2**bits)
    curve = np.tanh(level) / np.tanh(2.2)
    return np.round((curve + 1) / 2 * 65535).astype(np.uint16)


def _siim_row(image: _SiimImage, boxes: Sequence[np.ndarray]) -> tuple[str, str, str, str]:
    if not boxes:
        return f"{image.image}_image", "", "none 1 0 0 1 1", image.study
    names = ("x", "y", "width", "height")
    cells = [dict(zip(names, (round(float(v), 5) for v in _xywh(box)), strict=True)) for box in boxes]
    label = " ".join(f"opacity 1 {' '.join(f'{value:.5f}' for value in box)}" for box in boxes)
    return f"{image.image}_image", str(cells), label, image.study


def _write_rsna_image(folder: Path, name: str, kind: str, seed: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    abnormal = kind.startswith("No Lung")
    thorax = sample_thorax(rng, cardiomegaly=abnormal and rng.random() < 0.5)
    opacities: tuple[Opacity, ...] = ()
    if kind == "Lung Opacity":
        pattern: Pattern = ("typical", "indeterminate", "atypical")[int(rng.choice(3, p=(0.5, 0.25, 0.25)))]
        opacities = sample_opacities(rng, pattern, thorax)
    elif abnormal and not thorax.enlarged:
        opacities = (sample_finding(rng, "effusion", thorax),)
    phantom = render(rng, thorax, opacities)
    grey = stretch(rng, phantom, SQUARE, SQUARE)
    number = uuid.UUID(name).int
    write_radiograph(
        folder / f"{name}.dcm",
        np.round(grey * 255).astype(np.uint8),
        patient_id=name,
        study_uid=f"2.25.{number}",
        series_uid=f"2.25.{number ^ 1}",
        sop_uid=f"2.25.{number ^ 2}",
        bits_stored=8,
        syntax="jpeg",
    )
    return [box * SQUARE for box in phantom.boxes] if kind == "Lung Opacity" else []


def _write_nih_image(path: Path, seed: tuple[int, ...]) -> tuple[set[str], list[tuple[str, np.ndarray]]]:
    rng = np.random.default_rng(seed)
    thorax = sample_thorax(rng, cardiomegaly=rng.random() < 0.2)
    kinds: list[Kind] = [kind for kind in _FINDINGS if rng.random() < 0.18]
    opacities = [sample_finding(rng, kind, thorax) for kind in kinds]
    phantom = render(rng, thorax, opacities)
    write_png(path, np.round(stretch(rng, phantom, SQUARE, SQUARE) * 255).astype(np.uint8))
    labels = {_FINDINGS[kind] for kind in kinds} | ({"Cardiomegaly"} if thorax.enlarged else set())
    return labels, [(_FINDINGS[kind], box * SQUARE) for kind, box in zip(kinds, phantom.boxes, strict=True)]


def _xywh(box: np.ndarray) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box.tolist()
    return x1, y1, x2 - x1, y2 - y1


def _each(write: Callable[..., _Result], jobs: Sequence[tuple], workers: int) -> Iterable[_Result]:
    if workers <= 1:
        yield from (write(*job) for job in jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(write, *zip(*jobs, strict=True), chunksize=8)
