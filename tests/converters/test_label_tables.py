"""The label tables of SIIM, RSNA and NIH: what is read, and every way in which they can be wrong."""

import numpy as np
import pytest

from converters import SOURCES
from converters.nih import BOX_CLASSES
from siimdet.core.labels import NIH_FINDINGS
from siimdet.core.types import ImageSize
from siimdet.errors import SourceError


def items_of(name, raw):
    return {item.image_id: item for item in SOURCES[name].read(raw).items}


def complaint_of(name, raw) -> str:
    with pytest.raises(SourceError) as caught:
        SOURCES[name].read(raw)
    return str(caught.value).removeprefix(f"{raw}/")


def test_siim(siim_raw):
    items = items_of("siim", siim_raw)
    assert list(items) == ["a1", "a2", "b1", "c1"]
    assert [(item.study_id, item.patient_id) for item in items.values()] == [
        ("s1", "p1"),
        ("s1", "p1"),
        ("s2", "p1"),
        ("s3", "p2"),
    ]
    assert items["a1"].labels.tolist() == items["a2"].labels.tolist() == [0, 1, 0, 0]
    assert items["a1"].xyxy.tolist() == [[10.5, 20, 40.5, 60], [60, 50, 75, 59.5]]
    assert items["b1"].xyxy.shape == (0, 4)
    assert items["a1"].copy_original is None


def test_siim_sizes_of_copies(siim_raw):
    (siim_raw / "train_sizes.csv").write_text("image_id,width,height\na1,4256,3488\n")
    assert items_of("siim", siim_raw)["a1"].copy_original == ImageSize(4256, 3488)


def test_siim_without_the_patient_table_leaves_patients_to_the_files(siim_raw):
    (siim_raw / "train_meta.csv").unlink()
    assert {item.patient_id for item in items_of("siim", siim_raw).values()} == {None}


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("image", "boxes", "box", "train_image_level.csv: header: found columns id, box, label"),
        ("image", "a2_image", "a2", "train_image_level.csv:3: id: found 'a2', expected an id that ends in '_image'"),
        ("image", "a2_image", "a1_image", "train_image_level.csv:3: id: found a1_image again"),
        ("image", "a2_image", "../a2_image", "train_image_level.csv:3: id: found '../a2', expected an id of A-Z"),
        ("image", ",s2", ",s9", "train_image_level.csv:4: StudyInstanceUID: found 's9', expected a study of"),
        ("image", ",s2", ",s3", "train_image_level.csv:4: StudyInstanceUID: found s3, expected s2 as in train_meta"),
        ("image", "[{'x': 10.5", "{'x': 10.5", "train_image_level.csv:2: boxes: found"),
        ("image", "'x': 10.5", "'x': nan", "train_image_level.csv:2: boxes: found"),
        ("image", "'x': 10.5", "'x': '10'", "train_image_level.csv:2: boxes, box 1: found {'x': '10'"),
        ("image", "'width': 15", "'w': 15", "train_image_level.csv:2: boxes, box 2: found"),
        ("image", "none 1 0 0 1 1,s2", "none 1 0 0 1 1", "train_image_level.csv:4: row: found 3 cells, expected 4"),
        ("study", "0,1,0,0", "0,2,0,0", "train_study_level.csv:2: Typical Appearance: found '2', expected 0 or 1"),
        ("study", "0,1,0,0", "0,1,1,0", "train_study_level.csv:2: labels: found 0 1 1 0, expected exactly one 1"),
        ("study", "s2_study", "s1_study", "train_study_level.csv:3: id: found s1_study again"),
        ("meta", "b1", "a1", "train_meta.csv:4: imageid: found a1 again"),
    ],
)
def test_broken_siim_tables(siim_raw, change, file, old, new, complaint):
    name = "train_meta.csv" if file == "meta" else f"train_{file}_level.csv"
    change(siim_raw / name, old, new)
    assert complaint_of("siim", siim_raw).startswith(complaint)


def test_one_study_of_two_patients_is_refused(siim_raw, change):
    change(siim_raw / "train_meta.csv", "p1,s1,r2", "p2,s1,r2")
    assert complaint_of("siim", siim_raw) == "train_meta.csv:3: patientid: found p2, expected p1 as before"


def test_rsna(rsna_raw):
    items = items_of("rsna", rsna_raw)
    assert [(i.image_id, i.study_id, i.patient_id) for i in items.values()] == [
        ("n1", "n1", "00000007"),
        ("n2", "n2", "00000007"),
        ("n3", "n3", "n3"),
    ]
    assert items["n2"].xyxy.tolist() == [[100, 200, 400, 600], [600, 200, 728, 328]]
    assert [item.labels.tolist() for item in items.values()] == [[0], [1], [0]]
    assert items["n2"].columns == {"class": "Lung Opacity", "nih_image": "00000007_003"}
    assert items["n3"].columns == {"class": "No Lung Opacity / Not Normal", "nih_image": ""}


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("labels", "Target", "target", "stage_2_train_labels.csv: header: found columns patientId, x, y"),
        ("labels", "400,1", "400,2", "stage_2_train_labels.csv:3: Target: found '2', expected 0 or 1"),
        ("labels", "100,", "ten,", "stage_2_train_labels.csv:3: x: found 'ten', expected a number"),
        (
            "labels",
            "n1,,,,,0",
            "n1,1,,,,0",
            "stage_2_train_labels.csv:2: x: found 1, expected no box where Target is 0",
        ),
        ("labels", "n3,,,,,0", "n1,,,,,0", "stage_2_train_labels.csv:5: patientId: found n1 again, Target 0"),
        ("labels", "n3,,,,,0", "n2,,,,,0", "stage_2_train_labels.csv:5: patientId: found n2 again, Target 0"),
        ("labels", "n2,600", "n1,600", "stage_2_train_labels.csv:4: patientId: found n1 again, Target 1"),
        ("labels", "n3", "n4", "stage_2_train_labels.csv:5: patientId: found 'n4', expected an id of stage_2_det"),
        ("detailed_class_info", "Normal", "normal", "stage_2_detailed_class_info.csv:2: class: found 'normal'"),
        ("detailed_class_info", "n3", "n2", "stage_2_detailed_class_info.csv:5: class: found 'No Lung Opacity"),
    ],
)
def test_broken_rsna_tables(rsna_raw, change, file, old, new, complaint):
    change(rsna_raw / f"stage_2_{'train_' if file == 'labels' else ''}{file}.csv", old, new)
    assert complaint_of("rsna", rsna_raw).startswith(complaint)


def test_nih(nih_raw):
    items = items_of("nih", nih_raw)
    assert [item.patient_id for item in items.values()][:3] == ["00000001", "00000001", "00000002"]
    first, last = items["00000001_000"], items["00000004_000"]
    assert [NIH_FINDINGS.names[i] for i in np.flatnonzero(first.labels)] == ["Cardiomegaly", "Emphysema"]
    assert items["00000002_000"].labels.tolist() == [0] * 14
    assert first.columns == {"view": "PA", "age": "58", "gender": "M", "follow_up": "0"}
    assert last.xyxy.tolist() == [[100.5, 200, 400.5, 600], [512, 512, 576, 544]]
    assert [BOX_CLASSES.names[i] for i in last.class_ids] == ["Infiltration", "Mass"]
    assert last.repairs == (("00000004_000", "box 1 label", "Infiltrate", "Infiltration"),)
    assert [item.official for item in items.values()] == ["train_val"] * 5 + ["test"]


def test_nih_edition_of_2017_with_crlf_marks_and_ages_in_units(nih_raw):
    (nih_raw / "Data_Entry_2017_v2020.csv").unlink()
    (nih_raw / "Data_Entry_2017.csv").write_bytes(
        b"\xef\xbb\xbfImage Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        b"OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\r\n"
        b"00000001_000.png,Hernia,000,00001,058Y,M,PA,2682,2749,0.143,0.143,\r\n"
        b"00000002_000.png,No Finding,000,00002,011M,M,PA,2682,2749,0.143,0.143,\r\n"
        b"00000004_000.png,Mass,000,00004,013D,M,PA,2682,2749,0.143,0.143,\r\n"
    )
    assert [item.columns["age"] for item in items_of("nih", nih_raw).values()] == ["58", "0", "0"]


def test_nih_without_official_lists(nih_raw):
    for name in ("train_val_list.txt", "test_list.txt", "BBox_List_2017.csv"):
        (nih_raw / name).unlink()
    items = items_of("nih", nih_raw)
    assert {item.official for item in items.values()} == {None}
    assert sum(len(item.xyxy) for item in items.values()) == 0


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("Data_Entry_2017_v2020.csv", "No Finding", "No finding", ":3: Finding Labels: found 'No finding'"),
        ("Data_Entry_2017_v2020.csv", "Hernia,", "Hernia|No Finding,", ":5: Finding Labels: found 'Hernia|No Finding'"),
        ("Data_Entry_2017_v2020.csv", "0,2,81", "0,3,81", ":4: Patient ID: found '3', expected 00000002"),
        ("Data_Entry_2017_v2020.csv", ",81,", ",old,", ":4: Patient Age: found 'old'"),
        ("Data_Entry_2017_v2020.csv", "00000001_001", "00000001_000", ":3: Image Index: found 00000001_000.png again"),
        ("Data_Entry_2017_v2020.csv", "00000004_000.png,", "00000004_000,", ":7: Image Index: found '00000004_000'"),
        ("Data_Entry_2017_v2020.csv", "00000001_001", "00000001_009", ":3: Image Index: found 00000001_009.png, exp"),
        ("BBox_List_2017.csv", "Infiltrate", "Fog", ":2: Finding Label: found 'Fog', expected Atelectasis or"),
        ("BBox_List_2017.csv", "100.5", "wide", ":2: Bbox [x: found 'wide', expected a number"),
        ("BBox_List_2017.csv", "00000004_000", "00000009_000", ":2: Image Index: found 00000009_000.png, expected an"),
        ("test_list.txt", "00000004_000", "00000003_001", ":1: image: found 00000003_001.png again"),
        ("test_list.txt", "00000004_000", "00000003_002", ":1: image: found 00000003_002.png, expected a patient of"),
    ],
)
def test_broken_nih_tables(nih_raw, change, file, old, new, complaint):
    change(nih_raw / file, old, new)
    assert complaint_of("nih", nih_raw).startswith(file + complaint)


@pytest.mark.parametrize(
    ("name", "file"),
    [("siim", "train_image_level.csv"), ("rsna", "stage_2_train_labels.csv"), ("nih", "Data_Entry_2017_v2020.csv")],
)
def test_a_missing_label_table_is_named(request, name, file):
    raw = request.getfixturevalue(f"{name}_raw")
    (raw / file).unlink()
    assert complaint_of(name, raw) == f"{file}: file: found nothing there, expected a CSV file"


def test_one_official_list_alone_is_refused(nih_raw):
    (nih_raw / "test_list.txt").unlink()
    assert complaint_of("nih", nih_raw).startswith("test_list.txt: file: found nothing there, expected both")
