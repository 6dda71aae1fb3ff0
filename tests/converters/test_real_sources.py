"""The published label tables and the real images at hand: counts, official lists, and what other tools read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from converters import SOURCES
from converters.run import ConversionSummary, convert
from siimdet.cli import run
from siimdet.core.boxes import cxcywhn_to_xyxy
from siimdet.core.types import ImageSize
from siimdet.data.manifest import read_dataset
from siimdet.data.yolo import label_path

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def rsna(shared_data, tmp_path_factory) -> ConversionSummary:
    return convert(SOURCES["rsna"], shared_data / "rsna", tmp_path_factory.mktemp("rsna"), present_only=True)


@pytest.fixture(scope="module")
def nih(converted_nih) -> ConversionSummary:
    return converted_nih


@pytest.fixture(scope="module")
def siim(shared_data, tmp_path_factory) -> ConversionSummary:
    return convert(SOURCES["siim"], shared_data / "siim", tmp_path_factory.mktemp("siim"), present_only=True)


def counts_of(summary: ConversionSummary) -> tuple[dict, dict]:
    counts = json.loads((summary.dataset.root / "dataset.json").read_text())["counts"]
    return counts["labels"], counts["converted"]


def test_siim_counts(siim):
    labels, converted = counts_of(siim)
    assert labels == {
        "images": 6334,
        "studies": 6054,
        "patients": 3261,
        "boxes": 7853,
        "images_with_boxes": 4294,
        "images_without_boxes": 2040,
    }
    assert (converted["images"], siim.failures, siim.without_file) == (5, 0, 6329)
    assert all(record.stored == record.original for record in siim.dataset.records)


def test_the_negative_coordinate_of_siim_is_clipped_and_reported(siim):
    assert (siim.dataset.root / "repairs.csv").read_text() == (
        "id,field,before,after\n"
        "6ea732c63929,box 1 xyxy,-3.55558 1608.94276 1382.24912 3394.04713,0 1608.94276 1382.24912 3394.04713\n"
    )


def test_siim_studies_hold_their_published_classes(shared_data):
    items = SOURCES["siim"].read(shared_data / "siim").items
    studies = {item.study_id: item.labels for item in items}
    assert np.sum(list(studies.values()), axis=0).tolist() == [1676, 2855, 1049, 474]


def test_rsna_counts(rsna):
    labels, converted = counts_of(rsna)
    assert (labels["images"], labels["boxes"]) == (26684, 9555)
    assert (converted["images"], converted["boxes"], converted["images_with_boxes"]) == (373, 163, 106)
    assert (converted["patients"], rsna.failures, rsna.repairs) == (329, 0, 0)


def test_nih_counts(nih):
    labels, converted = counts_of(nih)
    assert (labels["images"], labels["patients"]) == (112120, 30805)
    assert (labels["boxes"], labels["images_with_boxes"]) == (984, 880)
    assert (converted["images"], converted["patients"], nih.failures) == (1109, 880, 0)
    assert len(nih.dataset.labels) == 14
    lines = (nih.dataset.root / "repairs.csv").read_text().splitlines()[1:]
    assert len(lines) == 123 and all(line.endswith("label,Infiltrate,Infiltration") for line in lines)


def test_nih_keeps_the_official_lists(nih, shared_data):
    listed = set((shared_data / "nih" / "test_list.txt").read_text().split())
    for record in nih.dataset.records:
        assert (record.split == "test") == (f"{record.image_id}.png" in listed)


def test_rsna_images_and_patients_are_nih_ones(rsna, nih):
    patients = {record.image_id: record.patient_id for record in nih.dataset.records}
    mapped = {record.source["nih_image"]: record.patient_id for record in rsna.dataset.records}
    assert len(mapped) == 373
    assert all(patients[image_id] == patient_id for image_id, patient_id in mapped.items())


@pytest.mark.parametrize(("name", "images"), [("siim", 5), ("rsna", 373), ("nih", 1109)])
def test_the_command_resumes_and_ends_well(name, images, request, shared_data, capsys):
    root = request.getfixturevalue(name).dataset.root
    assert run(["convert", name, "--raw", str(shared_data / name), "--out", str(root), "--present-only"]) == 0
    assert f"0 images converted, {images} kept from before" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["siim", "rsna", "nih"])
def test_no_patient_straddles_and_the_data_set_reads_back(name, request):
    summary = request.getfixturevalue(name)
    dataset = read_dataset(summary.dataset.root, check_files=True)
    assert dataset.fingerprint == summary.dataset.fingerprint
    sides = {record.patient_id: record.split for record in dataset.records}
    assert all(record.split == sides[record.patient_id] for record in dataset.records)


def test_pycocotools_loads_rsna(rsna):
    coco = COCO(str(rsna.dataset.root / "annotations.json"))
    assert (len(coco.imgs), len(coco.anns), len({a["image_id"] for a in coco.anns.values()})) == (373, 163, 106)


def test_yolo_and_coco_agree_on_rsna(rsna):
    dataset, seen = read_dataset(rsna.dataset.root), 0
    for record in dataset.records:
        rows = [line.split() for line in label_path(dataset.root, record).read_text().splitlines()]
        fractions = np.array([[float(cell) for cell in row[1:]] for row in rows]).reshape(-1, 4)
        xyxy = cxcywhn_to_xyxy(fractions, record.stored)
        np.testing.assert_allclose(xyxy, dataset.boxes[record.image_id].xyxy, rtol=0, atol=1e-6)
        seen += len(rows)
    assert seen == 163


def test_published_boxes_of_rsna_are_kept_to_the_pixel(rsna, shared_data):
    items = {item.image_id: item for item in SOURCES["rsna"].read(shared_data / "rsna").items}
    for record in rsna.dataset.records:
        assert record.stored == record.original == ImageSize(1024, 1024)
        np.testing.assert_array_equal(rsna.dataset.boxes[record.image_id].xyxy, items[record.image_id].xyxy)


READ_WITH_ULTRALYTICS = """
import sys
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_det_dataset
data = check_det_dataset(sys.argv[1], autodownload=False)
sets = [YOLODataset(img_path=data[split], data=data, imgsz=64, augment=False) for split in ("train", "val", "test")]
labels = [label for each in sets for label in each.labels]
print(data["names"], data["channels"], len(labels), sum(len(label["cls"]) for label in labels))
"""


def test_ultralytics_reads_rsna(rsna, tmp_path):
    # In a process of its own: on import it takes the threads of torch and cv2 down to one.
    env = os.environ | {
        "YOLO_CONFIG_DIR": str(tmp_path),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_VERBOSE": "false",
        "ULTRALYTICS_SAFE_LOAD": "1",
    }
    command = [sys.executable, "-c", READ_WITH_ULTRALYTICS, str(Path(rsna.dataset.root) / "data.yaml")]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "{0: 'opacity'} 1 373 163"
