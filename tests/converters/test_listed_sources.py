"""COVIDx and COVID-CT: lists of images as the authors ship them, and every way in which they can be wrong."""

from pathlib import Path

import pytest

from converters import SOURCES
from converters.run import convert


def lists(raw: Path, **texts: str) -> Path:
    for name, text in texts.items():
        path = raw / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return raw


TRAIN = "3 fig8a.day0.png pneumonia cohen\nCOVID 1 COVID(1).png COVID-19 sirm\n7 my film.png normal fig1\n"
TEST = "8 fig5.png pneumonia\nANON45 CR.1.2.png COVID-19 actmed\n"


@pytest.fixture
def covidx(tmp_path, pictures) -> Path:
    """Blanks in a patient, as one origin has them, and in a file's name; a row without its origin."""
    raw = lists(tmp_path / "raw", train_COVIDx7A=TRAIN, test_COVIDx7A=TEST)
    train = [f"data/train/{name}.png" for name in ("fig8a.day0", "COVID(1)", "my film")]
    return pictures(raw, *train, "data/test/fig5.png", "data/test/CR.1.2.png")


COVIDX_ROWS = {
    "data/train/fig8a.day0.png": ("fig8a.day0", "pneumonia", "train_val"),
    "data/train/COVID(1).png": ("COVID_1_", "COVID-19", "train_val"),
    "data/train/my film.png": ("my_film", "normal", "train_val"),
    "data/test/fig5.png": ("fig5", "pneumonia", "test"),
    "data/test/CR.1.2.png": ("CR.1.2", "COVID-19", "test"),
}


def test_covidx(covidx, read):
    assert read("covidx", covidx) == COVIDX_ROWS
    items = {item.image_id: item for item in SOURCES["covidx"].read(covidx).items}
    assert {name: (item.patient_id, item.columns["origin"]) for name, item in items.items()} == {
        "fig8a.day0": ("3", "cohen"),
        "COVID_1_": ("COVID_1", "sirm"),
        "my_film": ("7", "fig1"),
        "fig5": ("8", ""),
        "CR.1.2": ("ANON45", "actmed"),
    }
    assert items["COVID_1_"].repairs == (
        ("COVID_1_", "image_id", "COVID(1)", "COVID_1_"),
        ("COVID_1_", "patient_id", "COVID 1", "COVID_1"),
    )


def test_covidx_lists_with_marks_crlf_and_trailing_blanks(covidx, read):
    for name, text in (("train", TRAIN), ("test", TEST)):
        (covidx / f"{name}_COVIDx7A.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "  \r\n").encode() + b"\r\n")
    assert read("covidx", covidx) == COVIDX_ROWS


def test_covidx_in_the_repository_has_the_lists_of_all_versions(covidx, read):
    (covidx / "labels").mkdir()
    for name in ("train", "test"):
        (covidx / f"{name}_COVIDx7A.txt").rename(covidx / "labels" / f"{name}_COVIDx7A.txt")
        (covidx / "labels" / f"{name}_COVIDx8A.txt").write_text("1 other.png normal rsna\n")
    (covidx / "labels" / "train_COVIDx5.txt").write_text("1 other.png normal\n")
    assert read("covidx", covidx) == COVIDX_ROWS


def test_a_row_of_covidx_that_stands_twice_counts_once(covidx, read):
    (covidx / "train_COVIDx7A.txt").write_text(TRAIN + TRAIN.splitlines()[0] + "\n")
    assert read("covidx", covidx) == COVIDX_ROWS
    repairs = [repair for item in SOURCES["covidx"].read(covidx).items for repair in item.repairs]
    assert ("fig8a.day0", "line 4", "the same row", "") in repairs


def test_a_file_of_covidx_that_is_not_there_is_named(covidx, tmp_path, rows_of):
    (covidx / "data" / "train" / "COVID(1).png").unlink()
    assert convert(SOURCES["covidx"], covidx, tmp_path / "out", workers=1).failures == 1
    reason = "image file: found none, expected data/train/COVID(1).png"
    assert rows_of(tmp_path / "out" / "failures.csv") == [["COVID_1_", "data/train/COVID(1).png", reason]]
    assert convert(SOURCES["covidx"], covidx, tmp_path / "out", workers=1, present_only=True).failures == 0


@pytest.mark.parametrize(
    ("train", "complaint"),
    [
        (
            "3 a.png\n",
            "train_COVIDx7A.txt:1: row: found '3 a.png', expected patientid filename class source, the class",
        ),
        ("3 a.png positive cohen\n", "train_COVIDx7A.txt:1: row: found '3 a.png positive cohen'"),
        ("\n3 ../../b.png normal x\n", "train_COVIDx7A.txt:2: filename: found '../../b.png', expected a path below"),
        ("3 x ../b.png normal x\n", "train_COVIDx7A.txt:1: filename: found '../b.png', expected a path below"),
        ("3 a.png normal x\n4 a.png normal x\n", "train_COVIDx7A.txt:2: filename: found a.png again"),
        ("3 a.png normal x\n3 a.png pneumonia x\n", "train_COVIDx7A.txt:2: filename: found a.png again"),
    ],
)
def test_broken_rows_of_covidx(covidx, train, complaint, complaint_of):
    (covidx / "train_COVIDx7A.txt").write_text(train)
    assert complaint_of("covidx", covidx).startswith(complaint)


def test_broken_lists_of_covidx(covidx, complaint_of):
    path = covidx / "train_COVIDx7A.txt"
    path.write_bytes("3 Gro\xdf.png normal x\n".encode("latin-1"))
    assert complaint_of("covidx", covidx) == "train_COVIDx7A.txt: encoding: found byte 0xdf, expected UTF-8 text"
    path.unlink()
    path.mkdir()
    assert complaint_of("covidx", covidx) == "train_COVIDx7A.txt: file: found Is a directory, expected a text file"
    path.rmdir()
    expected = "expected train_COVIDx7A.txt and test_COVIDx7A.txt"
    assert complaint_of("covidx", covidx) == f"lists: found no such pair, {expected}"
    for name in ("train_COVIDx8A", "test_COVIDx8A", "train_COVIDx8B", "test_COVIDx8B"):
        lists(covidx, **{name: TRAIN})
    assert complaint_of("covidx", covidx) == f"lists: found 8A and 8B, {expected}"
    lists(covidx / "labels", train_COVIDx8A=TRAIN)
    assert complaint_of("covidx", covidx).endswith("labels/train_COVIDx8A.txt, expected one list of that name")


@pytest.fixture
def covid_ct(tmp_path, pictures) -> Path:
    raw = tmp_path / "raw"
    lists(
        raw / "Data-split" / "COVID", trainCT_COVID="2020 a p1%0.png\n2020 a p1%1.png\n33.png\n", valCT_COVID="b.png\n"
    )
    lists(raw / "Data-split" / "NonCOVID", trainCT_NonCOVID="33%0.jpg\n", testCT_NonCOVID="b.png\n")
    covid = [f"Images/CT_COVID/{name}.png" for name in ("2020 a p1%0", "2020 a p1%1", "33", "b", "not listed")]
    return pictures(raw, *covid, "Images/CT_NonCOVID/33%0.jpg", "Images/CT_NonCOVID/b.png")


COVID_CT_ROWS = {
    "Images/CT_COVID/2020 a p1%0.png": ("2020_a_p1_0", "COVID", "train"),
    "Images/CT_COVID/2020 a p1%1.png": ("2020_a_p1_1", "COVID", "train"),
    "Images/CT_COVID/33.png": ("33", "COVID", "train"),
    "Images/CT_COVID/b.png": ("Images-CT_COVID-b", "COVID", "val"),
    "Images/CT_NonCOVID/33%0.jpg": ("33_0", "NonCOVID", "train"),
    "Images/CT_NonCOVID/b.png": ("Images-CT_NonCOVID-b", "NonCOVID", "test"),
}


def test_covid_ct(covid_ct, tmp_path, rows_of, read):
    assert read("covid-ct", covid_ct) == COVID_CT_ROWS
    patients = {item.image_id: item.patient_id for item in SOURCES["covid-ct"].read(covid_ct).items}
    assert patients["2020_a_p1_0"] == patients["2020_a_p1_1"] == "COVID-2020_a_p1_"
    assert len(set(patients.values())) == 5
    summary = convert(SOURCES["covid-ct"], covid_ct, tmp_path / "out", workers=1)
    assert {r.image_id: r.split for r in summary.dataset.records} == {
        image_id: part for image_id, _, part in COVID_CT_ROWS.values()
    }
    assert ["33_0", "image_id", "33%0", "33_0"] in rows_of(tmp_path / "out" / "repairs.csv")


def test_covid_ct_with_crlf_trailing_blanks_and_what_macos_adds(covid_ct, pictures, read):
    for path in covid_ct.rglob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b" \r\n"))
    pictures(covid_ct, "__MACOSX/Images/CT_COVID/b.png", "Images/CT_COVID/._b.png")
    lists(covid_ct / "__MACOSX" / "Data-split", trainCT_COVID="b.png\n")
    assert read("covid-ct", covid_ct) == COVID_CT_ROWS


def test_covid_ct_through_a_link(covid_ct, tmp_path, read):
    (covid_ct / "Data-split").rename(tmp_path / "elsewhere")
    (covid_ct / "Data-split").symlink_to(tmp_path / "elsewhere")
    assert read("covid-ct", covid_ct) == COVID_CT_ROWS


@pytest.mark.parametrize(
    ("part", "text", "complaint"),
    [
        ("COVID/valCT_COVID", "33.png\n", ":1: name: found 33.png again, expected every image once"),
        ("COVID/valCT_COVID", "\n../../secret.png\n", ":2: name: found '../../secret.png', expected a path below"),
        ("COVID/valCT_COVID", "/etc/secret.png\n", ":1: name: found '/etc/secret.png', expected a path below"),
    ],
)
def test_broken_lists_of_covid_ct(covid_ct, part, text, complaint, complaint_of):
    lists(covid_ct / "Data-split", **{part: text})
    assert complaint_of("covid-ct", covid_ct).startswith(f"Data-split/{part}.txt{complaint}")


def test_what_covid_ct_cannot_do_without(covid_ct, tmp_path, pictures, complaint_of):
    expected = "expected lists such as trainCT_NonCOVID.txt"
    assert complaint_of("covid-ct", pictures(tmp_path / "bare", "a.png")) == f"Data-split: found no list, {expected}"
    pictures(covid_ct, "Images-processed/CT_COVID/33.png")
    complaint = "found Images/CT_COVID/33.png and Images-processed/CT_COVID/33.png, expected one file of that name"
    assert complaint_of("covid-ct", covid_ct) == f"Data-split/COVID/trainCT_COVID.txt:3: name: {complaint}"
    lists(covid_ct / "copy", trainCT_COVID="")
    assert complaint_of("covid-ct", covid_ct).startswith("trainCT_COVID.txt: found ")
    assert complaint_of("covid-ct", covid_ct).endswith("copy/trainCT_COVID.txt, expected one such list")


def test_a_listed_file_of_covid_ct_that_is_not_there_is_named(covid_ct, tmp_path, rows_of):
    lists(covid_ct / "Data-split", **{"COVID/valCT_COVID": "b.png\ngone (1).png\n"})
    convert(SOURCES["covid-ct"], covid_ct, tmp_path / "out", workers=1)
    reason = "image file: found none, expected CT_COVID/gone (1).png"
    assert rows_of(tmp_path / "out" / "failures.csv") == [["gone__1_", "CT_COVID/gone (1).png", reason]]
