"""Batches: the same images in the same order whatever the workers, the resumption and what ran before."""

import numpy as np
import pytest
import torch

from siimdet.augment import Augmenter
from siimdet.config.augment import Affine, Augment, Cutout, ResizedCrop
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.data.batch import Batch
from siimdet.data.loader import Samples, ordered_batches, steps_per_epoch, training_batches
from siimdet.errors import ImageError
from siimdet.imaging.png import write_png

COUNT = 11
AUGMENT = Augment(
    horizontal_flip=0.5, affine=Affine(p=1, rotate=20), blur=0.5, cutout=Cutout(p=0.5, holes=6, radius=0.05)
)


def samples(stored, *, seed: int = 0, augment: Augment | None = AUGMENT, count: int = COUNT) -> Samples:
    root, records, boxes = stored
    augmentation = Augmenter(augment) if augment else None
    return Samples(root, records[:count], boxes, side=32, resize="stretch", augmentation=augmentation, seed=seed)


def assert_equal(left: list[Batch], right: list[Batch]) -> None:
    assert [batch.ids for batch in left] == [batch.ids for batch in right]
    for one, other in zip(left, right, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels.nan_to_num(-1), other.labels.nan_to_num(-1))
        assert all(torch.equal(a, b) for a, b in zip(one.boxes, other.boxes, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(one.class_ids, other.class_ids, strict=True))
        assert one.placements == other.placements


def test_what_a_batch_holds(stored):
    (batch,) = ordered_batches(samples(stored, augment=None), batch_size=COUNT)
    assert batch.ids == [f"image{index:02d}" for index in range(COUNT)]
    assert (batch.images.shape, batch.images.dtype) == ((COUNT, 1, 32, 32), torch.uint8)
    greys = batch.greys(torch.device("cpu"))
    assert (greys.shape, greys.dtype) == ((COUNT, 1, 32, 32), torch.float32)
    assert torch.equal(greys, batch.images.float() / 255)
    assert 0 <= greys.min() < 0.2 < 0.8 < greys.max() <= 1
    assert batch.labels.shape == (COUNT, 2)
    assert batch.labels[:, 0].tolist() == [index % 2 for index in range(COUNT)]
    assert batch.labels[:, 1].isnan().all()
    assert batch.boxes[4][0].tolist() == pytest.approx([4 * 32 / 60, 5 * 32 / 40, 40 * 32 / 60, 30 * 32 / 40])
    assert (batch.boxes[1].shape, batch.boxes[1].dtype) == ((0, 4), torch.float32)
    assert (batch.class_ids[1].shape, batch.class_ids[1].dtype) == ((0,), torch.int64)


def test_two_worker_processes_give_the_batches_of_none(stored):
    alone = list(training_batches(samples(stored), batch_size=3, epoch=1))
    assert_equal(alone, list(training_batches(samples(stored), batch_size=3, epoch=1, workers=2)))


@pytest.mark.parametrize("skip", [1, 2, 3])
def test_a_resumed_epoch_is_the_tail_of_the_unbroken_one(stored, skip):
    whole = list(training_batches(samples(stored), batch_size=3, epoch=2))
    rest = list(training_batches(samples(stored), batch_size=3, epoch=2, skip=skip))
    assert_equal(whole[skip:], rest)


def test_global_random_states_are_neither_read_nor_moved(stored):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = list(training_batches(samples(stored), batch_size=4, epoch=0))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    np.random.seed(3)
    assert_equal(first, list(training_batches(samples(stored), batch_size=4, epoch=0)))


def test_epochs_and_seeds_shuffle_and_augment_anew(stored):
    def order(seed, epoch):
        return [
            i for batch in training_batches(samples(stored, seed=seed), batch_size=1, epoch=epoch) for i in batch.ids
        ]

    orders = [order(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(map(tuple, orders))) == 4
    assert {tuple(sorted(o)) for o in orders} == {tuple(f"image{i:02d}" for i in range(COUNT))}
    one, other = (samples(stored)[epoch, 0][0] for epoch in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"), [(11, 3, [3, 3, 3]), (11, 11, [11]), (6, 3, [3, 3]), (2, 3, [2]), (1, 1, [1])]
)
def test_a_smaller_last_batch_is_left_out_where_there_is_a_full_one(stored, count, batch_size, sizes):
    some = samples(stored, augment=None, count=count)
    assert [len(batch.ids) for batch in training_batches(some, batch_size=batch_size, epoch=0)] == sizes
    assert steps_per_epoch(some, batch_size) == len(sizes)


def test_ordered_batches_hold_every_image_once(stored):
    batches = list(ordered_batches(samples(stored, augment=None), batch_size=4))
    assert [len(batch.ids) for batch in batches] == [4, 4, 3]
    assert [i for batch in batches for i in batch.ids] == [f"image{index:02d}" for index in range(COUNT)]
    assert list(ordered_batches(samples(stored, count=0), batch_size=4)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_named_from_any_process(stored, tmp_path, workers):
    _, records, boxes = stored
    (tmp_path / "images").mkdir()
    (tmp_path / records[0].path).write_bytes(b"broken")
    some = Samples(tmp_path, records[:1], boxes, side=32, resize="stretch")
    with pytest.raises(ImageError, match=r"image00\.png: file: found a file that starts with b'broken'"):
        list(ordered_batches(some, batch_size=1, workers=workers))


def test_sixteen_bit_images_are_scaled_by_their_own_range(tmp_path):
    size = ImageSize(32, 32)
    write_png(tmp_path / "images/a.png", np.full((32, 32), 13107, np.uint16))
    record = ImageRecord("a", "a", "a", "images/a.png", size, size, [1], "train")
    for augmentation in (None, Augmenter(Augment(horizontal_flip=1))):
        some = Samples(
            tmp_path, [record], {"a": BoxLabels.empty(size)}, side=32, resize="stretch", augmentation=augmentation
        )
        pixels = some[0, 0][0]
        assert pixels.dtype == torch.float32
        assert pixels.numpy() == pytest.approx(np.full((1, 32, 32), 0.2), abs=1e-6)


def test_boxes_outside_the_centre_are_left_out_with_their_classes(tmp_path):
    size = ImageSize(320, 80)
    write_png(tmp_path / "images/a.png", np.zeros((80, 320), np.uint8))
    record = ImageRecord("a", "a", "a", "images/a.png", size, size, [1], "train")
    truth = {"a": BoxLabels([[0, 0, 40, 40], [150, 10, 170, 70], [200, 0, 320, 80]], [4, 5, 6], size)}
    some = Samples(tmp_path, [record], truth, side=70, resize="shorter")
    (batch,) = ordered_batches(some, batch_size=1)
    assert batch.class_ids[0].tolist() == [5]
    assert batch.boxes[0].tolist() == [[25, 5, 45, 65]]
    assert batch.dropped_boxes == 2


def test_boxes_that_augmentation_moves_out_of_view_are_counted(stored):
    part = Augmenter(Augment(resized_crop=ResizedCrop(p=1, scale=(0.02, 0.05))))
    root, records, boxes = stored
    some = Samples(root, records, boxes, side=32, resize="stretch", augmentation=part)
    batches = [batch for epoch in range(20) for batch in training_batches(some, batch_size=COUNT, epoch=epoch)]
    assert {batch.dropped_boxes + sum(map(len, batch.boxes)) for batch in batches} == {6}
    assert {batch.dropped_boxes for batch in batches} == {4, 5, 6}


def test_greys_of_bytes_are_their_255th_parts_and_floats_stay(stored):
    ramp = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    batch = Batch(ramp, torch.zeros(1, 1), [], [], [], ["ramp"])
    expected = np.arange(256, dtype=np.float32) / np.float32(255)
    assert np.array_equal(batch.greys(torch.device("cpu")).numpy().ravel(), expected)
    floats = Batch(torch.rand(1, 1, 4, 4), torch.zeros(1, 1), [], [], [], ["floats"])
    assert floats.greys(torch.device("cpu")) is floats.images


def test_targets_are_the_boxes_and_class_ids_of_every_image(stored):
    (batch,) = ordered_batches(samples(stored, augment=None), batch_size=COUNT)
    boxes, class_ids = batch.targets(torch.device("cpu"))
    assert [len(each) for each in boxes] == [1, 0] * 5 + [1]
    assert_same(boxes, batch.boxes)
    assert_same(class_ids, batch.class_ids)
    (empty,) = ordered_batches(Samples(*image_1(stored), side=32, resize="stretch"), batch_size=1)
    boxes, class_ids = empty.targets(torch.device("cpu"))
    assert_same(boxes, [torch.zeros(0, 4)])
    assert_same(class_ids, [torch.zeros(0, dtype=torch.int64)])


def assert_same(left: list[torch.Tensor], right: list[torch.Tensor]) -> None:
    for one, other in zip(left, right, strict=True):
        assert (one.shape, one.dtype, one.tolist()) == (other.shape, other.dtype, other.tolist())


def image_1(stored):
    root, records, boxes = stored
    return root, records[1:2], boxes


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.gpu
@gpu
def test_greys_are_the_same_on_a_gpu():
    ramp = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    batch = Batch(ramp, torch.zeros(1, 1), [], [], [], ["ramp"])
    on_cpu, on_gpu = (batch.greys(torch.device(name)).cpu() for name in ("cpu", "cuda"))
    assert torch.equal(on_cpu, on_gpu)


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("pin", [False, True])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_on_a_gpu_are_those_on_the_cpu_pinned_or_not(stored, pin, workers):
    expected = list(training_batches(samples(stored), batch_size=4, epoch=0))
    found = list(training_batches(samples(stored), batch_size=4, epoch=0, workers=workers, pin=pin))
    device = torch.device("cuda")
    for one, other in zip(found, expected, strict=True):
        assert (one.images.is_pinned(), one.labels.is_pinned()) == (pin, pin)
        assert torch.equal(one.greys(device).cpu(), other.greys(torch.device("cpu")))
        boxes, class_ids = one.targets(device)
        assert {each.device.type for each in (*boxes, *class_ids)} == {"cuda"}
        assert_same(boxes, other.boxes)
        assert_same(class_ids, other.class_ids)


def test_a_batch_of_both_depths_holds_floats(tmp_path):
    size = ImageSize(8, 8)
    records = []
    for name, value in (("a", np.uint8(51)), ("b", np.uint16(13107))):
        write_png(tmp_path / f"images/{name}.png", np.full((8, 8), value))
        records.append(ImageRecord(name, name, name, f"images/{name}.png", size, size, [1], "train"))
    some = Samples(tmp_path, records, {name: BoxLabels.empty(size) for name in "ab"}, side=8, resize="stretch")
    (batch,) = ordered_batches(some, batch_size=2)
    assert batch.images.numpy() == pytest.approx(np.full((2, 1, 8, 8), 0.2), abs=1e-6)
