"""COVID-CT, COVIDx, class folders and a COCO set as published: every listed image found, counts, round trips."""

import json
from collections import Counter, defaultdict

import numpy as np
import pytest
from pycocotools.coco import COCO

from converters import SOURCES
from converters.run import ConversionSummary, convert
from siimdet.data.dataset import by_split
from siimdet.data.export import export
from siimdet.data.manifest import read_dataset

pytestmark = pytest.mark.real_data

PATIENT = r"^(\d{8})_\d{3}"


@pytest.fixture(scope="module")
def covid_ct(shared_data, tmp_path_factory) -> ConversionSummary:
    return convert(SOURCES["covid-ct"], shared_data / "covid_ct", tmp_path_factory.mktemp("covid-ct"))


@pytest.fixture(scope="module")
def covidx(shared_data, tmp_path_factory) -> ConversionSummary:
    return convert(SOURCES["covidx"], shared_data / "covidx", tmp_path_factory.mktemp("covidx"))


@pytest.fixture(scope="module")
def cxr3(shared_data, tmp_path_factory) -> ConversionSummary:
    out = tmp_path_factory.mktemp("cxr3")
    return convert(SOURCES["folders"], shared_data / "cxr3", out, patient_pattern=PATIENT)


@pytest.fixture(scope="module")
def lungs(shared_data, tmp_path_factory) -> ConversionSummary:
    return convert(SOURCES["coco"], shared_data / "lungs", tmp_path_factory.mktemp("lungs"))


def labels_of(summary: ConversionSummary) -> Counter:
    names = summary.dataset.labels.names
    return Counter((r.split, names[int(r.labels.argmax())]) for r in summary.dataset.records)


@pytest.mark.parametrize(
    ("name", "images", "mended"), [("covid_ct", 543, 287), ("covidx", 753, 0), ("cxr3", 424, 0), ("lungs", 400, 0)]
)
def test_every_image_is_found_and_the_data_set_reads_back(name, images, mended, request):
    summary = request.getfixturevalue(name)
    assert (summary.converted, summary.without_file, summary.failures, summary.repairs) == (images, 0, 0, mended)
    dataset = read_dataset(summary.dataset.root, check_files=True)
    assert dataset.fingerprint == summary.dataset.fingerprint
    sides = defaultdict(set)
    for record in dataset.records:
        sides[record.patient_id].add(record.split)
    assert all(len(found) == 1 for found in sides.values())


def test_covid_ct_keeps_its_official_lists(covid_ct, shared_data):
    assert labels_of(covid_ct) == {
        ("train", "COVID"): 191,
        ("train", "NonCOVID"): 234,
        ("val", "COVID"): 60,
        ("val", "NonCOVID"): 58,
    }
    records = {record.source["file"]: record for record in covid_ct.dataset.records}
    for label in ("COVID", "NonCOVID"):
        for part in ("train", "val"):
            listed = (shared_data / "covid_ct" / "Data-split" / label / f"{part}CT_{label}.txt").read_text()
            for name in filter(None, listed.split("\n")):
                assert records.pop(f"Images/CT_{label}/{name}").split == part
    assert not records


def test_panels_of_a_figure_are_one_patient(covid_ct):
    patients = {record.image_id: record.patient_id for record in covid_ct.dataset.records}
    assert len(set(patients.values())) == 332
    assert len({patients[f"2020.02.10.20021584-p6-52_{panel}"] for panel in range(16)}) == 1


def test_covidx_keeps_its_test_list(covidx):
    found = labels_of(covidx)
    test = {label: count for (split, label), count in found.items() if split == "test"}
    assert test == {"normal": 3, "pneumonia": 6, "COVID-19": 65}
    total = Counter()
    for (_, label), count in found.items():
        total[label] += count
    assert total == {"normal": 108, "pneumonia": 141, "COVID-19": 504}
    assert Counter(record.source["origin"] for record in covidx.dataset.records) == {
        "cohen": 485,
        "rsna": 201,
        "fig1": 35,
        "actmed": 26,
        "": 6,
    }
    assert {record.split for record in covidx.dataset.records if not record.source["origin"]} == {"test"}
    assert len({record.patient_id for record in covidx.dataset.records}) == 558


def test_class_folders_without_and_with_patients(cxr3, shared_data):
    tables = SOURCES["folders"].read(shared_data / "cxr3")
    assert tables.labels.names == ("infected_covid", "infected_non_covid", "normal")
    assert np.sum([item.labels for item in tables.items], axis=0).tolist() == [124, 150, 150]
    assert len({item.patient_id for item in tables.items}) == 424
    classes = defaultdict(set)
    for record in cxr3.dataset.records:
        classes[record.patient_id].add(int(record.labels.argmax()))
    assert len(classes) == 322
    assert sum(len(found) > 1 for found in classes.values()) == 6
    assert all(len(by_split(cxr3.dataset, split)) > 30 for split in ("train", "val", "test"))


def test_lungs_have_two_boxes_each_as_published(lungs, shared_data):
    assert Counter(len(boxes) for boxes in lungs.dataset.boxes.values()) == {2: 400}
    published = COCO(str(shared_data / "lungs" / "annotations.json"))
    for record in lungs.dataset.records:
        number = int(record.source["coco_id"])
        assert record.source["file"] == f"images/{published.imgs[number]['file_name']}"
        boxes = np.array([entry["bbox"] for entry in published.loadAnns(published.getAnnIds(imgIds=number))])
        xyxy = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        np.testing.assert_allclose(lungs.dataset.boxes[record.image_id].xyxy, xyxy, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("format_name", "tolerance_px"), [("coco", 0), ("csv", 0), ("yolo", 1e-6)])
def test_lungs_survive_a_round_trip(lungs, tmp_path, format_name, tolerance_px):
    export(lungs.dataset, format_name, tmp_path / "there")
    back = convert(SOURCES[format_name], tmp_path / "there", tmp_path / "back")
    assert (back.converted, back.failures, back.repairs) == (400, 0, 0)
    for old, new in zip(lungs.dataset.records, back.dataset.records, strict=True):
        assert (old.image_id, old.split, old.stored) == (new.image_id, new.split, new.stored)
        left, right = lungs.dataset.boxes[old.image_id].xyxy, back.dataset.boxes[new.image_id].xyxy
        np.testing.assert_allclose(left, right, rtol=0, atol=tolerance_px)
    if format_name == "coco":
        written = json.loads((tmp_path / "there" / "annotations.json").read_text())
        published = {record.image_id: int(record.source["coco_id"]) for record in lungs.dataset.records}
        assert {entry["file_name"][7:-4]: entry["id"] for entry in written["images"]} == published
