"""Bodies: names, published sizes, features as the pooled last maps, channels of the input."""

import pytest
import torch
from torch import nn

from siimdet.errors import RunError
from siimdet.models.bodies import (
    GREY_BODIES,
    GreyInput,
    build_body,
    feature_count,
    feature_maps,
    input_channels,
    map_channels,
    pool_features,
)
from siimdet.models.classifier import build_classifier

GREY = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads of small convolutions wait for each other longer than they work, most of all on busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_grey_becomes_three_channels_each_with_its_own_statistics():
    out = GreyInput(**GREY)(torch.full((2, 1, 3, 5), 0.5))
    assert out.shape == (2, 3, 3, 5)
    expected = [(0.5 - m) / s for m, s in zip(GREY["mean"], GREY["std"], strict=True)]
    assert out[1, :, 2, 4].tolist() == pytest.approx(expected, rel=1e-5)


def test_grey_may_stay_one_channel():
    out = GreyInput([0.5], [0.5])(torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3))
    assert out.tolist() == [[[[-1.0, 0.0, 1.0]]]]


def test_normalisation_is_no_part_of_the_weights():
    assert GreyInput(**GREY).state_dict() == {}


@pytest.mark.parametrize(
    ("name", "count"),
    # Published numbers less the layer of 1,000 classes; torchvision's, timm's for efficientnet_lite.
    [
        ("resnet18", 11_689_512 - 513_000),
        ("resnet50", 25_557_032 - 2_049_000),
        ("resnet152", 60_192_808 - 2_049_000),
        ("resnext50_32x4d", 25_028_904 - 2_049_000),
        ("resnext101_32x8d", 88_791_336 - 2_049_000),
        ("densenet121", 7_978_856 - 1_025_000),
        ("densenet161", 28_681_000 - 2_209_000),
        ("densenet169", 14_149_480 - 1_665_000),
        ("vgg16", 138_357_544 - 4_097_000),
        ("vgg16_bn", 138_365_992 - 4_097_000),
        ("vgg19", 143_667_240 - 4_097_000),
        ("alexnet", 61_100_840 - 4_097_000),
        ("convnext_tiny", 28_589_128 - 769_000),
        ("efficientnet_b0", 5_288_548 - 1_281_000),
        ("efficientnet_lite0", 4_652_008 - 1_281_000),
        ("efficientnet_lite1", 5_416_680 - 1_281_000),
        ("efficientnet_lite2", 6_092_072 - 1_281_000),
    ],
)
def test_bodies_have_their_published_numbers_of_parameters(name, count):
    with torch.device("meta"):
        assert parameters(build_body(name)) == count


def test_vgg_150_has_the_reports_number_of_parameters():
    with torch.device("meta"):
        model = build_classifier("vgg_150", num_classes=3, activation="log_softmax", mean=[0.5], std=[0.5])
    assert parameters(model) == 65_090_499


def test_maps_of_vgg_150_are_4_by_4_and_its_pooling_changes_nothing():
    body = build_body("vgg_150").eval()
    with torch.inference_mode():
        maps = feature_maps(body, torch.rand(1, 1, 150, 150))
    assert maps.shape == (1, 512, 4, 4)
    assert torch.equal(body.avgpool(maps), maps)


def test_parameters_of_the_small_bodies_by_hand():
    def convolutions(*widths: int) -> int:
        return sum(9 * before * after + after for before, after in zip((1, *widths), widths, strict=False))

    assert parameters(build_body("slice_fcn")) == convolutions(64, 128, 256, 512, 512)
    assert parameters(build_body("simple_cnn")) == convolutions(32, 64, 128)


@pytest.mark.parametrize(
    ("name", "side", "places", "channels", "features"),
    [
        ("resnext14_32x4d", 64, 2, 2048, 2048),
        ("densenet121", 64, 2, 1024, 1024),
        ("alexnet", 96, 2, 256, 4096),
        ("efficientnet_b0", 64, 2, 1280, 1280),
        ("mobilenet_v3_small", 64, 2, 576, 1024),
        ("convnext_tiny", 64, 2, 768, 768),
        ("efficientnet_lite0", 64, 2, 1280, 1280),
        ("mobilenetv3_small_050", 64, 2, 288, 1024),
        ("slice_fcn", 64, 2, 512, 512),
        ("simple_cnn", 32, 4, 128, 128),
    ],
)
def test_a_body_returns_its_pooled_maps(name, side, places, channels, features):
    torch.manual_seed(0)
    body = build_body(name).eval()
    images = torch.rand(2, input_channels(name), side, side)
    with torch.inference_mode():
        maps, found = feature_maps(body, images), body(images)
        assert torch.equal(pool_features(body, maps), found)
    assert maps.shape == (2, channels, places, places)
    assert found.shape == (2, features)
    assert (map_channels(body), feature_count(body)) == (channels, features)


@pytest.mark.parametrize("name", ["vgg16_bn", "vgg19"])
def test_the_4096_features_of_a_vgg_belong_to_the_body(name):
    with torch.device("meta"):
        body = build_body(name)
        maps = feature_maps(body, torch.zeros(1, 3, 64, 64))
        assert pool_features(body, maps).shape == body(torch.zeros(1, 3, 64, 64)).shape == (1, 4096)
    assert (map_channels(body), feature_count(body)) == (512, 4096)


def test_an_unknown_body_is_the_users_mistake():
    with pytest.raises(RunError, match=r"^model: body: found resnet51, expected resnet51q or resnet50 or \w+$"):
        build_body("resnet51")
    with pytest.raises(RunError, match=r"^model: body: found #, expected a network of torchvision or timm$"):
        build_body("#")
    with pytest.raises(RunError, match=r"^model: body: found Invalid pretrained tag \(x\) for resnet26\."):
        build_body("resnet26.x")


def test_a_transformer_is_refused():
    with pytest.raises(RunError, match=r"found vit_tiny_patch16_224, a transformer, expected a convolutional network"):
        build_body("vit_tiny_patch16_224")


@pytest.mark.parametrize("name", [*GREY_BODIES, "resnet18"])
def test_a_body_takes_its_own_number_of_channels(name):
    channels = input_channels(name)
    wrong = [0.5] * (4 - channels)
    line = {1: "found 3 numbers, expected 1: .* takes one", 3: "found 1 numbers, expected 3: .* takes three"}[channels]
    with torch.device("meta"), pytest.raises(RunError, match=f"^model: mean: {line}"):
        build_classifier(name, num_classes=2, activation="softmax", mean=wrong, std=wrong)
