"""Small data sets of real images that the tests of recipes share: copies of a few raw files, converted."""

import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from siimdet.cli import run


def cut(path: Path, to: Path, count: int) -> list[str]:
    """Write the first rows of a list, and return them."""
    lines = [line for line in path.read_text().split("\n") if line][:count]
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text("\n".join(lines) + "\n")
    return lines


def copy(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)


def convert(source: str, root: Path) -> Path:
    arguments = ("convert", source, "--raw", root / "raw", "--out", root / "data", "--workers", 1, "--image-size", 96)
    assert run([str(argument) for argument in arguments]) == 0
    return root / "data"


@pytest.fixture(scope="session")
def covid_ct(shared_data, tmp_path_factory) -> Path:
    """COVID-CT: 12 slices of each class to train on, 6 to validate."""
    root, raw = tmp_path_factory.mktemp("covid-ct"), shared_data / "covid_ct"
    for label in ("COVID", "NonCOVID"):
        for part, count in (("train", 12), ("val", 6)):
            place = f"Data-split/{label}/{part}CT_{label}.txt"
            for name in cut(raw / place, root / "raw" / place, count):
                copy(raw / "Images" / f"CT_{label}" / name, root / "raw" / "Images" / f"CT_{label}" / name)
    return convert("covid-ct", root)


@pytest.fixture(scope="session")
def cxr3(shared_data, tmp_path_factory) -> Path:
    """Folders of three classes, 16 radiographs each."""
    root = tmp_path_factory.mktemp("cxr3")
    for folder in ("normal", "infected_covid", "infected_non_covid"):
        for path in sorted((shared_data / "cxr3" / folder).iterdir())[:16]:
            copy(path, root / "raw" / folder / path.name)
    return convert("folders", root)


@pytest.fixture(scope="session")
def covidx(shared_data, tmp_path_factory) -> Path:
    """COVIDx: 16 radiographs of each class in its training list, and the first 8 rows of its test list."""
    root, raw = tmp_path_factory.mktemp("covidx"), shared_data / "covidx"
    rows = defaultdict(list)
    for line in (raw / "train_COVIDx7A.txt").read_text().splitlines():
        rows[line.split()[-2]].append(line)
    chosen = {"train": [line for label in sorted(rows) for line in rows[label][:16]]}
    chosen["test"] = (raw / "test_COVIDx7A.txt").read_text().splitlines()[:8]
    for part, lines in chosen.items():
        for line in lines:
            copy(raw / "data" / part / line.split()[1], root / "raw" / "data" / part / line.split()[1])
        (root / "raw" / f"{part}_COVIDx7A.txt").write_text("\n".join(lines) + "\n")
    return convert("covidx", root)


@pytest.fixture(scope="session")
def nih(shared_data, tmp_path_factory) -> Path:
    """NIH: 40 radiographs of the official lists, with their rows alone."""
    root, raw = tmp_path_factory.mktemp("nih"), shared_data / "nih"
    names = sorted(path.name for path in (raw / "images").iterdir())[:40]
    stems = {Path(name).stem for name in names}
    for name in names:
        copy(raw / "images" / name, root / "raw" / "images" / name)
    for table in ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv", "train_val_list.txt", "test_list.txt"):
        lines = (raw / table).read_text().splitlines()
        kept = [line for line in lines if line.split(",")[0].removesuffix(".png") in stems]
        (root / "raw" / table).write_text("\n".join(lines[:1] * table.endswith("csv") + kept) + "\n")
    return convert("nih", root)
