"""Training images and boxes of a YOLO tree, read only, through ultralytics' augmentations.

A YOLO tree: data.yaml names a list of images (`train`); /images/x.png has its boxes in /labels/x.txt,
one `class cx cy width height` a line as fractions of the image. An image without that file has no boxes.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from siimdet.data.cache import ImageCache
from siimdet.data.loader import start_worker
from siimdet.data.placement import fit_image
from siimdet.errors import DatasetError, UserError
from siimdet.imaging.png import read_grey
from siimdet.models.yolo import open_ultralytics
from siimdet.models.yolo_settings import YoloSettings

open_ultralytics()

from ultralytics.cfg import get_cfg  # noqa: E402  (only after the door)
from ultralytics.data.augment import Compose  # noqa: E402
from ultralytics.data.dataset import YOLODataset  # noqa: E402


@dataclass(frozen=True, slots=True)
class YoloTree:
    """What a data.yaml says: class names in the order of their ids, and the training images."""

    classes: tuple[str, ...]
    images: tuple[Path, ...]


def read_yolo_tree(data_yaml: Path) -> YoloTree:
    """Read data.yaml and the list it calls `train`; relative paths start at the file that holds them.

    Raises: DatasetError if either is missing, empty or names an image that is not there.
    """
    if not data_yaml.is_file():
        raise DatasetError(data_yaml, "file", found="nothing", expected="a data.yaml")
    table = yaml.safe_load(data_yaml.read_text(encoding="utf-8"))
    for key in ("train", "names"):
        if not isinstance(table, dict) or key not in table:
            raise DatasetError(data_yaml, key, found="nothing", expected="the key of a YOLO data.yaml")
    names = table["names"]
    listing = data_yaml.parent / (table.get("path") or "") / table["train"]
    if not listing.is_file():
        raise DatasetError(data_yaml, "train", found=table["train"], expected="a text file that lists images")
    lines = listing.read_text(encoding="utf-8").splitlines()
    images = tuple(sorted(listing.parent / line.strip() for line in lines if line.strip()))
    absent = next((image for image in images if not image.is_file()), None)
    if not images or absent:
        raise DatasetError(listing, "images", found=f"no {absent}" if absent else "none", expected="image files")
    return YoloTree(tuple(names.values() if isinstance(names, dict) else names), images)


def read_yolo_boxes(image: Path, num_classes: int) -> NDArray[np.float32]:
    """Boxes of one image: f32[N, 5], class id and cx, cy, width, height as fractions.

    Raises: DatasetError naming file and line for anything else.
    """
    # The last /images/ alone, as in ultralytics: a folder further up may have that name too.
    before, _, after = str(image.parent / image.stem).rpartition("/images/")
    labels = Path(f"{before}/labels/{after}.txt")
    if not labels.is_file():
        return np.zeros((0, 5), dtype=np.float32)
    rows = []
    for number, line in enumerate(labels.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = np.array(line.split(), dtype=np.float32)
        except ValueError:
            row = np.zeros(0, dtype=np.float32)
        fits = row.shape == (5,) and row[0] in range(num_classes) and (row[1:] >= 0).all() and (row[1:] <= 1).all()
        if not fits or not (row[3:] > 0).all():
            expected = f"a class below {num_classes} and cx cy width height in (0, 1]"
            raise DatasetError(labels, f"line {number}", found=repr(line), expected=expected)
        rows.append(row)
    return np.array(rows, dtype=np.float32).reshape(-1, 5)


class ValueJitter:
    """Scales an image's grey values by 1 + U(-gain, gain): V of an HSV jitter.

    ultralytics' RandomHSV returns one-channel images as they are; hue and saturation mean nothing on them.
    """

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def __call__(self, labels: dict[str, Any]) -> dict[str, Any]:
        """Change labels["img"], u8[H, W, 1]."""
        scaled = np.arange(256) * (1 + np.random.uniform(-self.gain, self.gain))
        labels["img"] = cv2.LUT(labels["img"], np.clip(scaled, 0, 255).astype(np.uint8)).reshape(labels["img"].shape)
        return labels


class StretchedImages(YOLODataset):
    """ultralytics' data set without its files: no labels.cache, no .npy, no mended JPEGs, nothing written.

    With a `cache` of the data set that the tree is a view of, images come from there.
    """

    def __init__(self, tree: YoloTree, settings: YoloSettings, *, cache: ImageCache | None = None) -> None:
        assert cache is None or (cache.side, cache.resize) == (settings.image_size, "stretch")
        self._cache, self._ids = cache, cache.ids_of(tree.images) if cache is not None else []
        self._boxes = [read_yolo_boxes(image, len(tree.classes)) for image in tree.images]
        self._side, self._value_jitter = settings.image_size, settings.value_jitter
        super().__init__(
            img_path=[str(image) for image in tree.images],
            imgsz=settings.image_size,
            hyp=_augmentation(settings),
            data={"names": dict(enumerate(tree.classes)), "channels": 1},
        )
        self.epoch_seed = 0
        self.buffer = range(len(tree.images))  # mosaic draws from it: all images, not the ones read last

    def __getitem__(self, index: int) -> dict[str, Any] | UserError:
        """One augmented sample; the draws follow from `epoch_seed` and `index`, in whichever process they are made.

        An image that cannot be read comes back as its error, which the training raises.
        """
        seed = int(np.random.SeedSequence([self.epoch_seed, index]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        try:
            return super().__getitem__(index)
        except UserError as error:
            return error

    @staticmethod
    def collate_fn(batch: list[Any]) -> Any:
        """A batch, or the first error among its samples."""
        errors = [sample for sample in batch if isinstance(sample, UserError)]
        return errors[0] if errors else YOLODataset.collate_fn(batch)

    def get_img_files(self, img_path: list[str]) -> list[str]:
        """The list as it came: ultralytics would take each path for a text file that lists images."""
        return img_path

    def get_labels(self) -> list[dict[str, Any]]:
        """Boxes in the form that ultralytics' transforms take."""
        return [
            {
                "im_file": image,
                "cls": rows[:, :1],
                "bboxes": rows[:, 1:],
                "segments": [],
                "keypoints": None,
                "normalized": True,
                "bbox_format": "xywh",
            }
            for image, rows in zip(self.im_files, self._boxes, strict=True)
        ]

    def load_image(
        self, i: int, rect_mode: bool = True, resize_short: bool = False
    ) -> tuple[NDArray[np.uint8], tuple[int, int], tuple[int, int]]:
        """One image stretched to u8[S, S, 1], its size before and after; the modes of the base class do not apply."""
        if self._cache is not None:
            size = self._cache.stored_size(self._ids[i])
            # A copy: some of ultralytics' transforms change the image in place, and the cache is read only.
            cached = self._cache[self._ids[i]][..., None].copy()
            return cached, (size.height, size.width), cached.shape[:2]
        image = read_grey(Path(self.im_files[i]))
        if image.dtype != np.uint8:
            raise DatasetError(self.im_files[i], "bit depth", found=image.dtype, expected="8 bits for YOLO")
        stretched = fit_image(image, self._side, "stretch")[0][..., None]
        return stretched, image.shape, stretched.shape[:2]

    def build_transforms(self, hyp: Any) -> Compose:
        """The base class's transforms, then our jitter, then its tensors."""
        transforms = super().build_transforms(hyp)
        transforms.insert(-1, ValueJitter(self._value_jitter))
        return transforms


def _augmentation(settings: YoloSettings) -> Any:
    return get_cfg(
        overrides={
            "flipud": settings.flip_vertical,
            "fliplr": settings.flip_horizontal,
            "mixup": settings.mixup,
            "mosaic": settings.mosaic,
            "translate": settings.translate,
            "scale": settings.scale,
            "augmentations": [],  # None adds blur, median blur, grey and CLAHE where albumentations is installed
        }
    )


def epoch_loader(images: StretchedImages, settings: YoloSettings, *, seed: int, pin_memory: bool) -> DataLoader:
    """Batches of one epoch; order and augmentation follow from `seed` alone, for any number of workers."""
    images.epoch_seed = seed
    return DataLoader(
        images,
        batch_size=settings.batch,
        shuffle=True,
        num_workers=settings.workers,
        generator=torch.Generator().manual_seed(seed),
        collate_fn=images.collate_fn,
        worker_init_fn=start_worker,
        pin_memory=pin_memory,
    )
