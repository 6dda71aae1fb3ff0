"""Explanations: heat where the class is seen, in stored pixels, whatever the body; and refusals."""

import importlib.util
import json

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from siimdet.cli import run as siimdet
from siimdet.core.labels import OPACITY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize, LabelSpace
from siimdet.data.dataset import Dataset
from siimdet.data.manifest import write_dataset
from siimdet.data.placement import fit_image
from siimdet.errors import MissingExtra
from siimdet.imaging.png import read_grey, write_png
from siimdet.inference.explain import explain_run, explanations, heat_map, overlay, to_stored
from siimdet.models.bodies import GreyInput, build_body, feature_maps, input_channels, last_map_module
from siimdet.models.classifier import Classifier, build_classifier
from siimdet.models.plain_bodies import PlainBody
from siimdet.models.two_stage import TwoStage
from siimdet.models.weights import ModelSpec, build_model, save_model

if importlib.util.find_spec("pytorch_grad_cam") is None:
    pytest.skip("the extra `explain` is not installed", allow_module_level=True)

CPU = torch.device("cpu")
CLASSES = LabelSpace("sides", ("left", "right"))
SIDE = 64


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of small convolutions wait for each other longer than they work, most of all on busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Quarters(nn.Module):
    """Maps f32[B, 2, 8, 8]: the image's brightness in the upper left quarter, and in the lower right one."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        small = nn.functional.adaptive_avg_pool2d(images, 8)
        maps = torch.zeros(len(images), 2, 8, 8)
        maps[:, 0, :4, :4], maps[:, 1, 4:, 4:] = small[:, 0, :4, :4], small[:, 0, 4:, 4:]
        return maps


class Brightness(nn.Module):
    """Maps f32[B, 1, 8, 8]: the image's brightness."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 8)


def hand_set(features: nn.Module, weights: list[list[float]], **settings) -> Classifier:
    """A classifier whose scores are `weights` times the means of the maps of `features`."""
    body = PlainBody(features, nn.AdaptiveAvgPool2d(1), nn.Identity())
    head = nn.Linear(len(weights[0]), len(weights))
    with torch.no_grad():
        head.weight.copy_(torch.tensor(weights))
        head.bias.zero_()
    return Classifier(GreyInput([0.0], [1.0]), body, head, **{"activation": "softmax", **settings}).eval()


def quarters(**settings) -> Classifier:
    return hand_set(Quarters(), [[1.0, 0.0], [0.0, 1.0]], **settings)


def write_images(folder, images: dict[str, np.ndarray]) -> Dataset:
    records, boxes = [], {}
    for name, image in images.items():
        size = ImageSize(image.shape[1], image.shape[0])
        write_png(folder / "images" / f"{name}.png", image)
        records.append(ImageRecord(name, name, name, f"images/{name}.png", size, size, [1, 0], "val"))
        boxes[name] = BoxLabels.empty(size)
    return Dataset(folder, "test", CLASSES, OPACITY, 8, tuple(records), boxes, "")


def share(heat: np.ndarray, xyxy: tuple[int, int, int, int]) -> float:
    x1, y1, x2, y2 = xyxy
    return float(heat[y1:y2, x1:x2].sum() / heat.sum())


@pytest.mark.parametrize(
    ("resize", "left", "right"),
    [
        # The stored image is 96 x 48; a quarter of the input in stored pixels, as far as it lies there.
        ("stretch", (0, 0, 48, 24), (48, 24, 96, 48)),
        ("letterbox", (0, 0, 48, 24), (48, 24, 96, 48)),
        # 48 rows become 73 px of which 64 are seen, from 96 columns of 146: 42 stored pixels in the middle.
        ("shorter", (27, 3, 48, 24), (48, 24, 69, 45)),
    ],
)
def test_the_heat_lies_in_the_quarter_that_the_class_is_seen_in(tmp_path, resize, left, right):
    data = write_images(tmp_path, {"a": np.full((48, 96), 200, np.uint8)})
    for class_id, place in enumerate((left, right)):
        (found,) = explanations(quarters(), data, data.records, side=SIDE, resize=resize, device=CPU, class_id=class_id)
        assert found.heat.shape == (48, 96)
        assert found.heat.max() == pytest.approx(1, abs=1e-3)
        # What lies outside is the last maps' half cell along two inner edges.
        assert share(found.heat, place) > 0.85
        if resize == "shorter":  # nothing is said of what the model did not see
            assert not found.heat[:, :26].any() and not found.heat[:, 70:].any()


def test_the_heat_of_a_mirrored_image_is_mirrored(tmp_path):
    image = np.zeros((64, 128), np.uint8)
    image[8:24, 16:48] = 255
    data = write_images(tmp_path, {"a": image, "b": np.ascontiguousarray(image[:, ::-1])})
    model = hand_set(Brightness(), [[1.0], [-1.0]])
    for resize in ("stretch", "letterbox", "shorter"):
        there, mirrored = explanations(model, data, data.records, side=SIDE, resize=resize, device=CPU)
        assert (there.class_id, mirrored.class_id) == (0, 0)
        assert np.allclose(mirrored.heat, there.heat[:, ::-1], atol=1e-5)
        y, x = np.unravel_index(there.heat.argmax(), there.heat.shape)
        assert 8 <= y < 24 and 16 <= x < 48


def test_a_model_that_looks_at_the_mirror_image_too_is_explained_by_both(tmp_path):
    data = write_images(tmp_path, {"a": np.full((64, 64), 200, np.uint8)})
    settings = {"side": SIDE, "resize": "stretch", "device": CPU, "class_id": 0}
    (one,) = explanations(quarters(), data, data.records, **settings)
    (both,) = explanations(quarters(flip_tta=True), data, data.records, **settings)
    assert np.allclose(both.heat, (one.heat + one.heat[:, ::-1]) / 2, atol=1e-6)


def test_the_most_probable_class_is_explained_with_its_probability(tmp_path):
    image = np.zeros((64, 64), np.uint8)
    image[40:56, 40:56] = 255
    data = write_images(tmp_path, {"a": image})
    model = quarters(activation="sigmoid")
    (found,) = explanations(model, data, data.records, side=SIDE, resize="stretch", device=CPU)
    assert found.class_id == 1
    # 256 of the 64 x 64 pixels are white, and the score is their share.
    assert found.probability == pytest.approx(1 / (1 + np.exp(-1 / 16)))


@pytest.mark.parametrize("activation", ["softmax", "log_softmax"])
def test_a_model_that_is_sure_still_has_a_heat_map(activation):
    model = hand_set(Brightness(), [[1000.0], [-1000.0]], activation=activation)
    image = torch.zeros(1, 1, SIDE, SIDE)
    image[..., :32, :32] = 1
    assert model.predict(image)[0].tolist() == [1, 0]
    assert share(heat_map(model, image, 0), (0, 0, 32, 32)) > 0.85


def test_frozen_weights_have_heat_maps_too():
    image = torch.ones(1, 1, SIDE, SIDE)
    assert np.array_equal(heat_map(quarters().requires_grad_(False), image, 0), heat_map(quarters(), image, 0))


def test_two_stages_have_the_mean_of_their_heat_maps():
    image = torch.ones(1, 1, SIDE, SIDE)
    first = hand_set(Quarters(), [[1.0, 0.0], [0.0, 0.0]], activation="log_softmax")
    second = hand_set(Quarters(), [[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]], activation="log_softmax")
    model = TwoStage(first, second, [[0, 1], [2]], flip_tta=False).eval()
    of_first, of_second = heat_map(first, image, 0), heat_map(second, image, 0)
    # Class 0: its group is seen upper left, itself lower right. Class 1: its group's place alone.
    assert np.allclose(heat_map(model, image, 0), (of_first + of_second) / (of_first + of_second).max(), atol=1e-5)
    assert np.allclose(heat_map(model, image, 1), of_first, atol=1e-5)
    # Class 2 is its group's only one: that `second` sees it lower right counts for nothing, nor does `first` see it.
    assert not heat_map(model, image, 2).any()


def test_an_embedding_is_explained_through():
    torch.manual_seed(0)
    model = quarters(on="embedding", embedding=nn.Identity(), embedding_head=nn.Linear(2, 2))
    with torch.no_grad():
        model.embedding_head.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    image = torch.ones(1, 1, SIDE, SIDE)
    assert share(heat_map(model, image, 0), (32, 32, 64, 64)) > 0.85


@pytest.mark.parametrize(
    "name",
    [
        *("resnext14_32x4d", "densenet121", "alexnet", "efficientnet_b0", "mobilenet_v3_small", "convnext_atto"),
        *("vgg11_bn", "efficientnet_lite0", "mobilenetv3_small_050", "regnetx_002", "slice_fcn", "simple_cnn"),
    ],
)
def test_every_family_of_bodies_has_heat_maps(name):
    torch.manual_seed(0)
    channels = input_channels(name)
    model = build_classifier(
        name, num_classes=3, activation="sigmoid", mean=[0.5] * channels, std=[0.5] * channels
    ).eval()
    side = 96 if name == "alexnet" else SIDE  # one place alone says nothing
    image = torch.rand(1, 1, side, side)
    spread_signal(model, torch.rand(4, 1, side, side))
    layer = last_map_module(model.body, model.inputs(image))
    for class_id in range(3):
        maps, heat = by_hand(model, layer, image, class_id)
        assert torch.equal(
            maps.relu() if name == "densenet121" else maps, feature_maps(model.body, model.inputs(image))
        )
        assert np.allclose(heat_map(model, image, class_id), heat, atol=1e-3)


def spread_signal(model: nn.Module, images: torch.Tensor) -> None:
    """Give the batch norms the statistics of images: with those of a new model the last maps are nearly zero."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        model(images)
    model.eval()


def by_hand(model: nn.Module, layer: nn.Module, image: torch.Tensor, class_id: int) -> tuple[torch.Tensor, np.ndarray]:
    """The last maps, and Grad-CAM from them (Selvaraju et al., equations 1 and 2), from 0 to 1 or all zero."""
    outputs: list[torch.Tensor] = []
    hook = layer.register_forward_hook(lambda *found: outputs.append(found[2]))
    score = model(image)[0, class_id]
    hook.remove()
    (gradient,) = torch.autograd.grad(score, outputs)
    cam = (gradient.mean((2, 3), keepdim=True) * outputs[0]).sum(1)[0].relu().detach().numpy()
    large = cv2.resize(cam, image.shape[2:], interpolation=cv2.INTER_LINEAR)
    return outputs[0], (large - large.min()) / max(large.max() - large.min(), 1e-12)


def test_finding_the_module_leaves_no_hooks():
    body = build_body("simple_cnn")
    last_map_module(body, torch.zeros(1, 1, 32, 32))
    assert not any(module._forward_hooks for module in body.modules())


@pytest.mark.parametrize("resize", ["stretch", "letterbox", "shorter"])
@pytest.mark.parametrize("shape", [(48, 96), (96, 48), (200, 150), (31, 33)])
def test_a_map_comes_back_as_the_image_that_was_fitted(resize, shape):
    ramp = np.add.outer(np.arange(shape[0]), np.arange(shape[1])).astype(np.float32) / sum(shape)
    square, placement = fit_image(ramp, SIDE, resize)
    back = to_stored(square, placement, ImageSize(shape[1], shape[0]))
    seen = to_stored(np.ones_like(square), placement, ImageSize(shape[1], shape[0])) == 1
    assert seen.all() == (resize != "shorter")
    assert np.abs(back - ramp)[seen].max() < 0.03


def test_the_radiograph_shows_unchanged_where_there_is_no_heat():
    grey = np.array([[0, 100, 255]], np.uint8)
    drawn = overlay(grey, np.array([[0, 0, 1]], np.float32))
    assert drawn[0, :2].tolist() == [[0, 0, 0], [100, 100, 100]]
    # The hottest colour of the map is (128, 0, 0) in red, green, blue; .6 of it and .4 of white.
    assert drawn[0, 2].tolist() == [102, 102, 179]
    assert np.array_equal(overlay(grey.astype(np.uint16) << 8, np.zeros((1, 3), np.float32))[..., 0], grey)


@pytest.fixture
def case(tmp_path):
    """A run of an untrained classifier, and a data set of two images."""
    data = write_images(tmp_path / "data", {"a": np.full((40, 60), 90, np.uint8), "b": np.full((60, 40), 50, np.uint8)})
    write_dataset(data.root, data.records, data.boxes, source="folders", labels=CLASSES, classes=OPACITY, bit_depth=8)
    spec = ModelSpec(
        "classifier",
        {"body": "simple_cnn", "activation": "sigmoid", "mean": [0.5], "std": [0.5]},
        CLASSES,
        32,
        "letterbox",
        4,
    )
    torch.manual_seed(0)
    save_model(tmp_path / "run", spec, build_model(spec).state_dict(), {})
    return tmp_path


def test_the_command_writes_a_picture_per_image_and_their_table(case):
    ids = ("--ids", "b", "a")
    out = case / "out"
    assert siimdet(["explain", str(case / "run"), "--dataset", str(case / "data"), *ids, "--out", str(out)]) == 0
    lines = (out / "explanations.csv").read_text().splitlines()
    assert lines[0] == "image_id,class,probability,file"
    assert [line.split(",")[0] for line in lines[1:]] == ["b", "a"]
    assert all(line.split(",")[3] == f"{line[0]}.png" for line in lines[1:])
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "explanations.csv"]
    assert cv2.imread(str(out / "b.png")).shape == (60, 40, 3)
    assert read_grey(out / "a.png").shape == (40, 60)


def test_the_command_explains_the_class_that_is_asked_for(case):
    options = ["--dataset", str(case / "data"), "--ids", "a", "--out", str(case / "out")]
    for name in CLASSES.names:
        assert siimdet(["explain", str(case / "run"), *options, "--class", name]) == 0
        assert (case / "out" / "explanations.csv").read_text().splitlines()[1].startswith(f"a,{name},")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ids", "a", "c"], "--ids: found 'c', expected ids of images of this data set"),
        (["--ids", "a", "b", "a"], "--ids: found 'a' twice, expected every id once"),
        (["--ids", "a", "--class", "up"], "classes: found no 'up', expected left, right"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(case, options, words, capfd):
    out = case / "out"
    assert siimdet(["explain", str(case / "run"), "--dataset", str(case / "data"), *options, "--out", str(out)]) == 2
    error = capfd.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_a_detector_is_refused(case, capfd):
    card = case / "run" / "model.json"
    architecture = {"body": "resnet18", "mean": [0.5] * 3, "std": [0.5] * 3}
    changed = json.loads(card.read_text()) | {"kind": "faster_rcnn", "architecture": architecture}
    card.write_text(json.dumps(changed))
    options = ["--dataset", str(case / "data"), "--ids", "a", "--out", str(case / "out")]
    assert siimdet(["explain", str(case / "run"), *options]) == 2
    assert "kind: found a detector, expected a classifier" in capfd.readouterr().err
    assert not (case / "out").exists()


def test_a_missing_package_names_its_extra(case, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    data = write_images(case / "other", {"a": np.zeros((8, 8), np.uint8)})
    with pytest.raises(MissingExtra, match=r"pip install 'siimdet\[explain\]'"):
        explain_run(case / "run", data, ["a"], case / "out", class_name=None, device=CPU)
    assert not (case / "out").exists()
