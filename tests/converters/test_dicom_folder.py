"""A plain folder of DICOM files: what counts as one, its ids, and what is refused by name."""

import os
from pathlib import Path

import numpy as np
import pytest

from converters import SOURCES
from converters.run import convert
from siimdet.core.types import ImageSize
from siimdet.data.dataset import scored_split
from siimdet.data.manifest import read_dataset
from siimdet.imaging.dicom import read_radiograph
from siimdet.imaging.dicom_write import write_radiograph
from siimdet.imaging.grayscale import to_grey
from siimdet.imaging.png import read_grey


def radiograph(path: Path, *, patient: str = "p1", study: str = "1.2.3", seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_radiograph(
        path,
        np.random.default_rng(seed).integers(0, 4096, (12, 16), dtype=np.uint16),
        patient_id=patient,
        study_uid=study,
        series_uid="1.2.4",
        sop_uid=f"1.2.5.{seed}",
        bits_stored=12,
    )
    return path


@pytest.fixture
def raw(tmp_path) -> Path:
    """Two studies of two patients, named in every way that files of discs and archives are."""
    raw = tmp_path / "raw"
    radiograph(raw / "DICOM" / "S1" / "IM0001")
    radiograph(raw / "DICOM" / "S2" / "IM0001", patient="p2", study="1.2.4", seed=1)
    radiograph(raw / "CT.dcm_LittleEndian_1.2.dcm", seed=2)
    radiograph(raw / "lung (1).IMA", seed=3)
    radiograph(raw / "1.2.840.5", seed=4)
    return raw


IDS = {
    "1.2.840.5": "1.2.840.5",
    "CT.dcm_LittleEndian_1.2.dcm": "CT.dcm_LittleEndian_1.2",
    "DICOM/S1/IM0001": "DICOM-S1-IM0001",
    "DICOM/S2/IM0001": "DICOM-S2-IM0001",
    "lung (1).IMA": "lung__1_",
}


def test_every_file_becomes_an_image_of_the_test_split(raw, tmp_path, rows_of):
    summary = convert(SOURCES["dicom"], raw, tmp_path / "out", workers=1)
    assert (summary.converted, summary.failures) == (5, 0)
    dataset = read_dataset(tmp_path / "out", check_files=True)
    assert {r.source["file"]: r.image_id for r in dataset.records} == IDS
    assert {r.split for r in dataset.records} == {scored_split(dataset)} == {"test"}
    assert (dataset.labels.names, dataset.classes.names) == ((), ())
    assert {r.image_id: (r.patient_id, r.study_id) for r in dataset.records} == {
        image_id: ("p2", "1.2.4") if "S2" in image_id else ("p1", "1.2.3") for image_id in IDS.values()
    }
    assert {(r.stored, r.original) for r in dataset.records} == {(ImageSize(16, 12), ImageSize(16, 12))}
    assert {(r.source["bits"], r.source["photometric"]) for r in dataset.records} == {("12", "MONOCHROME2")}
    expected = to_grey(read_radiograph(raw / "1.2.840.5"))
    np.testing.assert_array_equal(read_grey(tmp_path / "out" / "images" / "1.2.840.5.png"), expected)
    assert ["lung__1_", "image_id", "lung (1)", "lung__1_"] in rows_of(tmp_path / "out" / "repairs.csv")


def test_what_else_lies_on_a_disc_is_passed_over(raw):
    for name in ("DICOMDIR", "dicomdir", "viewer.exe", "Thumbs.db", "report.pdf", "a.png", "._IM0001", ".DS_Store"):
        (raw / name).write_bytes(b"no radiograph" * 20)
    (raw / "__MACOSX").mkdir()
    (raw / "__MACOSX" / "IM0001").write_bytes(b"x")
    (raw / "gone.5").symlink_to(raw / "nowhere")
    os.mkfifo(raw / "pipe.5")
    assert {item.place: item.image_id for item in SOURCES["dicom"].read(raw).items} == IDS


def test_what_claims_to_be_dicom_is_refused_by_name(raw, tmp_path, rows_of):
    whole = (raw / "1.2.840.5").read_bytes()
    (raw / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    (raw / "empty.DCM").write_bytes(b"")
    (raw / "README").write_text("no suffix, no radiograph")
    (raw / "gone.dcm").symlink_to(raw / "nowhere")
    (raw / "old").write_bytes(b"\x08\x00" + whole[400:])
    summary = convert(SOURCES["dicom"], raw, tmp_path / "out", workers=1)
    assert (summary.converted, summary.failures) == (5, 4)
    reasons = {row[1]: row[2] for row in rows_of(tmp_path / "out" / "failures.csv")}
    assert reasons["gone.dcm"] == "image file: found none, expected gone.dcm"
    assert reasons["empty.DCM"].startswith("file: found 0 bytes")
    assert {name for name, reason in reasons.items() if "expected" in reason} == {
        *("cut.dcm", "empty.DCM", "old", "gone.dcm")
    }


def test_hostile_and_missing_ids_of_the_header_are_mended(raw, tmp_path, rows_of):
    radiograph(raw / "a.dcm", patient="../../Müller^Eva", seed=5)
    radiograph(raw / "b.dcm", patient="", seed=6)
    records = convert(SOURCES["dicom"], raw, tmp_path / "out", workers=1).dataset.records
    patients = {r.image_id: r.patient_id for r in records}
    assert (patients["a"], patients["b"]) == ("_._.._M_ller_Eva", "1.2.3")
    repairs = rows_of(tmp_path / "out" / "repairs.csv")
    assert ["a", "patient_id", "../../Müller^Eva", patients["a"]] in repairs
    assert ["b", "patient_id", "", "1.2.3"] in repairs


def test_a_folder_without_dicom_is_one_clear_line(tmp_path, complaint_of):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.png").write_bytes(b"x")
    assert complaint_of("dicom", tmp_path / "raw") == "images: found none, expected DICOM files"


def test_a_name_that_is_not_utf8_is_one_clear_line(raw, complaint_of):
    (raw / "1.2.840.5").rename(raw / "Gro\udcdf.dcm")
    assert complaint_of("dicom", raw) == "file name: found 'Gro\\udcdf.dcm', expected UTF-8 without control characters"
