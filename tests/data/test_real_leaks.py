"""The leak audit on real radiographs: RSNA's images are NIH's, with a list of which and without."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from converters import SOURCES
from converters.run import convert
from siimdet.core.types import ImageRecord, ImageSize
from siimdet.data.audit import audit
from siimdet.data.dataset import Dataset
from siimdet.data.prints import Prints, read_prints
from siimdet.data.same_images import copies_between, copies_within
from siimdet.data.table import read_table
from siimdet.errors import SourceError
from siimdet.imaging.png import read_grey, write_png

pytestmark = pytest.mark.real_data

TWICE_IN_NIH = ("00002658_001", "00002658_002")


@pytest.fixture(scope="module")
def nih(converted_nih) -> Dataset:
    return converted_nih.dataset


@pytest.fixture(scope="module")
def rsna(shared_data, tmp_path_factory) -> Dataset:
    """RSNA without the list of its NIH images."""
    raw = tmp_path_factory.mktemp("raw")
    for table in (shared_data / "rsna").glob("stage_2_*.csv"):
        shutil.copy(table, raw)
    (raw / "stage_2_train_images").symlink_to(shared_data / "rsna" / "stage_2_train_images")
    return convert(SOURCES["rsna"], raw, tmp_path_factory.mktemp("rsna"), present_only=True).dataset


@pytest.fixture(scope="module")
def listed(shared_data) -> dict[str, str]:
    table = read_table(shared_data / "rsna" / "rsna_to_nih.csv", ("patientId", "nih_image"), kind=SourceError)
    return {image_id: name.removesuffix(".png") for _, (image_id, name) in table.select("patientId", "nih_image")}


@pytest.fixture(scope="module")
def audited(rsna, nih):
    return audit(rsna, [nih])


def test_rsna_is_found_in_nih_by_pixels_alone(audited, listed):
    (other,) = audited["against"]
    assert other["patients"] == other["studies"] == other["mapped_images"] == []
    found = {(pair["left"], pair["right"]): pair["similarity"] for pair in other["same_images"]}
    twice = {(left, TWICE_IN_NIH[1]) for left, right in listed.items() if right == TWICE_IN_NIH[0]}
    same = set(listed.items()) | twice
    assert same <= found.keys() and len(listed) == 373
    assert min(found[pair] for pair in same) > 0.97
    others = {(listed[left], right) for left, right in found.keys() - same}
    assert others == {("00009507_002", "00009507_001")}, "another exposure of the patient"


def test_what_leaks_is_what_trains_here_and_evaluates_there(audited, rsna, nih, listed):
    here, there = ({record.image_id: record.split for record in each.records} for each in (rsna, nih))
    leaks = {left for left, right in listed.items() if (here[left] == "train") != (there[right] == "train")}
    found = {pair["left"] for pair in audited["against"][0]["same_images"] if pair["leak"]}
    assert found == leaks and leaks
    assert audited["within"]["same_images"] == []


@pytest.fixture(scope="module")
def with_list(shared_data, tmp_path_factory) -> Dataset:
    """RSNA with the list of its NIH images."""
    out = tmp_path_factory.mktemp("with_list")
    return convert(SOURCES["rsna"], shared_data / "rsna", out, present_only=True, image_size=256).dataset


@pytest.fixture(scope="module")
def audited_nih(nih, with_list):
    return audit(nih, [with_list])


def test_the_list_gives_the_images_and_patients_in_both_directions(with_list, nih, audited_nih, listed):
    (there,), (back,) = audit(with_list, [nih])["against"], audited_nih["against"]
    for other, step in ((there, 1), (back, -1)):
        pairs = {(pair["left"], pair["right"])[::step] for pair in other["mapped_images"]}
        assert pairs == set(listed.items())
        assert pairs <= {(pair["left"], pair["right"])[::step] for pair in other["same_images"]}
        assert {entry["patient_id"] for entry in other["patients"]} == {name[:8] for name in listed.values()}
        assert other["studies"] == []


TAKEN_AGAIN = {("00001568_001", "00001568_004"), ("00003426_008", "00003426_015"), ("00009507_001", "00009507_002")}


def test_nih_holds_one_image_twice_and_no_pair_of_different_patients(audited_nih):
    pairs = audited_nih["within"]["same_images"]
    assert [(pair["left"], pair["right"]) for pair in pairs if pair["identical"]] == [TWICE_IN_NIH]
    assert {(pair["left"], pair["right"]) for pair in pairs if not pair["identical"]} == TAKEN_AGAIN
    assert all(pair["patients"][0] == pair["patients"][1] for pair in pairs)


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))


def prints_of(paths: list[Path]) -> Prints:
    """Prints of image files where they lie."""
    root = Path(paths[0].anchor)
    shapes = [read_grey(path).shape for path in paths]
    sizes = [ImageSize(width, height) for height, width in shapes]
    places = [str(path.relative_to(root)) for path in paths]
    records = [
        ImageRecord(place, place, place, place, size, size, np.zeros(0, np.float32), "train")
        for place, size in zip(places, sizes, strict=True)
    ]
    return read_prints(root, records)


def never(_left: ImageRecord, _right: ImageRecord) -> bool:
    return False


def test_nih_images_under_their_names_elsewhere(shared_data):
    ours, theirs = files_in(shared_data / "nih" / "images"), files_in(shared_data / "cxr3")
    left, right = prints_of(ours), prints_of(theirs)
    found = {
        (ours[copy.left].stem, theirs[copy.right].stem)
        for copy in copies_between(left, right, copies_within(left, never), copies_within(right, never), never)
    }
    stems = {path.stem for path in ours}
    same = {(path.stem, path.stem) for path in theirs if path.stem in stems}
    assert same <= found and len(same) == 300
    assert {tuple(sorted(pair)) for pair in found - same} <= TAKEN_AGAIN


def test_other_crops_of_the_same_exposures_are_found(shared_data):
    """Two collections cropped the same figures of papers, each its own way, by up to a fifth of a side."""
    ours, theirs = files_in(shared_data / "lungs" / "images"), files_in(shared_data / "cxr3")
    left, right = prints_of(ours), prints_of(theirs)
    copies = copies_between(left, right, [], [], never)
    stems = {path.stem for path in ours} & {path.stem for path in theirs}
    found = {ours[copy.left].stem for copy in copies} & {theirs[copy.right].stem for copy in copies} & stems
    assert len(stems) == 78 and len(found) >= 50


def test_lungs_and_ct_slices_are_not_nih_images(shared_data):
    nih = prints_of(files_in(shared_data / "nih" / "images"))
    for others in ("lungs/images", "covid_ct/Images"):
        prints = prints_of(files_in(shared_data / others))
        assert copies_between(nih, prints, [], [], never) == []


def spoilt(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy as others publish it: cropped, windowed, another gamma, brightened, resized, compressed or inverted."""
    rows, columns = (round(length * rng.uniform(0, 0.05)) for length in image.shape)
    image = image[rows : image.shape[0] - rows, columns : image.shape[1] - columns]
    low, high = np.quantile(image, [rng.uniform(0, 0.02), 1 - rng.uniform(0, 0.02)])
    grey = np.clip((image - low) / max(high - low, 1), 0, 1) ** rng.uniform(0.6, 1.6)
    gain = rng.uniform(0.6, 1)
    grey = np.rint((grey * gain + rng.uniform(0, 1 - gain)) * 255).astype(np.uint8)
    share, aspect = rng.uniform(0.25, 1), rng.uniform(0.96, 1.04)
    size = (round(image.shape[1] * share * aspect), round(image.shape[0] * share))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    small = 255 - small if rng.random() < 0.2 else small
    _, encoded = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 95))])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)


@pytest.mark.parametrize("folder", ["nih/images", "rsna/stage_2_train_images", "lungs/images"])
def test_spoilt_copies_are_found(shared_data, tmp_path, folder):
    rng = np.random.default_rng(0)
    originals = files_in(shared_data / folder)[::4]
    copies = [tmp_path / f"{i:04d}.png" for i in range(len(originals))]
    for original, copy in zip(originals, copies, strict=True):
        write_png(copy, spoilt(read_grey(original), rng))
    left, right = prints_of(originals), prints_of(copies)
    found = {copy.right for copy in copies_between(left, right, [], [], never) if copy.left == copy.right}
    assert len(found) >= 0.99 * len(originals)
