"""The YOLO view of a data set: labels/*.txt, data.yaml and a list of images per split.

A label line is `class cx cy w h`: the 0-based class id, then centre and extent as fractions of the
image with twelve digits, so that pixels agree with annotations.json to 1e-6. ultralytics finds a
label by swapping /images/ for /labels/ in the image's path, and takes a missing one for "no boxes".
"""

import os
from collections.abc import Sequence
from pathlib import Path

import yaml

from siimdet.core.boxes import xyxy_to_cxcywhn
from siimdet.core.files import atomic_write
from siimdet.core.types import SPLITS, BoxLabels, ImageRecord, LabelSpace
from siimdet.data.dataset import Dataset, by_split
from siimdet.errors import DatasetError

DATA_YAML = "data.yaml"
LABELS = "labels"


def write_yolo(dataset: Dataset) -> None:
    """Write the view beside the manifest; it stays valid when the folder is moved.

    Raises: DatasetError for a 16-bit data set.
    """
    check_depth(dataset)
    for record in dataset.records:
        _write_text(label_path(dataset.root, record), label_lines(dataset.boxes[record.image_id]))
    for split in SPLITS:
        lines = [f"./{record.path}\n" for record in by_split(dataset, split)]
        _write_text(dataset.root / f"{split}.txt", "".join(lines))
    # Without `path:` ultralytics starts from the folder of the file itself.
    _write_yaml(dataset.root / DATA_YAML, dataset.classes, {split: f"{split}.txt" for split in SPLITS})


def remove_yolo(dataset: Dataset) -> None:
    """Remove the view that an earlier conversion at 8 bits left, which no longer holds."""
    for name in (DATA_YAML, *(f"{split}.txt" for split in SPLITS)):
        (dataset.root / name).unlink(missing_ok=True)
    for record in dataset.records:
        label_path(dataset.root, record).unlink(missing_ok=True)
    if (dataset.root / LABELS).is_dir() and not os.listdir(dataset.root / LABELS):
        (dataset.root / LABELS).rmdir()


def write_yolo_lists(folder: Path, dataset: Dataset, train: Sequence[ImageRecord], val: Sequence[ImageRecord]) -> Path:
    """Write data.yaml, train.txt and val.txt with absolute paths into a run's folder; returns the data.yaml.

    For trainings on other parts than the split columns: folds, excluded patients.
    Raises: DatasetError for a 16-bit data set or one whose labels/ is not complete.
    """
    check_depth(dataset)
    root = dataset.root.resolve()
    for name, records in (("train", train), ("val", val)):
        for record in records:
            if not label_path(root, record).is_file():
                place = label_path(dataset.root, record)
                raise DatasetError(place, "file", found="nothing there", expected="its YOLO labels (convert again)")
        _write_text(folder / f"{name}.txt", "".join(f"{root / record.path}\n" for record in records))
    _write_yaml(folder / DATA_YAML, dataset.classes, {"train": "train.txt", "val": "val.txt"})
    return folder / DATA_YAML


def label_path(root: Path, record: ImageRecord) -> Path:
    """Where the labels of an image are: images/a.png to labels/a.txt; of one from another data set, there."""
    before, _, name = record.path.rpartition("images/")
    return root / before / LABELS / Path(name).with_suffix(".txt")


def label_lines(boxes: BoxLabels) -> str:
    """The text of one label file; empty without boxes."""
    rows = zip(boxes.class_ids.tolist(), xyxy_to_cxcywhn(boxes.xyxy, boxes.size).tolist(), strict=True)
    return "".join(f"{class_id} {' '.join(f'{value:.12g}' for value in box)}\n" for class_id, box in rows)


def check_depth(dataset: Dataset) -> None:
    """Raise DatasetError for a 16-bit data set."""
    if dataset.bit_depth != 8:
        expected = "8 for YOLO: ultralytics flattens 16-bit images without a word"
        raise DatasetError(dataset.root / "dataset.json", "bit_depth", found=dataset.bit_depth, expected=expected)


def _write_yaml(path: Path, classes: LabelSpace, lists: dict[str, str]) -> None:
    # channels: 1 keeps ultralytics from reading the grey images as three equal channels.
    content = {**lists, "channels": 1, "names": dict(enumerate(classes.names))}
    _write_text(path, yaml.safe_dump(content, sort_keys=False))


def _write_text(path: Path, text: str) -> None:
    if path.is_file() and path.read_bytes() == text.encode():
        return  # a resumed conversion of all of NIH would sync 112,120 files again
    with atomic_write(path) as stream:
        stream.write(text)
