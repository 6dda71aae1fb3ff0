"""How many changed copies of real images the leak audit finds: `python tools/copies_found.py DATASET...`.

Of every data set, as `siimdet convert` wrote it, up to 60 images are changed in each of these ways and
audited against the data set whole. Found is a pair of the copy with its own original; false are pairs
with an image of another patient, counted where the source knows its patients.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from siimdet.core.types import BoxLabels, ImageRecord, ImageSize, LabelSpace
from siimdet.data.audit import audit
from siimdet.data.dataset import Dataset
from siimdet.data.manifest import read_dataset, write_dataset
from siimdet.imaging.png import read_grey, write_png

MOST = 60
KNOW_PATIENTS = ("siim", "rsna", "nih")
NONE = LabelSpace("none", ())


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Compressed and read back."""
    _, code = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE))


def resized(image: np.ndarray, width: float, height: float) -> np.ndarray:
    """By a factor on each axis."""
    size = (max(8, round(image.shape[1] * width)), max(8, round(image.shape[0] * height)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def contrast(image: np.ndarray, tail: float, gamma: float) -> np.ndarray:
    """Windowed with `tail` per cent cut on either side, then a gamma."""
    low, high = np.percentile(image, [tail, 100 - tail])
    scaled = np.clip((image - low) / max(high - low, 1), 0, 1)
    return np.rint(255 * scaled**gamma).astype(np.uint8)


def cropped(image: np.ndarray, share: float) -> np.ndarray:
    """A share cut off every side."""
    y, x = (round(side * share) for side in image.shape)
    return image[y : image.shape[0] - y, x : image.shape[1] - x]


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    """About the middle."""
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE))


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "JPEG of quality 30": lambda image: jpeg(image, 30),
    "reduced to a third": lambda image: resized(image, 1 / 3, 1 / 3),
    "squashed to a square": lambda image: cv2.resize(image, (320, 320), interpolation=cv2.INTER_AREA),
    "windowed by 2 %, gamma .6": lambda image: contrast(image, 2, 0.6),
    "windowed by 2 %, gamma 1.6": lambda image: contrast(image, 2, 1.6),
    "half size, window, JPEG 40": lambda image: jpeg(contrast(resized(image, 0.5, 0.5), 2, 0.8), 40),
    "inverted": lambda image: 255 - image,
    "cropped by 3 % a side": lambda image: cropped(image, 0.03),
    "cropped by 6 % a side": lambda image: cropped(image, 0.06),
    "CLAHE of clip limit 2": lambda image: np.asarray(cv2.createCLAHE(2).apply(image)),
    "CLAHE of clip limit 4": lambda image: np.asarray(cv2.createCLAHE(4).apply(image)),
    "turned by 2 degrees": lambda image: turned(image, 2),
    "cropped by 10 % a side": lambda image: cropped(image, 0.1),
    "mirrored": lambda image: image[:, ::-1].copy(),
}


def planted(dataset: Dataset, records: Sequence[ImageRecord], change: Callable, folder: Path) -> Dataset:
    """A data set of the changed copies, under their originals' ids."""
    copies, boxes = [], {}
    for record in records:
        image = change(read_grey(dataset.root / record.path))
        write_png(folder / record.path, image)
        size = ImageSize(image.shape[1], image.shape[0])
        boxes[record.image_id] = BoxLabels.empty(size)
        copies.append(replace(record, stored=size, original=size, labels=np.zeros(0, np.float32), source={}))
    return write_dataset(folder, copies, boxes, source="copies", labels=NONE, classes=NONE, bit_depth=8)


def main() -> None:
    """Print a row per change: copies found of copies made, and false pairs."""
    found, made, false = dict.fromkeys(CHANGES, 0), dict.fromkeys(CHANGES, 0), dict.fromkeys(CHANGES, 0)
    for place in sys.argv[1:]:
        dataset = read_dataset(Path(place))
        records = dataset.records[:: max(1, len(dataset.records) // MOST)][:MOST]
        for name, change in CHANGES.items():
            with tempfile.TemporaryDirectory() as folder:
                pairs = audit(dataset, [planted(dataset, records, change, Path(folder))])["against"][0]["same_images"]
            made[name] += len(records)
            found[name] += len({pair["left"] for pair in pairs if pair["left"] == pair["right"]})
            if dataset.source in KNOW_PATIENTS:
                false[name] += sum(pair["patients"][0] != pair["patients"][1] for pair in pairs)
    for name in CHANGES:
        share = f"{found[name]:>5} of {made[name]:<5}{found[name] / made[name]:>6.1%}"
        print(f"{name:<30}{share}   false pairs {false[name]}")


if __name__ == "__main__":
    main()
