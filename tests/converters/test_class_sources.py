"""Folders that tell the classes, MIA-COV19D's scans among them: what is read of them as people have them on disk."""

import numpy as np
import pytest

from converters import SOURCES
from converters.patients import with_patients
from converters.run import convert
from siimdet.errors import UserError
from siimdet.imaging.png import write_png

SCANS = ("train/covid/ct_scan_0", "train/non-covid/ct_scan_0", "validation/covid/ct_scan_0")


def test_mia(tmp_path, pictures, read):
    slices = [f"{scan}/{number}.png" for scan in SCANS for number in (0, 2, 10)]
    raw = pictures(tmp_path / "raw", *slices, "test/subset1/ct_scan_9/0.png", "train/covid/ct_scan_0/._0.png")
    found = read("mia-cov19d", raw)
    assert found["train/covid/ct_scan_0/10.png"] == ("train-covid-ct_scan_0-0010", "covid", "train")
    assert found["train/non-covid/ct_scan_0/2.png"] == ("train-non-covid-ct_scan_0-0002", "non-covid", "train")
    assert found["validation/covid/ct_scan_0/0.png"] == ("validation-covid-ct_scan_0-0000", "covid", "val")
    assert found["test/subset1/ct_scan_9/0.png"] == ("test-subset1-ct_scan_9-0000", None, "test")
    assert len(found) == 10
    items = SOURCES["mia-cov19d"].read(raw).items
    assert [item.columns["slice"] for item in items[1:4]] == ["0", "2", "10"]
    assert {(item.study_id, item.patient_id) for item in items} == {
        (scan.replace("/", "-"),) * 2 for scan in (*SCANS, "test/subset1/ct_scan_9")
    }


@pytest.mark.parametrize(
    ("scan", "expected"),
    [
        ("train_cov19d/COVID/s1", ("covid", "train")),
        ("Training/non_covid/s1", ("non-covid", "train")),
        ("val/NonCOVID2/s1", ("non-covid", "val")),
        ("VALID/covid1/test_scan", ("covid", "val")),
        ("COVID-19/test/s1", (None, "test")),
        ("covid/s1", ("covid", None)),
        ("trained/covid/s1", ("covid", None)),
    ],
)
def test_folders_of_mia(tmp_path, scan, expected, pictures, read):
    raw = pictures(tmp_path / "raw", f"{scan}/0.png", "train/covid/s/0.png", "val/covid/s/0.png", "test/s/0.png")
    assert read("mia-cov19d", raw)[f"{scan}/0.png"][1:] == expected


@pytest.mark.parametrize(
    ("scans", "expected"),
    [
        (("train/covid/s1", "val/covid/s1"), {"train_test", "val"}),
        (("train/covid/s1", "test/s1"), {"train_val", "test"}),
        (("train/covid/s1",), {None}),
    ],
)
def test_parts_that_mia_lacks_are_divided_from_train(tmp_path, scans, expected, pictures, read):
    raw = pictures(tmp_path / "raw", *(f"{scan}/0.png" for scan in scans))
    assert {part for _, _, part in read("mia-cov19d", raw).values()} == expected


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        ("train/covid/s/first.png", "train/covid/s/first.png: name: found first.png, expected a slice number"),
        ("train/flu/s/0.png", "folders: found train/flu/s, expected PART/CLASS/SCAN/NUMBER.jpg, the class covid or"),
        ("covid/0.png", "folders: found covid, expected PART/CLASS/SCAN"),
        ("0.png", "folders: found images outside any, expected PART/CLASS/SCAN"),
        ("train/covid/s/IM-00.jpg", "slice: found train/covid/s/IM-00.jpg and train/covid/s/0.png, expected every"),
    ],
)
def test_what_mia_does_not_hold(tmp_path, place, complaint, pictures, complaint_of):
    raw = pictures(tmp_path / "raw", "train/covid/s/0.png", place)
    assert complaint_of("mia-cov19d", raw).startswith(complaint)


def test_black_slices_are_refused_by_name(tmp_path, pictures, rows_of):
    raw = pictures(tmp_path / "raw", *(f"{scan}/1.png" for scan in SCANS))
    write_png(raw / "train/covid/ct_scan_0/0.png", np.zeros((12, 16), np.uint8))
    assert convert(SOURCES["mia-cov19d"], raw, tmp_path / "out", workers=1).converted == 3
    reason = "pixels: found one grey level, expected an image of something"
    assert rows_of(tmp_path / "out" / "failures.csv") == [
        ["train-covid-ct_scan_0-0000", "train/covid/ct_scan_0/0.png", reason]
    ]


def test_class_folders(tmp_path, pictures, rows_of, read):
    raw = pictures(tmp_path / "raw", "COVID/a.png", "Viral Pneumonia/b (1).PNG", "Viral Pneumonia/deeper/c.JPEG")
    pictures(raw, "COVID/._a.png", "__MACOSX/COVID/a.png")
    for name in ("Thumbs.db", ".DS_Store", "COVID/notes.txt"):
        (raw / name).write_bytes(b"x")
    (raw / "Empty").mkdir()
    assert read("folders", raw) == {
        "COVID/a.png": ("a", "COVID", None),
        "Viral Pneumonia/b (1).PNG": ("b__1_", "Viral Pneumonia", None),
        "Viral Pneumonia/deeper/c.JPEG": ("c", "Viral Pneumonia", None),
    }
    summary = convert(SOURCES["folders"], raw, tmp_path / "out", workers=1)
    assert summary.dataset.labels.names == ("COVID", "Viral Pneumonia")
    assert [r.labels.tolist() for r in summary.dataset.records] == [[1, 0], [0, 1], [0, 1]]
    assert rows_of(tmp_path / "out" / "repairs.csv") == [["b__1_", "image_id", "b (1)", "b__1_"]]


def test_parts_of_chest_xray_pneumonia_are_official(tmp_path, pictures, complaint_of, read):
    names = ("train/NORMAL/IM-1.jpeg", "train/PNEUMONIA/person1_virus_6.jpeg", "val/NORMAL/NORMAL2-1.jpeg")
    raw = pictures(
        tmp_path / "raw", *(f"chest_xray/{name}" for name in (*names, "test/PNEUMONIA/person1_virus_7.jpeg"))
    )
    assert list(read("folders", raw).values()) == [
        ("IM-1", "NORMAL", "train"),
        ("NORMAL2-1", "NORMAL", "val"),
        ("person1_virus_6", "PNEUMONIA", "train"),
        ("person1_virus_7", "PNEUMONIA", "test"),
    ]
    # The archive as it came holds the set twice, one inside the other.
    pictures(raw / "chest_xray", "chest_xray/train/NORMAL/IM-1.jpeg")
    assert complaint_of("folders", raw) == (
        "folders: found test, train, val beside chest_xray, expected parts alone or classes alone"
    )


def test_masks_of_the_radiography_database_are_no_images(tmp_path, pictures, read):
    places = [f"{name}/{kind}/{name}-1.png" for name in ("COVID", "Viral Pneumonia") for kind in ("images", "masks")]
    raw = pictures(tmp_path / "raw", *(f"COVID-19_Radiography_Dataset/{place}" for place in places))
    assert list(read("folders", raw).values()) == [
        ("COVID-1", "COVID", None),
        ("Viral_Pneumonia-1", "Viral Pneumonia", None),
    ]


def test_images_directly_in_test_have_no_label(tmp_path, pictures, read):
    raw = pictures(tmp_path / "raw", "Train/A/1.png", "Train/B/2.png", "Test/3.png")
    assert read("folders", raw) == {
        "Train/A/1.png": ("1", "A", "train_val"),
        "Train/B/2.png": ("2", "B", "train_val"),
        "Test/3.png": ("3", None, "test"),
    }


def test_one_class_alone_is_a_class(tmp_path, pictures, read):
    assert read("folders", pictures(tmp_path / "a", "COVID/1.png"))["COVID/1.png"][1] == "COVID"
    assert read("folders", pictures(tmp_path / "b", "COVID/images/1.png"))["COVID/images/1.png"][1] == "COVID"


@pytest.mark.parametrize(
    ("places", "complaint"),
    [
        (("notes/readme.txt",), "images: found none, expected CLASS/image, or train/CLASS/image"),
        (("A/1.png", "sample.png"), "sample.png: folder: found an image outside any class, expected CLASS/image"),
        (("set/A/1.png", "set/B/1.png", "set/x.png"), "set/x.png: folder: found an image outside any class"),
        (("train/A/1.png", "train/x.png"), "train/x.png: folder: found an image outside any class"),
        (("A/train/1.png", "B/test/2.png"), "A/train/1.png: folder: found train below a class, expected PART/CLASS"),
        (("train/A/Test/1.png",), "train/A/Test/1.png: folder: found Test below a class, expected PART/CLASS/image"),
        (("train/A/1.png", "extra/A/2.png"), "folders: found train beside extra, expected parts alone or classes"),
        (("train/NORMAL/1.png", "val/Normal/2.png"), "classes: found NORMAL and Normal, expected names that differ"),
        (("split/1.png", "A/2.png"), "class: found 'split', a column of manifest.csv, expected another name"),
        (("path/1.png", "A/2.png"), "class: found 'path', a column of manifest.csv, expected another name"),
        (("file/1.png", "A/2.png"), "class: found 'file', a column of manifest.csv, expected another name"),
        (("bits/1.png", "A/2.png"), "class: found 'bits', a column of manifest.csv, expected another name"),
        (("A /1.png", "B/2.png"), "class: found 'A ', expected a name without blanks at its ends, on one line"),
        (("A/1\n.png", "B/2.png"), "file name: found 'A/1\\n.png', expected UTF-8 without control characters"),
    ],
)
def test_what_class_folders_do_not_hold(tmp_path, places, complaint, pictures, complaint_of):
    assert complaint_of("folders", pictures(tmp_path / "raw", *places)).startswith(complaint)


def test_a_name_that_is_not_utf8_is_one_clear_line(tmp_path, pictures, complaint_of):
    raw = pictures(tmp_path / "raw", "A/1.png", "B/2.png")
    (raw / "A" / "1.png").rename(raw / "A" / "Gro\udcdf.png")
    assert complaint_of("folders", raw) == (
        "file name: found 'A/Gro\\udcdf.png', expected UTF-8 without control characters"
    )


def test_names_that_files_share_are_told_apart(tmp_path, pictures, read):
    raw = pictures(tmp_path / "raw", "A/1.png", "B/1.png", "B/2.png", "A/x 1.png", "A/X_1.png")
    ids = {place: image_id for place, (image_id, _, _) in read("folders", raw).items()}
    assert (ids["A/1.png"], ids["B/1.png"], ids["B/2.png"]) == ("A-1", "B-1", "2")
    # The last two would still be one file where the file system ignores case.
    assert ids["A/x 1.png"].startswith("x_1.png-") and ids["A/X_1.png"].startswith("X_1.png-")
    assert len(set(ids.values())) == 5


def test_formats_that_are_not_read_are_refused_by_name_and_not_passed_over(tmp_path, pictures, rows_of):
    raw = pictures(tmp_path / "raw", "A/1.png", "B/2.jfif")
    (raw / "A" / "3.bmp").write_bytes(b"BM" + bytes(100))
    (raw / "B" / "4.png").write_bytes(b"RIFF\0\0\0\0WEBP")
    summary = convert(SOURCES["folders"], raw, tmp_path / "out", workers=1)
    assert [r.image_id for r in summary.dataset.records] == ["1", "2"]
    reasons = {row[1]: row[2] for row in rows_of(tmp_path / "out" / "failures.csv")}
    assert reasons["A/3.bmp"].startswith("file: found a file that starts with b'BM")
    assert reasons["B/4.png"].startswith("file: found a file that starts with b'RIFF")


def test_linked_folders_are_followed_and_loops_end(tmp_path, pictures, rows_of, read):
    pictures(tmp_path / "far", "1.png")
    raw = pictures(tmp_path / "raw", "B/2.png")
    (raw / "A").symlink_to(tmp_path / "far")
    (raw / "B" / "loop").symlink_to(raw)
    (raw / "B" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert read("folders", raw).keys() == {"A/1.png", "B/2.png", "B/gone.png"}
    convert(SOURCES["folders"], raw, tmp_path / "out", workers=1)
    assert [row[:2] for row in rows_of(tmp_path / "out" / "failures.csv")] == [["gone", "B/gone.png"]]


def test_other_peoples_dataset_json_is_no_data_set_of_ours(tmp_path, pictures, read):
    raw = pictures(tmp_path / "raw", "A/1.png", "B/2.png")
    (raw / "A" / "dataset.json").write_text("{}")
    assert len(read("folders", raw)) == 2
    convert(SOURCES["folders"], raw, raw / "out", workers=1)
    assert len(read("folders", raw)) == 2


def test_patients_by_a_pattern_of_names(tmp_path, pictures):
    names = ("A/00000007_000.png", "B/00000007_001.png", "A/00000008_000.png", "B/covid.png")
    raw = pictures(tmp_path / "raw", *names)
    source, tables = SOURCES["folders"], SOURCES["folders"].read(raw)
    for pattern in (r"^(\d{8})_\d{3}", r"^\d{8}", r"^(x)?(\d{8})_"):
        patients = {item.image_id: item.patient_id for item in with_patients(source, tables, pattern).items}
        assert patients == {
            "00000007_000": "00000007",
            "00000007_001": "00000007",
            "00000008_000": "00000008",
            "covid": "covid",
        }
    records = convert(source, raw, tmp_path / "out", workers=1, patient_pattern=r"^(\d{8})").dataset.records
    assert [r.patient_id for r in records] == ["00000007", "00000007", "00000008", "covid"]
    assert records[0].split == records[1].split


@pytest.mark.parametrize(
    ("name", "pattern", "complaint"),
    [
        (
            "folders",
            "(",
            "convert: --patient-pattern: found missing ), unterminated subpattern at position 0, expected a",
        ),
        ("folders", "zzz", "convert: --patient-pattern: found zzz, in no name, expected part of a name like 1.png"),
        ("folders", "^", "convert: --patient-pattern: found ^, in no name, expected part of a name like 1.png"),
        ("mia-cov19d", "1", "convert: --patient-pattern: found mia-cov19d, expected a source that names no patients"),
    ],
)
def test_patterns_that_cannot_be(tmp_path, name, pattern, complaint, pictures):
    raw = pictures(tmp_path / "raw", "train/covid/s/1.png", "train/non-covid/s/2.png")
    with pytest.raises(UserError) as caught:
        with_patients(SOURCES[name], SOURCES[name].read(raw), pattern)
    assert str(caught.value).startswith(complaint)
