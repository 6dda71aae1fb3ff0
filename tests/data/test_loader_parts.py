"""Several processes: together they get the batches of one, each item as it would get it."""

import pytest
import torch

from siimdet.augment import Augmenter
from siimdet.config.augment import Affine, Augment
from siimdet.data.loader import Samples, ordered_batches, steps_per_epoch, training_batches
from siimdet.errors import ConfigError


@pytest.fixture
def samples(stored) -> Samples:
    root, records, boxes = stored
    turning = Augmenter(Augment(horizontal_flip=0.5, affine=Affine(p=1, rotate=20)))
    return Samples(root, records, boxes, side=32, resize="stretch", augmentation=turning, seed=3)


@pytest.mark.parametrize(("batch_size", "world", "sizes"), [(4, 2, [2, 2]), (5, 2, [3, 2]), (3, 3, [1, 1, 1])])
def test_processes_share_every_batch_item_by_item(samples, batch_size, world, sizes):
    whole = list(training_batches(samples, batch_size=batch_size, epoch=1))
    assert len(whole) == steps_per_epoch(samples, batch_size) == 11 // batch_size
    for rank in range(world):
        own = list(training_batches(samples, batch_size=batch_size, epoch=1, part=(rank, world)))
        assert [len(batch.ids) for batch in own] == [sizes[rank]] * len(whole)
        for mine, batch in zip(own, whole, strict=True):
            assert mine.ids == batch.ids[rank::world]
            assert torch.equal(mine.images, batch.images[rank::world])


def test_a_resumed_part_is_the_tail_of_the_unbroken_one(samples):
    whole = list(training_batches(samples, batch_size=4, epoch=0, part=(1, 2)))
    (rest,) = training_batches(samples, batch_size=4, epoch=0, part=(1, 2), skip=1)
    assert rest.ids == whole[1].ids
    assert torch.equal(rest.images, whole[1].images)


def test_a_batch_smaller_than_the_processes_is_one_clear_line(samples):
    complaint = "config: batch_size: found batches of 2, expected 3 or more, one for each process"
    with pytest.raises(ConfigError) as caught:
        next(training_batches(samples, batch_size=2, epoch=0, part=(0, 3)))
    assert str(caught.value) == complaint
    samples.records = samples.records[:2]
    with pytest.raises(ConfigError) as caught:
        next(training_batches(samples, batch_size=9, epoch=0, part=(0, 3)))
    assert str(caught.value) == complaint


def test_parts_in_order_hold_every_image_once_between_them(samples):
    parts = [list(ordered_batches(samples, batch_size=2, part=(rank, 3))) for rank in range(3)]
    names = [[name for batch in part for name in batch.ids] for part in parts]
    assert names == [[f"image{index:02d}" for index in range(rank, 11, 3)] for rank in range(3)]
    assert [[len(batch.ids) for batch in part] for part in parts] == [[2, 2], [2, 2], [2, 1]]
    assert list(ordered_batches(samples, batch_size=2, part=(11, 12))) == []
