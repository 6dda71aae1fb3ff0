"""The raw tree of phantom CT slices: the folders of MIA-COV19D, lesions in COVID scans alone, and its two faults."""

import numpy as np

from siimdet.data.phantom_slices import SIDE, write_mia_cov19d
from siimdet.imaging.png import read_grey


def tree(root) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_tree_has_parts_classes_and_scans(tmp_path):
    write_mia_cov19d(tmp_path, patients=3, slices=4)
    found = tree(tmp_path)
    scans = [f"train/{label}/ct_scan_{scan}" for label in ("covid", "non-covid") for scan in range(3)]
    scans += [f"validation/{label}/ct_scan_{scan}" for label in ("covid", "non-covid") for scan in range(2)]
    slices = {f"{scan}/{number}.jpg" for scan in scans for number in range(4)}
    assert set(found) == slices | {f"{scan}/._0.jpg" for scan in scans} | {"train/covid/ct_scan_0/4.jpg"}
    assert {len(found[f"{scan}/._0.jpg"]) for scan in scans} == {4096}
    assert {read_grey(tmp_path / place).shape for place in slices} == {(SIDE, SIDE)}


def test_one_slice_is_all_black(tmp_path):
    write_mia_cov19d(tmp_path, patients=2, slices=3)
    black = [place for place in tmp_path.rglob("[0-9].jpg") if read_grey(place).max() == 0]
    assert black == [tmp_path / "train" / "covid" / "ct_scan_0" / "3.jpg"]


def test_lungs_of_covid_scans_are_brighter_below_the_apex(tmp_path):
    write_mia_cov19d(tmp_path, patients=6, slices=4)

    def lungs(label: str, number: int) -> list[float]:
        """Mean grey at the back of both lungs, a figure per scan."""
        images = [read_grey(tmp_path / "train" / label / f"ct_scan_{scan}" / f"{number}.jpg") for scan in range(6)]
        return [float(np.mean([image[64:76, 34:44], image[64:76, 84:94]])) for image in images]

    for number in range(3):
        assert min(lungs("covid", number)) > max(lungs("non-covid", number)) + 10
    assert abs(np.mean(lungs("covid", 3)) - np.mean(lungs("non-covid", 3))) < 5


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        write_mia_cov19d(tmp_path / name, patients=2, slices=2, seed=seed)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert tree(tmp_path / "one") != tree(tmp_path / "other")
