"""Triplets: who is drawn, how each is augmented, and how they lie in a batch."""

from collections import Counter

import numpy as np
import pytest
import torch

from siimdet.augment import Augmenter
from siimdet.config.augment import Affine, Augment
from siimdet.data.loader import Samples, training_batches
from siimdet.data.triplets import TripletSamples
from siimdet.errors import DatasetError, ImageError

CLASS_IDS = np.array([0, 0, 0, 1, 1, 2, 0, 0, 1, 1, 1])
"""Of the eleven images; image05 is alone in its class."""
MIRROR = Augmenter(Augment(horizontal_flip=1))
TURN = Augmenter(Augment(affine=Affine(p=1, rotate=90)))


def samples(stored, augmentation=None) -> Samples:
    root, records, boxes = stored
    return Samples(root, records, boxes, side=32, resize="stretch", augmentation=augmentation, seed=1)


def image_id(item: tuple) -> str:
    return item[5]


def class_of(item: tuple) -> int:
    return int(CLASS_IDS[int(image_id(item)[-2:])])


def test_positives_share_the_class_and_are_others_and_negatives_do_not_share_it(stored):
    triplets = TripletSamples(samples(stored), CLASS_IDS, positives="same_class")
    assert len(triplets) == 11
    for epoch in range(10):
        for index in range(11):
            anchor, positive, negative = triplets[epoch, index]
            assert image_id(anchor) == f"image{index:02d}"
            assert class_of(positive) == class_of(anchor) != class_of(negative)
            assert (image_id(positive) == image_id(anchor)) == (index == 5)


def test_every_other_image_of_a_class_is_drawn_as_often(stored):
    triplets = TripletSamples(samples(stored), CLASS_IDS, positives="same_class")
    tries = 400
    drawn = [[image_id(item) for item in triplets[epoch, 0]] for epoch in range(tries)]
    positives, negatives = Counter(near for _, near, _ in drawn), Counter(far for _, _, far in drawn)
    assert set(positives) == {"image01", "image02", "image06", "image07"}
    assert set(negatives) == {f"image{index:02d}" for index in (3, 4, 5, 8, 9, 10)}
    for counted in (positives, negatives):
        p = 1 / len(counted)
        assert all(abs(count - p * tries) < 5 * np.sqrt(tries * p * (1 - p)) for count in counted.values())


def test_the_anchor_is_the_sample_of_its_key(stored):
    some = samples(stored, TURN)
    triplets = TripletSamples(some, CLASS_IDS, positives="same_class")
    for key in ((0, 3), (4, 3), (4, 3, 1)):
        assert torch.equal(triplets[key][0][0], some[key][0])


def test_an_augmented_anchor_takes_the_augmentation_passed_and_the_rest_the_samples_own(stored):
    plain = samples(stored)
    triplets = TripletSamples(plain, CLASS_IDS, positives="augmented_anchor", augmentation=MIRROR)
    for index in range(11):
        anchor, positive, negative = triplets[0, index]
        assert image_id(positive) == image_id(anchor)
        assert torch.equal(positive[0], plain[0, index][0].flip(-1))
        assert class_of(negative) != class_of(anchor)
        assert torch.equal(negative[0], plain[0, int(image_id(negative)[-2:])][0])


def test_the_only_image_of_its_class_is_augmented_anew_as_its_positive(stored):
    anchor, positive, _ = TripletSamples(samples(stored, TURN), CLASS_IDS, positives="same_class")[0, 5]
    assert image_id(anchor) == image_id(positive)
    assert not torch.equal(anchor[0], positive[0])


def test_a_batch_holds_all_anchors_then_all_positives_then_all_negatives(stored):
    triplets = TripletSamples(samples(stored), CLASS_IDS, positives="same_class")
    plain = list(training_batches(samples(stored), batch_size=4, epoch=2))
    batches = list(training_batches(triplets, batch_size=4, epoch=2))
    assert len(batches) == len(plain) == 2
    for batch, anchors in zip(batches, plain, strict=True):
        assert batch.images.shape == (12, 1, 32, 32)
        assert (batch.labels.shape, len(batch.boxes), len(batch.ids)) == ((12, 2), 12, 12)
        assert batch.ids[:4] == anchors.ids
        assert torch.equal(batch.images[:4], anchors.images)
        classes = np.array([CLASS_IDS[int(name[-2:])] for name in batch.ids]).reshape(3, 4)
        assert (classes[0] == classes[1]).all()
        assert (classes[0] != classes[2]).all()


def test_workers_parts_and_batch_sizes_change_no_triplet(stored):
    triplets = TripletSamples(samples(stored, TURN), CLASS_IDS, positives="same_class")
    (whole,) = training_batches(triplets, batch_size=11, epoch=1)
    rows = {whole.ids[i]: [whole.images[i + 11 * role] for role in range(3)] for i in range(11)}
    for batch in training_batches(triplets, batch_size=4, epoch=1, workers=1, part=(1, 2)):
        for i, name in enumerate(batch.ids[:2]):
            assert all(torch.equal(batch.images[i + 2 * role], rows[name][role]) for role in range(3))


def test_one_class_alone_is_one_clear_line(stored):
    with pytest.raises(DatasetError, match="classes: found 1 among 11 training images, expected 2 or more, to draw"):
        TripletSamples(samples(stored), np.zeros(11, np.int64), positives="same_class")


def test_an_image_that_cannot_be_read_is_named(stored, tmp_path):
    some = samples(stored)
    some.root = tmp_path
    triplets = TripletSamples(some, CLASS_IDS, positives="same_class")
    with pytest.raises(ImageError, match=r"image.*png: file: found No such file"):
        next(training_batches(triplets, batch_size=4, epoch=0))
