"""From a model's output in input pixels to detections in stored ones; the cache, and the device."""

import numpy as np
import pytest
import torch

from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.data.cache import open_cache
from siimdet.data.dataset import Dataset
from siimdet.errors import ImageError, RunError, UserError
from siimdet.imaging.png import write_png
from siimdet.inference.device import pick_device
from siimdet.inference.predict import Classifies, Detector, classify, detect, embed

CPU = torch.device("cpu")
SIZE = ImageSize(128, 64)


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    records = []
    for index, name in enumerate(("a", "b", "c")):
        write_png(tmp_path / "images" / f"{name}.png", np.full((64, 128), 51 * (index + 1), np.uint8))
        records.append(ImageRecord(name, name, name, f"images/{name}.png", SIZE, SIZE, [1, 0, 0, 0], "val"))
    boxes = {record.image_id: BoxLabels.empty(SIZE) for record in records}
    return Dataset(tmp_path, "test", STUDY, OPACITY, 8, tuple(records), boxes, "")


class Centred:
    """Finds the same boxes in every image of 32 px; scores follow the image's grey."""

    def predict(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        boxes = torch.tensor([[8.0, 8, 24, 24], [0, 4, 8, 12], [0, 0, 4, 4]])
        return [(boxes, torch.tensor([0.5, 1.0, 0.7]) * image.max(), torch.tensor([0, 0, 0])) for image in images]


class Greys:
    """Tells each image's grey as the first class."""

    def predict_all(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        grey = images.amax(dim=(1, 2, 3))
        return {"classes": torch.stack([grey, 1 - grey, 0 * grey, 0 * grey], dim=1)}


class GreysAndBoxes(Greys):
    """Tells half of the grey as the probability of a box."""

    def predict_all(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return super().predict_all(images) | {"opacity": images.amax(dim=(1, 2, 3)) / 2}


class Astray:
    """Tells nothing but NaN from the second image on."""

    def predict_all(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        grey = images.amax(dim=(1, 2, 3))
        return {"classes": torch.where(grey > 0.3, torch.nan, grey)[:, None].expand(-1, 4)}


def test_boxes_come_in_stored_pixels_best_first_and_padding_is_dropped(dataset):
    assert isinstance(Centred(), Detector)
    found = detect(Centred(), dataset, dataset.records, side=32, resize="letterbox", device=CPU, batch_size=2)
    assert list(found) == ["a", "b", "c"]
    # 32 px of input are 128 stored, and the image begins 8 px down: the third box lies in the padding.
    for index, detections in enumerate(found.values()):
        assert detections.xyxy.tolist() == [[0, 0, 32, 16], [32, 0, 96, 64]]
        assert detections.scores == pytest.approx(np.array([1.0, 0.5]) * (index + 1) / 5)
        assert detections.size == SIZE


def test_stretched_boxes_scale_by_each_side(dataset):
    found = detect(Centred(), dataset, dataset.records[:1], side=32, resize="stretch", device=CPU)
    assert found["a"].xyxy.tolist() == [[0, 8, 32, 24], [0, 0, 16, 8], [32, 16, 96, 48]]


def test_classes_are_keyed_by_image_in_the_order_asked_for(dataset):
    assert isinstance(Greys(), Classifies)
    records = dataset.records[::-1]
    found = classify(Greys(), dataset, records, STUDY, side=32, resize="stretch", device=CPU, batch_size=2)
    assert found.opacity is None
    probabilities = found.classes
    assert probabilities.keys == ("c", "b", "a")
    assert probabilities.values[:, :2] == pytest.approx(np.array([[0.6, 0.4], [0.4, 0.6], [0.2, 0.8]]))
    empty = classify(Greys(), dataset, [], STUDY, side=32, resize="stretch", device=CPU)
    assert empty.classes.values.shape == (0, 4)


def test_opacity_is_a_column_after_the_classes(dataset):
    found = classify(GreysAndBoxes(), dataset, dataset.records, STUDY, side=32, resize="stretch", device=CPU)
    header, rows = found.table()
    assert header == ("image_id", *STUDY.names, "opacity")
    assert [(row[0], row[1], row[5]) for row in rows] == [
        (name, pytest.approx(grey), pytest.approx(grey / 2)) for name, grey in (("a", 0.2), ("b", 0.4), ("c", 0.6))
    ]


def test_a_model_that_tells_no_numbers_is_named_with_the_first_image(dataset):
    line = "model: output: found nan or infinity for 2 images, the first b, expected numbers"
    with pytest.raises(RunError, match=line):
        classify(Astray(), dataset, dataset.records, STUDY, side=32, resize="stretch", device=CPU)


class TooLarge:
    """Does what CUDA does with more than two images at a time."""

    def predict(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")
        return Centred().predict(images)


def test_too_little_memory_is_one_line_that_says_what_to_lower(dataset):
    asked = {"side": 32, "resize": "stretch", "device": CPU}
    with pytest.raises(UserError) as caught:
        detect(TooLarge(), dataset, dataset.records, batch_size=3, **asked)
    assert str(caught.value) == (
        "prediction on cpu: memory: found too little for 3 inputs of 32 px at a time, expected fewer at a time "
        "(batch_size in the run's model.json, validation_batch_size in a training), or smaller ones (--scales)"
    )
    assert len(detect(TooLarge(), dataset, dataset.records, batch_size=2, **asked)) == 3


def grey_rows(images: torch.Tensor, output: str) -> torch.Tensor:
    """An embedding: the mean grey of an image, and the kind of output that was asked for."""
    return torch.stack([images.mean((1, 2, 3)), torch.full((len(images),), float(output == "embedding"))], dim=1)


def test_a_cache_of_the_side_and_resize_spares_the_files(dataset, tmp_path):
    cache = open_cache(tmp_path / "cache", dataset, side=32, resize="letterbox")
    asked = {"side": 32, "resize": "letterbox", "device": CPU}
    everything = (
        lambda **more: detect(Centred(), dataset, dataset.records, **asked | more),
        lambda **more: classify(Greys(), dataset, dataset.records, STUDY, **asked | more),
        lambda **more: embed(grey_rows, dataset, dataset.records, **asked | more),
    )
    boxes, classes, rows = (predict() for predict in everything)
    for record in dataset.records:
        (dataset.root / record.path).unlink()
    again = [predict(cache=cache) for predict in everything]
    assert [found.xyxy.tolist() for found in again[0].values()] == [found.xyxy.tolist() for found in boxes.values()]
    assert [found.scores.tolist() for found in again[0].values()] == [f.scores.tolist() for f in boxes.values()]
    assert np.array_equal(again[1].classes.values, classes.classes.values)
    assert np.array_equal(again[2], rows)
    for other in ({"side": 64}, {"resize": "stretch"}):  # these read the files
        for predict in everything:
            with pytest.raises(ImageError, match=r"a\.png"):
                predict(cache=cache, **other)


def test_devices():
    assert pick_device("cpu") == CPU
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())):
        if not there:
            with pytest.raises(UserError, match=f"^--device: {name}: found no such device here, expected cpu"):
                pick_device(name)
