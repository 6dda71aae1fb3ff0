"""Classifiers: heads, initial weights, the grey input and what probabilities mean."""

import math

import pytest
import torch
from torch import nn

from siimdet.errors import RunError
from siimdet.models.bodies import BODIES, GreyInput, build_body, stage_channels
from siimdet.models.classifier import build_classifier
from siimdet.models.heads import linear_head, study_head

GREY = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_grey_becomes_three_channels_each_with_its_own_statistics():
    out = GreyInput(**GREY)(torch.full((2, 1, 3, 5), 0.5))
    assert out.shape == (2, 3, 3, 5)
    expected = [(0.5 - m) / s for m, s in zip(GREY["mean"], GREY["std"], strict=True)]
    assert out[1, :, 2, 4].tolist() == pytest.approx(expected, rel=1e-5)


def test_normalisation_is_no_part_of_the_weights():
    assert GreyInput(**GREY).state_dict() == {}


@pytest.mark.parametrize(
    ("name", "count"),
    # torchvision's published numbers less the 1,000-class layer.
    [
        ("resnet18", 11_689_512 - 513_000),
        ("resnet50", 25_557_032 - 2_049_000),
        ("resnext50_32x4d", 25_028_904 - 2_049_000),
        ("resnext101_32x8d", 88_791_336 - 2_049_000),
    ],
)
def test_bodies_have_their_published_numbers_of_parameters(name, count):
    with torch.device("meta"):
        assert parameters(build_body(name)) == count


@pytest.mark.parametrize("name", sorted(BODIES))
def test_stage_channels_are_what_the_stages_put_out(name):
    with torch.device("meta"):
        body = build_body(name)
        features = body.maxpool(body.relu(body.bn1(body.conv1(torch.zeros(1, 3, 64, 64)))))
        channels, strides = [], []
        for stage in (body.layer1, body.layer2, body.layer3, body.layer4):
            features = stage(features)
            channels.append(features.shape[1])
            strides.append(64 // features.shape[2])
    assert stage_channels(body) == channels
    assert strides == [4, 8, 16, 32]


def test_an_unknown_body_is_the_users_mistake():
    with pytest.raises(RunError, match=r"^model: body: found resnet5, expected resnext101_32x8d or "):
        build_body("resnet5")


def test_study_head_is_the_reports():
    torch.manual_seed(0)
    head = study_head(2048, num_classes=4, hidden=1024, dropout=0.5)
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert head[2].p == 0.5
    for layer, (features_in, features_out) in ((head[0], (2048, 1024)), (head[3], (1024, 4))):
        assert layer.weight.shape == (features_out, features_in)
        bound = math.sqrt(6 / (features_in + features_out))
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert (layer.bias == 0).all()


def test_linear_head_is_one_layer():
    head = linear_head(8, num_classes=3)
    assert isinstance(head, nn.Linear)
    assert head.weight.shape == (3, 8)


@pytest.mark.parametrize(("activation", "hidden"), [("sigmoid", None), ("softmax", 16)])
def test_probabilities_follow_the_activation(activation, hidden):
    torch.manual_seed(0)
    model = build_classifier(
        "resnext14_32x4d", num_classes=4, activation=activation, hidden=hidden, dropout=0.5, **GREY
    )
    model.eval()
    images = torch.rand(3, 1, 64, 64)
    found = model.predict(images)
    logits = model(images).detach()
    assert (found.shape, found.dtype) == ((3, 4), torch.float32)
    assert not found.requires_grad
    if activation == "softmax":
        assert torch.allclose(found, logits.exp() / logits.exp().sum(1, keepdim=True), atol=1e-6)
    else:
        assert torch.allclose(found, 1 / (1 + (-logits).exp()), atol=1e-6)


def test_sizes_of_the_reports_classifiers():
    with torch.device("meta"):
        body = parameters(build_body("resnext101_32x8d"))
        backbone = build_classifier("resnext101_32x8d", num_classes=14, activation="sigmoid", **GREY)
        study = build_classifier("resnext101_32x8d", num_classes=4, activation="softmax", hidden=1024, **GREY)
    assert parameters(backbone) - body == 2048 * 14 + 14
    assert parameters(study) - body == 2048 * 1024 + 1024 + 1024 * 4 + 4
