"""The leak audit on phantoms: who stands on both sides, and which images are the same whatever was done to them."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from siimdet.core.types import BoxLabels, ImageRecord, ImageSize, LabelSpace, Split
from siimdet.data.audit import audit
from siimdet.data.dataset import Dataset
from siimdet.data.image_print import closest, codes_of, print_of, similarity
from siimdet.data.look_alikes import NEAR, SAME
from siimdet.data.manifest import read_dataset, write_dataset
from siimdet.data.phantom import render, sample_opacities, sample_thorax, stretch
from siimdet.data.prints import read_prints
from siimdet.data.same_images import copies_between, copies_within
from siimdet.errors import ImageError
from siimdet.imaging.png import write_png

NONE = LabelSpace("none", ())


def make(root: Path, images, *, name: str = "siim", bit_depth: int = 8, **columns) -> Dataset:
    """A data set of images u8 or u16 [H, W] by id; `columns` gives a field of the record by image id."""
    records = []
    for image_id, image in images.items():
        write_png(root / "images" / f"{image_id}.png", image)
        size = ImageSize(image.shape[1], image.shape[0])
        fields = {"study_id": f"s-{image_id}", "patient_id": f"p-{image_id}", "split": "train", "fold": None}
        fields |= {column: values[image_id] for column, values in columns.items() if image_id in values}
        place = f"images/{image_id}.png"
        records.append(
            ImageRecord(image_id, path=place, stored=size, original=size, labels=np.zeros(0, np.float32), **fields)
        )
    boxes = {record.image_id: BoxLabels.empty(record.stored) for record in records}
    write_dataset(root, records, boxes, source=name, labels=NONE, classes=NONE, bit_depth=bit_depth)
    return read_dataset(root)


def phantom(seed: int, width: int = 320, height: int = 300):
    rng = np.random.default_rng(seed)
    thorax = sample_thorax(rng)
    return (stretch(rng, render(rng, thorax, sample_opacities(rng, "typical", thorax)), width, height) * 255).astype(
        np.uint8
    )


@pytest.fixture(scope="module")
def phantoms() -> list[np.ndarray]:
    return [phantom(seed) for seed in range(12)]


def jpeg(image, quality):
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)


def resized(image, width, height):
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def graded(image, *, clip=0.0, gamma=1.0, gain=1.0, offset=0.0):
    low, high = np.quantile(image, [clip, 1 - clip])
    grey = np.clip((image - low) / (high - low), 0, 1) ** gamma
    return np.rint(np.clip(grey * gain + offset, 0, 1) * 255).astype(np.uint8)


def cropped(image, share):
    rows, columns = (round(length * share) for length in image.shape)
    return image[rows : image.shape[0] - rows, columns : image.shape[1] - columns]


def framed(image, px, grey):
    return cv2.copyMakeBorder(image, px, px, px, px, cv2.BORDER_CONSTANT, value=grey)


CHANGES = {
    "jpeg": lambda x: jpeg(x, 30),
    "a third": lambda x: resized(x, 107, 100),
    "another aspect": lambda x: resized(x, 240, 250),
    "windowed": lambda x: graded(x, clip=0.02),
    "gamma 0.6": lambda x: graded(x, gamma=0.6),
    "gamma 1.6": lambda x: graded(x, gamma=1.6),
    "faint": lambda x: graded(x, gain=0.3, offset=0.5),
    "squashed": lambda x: resized(x, 100, 300),
    "local contrast": lambda x: cv2.createCLAHE(2, (8, 8)).apply(x),
    "trimmed": lambda x: x[6:-3, 2:-6],
    "cropped by 3 %": lambda x: cropped(x, 0.03),
    "cropped by 6 %": lambda x: cropped(x, 0.06),
    "cropped on the left": lambda x: x[:, 22:],
    "cropped at the bottom": lambda x: x[:-24],
    "framed": lambda x: framed(x, 5, 255),
    "framed by 5 %": lambda x: framed(x, 15, 0),
    "all": lambda x: jpeg(resized(graded(x[4:-4, 4:-4], clip=0.02, gamma=1.4, gain=0.8), 160, 150), 50),
    "negative": lambda x: 255 - x,
    "negative of all": lambda x: 255 - jpeg(resized(graded(x, clip=0.01, gamma=0.7), 160, 150), 50),
}


@pytest.mark.parametrize("name", CHANGES)
def test_copies_are_found_whatever_was_done_to_them(tmp_path, phantoms, name):
    images = {f"a{i:02d}": image for i, image in enumerate(phantoms)}
    copies = {f"b{i:02d}": CHANGES[name](image) for i, image in enumerate(phantoms)}
    found = audit(make(tmp_path, images | copies, split=dict.fromkeys(copies, "test")))
    pairs = found["within"]["same_images"]
    assert [(pair["left"], pair["right"]) for pair in pairs] == [(f"a{i:02d}", f"b{i:02d}") for i in range(12)]
    assert {pair["inverted"] for pair in pairs} == {name.startswith("negative")}
    assert all(SAME <= pair["similarity"] <= 1 and not pair["identical"] and pair["leak"] for pair in pairs)
    assert (found["leaks"], found["leaking_images"]) == (12, 24)


def test_other_images_of_the_same_thorax_are_others(tmp_path):
    rng = np.random.default_rng(5)
    thorax = sample_thorax(rng)
    opacities = sample_opacities(rng, "typical", thorax)
    images = {
        f"i{i}": (stretch(rng, render(rng, thorax, opacities), 200, 200) * 255).astype(np.uint8) for i in range(6)
    }
    assert audit(make(tmp_path, images))["within"]["same_images"] == []


def test_equal_pixels_are_identical(tmp_path, phantoms):
    found = audit(make(tmp_path, {"a": phantoms[0], "b": phantoms[1], "c": phantoms[0]}, patient_id={"c": "p-a"}))
    assert found["within"]["same_images"] == [
        {
            "left": "a",
            "right": "c",
            "patients": ["p-a", "p-a"],
            "splits": ["train", "train"],
            "folds": [None, None],
            "similarity": 1.0,
            "identical": True,
            "inverted": False,
            "leak": False,
        }
    ]


def test_the_same_image_in_two_folds_leaks(tmp_path, phantoms):
    images = {"a": phantoms[0], "b": phantoms[0], "c": phantoms[1], "d": phantoms[1]}
    found = audit(make(tmp_path, images, fold={"a": 0, "b": 1, "c": 2, "d": 2}))
    pairs = found["within"]["same_images"]
    assert [(pair["folds"], pair["leak"]) for pair in pairs] == [([0, 1], True), ([2, 2], False)]


def test_every_image_of_a_group_is_reported_with_an_earlier_one(tmp_path, phantoms):
    rng = np.random.default_rng(0)
    noisy = [np.clip(phantoms[0] + rng.integers(-2, 3, phantoms[0].shape), 0, 255).astype(np.uint8) for _ in range(90)]
    images = {f"n{i:03d}": image for i, image in enumerate([*noisy, *noisy, phantoms[1]])}
    pairs = audit(make(tmp_path, images))["within"]["same_images"]
    assert sorted(pair["right"] for pair in pairs) == [f"n{i:03d}" for i in range(1, 180)]
    assert all(pair["left"] < pair["right"] for pair in pairs)
    copied = [(f"n{i:03d}", f"n{i + 90:03d}") for i in range(90)]
    assert [(pair["left"], pair["right"]) for pair in pairs if pair["identical"]] == copied


CHAIN = {"a": 0, "b": 0.05, "c": 0.1, "d": 0.15}
"""Crops of one image. Each is like the next, but not like the one after that."""


@pytest.fixture(scope="module")
def chain() -> dict[str, np.ndarray]:
    return {name: cropped(phantom(0, 800, 800), share) for name, share in CHAIN.items()}


def test_the_ends_of_a_chain_are_not_alike(tmp_path, chain):
    images = {name: chain[name] for name in "ad"}
    assert audit(make(tmp_path, images))["within"]["same_images"] == []


@pytest.mark.parametrize("order", ["abcd", "dcba", "adbc", "cadb", "bdac"])
def test_a_copy_of_a_copy_leaks_though_unlike_the_first(tmp_path, chain, order):
    images = {f"{i}{name}": chain[name] for i, name in enumerate(order)}
    splits = {image_id: "test" if image_id[1] == "d" else "train" for image_id in images}
    found = audit(make(tmp_path, images, split=splits))
    leaking = {
        name for pair in found["within"]["same_images"] if pair["leak"] for name in (pair["left"], pair["right"])
    }
    assert leaking == images.keys() and found["leaking_images"] == 4


@pytest.mark.parametrize(("here", "there"), [("abc", "d"), ("d", "abc"), ("ac", "bd"), ("ad", "bc")])
def test_a_copy_of_a_copy_leaks_to_another_data_set(tmp_path, chain, phantoms, here, there):
    left = make(tmp_path / "l", {name: chain[name] for name in here} | {"x": phantoms[1]})
    right_images = {name: chain[name] for name in there} | {"y": phantoms[2]}
    right = make(tmp_path / "r", right_images, split=dict.fromkeys(right_images, "test"))
    (found,) = audit(left, [right])["against"]
    pairs = found["same_images"]
    assert {pair["left"] for pair in pairs} == set(here) and {pair["right"] for pair in pairs} == set(there)
    assert all(pair["leak"] for pair in pairs)


def test_a_leak_is_reported_for_every_image_of_a_group(tmp_path, phantoms):
    copies = [jpeg(phantoms[0], quality) for quality in range(30, 90, 10)]
    images = {f"i{i}": image for i, image in enumerate([*copies, copies[0]])}
    folds = dict(zip(images, (0, 0, 0, 0, 1, 0, None), strict=True))
    found = audit(make(tmp_path, images, fold=folds))
    leaking = {
        name for pair in found["within"]["same_images"] if pair["leak"] for name in (pair["left"], pair["right"])
    }
    assert leaking == {"i0", "i1", "i2", "i3", "i4", "i5"} and found["leaking_images"] == 6
    assert "i6" in {pair["right"] for pair in found["within"]["same_images"]}, "without a fold, it leaks nowhere"


EMPTY = np.linspace(180, 200, 300)[None].repeat(300, 0)
LABEL = cv2.putText(np.zeros((300, 300), np.uint8), "L", (20, 40), cv2.FONT_HERSHEY_PLAIN, 2, 255)


@pytest.mark.parametrize(
    "images",
    [
        [np.zeros((300, 300), np.uint8), np.full((300, 300), 9, np.uint8), np.zeros((300, 300), np.uint8)],
        [np.ones((1, 1), np.uint8), np.zeros((2, 1), np.uint8)],
        [EMPTY.astype(np.uint8), (EMPTY * 0.9).astype(np.uint8)],
        [LABEL[:, ::-1].copy(), LABEL],
        list(np.random.default_rng(0).integers(0, 255, (4, 300, 300)).astype(np.uint8)),
    ],
    ids=["one grey", "one pixel", "gradient", "label alone", "noise"],
)
def test_images_that_show_nothing_are_not_the_same(tmp_path, images):
    dataset = make(tmp_path, {f"i{i}": image for i, image in enumerate(images)})
    assert audit(dataset)["within"]["same_images"] == []


def test_sixteen_bits_are_compared_with_eight(tmp_path, phantoms):
    wide = {f"w{i}": (image.astype(np.uint16) * 16) for i, image in enumerate(phantoms[:3])}
    deep = make(tmp_path / "deep", wide, bit_depth=16)
    flat = make(tmp_path / "flat", {"a": phantoms[1], "b": phantoms[5]})
    (other,) = audit(deep, [flat])["against"]
    assert [(p["left"], p["right"], p["similarity"]) for p in other["same_images"]] == [("w1", "a", 1.0)]


IDS: dict[str, Any] = {
    "patient_id": {"a": "p1", "b": "p1", "c": "p1", "d": "p2", "e": "p3", "f": "p3"},
    "study_id": {"a": "s1", "b": "s1", "c": "s2", "d": "s3", "e": "s4", "f": "s4"},
    "split": {"a": "train", "b": "test", "c": "train", "d": "val", "e": "train", "f": "train"},
    "fold": {"a": 0, "c": 0, "d": 1, "e": 10, "f": 2},
}


def test_patients_and_studies_on_two_sides(tmp_path, phantoms):
    images = {name: phantoms[i] for i, name in enumerate("abcdef")}
    found = audit(make(tmp_path, images, **IDS))
    assert found == {
        "within": {
            "patients_across_splits": [{"patient_id": "p1", "splits": {"train": 2, "test": 1}, "leak": True}],
            "patients_across_folds": [{"patient_id": "p3", "folds": {"2": 1, "10": 1}, "leak": True}],
            "studies_across_splits": [{"study_id": "s1", "splits": {"train": 1, "test": 1}, "leak": True}],
            "studies_across_folds": [{"study_id": "s4", "folds": {"2": 1, "10": 1}, "leak": True}],
            "same_images": [],
        },
        "against": [],
        "leaks": 4,
        "leaking_images": 5,
    }
    assert [*found["within"]["patients_across_folds"][0]["folds"]] == ["2", "10"], "folds in order"


@pytest.mark.parametrize(
    ("source", "other", "patients", "studies"),
    [
        ("siim", "siim", ["p1", "p2"], ["s1"]),
        ("rsna", "nih", ["p1", "p2"], []),
        ("nih", "rsna", ["p1", "p2"], []),
        ("siim", "nih", [], []),
        ("covidx", "rsna", [], []),
        ("folders", "folders", [], []),
        ("coco", "coco", [], []),
        ("dicom", "dicom", [], []),
    ],
)
def test_ids_are_compared_where_they_are_comparable(tmp_path, phantoms, source, other, patients, studies):
    ids: dict[str, Any] = {"patient_id": {"a": "p1", "b": "p2", "c": "p3"}, "study_id": {"a": "s1", "b": other}}
    here = make(tmp_path / "here", dict(zip("abc", phantoms, strict=False)), name=source, **ids)
    ids["study_id"]["b"] = "s2"
    there = make(tmp_path / "there", dict(zip("abd", phantoms[3:], strict=False)), name=other, **ids)
    (found,) = audit(here, [there])["against"]
    assert (found["source"], found["root"]) == (other, "there")
    assert found["fingerprint"] == there.fingerprint
    assert [entry["patient_id"] for entry in found["patients"]] == patients
    assert [entry["study_id"] for entry in found["studies"]] == studies


@pytest.mark.parametrize(
    ("here", "there", "leak"),
    [
        ("train", "test", True),
        ("val", "train", True),
        ("train", "train", False),
        ("val", "test", False),
        ("test", "test", False),
    ],
)
def test_what_is_shared_leaks_from_training_to_evaluation(tmp_path, phantoms, here: Split, there: Split, leak):
    left = make(tmp_path / "l", {"a": phantoms[0]}, split={"a": here}, patient_id={"a": "p"})
    right = make(tmp_path / "r", {"b": phantoms[0]}, split={"b": there}, patient_id={"b": "p"})
    found = audit(left, [right])
    (other,) = found["against"]
    assert other["patients"] == [{"patient_id": "p", "splits": {here: 1}, "against_splits": {there: 1}, "leak": leak}]
    assert [(pair["splits"], pair["leak"]) for pair in other["same_images"]] == [([here, there], leak)]
    assert (found["leaks"], found["leaking_images"]) == ((2, 1) if leak else (0, 0))


def test_rsna_names_its_nih_images(tmp_path, phantoms):
    columns = {"x": {"nih_image": "00000001_000"}, "y": {"nih_image": ""}, "z": {"nih_image": "00000009_000"}}
    rsna = make(tmp_path / "rsna", dict(zip("xyz", phantoms, strict=False)), name="rsna", source=columns)
    images = {"00000001_000": phantoms[5], "00000002_000": phantoms[6]}
    nih = make(tmp_path / "nih", images, name="nih", split={"00000001_000": "test"})
    expected = {"left": "x", "right": "00000001_000", "patients": ["p-x", "p-00000001_000"]}
    expected |= {"splits": ["train", "test"], "leak": True}
    assert audit(rsna, [nih])["against"][0]["mapped_images"] == [expected]
    turned = {key: value[::-1] if isinstance(value, list) else value for key, value in expected.items()}
    turned |= {"left": "00000001_000", "right": "x"}
    assert audit(nih, [rsna])["against"][0]["mapped_images"] == [turned]
    siim = make(tmp_path / "siim", images)
    assert audit(rsna, [siim])["against"][0]["mapped_images"] == []


def test_no_leak_hides_behind_the_first_image_of_a_group(tmp_path, phantoms):
    copies = [phantoms[0], jpeg(phantoms[0], 60), jpeg(phantoms[0], 40)]
    left = make(tmp_path / "l", {"a": copies[0], "b": copies[2]}, split={"a": "train", "b": "test"})
    right = make(tmp_path / "r", {"c": copies[1], "d": copies[2]}, split={"c": "train", "d": "train"})
    (found,) = audit(left, [right])["against"]
    pairs = {(p["left"], p["right"]): (p["identical"], p["leak"]) for p in found["same_images"]}
    assert pairs["b", "c"] == (False, True) and pairs["b", "d"] == (True, True)
    assert [pair for pair in pairs if pair[0] == "a"], "the first image is named, though it leaks to nothing"


def test_the_same_input_gives_the_same_plain_json(tmp_path, phantoms):
    images = {f"i{i}": phantoms[i % 3] for i in range(9)}
    dataset = make(tmp_path, images, fold={f"i{i}": i % 2 for i in range(9)}, patient_id={"i3": "p-i4"})
    first = audit(dataset, [dataset])
    assert json.loads(json.dumps(first)) == first == audit(dataset, [dataset])


def test_progress_counts_the_images_of_all_data_sets(tmp_path, phantoms):
    datasets = [make(tmp_path / name, {"a": phantoms[0], "b": phantoms[1]}) for name in "lr"]
    seen: list[tuple[int, int]] = []
    audit(datasets[0], datasets[1:], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_an_image_that_cannot_be_read_is_named(tmp_path, phantoms):
    dataset = make(tmp_path, {"a": phantoms[0], "b": phantoms[1]})
    place = tmp_path / "images" / "b.png"
    place.write_bytes(place.read_bytes()[:-20])
    with pytest.raises(ImageError, match=r"images/b\.png: file: found a PNG that is cut off"):
        audit(dataset)


def test_an_image_of_another_size_than_the_manifest_says_is_named(tmp_path, phantoms):
    dataset = make(tmp_path, {"a": phantoms[0], "b": phantoms[1]})
    write_png(tmp_path / "images" / "b.png", phantoms[1][:200])
    with pytest.raises(
        ImageError, match=r"images/b\.png: size: found 200 rows of 320 pixels, expected 300 rows of 320"
    ):
        audit(dataset)


def test_nothing_is_in_an_empty_data_set(tmp_path, phantoms):
    empty, full = make(tmp_path / "empty", {}), make(tmp_path / "full", {"a": phantoms[0]})
    for found in (audit(empty, [full]), audit(full, [empty])):
        assert found["leaks"] == 0 and found["against"][0]["same_images"] == []


def test_more_images_than_a_block(tmp_path, phantoms, monkeypatch):
    images = {f"i{i:02d}": image for i, image in enumerate([*phantoms, *(jpeg(image, 50) for image in phantoms)])}
    dataset = make(tmp_path, images)
    prints = read_prints(dataset.root, dataset.records)
    whole = copies_within(prints, differ)
    monkeypatch.setattr("siimdet.data.look_alikes._ROWS", 5)
    monkeypatch.setattr("siimdet.data.look_alikes._COLUMNS", 7)
    monkeypatch.setattr("siimdet.data.look_alikes.MOST_LOOKS", 3)
    assert copies_within(prints, differ) == whole and len(whole) == 12
    pairs = copies_between(prints, prints, whole, whole, differ)
    assert [(c.left, c.right) for c in pairs if c.identical] == [(i, i) for i in range(24)]


def differ(one: ImageRecord, two: ImageRecord) -> bool:
    return one.split != two.split


def test_ranks_ignore_contrast(phantoms):
    image = phantoms[0].astype(np.uint16)
    np.testing.assert_array_equal(print_of(image), print_of(image * 200 + 77))
    mirrored = print_of((4000 - image).astype(np.uint16))
    np.testing.assert_allclose(mirrored.astype(int), 255 - print_of(image).astype(int), atol=1)


@pytest.mark.parametrize("name", ["all", "cropped by 6 %", "cropped on the left"])
def test_codes_find_what_the_look_confirms(phantoms, name):
    prints = [print_of(image) for image in phantoms[:4]]
    copies = [print_of(CHANGES[name](image)) for image in phantoms[:4]]
    for one, two in ((prints, copies), (copies, prints)):
        found = [[closest(codes_of(a), codes_of(b)) for b in two] for a in one]
        near = [[cosine >= NEAR for cosine, _ in row] for row in found]
        np.testing.assert_array_equal(near, np.eye(4, dtype=bool))
        likeness = [similarity(one[i], two[i], start=found[i][i][1]) for i in range(4)]
        assert min(likeness) >= SAME


def test_a_negative_has_negative_codes(phantoms):
    first = print_of(phantoms[0])
    np.testing.assert_allclose(codes_of(255 - first), -codes_of(first), atol=1e-4)
    assert closest(codes_of(first), codes_of(255 - first))[0] == pytest.approx(-1, abs=1e-3)
    assert similarity(first, 255 - first, inverted=True) == pytest.approx(1, abs=1e-3)
