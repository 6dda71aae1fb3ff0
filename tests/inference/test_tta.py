"""Test-time augmentation: a detector that finds one bright rectangle must find it in every version of the image."""

import numpy as np
import pytest
import torch

from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.data.dataset import Dataset
from siimdet.errors import UserError
from siimdet.imaging.png import write_png
from siimdet.inference.predict import Detector, detect
from siimdet.inference.tta import Mirrored, Versions, detect_versions

CPU = torch.device("cpu")
SIZE = ImageSize(128, 64)
TRUTH = [40, 20, 72, 44]
SIDE = 64


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    image = np.zeros((64, 128), np.uint8)
    image[TRUTH[1] : TRUTH[3], TRUTH[0] : TRUTH[2]] = 255
    write_png(tmp_path / "images" / "a.png", image)
    write_png(tmp_path / "images" / "b.png", np.zeros_like(image))
    records = tuple(
        ImageRecord(name, name, name, f"images/{name}.png", SIZE, SIZE, [1, 0, 0, 0], "val") for name in "ab"
    )
    boxes = {record.image_id: BoxLabels.empty(SIZE) for record in records}
    return Dataset(tmp_path, "test", STUDY, OPACITY, 8, records, boxes, "")


class BrightRectangle:
    """Finds the bounds of all that is brighter than half of white, and keeps the shapes of its inputs.

    Scores .9 where the rectangle lies left of the middle and .5 right of it, at the sides it looks at.
    """

    def __init__(self, sides: tuple[int, ...] = (32, 64, 96)) -> None:
        self._sides = sides
        self.shapes: list[tuple[int, ...]] = []

    def predict(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        self.shapes.append(tuple(images.shape))
        return [self._find(image[0]) for image in images]

    def _find(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        rows, columns = torch.nonzero(image > 0.5, as_tuple=True)
        if not len(rows) or len(image) not in self._sides:
            return torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64)
        box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        left = (box[0] + box[2]) / 2 < len(image) / 2
        return box[None], torch.tensor([0.9 if left else 0.5]), torch.tensor([0])


def found_in(dataset: Dataset, versions: Versions, model: Detector, resize="letterbox", batch_size=8):
    return detect_versions(
        model,
        dataset,
        dataset.records,
        versions=versions,
        side=SIDE,
        resize=resize,
        device=CPU,
        batch_size=batch_size,
    )


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5,), (1.5,), (0.5, 1.0, 1.5)])
@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_every_version_maps_back_to_the_same_stored_pixels(dataset, resize, scales, flip):
    found = found_in(dataset, Versions(flip, scales), BrightRectangle(), resize)
    assert found["a"].xyxy == pytest.approx(np.array([TRUTH]), abs=1e-4)
    assert found["a"].size == SIZE
    assert len(found["b"]) == 0


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_the_centre_cut_out_maps_back_to_a_pixel_of_the_input(dataset, scale, flip):
    found = found_in(dataset, Versions(flip, (scale,)), BrightRectangle(), "shorter")
    pixel = 64 / (SIDE * scale * 8 / 7)  # stored px per px of the input
    assert found["a"].xyxy == pytest.approx(np.array([TRUTH]), abs=pixel)


def test_one_version_alone_is_what_the_detector_finds(dataset):
    plain = detect(BrightRectangle(), dataset, dataset.records, side=SIDE, resize="letterbox", device=CPU)
    found = found_in(dataset, Versions(), BrightRectangle())
    assert list(found) == list(plain) == ["a", "b"]
    assert found["a"].xyxy.tolist() == plain["a"].xyxy.tolist()
    assert found["a"].scores.tolist() == plain["a"].scores.tolist() == [np.float32(0.9)]


def test_scores_are_means_over_the_versions_and_what_few_see_is_lowered(dataset):
    both = found_in(dataset, Versions(flip=True), BrightRectangle())
    assert both["a"].scores == pytest.approx([(0.9 + 0.5) / 2])
    once = found_in(dataset, Versions(flip=True, scales=(0.5, 1.0)), BrightRectangle(sides=(64,)))
    assert once["a"].scores == pytest.approx([(0.9 + 0.5) / 2 * 2 / 4])


def test_images_are_read_once_for_both_sides_and_larger_inputs_come_in_smaller_batches(dataset):
    model = BrightRectangle()
    found_in(dataset, Versions(flip=True, scales=(0.5, 1.5)), model, batch_size=2)
    assert model.shapes == [(2, 1, 32, 32)] * 2 + [(1, 1, 96, 96)] * 4


def test_the_mirror_image_has_mirrored_boxes():
    image = torch.zeros(1, 1, 64, 64)
    image[..., 10:20, 5:30] = 1
    ((boxes, scores, _),) = Mirrored(BrightRectangle()).predict(image)
    assert boxes.tolist() == [[5, 10, 30, 20]]
    assert scores.tolist() == [0.5]


def test_sides_are_multiples_of_32_and_the_own_side_stays():
    assert Versions(scales=(0.8, 1.0, 1.25)).sides(512) == (416, 512, 640)
    assert Versions(scales=(1.0, 0.1)).sides(500) == (500, 64)
    assert Versions(scales=(0.1, 1.0, 1.05)).sides(64) == (32, 64)


class WideStrides(BrightRectangle):
    """Takes inputs of whole cells of 64 px alone."""

    stride = 64


def test_sides_are_multiples_of_the_stride_that_a_detector_has(dataset):
    assert Versions(scales=(0.8, 1.0, 1.25)).sides(512, 64) == (384, 512, 640)
    assert Versions(scales=(0.1, 1.0, 1.4)).sides(128, 64) == (64, 128, 192)
    model = WideStrides(sides=(64, 128))
    found = found_in(dataset, Versions(scales=(0.5, 1.0, 1.5)), model)
    assert [shape[-1] for shape in model.shapes] == [64, 128]
    assert found["a"].xyxy == pytest.approx(np.array([TRUTH]), abs=1e-4)


@pytest.mark.parametrize("scales", [(0.0,), (1.0, -1.0), (float("nan"),), (float("inf"),), (9.0,)])
def test_a_scale_outside_its_bounds_is_refused(scales):
    with pytest.raises(UserError, match=r"^--scales: scale: found .*, expected numbers from 0.1 to 8$"):
        Versions(scales=scales)
