"""The cache of placed images: the same batches from it, one for every side, way and data set, or one clear line."""

import hashlib
import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from siimdet.augment import Augmenter
from siimdet.config.augment import Affine, Augment, Cutout, ResizedCrop
from siimdet.core.labels import OPACITY
from siimdet.data.cache import DESCRIPTION, LOCK, PIXELS, open_cache
from siimdet.data.dataset import Dataset
from siimdet.data.loader import Samples, ordered_batches, training_batches
from siimdet.data.placement import fit_image
from siimdet.errors import DatasetError, ImageError, UserError
from siimdet.imaging.png import read_grey, write_png

AUGMENT = Augment(
    horizontal_flip=0.5,
    resized_crop=ResizedCrop(p=0.3, scale=(0.5, 1)),
    affine=Affine(p=0.3, rotate=20, shift=0.1),
    sharpen=0.5,
    blur=0.25,
    brightness_contrast=0.5,
    cutout=Cutout(p=0.5, holes=6, radius=0.05),
)


@pytest.fixture
def dataset(stored, tmp_path) -> Dataset:
    """The small data set, in a place of its own."""
    root, records, boxes = stored
    shutil.copytree(root, tmp_path / "dataset")
    return Dataset(tmp_path / "dataset", "test", OPACITY, OPACITY, 8, tuple(records), boxes, "f" * 64)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def digest(folder: Path) -> str:
    (pixels,) = folder.rglob(PIXELS)
    return hashlib.sha256(pixels.read_bytes()).hexdigest()


@pytest.mark.parametrize("resize", ["stretch", "letterbox", "shorter"])
def test_a_cache_holds_the_placed_images_and_nobody_can_write_to_them(dataset, tmp_path, resize):
    cache = open_cache(tmp_path / "cache", dataset, side=32, resize=resize)
    for record in dataset.records:
        expected, _ = fit_image(read_grey(dataset.root / record.path), 32, resize)
        assert np.array_equal(cache[record.image_id], expected)
        assert (cache[record.image_id].dtype, cache[record.image_id].flags.writeable) == (np.uint8, False)
        assert cache.stored_size(record.image_id) == record.stored
    assert files(tmp_path / "cache") == [DESCRIPTION, LOCK, PIXELS]


@pytest.mark.parametrize("augment", [AUGMENT, None], ids=["augmented", "plain"])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_with_and_without_a_cache_are_the_same_to_the_bit(dataset, tmp_path, augment, workers):
    cache = open_cache(tmp_path / "cache", dataset, side=32, resize="letterbox")
    augmentation = Augmenter(augment) if augment else None
    without, within = (
        Samples(
            *(dataset.root, dataset.records, dataset.boxes),
            side=32,
            resize="letterbox",
            augmentation=augmentation,
            seed=3,
            cache=source,
        )
        for source in (None, cache)
    )
    for epoch in range(3):
        pairs = zip(
            training_batches(without, batch_size=4, epoch=epoch, workers=workers),
            training_batches(within, batch_size=4, epoch=epoch, workers=workers),
            strict=True,
        )
        for one, other in pairs:
            assert (one.images.dtype, one.ids, one.placements) == (torch.uint8, other.ids, other.placements)
            assert torch.equal(one.images, other.images)
            assert all(torch.equal(a, b) for a, b in zip(one.boxes, other.boxes, strict=True))
            assert all(torch.equal(a, b) for a, b in zip(one.class_ids, other.class_ids, strict=True))
            assert one.dropped_boxes == other.dropped_boxes


def test_a_batch_can_be_changed_and_the_cache_stays(dataset, tmp_path):
    cache = open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")
    before = digest(tmp_path / "cache")
    samples = Samples(dataset.root, dataset.records, dataset.boxes, side=32, resize="stretch", cache=cache)
    for batch in ordered_batches(samples, batch_size=1):
        batch.images.zero_()
    assert digest(tmp_path / "cache") == before
    assert cache["image00"].any()


def test_a_cache_is_built_once_and_every_side_way_and_data_set_has_its_own(dataset, tmp_path):
    def folders() -> set[str]:
        return {path.name for path in (tmp_path / "cache").iterdir()}

    open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")
    (first,) = (tmp_path / "cache").rglob(PIXELS)
    built = first.stat().st_mtime_ns
    open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")
    assert (folders(), first.stat().st_mtime_ns) == ({first.parent.name}, built)
    open_cache(tmp_path / "cache", dataset, side=48, resize="stretch")
    open_cache(tmp_path / "cache", dataset, side=32, resize="letterbox")
    open_cache(tmp_path / "cache", replace(dataset, fingerprint="e" * 64), side=32, resize="stretch")
    fewer = open_cache(tmp_path / "cache", replace(dataset, records=dataset.records[3:]), side=32, resize="stretch")
    assert np.array_equal(fewer["image03"], fit_image(read_grey(dataset.root / "images/image03.png"), 32, "stretch")[0])
    write_png(dataset.root / "images/image00.png", np.zeros((40, 60), np.uint8))  # converted anew: other bytes
    assert not open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")["image00"].any()
    assert len(folders()) == 6


def test_images_of_other_greys_in_files_of_the_same_length_have_another_cache(dataset, tmp_path):
    image, lengths = dataset.root / "images/image00.png", set()
    for second, grey in enumerate((51, 77)):
        write_png(image, np.full((40, 60), grey, np.uint8))
        os.utime(image, (second, second))
        lengths.add(image.stat().st_size)
        cache = open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")
        assert (cache["image00"] == grey).all()
    assert len(lengths) == 1
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_another_way_of_converting_has_another_cache(dataset, tmp_path):
    for preprocessing in ({"voi": "first"}, {"voi": "none"}, {"voi": "first"}):
        converted = replace(dataset, details={"preprocessing": preprocessing, "counts": {"images": 11}})
        open_cache(tmp_path / "cache", converted, side=32, resize="stretch")
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("fault", ["cut", "foreign", "undescribed", "gone"])
def test_a_cache_that_is_not_whole_is_built_again(dataset, tmp_path, fault):
    open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")
    before = digest(tmp_path / "cache")
    (pixels,) = (tmp_path / "cache").rglob(PIXELS)
    if fault == "cut":
        os.truncate(pixels, 1000)
    elif fault == "foreign":
        pixels.write_bytes(b"x" * len(pixels.read_bytes()))
        said = json.loads((pixels.parent / DESCRIPTION).read_text())
        (pixels.parent / DESCRIPTION).write_text(json.dumps(said | {"side": 33}))
    else:
        (pixels.parent / DESCRIPTION if fault == "undescribed" else pixels).unlink()
    open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")
    assert digest(tmp_path / "cache") == before


def test_a_cache_of_another_version_is_one_clear_line(dataset, tmp_path):
    open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")
    (description,) = (tmp_path / "cache").rglob(DESCRIPTION)
    description.write_text(json.dumps({"format": 99}))
    with pytest.raises(UserError, match=r"cache\.json: format: found 99, expected 1, the format of this version"):
        open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")


def test_a_loading_process_that_is_not_forked_maps_the_file_anew(dataset, tmp_path):
    cache = open_cache(tmp_path / "cache", dataset, side=512, resize="stretch")
    pickled = pickle.dumps(cache)
    assert len(pickled) < 10_000
    assert np.array_equal(pickle.loads(pickled)["image07"], cache["image07"])


def test_files_are_found_by_whatever_way_their_folder_is_reached(dataset, tmp_path):
    cache = open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")
    (tmp_path / "link").symlink_to(dataset.root)
    named = [dataset.root / "images/image04.png", tmp_path / "link/images/image01.png"]
    assert cache.ids_of([*named, dataset.root / "../dataset/images/image02.png"]) == ["image04", "image01", "image02"]


def test_an_image_that_cannot_be_read_is_named_and_nothing_is_left_that_looks_whole(dataset, tmp_path):
    good = (dataset.root / "images/image06.png").read_bytes()
    (dataset.root / "images/image06.png").write_bytes(good[:-100] + b"x" * 100)
    with pytest.raises(ImageError, match=r"image06\.png: file: found a PNG"):
        open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")
    assert files(tmp_path / "cache") == [LOCK]
    (dataset.root / "images/image06.png").write_bytes(good)  # another file: another cache
    open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")
    assert files(tmp_path / "cache") == [DESCRIPTION, LOCK, LOCK, PIXELS]
    (dataset.root / "images/image06.png").unlink()
    with pytest.raises(ImageError, match=r"image06\.png: file: found No such file"):
        open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")


def test_what_does_not_fit_eight_bits_or_the_manifest_is_one_clear_line(dataset, tmp_path):
    with pytest.raises(DatasetError, match=r"dataset\.json: bit_depth: found 16, expected 8, which is what a cache"):
        open_cache(tmp_path / "cache", replace(dataset, bit_depth=16), side=32, resize="stretch")
    write_png(dataset.root / "images/image03.png", np.zeros((40, 60), np.uint16))
    with pytest.raises(DatasetError, match=r"image03\.png: bit depth: found uint16, expected 8 bits"):
        open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")
    write_png(dataset.root / "images/image03.png", np.zeros((41, 60), np.uint8))
    with pytest.raises(DatasetError, match=r"image03\.png: size: found 60x41, expected 60x40 as in the manifest"):
        open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")


def test_a_folder_that_cannot_be_made_is_one_clear_line(dataset, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/.*: folder: found Not a directory, expected a place to write to"):
        open_cache(tmp_path / "file", dataset, side=32, resize="stretch")


def test_what_the_file_system_refuses_while_a_cache_is_built_is_one_clear_line(dataset, tmp_path):
    open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")
    (place,) = (tmp_path / "cache").iterdir()
    (place / DESCRIPTION).unlink()
    (place / LOCK).unlink()
    (place / LOCK).mkdir()
    with pytest.raises(UserError, match=r"-32-stretch: folder: found Is a directory, expected a place to write to"):
        open_cache(tmp_path / "cache", dataset, side=32, resize="stretch")
