"""Training images at 512 px with the report's augmentations: ours from the cache against albumentations.

Both sides load phantoms of 1024 px one by one in this process, augment them with their boxes, and end with batches
f32[B, 1, S, S] in [0, 1]. The baseline is albumentations' own pipeline at its best: from the PNG files, from the
same cache, and from the PNG files in three channels as most people write it. Run it with OMP_NUM_THREADS=1: all
libraries then compute in one thread. Processor seconds tell the same on a machine that is busy.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import albumentations as A
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pairs import compare
from torch import Tensor
from torch.utils.data import DataLoader

from siimdet.augment import MIN_SIDE, MIN_VISIBLE, Augmenter
from siimdet.config.augment import Affine, Augment, Cutout
from siimdet.core.labels import OPACITY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.data.cache import ImageCache, open_cache
from siimdet.data.dataset import Dataset
from siimdet.data.loader import Samples, ordered_batches, training_batches
from siimdet.data.phantom import render, sample_opacities, sample_thorax, stretch
from siimdet.imaging.png import write_png

IMAGES, EPOCHS, STORED, SIDE, BATCH = 64, 2, 1024, 512, 8
REPORT = Augment(
    horizontal_flip=0.3,
    affine=Affine(p=0.3, rotate=20, shift=0.0625),
    sharpen=0.5,
    blur=0.25,
    brightness_contrast=0.3,
    cutout=Cutout(p=0.3, holes=6, radius=0.05),
)
Epoch = Iterator[tuple[Tensor, list[Tensor]]]
"""Per batch its images and the boxes of each."""
Read = Callable[[ImageRecord], NDArray]


class Circles(A.DualTransform):
    """Black discs, as one writes a transform of one's own: albumentations' CoarseDropout is rectangular."""

    def get_params_dependent_on_data(self, params: dict, data: dict) -> dict:
        """Draw centres and radii, in pixels."""
        height, width = params["shape"][:2]
        radius = 0.05 * min(width, height)
        draw = self.py_random.uniform
        number = self.py_random.randint(1, 6)
        return {"discs": [(draw(0, width), draw(0, height), draw(0.25, 1) * radius) for _ in range(number)]}

    def apply(self, img: NDArray, discs: list, **params: Any) -> NDArray:
        """Fill the discs."""
        image = np.ascontiguousarray(img).copy()
        for x, y, radius in discs:
            cv2.circle(image, (round(x), round(y)), round(radius), (0, 0, 0), -1)
        return image

    def apply_to_bboxes(self, bboxes: NDArray, discs: list, **params: Any) -> NDArray:
        """Boxes stay."""
        return bboxes


def compose(steps: list[Any]) -> A.Compose:
    """Steps as albumentations runs them, with our rules for slivers."""
    boxes = A.BboxParams(
        format="pascal_voc",
        label_fields=["class_ids"],
        min_visibility=MIN_VISIBLE,
        min_width=MIN_SIDE,
        min_height=MIN_SIDE,
        clip=True,
    )
    return A.Compose([*steps, A.NoOp()], bbox_params=boxes, seed=0)


def report_steps() -> list[Any]:
    """The report's augmentations."""
    return [
        A.HorizontalFlip(p=0.3),
        A.Affine(rotate=(-20, 20), translate_percent=(-0.0625, 0.0625), rotate_method="largest_box", p=0.3),
        A.OneOf([A.Sharpen(p=0.5), A.GaussianBlur(blur_limit=(3, 7), p=0.25)], p=0.75),
        A.RandomBrightnessContrast(p=0.3),
        Circles(p=0.3),
    ]


class Plain(torch.utils.data.Dataset):
    """Images and boxes through albumentations."""

    def __init__(self, dataset: Dataset, read: Read, steps: A.Compose) -> None:
        self.dataset, self.read, self.steps = dataset, read, steps

    def __len__(self) -> int:
        return len(self.dataset.records)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        record = self.dataset.records[index]
        truth = self.dataset.boxes[record.image_id]
        boxes = truth.xyxy * np.float32(SIDE / STORED)
        out = self.steps(image=self.read(record), bboxes=boxes, class_ids=truth.class_ids)
        pixels = torch.from_numpy(np.require(out["image"].transpose(2, 0, 1), requirements=("C", "W")))
        xyxy = torch.from_numpy(np.asarray(out["bboxes"], np.float32).reshape(-1, 4))
        return pixels, xyxy, torch.as_tensor(np.asarray(out["class_ids"], np.int64))

    def epoch(self, *, shuffle: bool = True) -> Epoch:
        """All images once; bytes become floats batch by batch, which is faster than one by one."""
        loader = DataLoader(self, BATCH, shuffle=shuffle, collate_fn=lambda items: tuple(zip(*items, strict=True)))
        for images, boxes, _ in loader:
            yield torch.stack(images).float().div_(255), list(boxes)


def from_png(dataset: Dataset, flag: int) -> Read:
    """Reads and shrinks an image [S, S, C]."""

    def read(record: ImageRecord) -> NDArray:
        image = cast(NDArray, cv2.imread(str(dataset.root / record.path), flag))
        return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).reshape(SIDE, SIDE, -1)

    return read


class Ours:
    """Images and boxes through our loader."""

    def __init__(self, dataset: Dataset, augment: Augment, cache: ImageCache) -> None:
        augmentation = Augmenter(augment)
        self.samples = Samples(
            *(dataset.root, dataset.records, dataset.boxes),
            side=SIDE,
            resize="stretch",
            augmentation=augmentation,
            cache=cache,
        )

    def epoch(self, *, shuffle: bool = True) -> Epoch:
        """All images once."""
        if shuffle:
            batches = training_batches(self.samples, batch_size=BATCH, epoch=0)
        else:
            batches = ordered_batches(self.samples, batch_size=BATCH)
        for batch in batches:
            yield batch.greys(torch.device("cpu")), batch.boxes


def same(theirs: Epoch, mine: Epoch) -> bool:
    """Whether pixels are equal, in every channel, and boxes within a millionth of the side."""
    return all(
        torch.equal(grey.expand_as(images), images)
        and all(torch.allclose(a, b, rtol=0, atol=SIDE * 1e-6) for a, b in zip(xyxy, boxes, strict=True))
        for (images, boxes), (grey, xyxy) in zip(theirs, mine, strict=True)
    )


def phantoms(root: Path) -> Dataset:
    """Chests with the boxes of their opacities."""
    rng = np.random.default_rng(0)
    size, records, boxes = ImageSize(STORED, STORED), [], {}
    for index in range(IMAGES):
        name, thorax = f"{index:03d}", sample_thorax(rng)
        phantom = render(rng, thorax, sample_opacities(rng, "typical", thorax))
        write_png(root / f"images/{name}.png", (stretch(rng, phantom, STORED, STORED) * 255).astype(np.uint8))
        records.append(ImageRecord(name, name, name, f"images/{name}.png", size, size, np.ones(1, np.float32), "train"))
        xyxy = (phantom.boxes * STORED).astype(np.float32)
        boxes[name] = BoxLabels(xyxy, np.zeros(len(xyxy), np.int64), size)
    return Dataset(root, "phantoms", OPACITY, OPACITY, 8, tuple(records), boxes, "0" * 64)


def compare_loading(name: str, dataset: Dataset, read: Read, cache: ImageCache) -> None:
    """Print the row of one baseline; first, both sides must agree without augmentation and on mirrored images."""
    agree = all(
        same(
            Plain(dataset, read, compose(steps)).epoch(shuffle=False),
            Ours(dataset, augment, cache).epoch(shuffle=False),
        )
        for steps, augment in (([], Augment()), ([A.HorizontalFlip(p=1)], Augment(horizontal_flip=1)))
    )
    seconds: dict[str, list[float]] = {"theirs": [], "ours": []}

    def timed(name: str, epoch: Callable[[], Epoch]) -> Callable[[], None]:
        def run() -> None:
            began = time.process_time()
            for _ in range(EPOCHS):
                for _batch in epoch():
                    pass
            seconds[name].append(time.process_time() - began)

        return run

    theirs = timed("theirs", Plain(dataset, read, compose(report_steps())).epoch)
    mine = timed("ours", Ours(dataset, REPORT, cache).epoch)
    result = compare(f"training images, {SIDE} px, from {name}", "albumentations", theirs, mine, equal=lambda *_: agree)
    images = EPOCHS * IMAGES
    print(f"  images/s: {images / result.baseline_seconds:.0f} against {images / result.our_seconds:.0f}")
    other, own = (np.array(values[1:]) for values in seconds.values())  # the first call warms up
    ratios = other / own
    print(
        f"  per processor second: {images / np.median(other):.0f} against {images / np.median(own):.0f}, "
        f"{np.median(ratios):.2f}x ({ratios.min():.2f} to {ratios.max():.2f})"
    )


def main() -> None:
    """Print a row per baseline."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = phantoms(Path(folder) / "dataset")
        cache = open_cache(Path(folder) / "cache", dataset, side=SIDE, resize="stretch")
        grey, colour = from_png(dataset, cv2.IMREAD_GRAYSCALE), from_png(dataset, cv2.IMREAD_COLOR)
        rows: tuple[tuple[str, Read], ...] = (
            ("PNG in three channels", colour),
            ("PNG", grey),
            ("the cache", lambda record: cache[record.image_id][..., None]),
        )
        for name, read in rows:
            compare_loading(name, dataset, read, cache)


if __name__ == "__main__":
    main()
