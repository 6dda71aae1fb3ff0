"""The raw trees of phantoms: the files, columns and kinds of DICOM that the three challenges ship."""

import ast
import csv
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest

from siimdet.data.phantom_trees import STUDY_COLUMNS, write_nih, write_rsna, write_siim
from siimdet.imaging.dicom import read_header_ids, read_radiograph
from siimdet.imaging.grayscale import to_grey
from siimdet.imaging.png import read_grey

PATIENTS, TEST_PATIENTS = 44, 2


def table(path: Path) -> tuple[list[str], list[list[str]]]:
    with open(path, newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    return header, rows


def digest(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def siim(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("siim")
    write_siim(root, patients=PATIENTS, test_patients=TEST_PATIENTS, seed=0)
    return root


@pytest.fixture(scope="module")
def rsna(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("rsna")
    write_rsna(root, images=8, test_images=2, seed=0)
    return root


@pytest.fixture(scope="module")
def nih(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("nih")
    write_nih(root, images=18, seed=0)
    return root


def test_siim_has_the_challenges_files(siim):
    assert sorted(path.name for path in siim.iterdir()) == [
        *("sample_submission.csv", "test", "train", "train_image_level.csv", "train_study_level.csv")
    ]
    header, images = table(siim / "train_image_level.csv")
    assert header == ["id", "boxes", "label", "StudyInstanceUID"]
    header, studies = table(siim / "train_study_level.csv")
    assert header == ["id", *STUDY_COLUMNS.values()]
    assert all(sorted(row[1:]) == ["0", "0", "0", "1"] for row in studies)
    on_disk = {p.stem: p.parts[-3] for p in (siim / "train").glob("*/*/*.dcm")}
    assert on_disk == {row[0].removesuffix("_image"): row[3] for row in images}
    assert {f"{study}_study" for study in on_disk.values()} == {row[0] for row in studies}


def test_siim_sample_covers_the_test_folder_alone(siim):
    header, rows = table(siim / "sample_submission.csv")
    assert header == ["id", "PredictionString"]
    test = list((siim / "test").glob("*/*/*.dcm"))
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), key=lambda i: i.endswith("_image"))
    assert {row[0] for row in rows} == {f"{p.stem}_image" for p in test} | {f"{p.parts[-3]}_study" for p in test}
    assert {row[1] for row in rows} == {"negative 1 0 0 1 1", "none 1 0 0 1 1"}


def test_siim_boxes_and_labels_say_the_same_and_lie_inside(siim):
    _, rows = table(siim / "train_image_level.csv")
    boxed = 0
    for image_id, cell, label, study in rows:
        if not cell:
            assert label == "none 1 0 0 1 1"
            continue
        words = label.split()
        assert words[::6] == ["opacity"] * (len(words) // 6)
        corners = np.array(words, object).reshape(-1, 6)[:, 2:].astype(float)
        boxes = np.array([[b["x"], b["y"], b["width"], b["height"]] for b in ast.literal_eval(cell)])
        assert np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1) == pytest.approx(corners, abs=2e-5)
        (path,) = (siim / "train" / study).glob(f"*/{image_id.removesuffix('_image')}.dcm")
        height, width = read_radiograph(path).pixels.shape
        assert (corners >= 0).all()
        assert (corners <= [width, height, width, height]).all()
        boxed += 1
    assert 0 < boxed < len(rows)


def test_siim_studies_have_boxes_on_one_image_at_most_and_none_when_negative(siim):
    _, images = table(siim / "train_image_level.csv")
    _, studies = table(siim / "train_study_level.csv")
    negative = {row[0].removesuffix("_study") for row in studies if row[1] == "1"}
    boxed = Counter(study for _, cell, _, study in images if cell)
    assert max(boxed.values()) == 1
    assert not negative & set(boxed)
    per_study = Counter(row[3] for row in images)
    assert set(per_study.values()) == {1, 2}


def test_siim_patients_have_several_studies_and_never_straddle_train_and_test(siim):
    patients: dict[str, dict[str, set[str]]] = {"train": {}, "test": {}}
    for folder, known in patients.items():
        for path in (siim / folder).glob("*/*/*.dcm"):
            ids = read_header_ids(path)
            known.setdefault(ids.patient_id, set()).add(ids.study_uid)
            assert ids.study_uid == f"2.25.{int(path.parts[-3], 16)}"
            assert ids.series_uid == f"2.25.{int(path.parts[-2], 16)}"
            assert ids.sop_uid == f"2.25.{int(path.stem, 16)}"
    assert (len(patients["train"]), len(patients["test"])) == (PATIENTS, TEST_PATIENTS)
    assert not set(patients["train"]) & set(patients["test"])
    assert max(map(len, patients["train"].values())) > 1


def test_siim_has_every_kind_of_dicom_and_each_decodes(siim):
    kinds: dict[str, set] = {"photometric": set(), "bits": set(), "syntax": set(), "shown": set()}
    for path in siim.rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        kinds["photometric"].add(header.PhotometricInterpretation)
        kinds["bits"].add(header.BitsStored)
        kinds["syntax"].add(header.file_meta.TransferSyntaxUID.name)
        kinds["shown"].add("lut" if "VOILUTSequence" in header else "window" if "WindowWidth" in header else "none")
        grey = to_grey(read_radiograph(path))
        assert grey.shape == (header.Rows, header.Columns)
        # Bright in the middle (spine), dark in the upper corners (air), whatever the file stores.
        height, width = grey.shape
        corner = grey[: height // 12, : width // 30].mean()
        assert corner + 40 < grey[:, int(0.46 * width) : int(0.54 * width)].mean()
    assert kinds == {
        "photometric": {"MONOCHROME1", "MONOCHROME2"},
        "bits": {8, 12, 16},
        "syntax": {
            *("Explicit VR Little Endian", "Implicit VR Little Endian", "RLE Lossless"),
            "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])",
        },
        "shown": {"window", "lut", "none"},
    }


def test_siim_look_up_tables_cover_every_stored_value(siim):
    found = 0
    for path in siim.rglob("*.dcm"):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        if "VOILUTSequence" in header:
            entries, first, _ = header.VOILUTSequence[0].LUTDescriptor
            assert (entries or 65536, first) == (2**header.BitsStored, 0)
            found += 1
    assert found


def test_rsna_has_the_challenges_files(rsna):
    assert sorted(path.name for path in rsna.iterdir()) == [
        *("stage_2_detailed_class_info.csv", "stage_2_sample_submission.csv", "stage_2_test_images"),
        *("stage_2_train_images", "stage_2_train_labels.csv"),
    ]
    header, labels = table(rsna / "stage_2_train_labels.csv")
    assert header == ["patientId", "x", "y", "width", "height", "Target"]
    header, details = table(rsna / "stage_2_detailed_class_info.csv")
    assert header == ["patientId", "class"]
    assert [row[0] for row in labels] == [row[0] for row in details]
    for (_, *box, target), (_, name) in zip(labels, details, strict=True):
        assert (target == "1") == (name == "Lung Opacity")
        if target == "1":
            x, y, width, height = map(float, box)
            assert min(x, y) >= 0
            assert min(width, height) > 0
            assert max(x + width, y + height) <= 1024
        else:
            assert box == [""] * 4
            assert name in ("Normal", "No Lung Opacity / Not Normal")
    train = {path.stem for path in (rsna / "stage_2_train_images").iterdir()}
    assert train == {row[0] for row in labels}
    header, sample = table(rsna / "stage_2_sample_submission.csv")
    assert header == ["patientId", "PredictionString"]
    assert {row[0] for row in sample} == {path.stem for path in (rsna / "stage_2_test_images").iterdir()}


def test_rsna_images_are_baseline_jpeg_of_1024_pixels_and_8_bits(rsna):
    paths = list(rsna.rglob("*.dcm"))
    assert len(paths) == 10
    for path in paths:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert header.file_meta.TransferSyntaxUID == pydicom.uid.JPEGBaseline8Bit
        assert (header.Rows, header.Columns, header.BitsStored) == (1024, 1024, 8)
        assert header.PatientID == path.stem
        radiograph = read_radiograph(path)
        assert radiograph.pixels.std() > 20


def test_nih_has_the_challenges_files(nih):
    assert sorted(path.name for path in nih.iterdir()) == [
        *("BBox_List_2017.csv", "Data_Entry_2017_v2020.csv", "images_001", "test_list.txt", "train_val_list.txt")
    ]
    header, entries = table(nih / "Data_Entry_2017_v2020.csv")
    assert ",".join(header) == (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
    )
    names = [row[0] for row in entries]
    assert {path.name for path in (nih / "images_001" / "images").iterdir()} == set(names)
    assert all(int(row[0][:8]) == int(row[3]) and int(row[0][9:12]) == int(row[2]) for row in entries)
    for row in entries:
        assert "No Finding" not in row[1] or row[1] == "No Finding"
    official = [set((nih / name).read_text().split()) for name in ("train_val_list.txt", "test_list.txt")]
    assert official[0] | official[1] == set(names)
    assert not {n[:8] for n in official[0]} & {n[:8] for n in official[1]}
    assert len(set(names)) == 18 > len({name[:8] for name in names})


def test_nih_boxes_are_of_test_images_and_their_findings(nih):
    header, rows = table(nih / "BBox_List_2017.csv")
    assert ",".join(header) == "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    labels = {row[0]: row[1].split("|") for row in table(nih / "Data_Entry_2017_v2020.csv")[1]}
    test = set((nih / "test_list.txt").read_text().split())
    assert rows
    for name, label, x, y, width, height, *rest in rows:
        assert name in test
        assert {"Infiltrate": "Infiltration"}.get(label, label) in labels[name]
        assert rest == ["", "", ""]
        assert 0 <= float(x) < float(x) + float(width) <= 1024
        assert 0 <= float(y) < float(y) + float(height) <= 1024


def test_nih_images_are_grey_png_of_1024_pixels(nih):
    for path in (nih / "images_001" / "images").iterdir():
        image = read_grey(path)
        assert (image.shape, image.dtype) == ((1024, 1024), np.uint8)


@pytest.mark.parametrize(
    ("write", "options"),
    [
        (write_siim, {"patients": 3, "test_patients": 1}),
        (write_rsna, {"images": 2, "test_images": 1}),
        (write_nih, {"images": 3}),
    ],
    ids=["siim", "rsna", "nih"],
)
def test_the_same_seed_writes_the_same_bytes_with_any_number_of_workers(tmp_path, write, options):
    for name, more in (("one", {"seed": 5}), ("two", {"seed": 5, "workers": 2}), ("other", {"seed": 6})):
        write(tmp_path / name, **options, **more)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    assert digest(tmp_path / "one") != digest(tmp_path / "other")
