"""Tiny raw trees, written as the challenges ship them; tests break them one cell at a time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from converters import SOURCES
from converters.run import convert
from siimdet.data.table import read_table
from siimdet.errors import SourceError
from siimdet.imaging.dicom_write import write_radiograph
from siimdet.imaging.png import write_png


def grey(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4096, (height, width), dtype=np.uint16)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def siim_raw(tmp_path) -> Path:
    """Three studies of two patients, four DICOM images: a1 and a2 in study s1, b1 in s2, c1 in s3."""
    raw = tmp_path / "siim"
    write_text(
        raw / "train_image_level.csv",
        "id,boxes,label,StudyInstanceUID\n"
        "a1_image,\"[{'x': 10.5, 'y': 20, 'width': 30, 'height': 40}, "
        "{'x': 60, 'y': 50, 'width': 15, 'height': 9.5}]\",opacity 1 10.5 20 40.5 60,s1\n"
        "a2_image,,none 1 0 0 1 1,s1\n"
        "b1_image,,none 1 0 0 1 1,s2\n"
        "c1_image,\"[{'x': -2.5, 'y': 5, 'width': 20, 'height': 90}]\",opacity 1 0 5 17.5 80,s3\n",
    )
    write_text(
        raw / "train_study_level.csv",
        "id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance\n"
        "s1_study,0,1,0,0\ns2_study,1,0,0,0\ns3_study,0,0,0,1\n",
    )
    write_text(
        raw / "train_meta.csv",
        "patientid,studyid,series_id,imageid,SeriesNumber,InstanceNumber\n"
        "p1,s1,r1,a1,1,1\np1,s1,r2,a2,1,1\np1,s2,r3,b1,1,1\np2,s3,r4,c1,1,1\n",
    )
    owners = {"a1": ("s1", "p1"), "a2": ("s1", "p1"), "b1": ("s2", "p1"), "c1": ("s3", "p2")}
    for seed, (image_id, (study_id, patient_id)) in enumerate(owners.items()):
        path = raw / "train" / study_id / f"series{seed}" / f"{image_id}.dcm"
        path.parent.mkdir(parents=True)
        write_radiograph(
            path,
            grey(100, 80, seed),
            patient_id=patient_id,
            study_uid=f"1.2.3.{seed}",
            series_uid=f"1.2.4.{seed}",
            sop_uid=f"1.2.5.{seed}",
            bits_stored=12,
        )
    return raw


@pytest.fixture
def rsna_raw(tmp_path) -> Path:
    """Three images as 64-pixel PNG copies; n1 and n2 are of one NIH patient, n2 has two boxes."""
    raw = tmp_path / "rsna"
    write_text(
        raw / "stage_2_train_labels.csv",
        "patientId,x,y,width,height,Target\nn1,,,,,0\nn2,100,200,300,400,1\nn2,600,200,128,128,1\nn3,,,,,0\n",
    )
    write_text(
        raw / "stage_2_detailed_class_info.csv",
        "patientId,class\nn1,Normal\nn2,Lung Opacity\nn2,Lung Opacity\nn3,No Lung Opacity / Not Normal\n",
    )
    write_text(raw / "rsna_to_nih.csv", "patientId,nih_image\nn1,00000007_000.png\nn2,00000007_003.png\n")
    for seed, image_id in enumerate(("n1", "n2", "n3")):
        write_png(raw / "stage_2_train_images" / f"{image_id}.png", (grey(64, 64, seed) >> 4).astype(np.uint8))
    return raw


@pytest.fixture
def nih_raw(tmp_path) -> Path:
    """Six images of four patients in two folders; 00000004_000 is in the test list and has two boxes."""
    raw = tmp_path / "nih"
    write_text(
        raw / "Data_Entry_2017_v2020.csv",
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
        "00000001_000.png,Cardiomegaly|Emphysema,0,1,58,M,PA,2682,2749,0.143,0.143\n"
        "00000001_001.png,No Finding,1,1,58,M,AP,2682,2749,0.143,0.143\n"
        "00000002_000.png,No Finding,0,2,81,M,PA,2500,2048,0.171,0.171\n"
        "00000003_000.png,Hernia,0,3,74,F,PA,2500,2048,0.168,0.168\n"
        "00000003_001.png,Hernia|Infiltration,1,3,75,F,PA,2500,2048,0.168,0.168\n"
        "00000004_000.png,Mass|Infiltration,0,4,40,F,AP,2500,2048,0.168,0.168\n",
    )
    write_text(
        raw / "BBox_List_2017.csv",
        "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
        "00000004_000.png,Infiltrate,100.5,200,300,400\n00000004_000.png,Mass,512,512,64,32\n",
    )
    write_text(
        raw / "train_val_list.txt",
        "00000001_000.png\n00000001_001.png\n00000002_000.png\n00000003_000.png\n00000003_001.png\n",
    )
    write_text(raw / "test_list.txt", "00000004_000.png")
    names = ("00000001_000", "00000001_001", "00000002_000", "00000003_000", "00000003_001", "00000004_000")
    for seed, name in enumerate(names):
        folder = raw / f"images_00{1 + seed // 3}" / "images"
        write_png(folder / f"{name}.png", (grey(128, 128, seed) >> 4).astype(np.uint8))
    return raw


@pytest.fixture
def change():
    """Replace one piece of a text file."""

    def replace(path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return replace


@pytest.fixture
def pictures() -> Callable[..., Path]:
    """Write small images, whatever their suffix says, and return their folder."""

    def write(raw: Path, *places: str) -> Path:
        for seed, place in enumerate(places):
            write_png(raw / place, grey(16, 12, seed).astype(np.uint8))
        return raw

    return write


@pytest.fixture
def read() -> Callable[[str, Path], dict]:
    """Image id, label and official part by path, of a source with one label per image."""

    def read_source(name: str, raw: Path) -> dict[str, tuple]:
        tables = SOURCES[name].read(raw)
        found = {}
        for item in tables.items:
            names = [name for name, value in zip(tables.labels.names, item.labels, strict=True) if value == 1]
            assert len(names) == (0 if np.isnan(item.labels).all() else 1)
            found[item.place] = (item.image_id, names[0] if names else None, item.official)
        return found

    return read_source


@pytest.fixture
def complaint_of(tmp_path) -> Callable[[str, Path], str]:
    """The one line that a conversion ends with, without the raw folder's path in front."""

    def complaint(name: str, raw: Path) -> str:
        with pytest.raises(SourceError) as caught:
            convert(SOURCES[name], raw, tmp_path / "out", workers=1)
        return str(caught.value).removeprefix(str(raw)).removeprefix("/").removeprefix(": ")

    return complaint


@pytest.fixture
def rows_of() -> Callable[[Path], list[list[str]]]:
    """The rows of a CSV file below its header."""
    return lambda path: list(read_table(path, (), kind=SourceError).rows)
