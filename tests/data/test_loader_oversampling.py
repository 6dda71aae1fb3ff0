"""Oversampling: which rows weigh what, what an epoch draws, and how a repeat looks."""

from collections import Counter

import numpy as np
import pytest
import torch

from siimdet.augment import Augmenter
from siimdet.config.augment import Affine, Augment
from siimdet.data.loader import Samples, training_batches
from siimdet.data.sampling import balancing_weights, training_keys

NAN = np.nan


@pytest.mark.parametrize(
    ("labels", "weights"),
    [
        ([[1, 0], [1, 0], [1, 0], [0, 1]], [1 / 6, 1 / 6, 1 / 6, 1 / 2]),
        ([[1], [0], [0]], [1 / 2, 1 / 4, 1 / 4]),
        # Labels of 2, 1 and no rows, and two rows of none: one over 2, 1, 2 and 2.
        ([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]], [2 / 5, 1 / 5, 1 / 5, 1 / 5]),
        ([[1, NAN], [NAN, NAN], [0, 1], [1, 0]], [1 / 4, 0, 1 / 2, 1 / 4]),
        ([[0, 0], [0, 0]], [1 / 2, 1 / 2]),
    ],
)
def test_known_weights(labels, weights):
    found = balancing_weights(np.array(labels, np.float32))
    assert found.dtype == np.float64
    assert found == pytest.approx(np.array(weights), abs=1e-12)


def test_balanced_draws_take_every_class_as_often():
    labels = np.zeros((10_000, 3), np.float32)
    labels[:9_000, 0] = labels[9_000:9_900, 1] = labels[9_900:, 2] = 1
    (keys,) = training_keys(len(labels), batch_size=len(labels), seed=0, epoch=0, weights=balancing_weights(labels))
    drawn = Counter(labels[key[1]].argmax() for key in keys)
    assert len(keys) == 10_000
    assert all(abs(drawn[each] - 10_000 / 3) < 5 * np.sqrt(10_000 * 2 / 9) for each in range(3))


def test_an_item_of_no_weight_is_never_drawn_and_every_epoch_draws_anew():
    weights = np.array([0, 0.5, 0.5, 0])
    draws = [training_keys(4, batch_size=4, seed=5, epoch=epoch, weights=weights)[0] for epoch in range(20)]
    assert {key[1] for keys in draws for key in keys} == {1, 2}
    assert len({tuple(key[1] for key in keys) for keys in draws}) > 5
    assert draws[3] == training_keys(4, batch_size=4, seed=5, epoch=3, weights=weights)[0]


def test_repeats_are_numbered_over_the_whole_epoch_and_whatever_the_part():
    weights = np.array([1.0, 0.0])
    assert training_keys(2, batch_size=1, seed=0, epoch=7, weights=weights) == [[(7, 0)], [(7, 0, 1)]]
    keys = training_keys(6, batch_size=3, seed=0, epoch=2, weights=np.full(6, 1 / 6))
    for rank in range(3):
        own = training_keys(6, batch_size=3, seed=0, epoch=2, weights=np.full(6, 1 / 6), part=(rank, 3))
        assert own == [batch[rank : rank + 1] for batch in keys]


def test_a_repeat_is_augmented_anew_and_the_first_as_without_weights(stored):
    root, records, boxes = stored
    turning = Augmenter(Augment(affine=Affine(p=1, rotate=20)))
    samples = Samples(root, records, boxes, side=32, resize="stretch", augmentation=turning)
    (drawn,) = training_batches(samples, batch_size=11, epoch=0, weights=np.eye(11)[4])
    (plain,) = training_batches(samples, batch_size=11, epoch=0)
    assert drawn.ids == ["image04"] * 11
    assert torch.equal(drawn.images[0], plain.images[plain.ids.index("image04")])
    assert len({image.numpy().tobytes() for image in drawn.images}) == 11
