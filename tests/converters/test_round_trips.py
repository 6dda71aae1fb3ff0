"""What `siimdet write` writes, `siimdet convert` reads back: images, ids, classes, boxes, parts and patients."""

import json
from pathlib import Path

import numpy as np
import pytest

from converters import SOURCES
from converters.run import convert
from siimdet.core.types import SPLITS, BoxLabels, ImageRecord, ImageSize, LabelSpace
from siimdet.data.dataset import Dataset
from siimdet.data.export import export
from siimdet.data.manifest import read_dataset, write_dataset
from siimdet.imaging.png import read_grey, write_png

SPACE = LabelSpace("things", ("opacity", "no", "Größe, cm", "never there"))


def make(root: Path, *, seed: int, bit_depth: int) -> Dataset:
    """Images of any size and id, with none to five boxes of which some touch the border."""
    rng = np.random.default_rng(seed)
    records, boxes = [], {}
    for number, split in enumerate(SPLITS * 4):
        name = ("a", "B.2", "1.2.840", "x_-y", "z..", "UPPER")[number % 6] + str(number)
        size = ImageSize(*rng.integers(8, 400, 2).tolist())
        path = f"images/{name}.png"
        write_png(root / path, rng.integers(0, 1 << bit_depth, (size.height, size.width)).astype(f"u{bit_depth // 8}"))
        boxes[name] = random_boxes(rng, size, count=number % 6)
        labels = np.zeros(len(SPACE), np.float32)
        labels[boxes[name].class_ids] = 1
        records.append(ImageRecord(name, f"s{number // 2}", f"p{number // 3}", path, size, size, labels, split))
    return write_dataset(root, records, boxes, source="test", labels=SPACE, classes=SPACE, bit_depth=bit_depth)


def random_boxes(rng: np.random.Generator, size: ImageSize, *, count: int) -> BoxLabels:
    corners = np.sort(rng.random((count, 2, 2)), axis=1)
    corners[1::2, 1] = 1
    corners[2::3, 0] = 0
    scaled = (corners * (size.width, size.height)).reshape(-1, 4)
    return BoxLabels(scaled.astype(np.float32), rng.integers(0, 3, count), size)  # type: ignore[arg-type]


def there_and_back(dataset: Dataset, format_name: str, folder: Path) -> Dataset:
    export(dataset, format_name, folder / "there")
    # The full range of 16 bits is what a copy of ours has, whatever the least and the most of its pixels.
    options = {"bit_depth": dataset.bit_depth, "scaling": "full"}
    summary = convert(SOURCES[format_name], folder / "there", folder / "back", workers=1, **options)  # type: ignore[arg-type]
    assert (summary.failures, summary.repairs) == (0, 0)
    return read_dataset(folder / "back", check_files=True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("format_name", "bit_depth", "tolerance_px"),
    [("coco", 8, 0), ("coco", 16, 0), ("csv", 8, 0), ("csv", 16, 0), ("yolo", 8, 1e-6)],
)
def test_all_comes_back(tmp_path, format_name, bit_depth, tolerance_px, seed):
    dataset = make(tmp_path / "set", seed=seed, bit_depth=bit_depth)
    back = there_and_back(dataset, format_name, tmp_path)
    assert back.classes.names == back.labels.names == SPACE.names
    assert [r.image_id for r in back.records] == [r.image_id for r in dataset.records]
    for old, new in zip(dataset.records, back.records, strict=True):
        assert (new.split, new.stored, new.original) == (old.split, old.stored, old.original)
        np.testing.assert_array_equal(new.labels, old.labels)
        left, right = dataset.boxes[old.image_id], back.boxes[old.image_id]
        np.testing.assert_array_equal(left.class_ids, right.class_ids)
        np.testing.assert_allclose(left.xyxy, right.xyxy, rtol=0, atol=tolerance_px)
        np.testing.assert_array_equal(read_grey(dataset.root / old.path), read_grey(back.root / new.path))
        if format_name != "yolo":  # which has no place for them
            assert (new.patient_id, new.study_id) == (old.patient_id, old.study_id)
    numbers = [json.loads((each.root / "annotations.json").read_text())["images"] for each in (dataset, back)]
    assert numbers[0] == numbers[1]


def test_sparse_ids_of_a_coco_set_come_back(tmp_path, pictures):
    raw = pictures(tmp_path / "raw", *(f"images/{name}.png" for name in "bac"))
    numbers = {"images/b.png": 70, "images/a.png": 9, "images/c.png": 1234567890123}
    images = [{"id": id_, "file_name": name[7:], "width": 16, "height": 12} for name, id_ in numbers.items()]
    annotations = [{"id": 8, "image_id": 70, "category_id": 4, "bbox": [1, 2, 3, 4]}]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 4, "name": "lung"}]}
    (raw / "annotations.json").write_text(json.dumps(content))
    first = convert(SOURCES["coco"], raw, tmp_path / "first", workers=1).dataset
    second = there_and_back(first, "coco", tmp_path)
    export(second, "coco", tmp_path / "again")
    for folder in ("there", "again"):
        written = json.loads((tmp_path / folder / "annotations.json").read_text())
        assert {entry["file_name"]: entry["id"] for entry in written["images"]} == numbers
        assert [(entry["image_id"], entry["bbox"]) for entry in written["annotations"]] == [(70, [1, 2, 3, 4])]
