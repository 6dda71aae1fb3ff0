"""Triplets of images for metric learning: an anchor, one that is to lie near it, one that is to lie far."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from siimdet.data.batch import Batch, collate
from siimdet.data.loader import Augmentation, Samples
from siimdet.data.sampling import Key
from siimdet.errors import DatasetError

Positives = Literal["same_class", "augmented_anchor"]
"""Another random image of the anchor's class (itself if it is the only one), or the anchor augmented anew."""

_DRAWS = 1
"""Spawn key of our draws: without one they would follow from the seed that augments the anchor."""


class TripletSamples(Dataset):
    """An anchor, a positive and a negative of every image; item (epoch, index) is always the same.

    `class_ids` i64[N] tell the class of each of the samples. The negative is a random image of another
    class. `augmentation` takes the place of the samples' own for positives that are the anchor.
    Raises: DatasetError if all images are of one class.
    """

    def __init__(
        self,
        samples: Samples,
        class_ids: NDArray[np.int64],
        *,
        positives: Positives,
        augmentation: Augmentation | None = None,
    ) -> None:
        assert len(class_ids) == len(samples)
        self.samples, self.class_ids, self.seed = samples, class_ids, samples.seed
        self.positives: Positives = positives
        self.augmentation = augmentation
        classes = np.unique(class_ids).tolist()
        if len(classes) < 2:
            found = f"{len(classes)} among {len(samples)} training images"
            raise DatasetError(samples.root, "classes", found=found, expected="2 or more, to draw triplets from")
        self._members = {each: np.flatnonzero(class_ids == each) for each in classes}
        self._others = {each: np.flatnonzero(class_ids != each) for each in classes}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> tuple[tuple, tuple, tuple]:
        """Anchor, positive and negative, each an item of Samples; the anchor is the very one of the same key."""
        index, own = key[1], self.samples.augmentation
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, *key), spawn_key=(_DRAWS,)))
        near, far = (int(seed) for seed in rng.integers(2**32, size=2))
        negative = self.samples.load(int(rng.choice(self._others[self.class_ids[index]])), own, seed=far)
        if self.positives == "augmented_anchor":
            positive = self.samples.load(index, self.augmentation, seed=near)
        else:
            positive = self.samples.load(self._mate(index, rng), own, seed=near)
        return self.samples[key], positive, negative

    def collate(self, items: list[tuple[tuple, tuple, tuple]]) -> Batch:
        """One batch of 3 B images: all anchors, then all positives, then all negatives."""
        return collate([sample for role in zip(*items, strict=True) for sample in role])

    def _mate(self, index: int, rng: np.random.Generator) -> int:
        members = self._members[self.class_ids[index]]
        if len(members) == 1:
            return index
        # One place less to draw from; the last member stands in for the anchor itself.
        drawn = int(members[rng.integers(len(members) - 1)])
        return int(members[-1]) if drawn == index else drawn
