"""Classifiers: heads and their initial weights, embeddings, auxiliary outputs, what probabilities mean."""

import math

import pytest
import torch
from torch import nn

from siimdet.errors import RunError
from siimdet.models.bodies import build_body, feature_maps
from siimdet.models.classifier import build_classifier
from siimdet.models.heads import ConvolutionHead, Embedding, build_head

GREY = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
ONE_GREY = {"mean": (0.5,), "std": (0.5,)}


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def small(seed: int = 0, **changes) -> nn.Module:
    torch.manual_seed(seed)
    settings = {"num_classes": 3, "activation": "softmax", **ONE_GREY} | changes
    return build_classifier("simple_cnn", **settings).eval()


def test_the_study_head_is_the_reports():
    torch.manual_seed(0)
    head = build_head(2048, num_classes=4, hidden=[1024], dropout=0.5)
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    assert head[2].p == 0.5
    for layer, (features_in, features_out) in ((head[0], (2048, 1024)), (head[3], (1024, 4))):
        assert layer.weight.shape == (features_out, features_in)
        bound = math.sqrt(6 / (features_in + features_out))
        assert 0.95 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        assert (layer.bias == 0).all()


def test_the_head_of_covid_resnet_is_the_reports():
    head = build_head(2048, num_classes=3, hidden=[256, 128, 64, 32], input_dropout=0.3, input_norm=True)
    assert [type(layer) for layer in head[:2]] == [nn.Dropout, nn.BatchNorm1d]
    assert head[0].p == 0.3
    widths = [(layer.in_features, layer.out_features) for layer in head if isinstance(layer, nn.Linear)]
    assert widths == [(2048, 256), (256, 128), (128, 64), (64, 32), (32, 3)]
    assert sum(isinstance(layer, nn.ReLU) for layer in head) == 4
    assert isinstance(head[-1], nn.Linear)


def test_a_head_without_hidden_layers_is_one_linear_layer():
    head = build_head(8, num_classes=3)
    assert isinstance(head, nn.Linear)
    assert head.weight.shape == (3, 8)


def test_a_convolution_head_is_the_mean_over_its_places():
    head = ConvolutionHead(1, num_classes=1, kernel=2)
    nn.init.ones_(head.convolution.weight)
    nn.init.zeros_(head.convolution.bias)
    maps = torch.tensor([[[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    assert head(maps).tolist() == [[(12 + 16 + 24 + 28) / 4]]


def test_maps_smaller_than_the_heads_kernel_are_refused():
    model = build_classifier("slice_fcn", num_classes=2, activation="softmax", head={"kernel": 2}, **ONE_GREY)
    assert model(torch.rand(1, 1, 64, 64)).shape == (1, 2)
    with pytest.raises(RunError, match=r"^model: places of the last maps: found 1, expected 2 or more .* image_size$"):
        model(torch.rand(1, 1, 32, 32))


@pytest.mark.parametrize(("activation", "head"), [("sigmoid", {}), ("softmax", {"hidden": [16]}), ("log_softmax", {})])
def test_probabilities_follow_the_activation(activation, head):
    model = small(activation=activation, head=head)
    images = torch.rand(3, 1, 32, 32)
    found, logits = model.predict(images), model(images).detach()
    assert (found.shape, found.dtype) == ((3, 3), torch.float32)
    assert not found.requires_grad
    if activation == "sigmoid":
        assert torch.allclose(found, 1 / (1 + (-logits).exp()), atol=1e-6)
    else:
        assert torch.allclose(found, logits.exp() / logits.exp().sum(1, keepdim=True), atol=1e-6)
    if activation == "log_softmax":
        assert torch.allclose(logits.exp().sum(1), torch.ones(3))


def test_log_probabilities_are_those_of_the_logits():
    images = torch.rand(2, 1, 32, 32)
    plain, log = small(activation="softmax"), small(activation="log_softmax")
    assert torch.allclose(plain(images).log_softmax(1), log(images))


def test_embeddings_have_norm_1():
    torch.manual_seed(0)
    embedding = Embedding(64, hidden=[32, 32], size=512)
    assert [layer.out_features for layer in embedding.layers if isinstance(layer, nn.Linear)] == [32, 32, 512]
    rows = embedding(torch.randn(50, 64) * 100)
    assert rows.shape == (50, 512)
    assert (rows.norm(dim=1) - 1).abs().max() < 1e-6


def test_embeddings_have_norm_1_in_half_precision_too():
    torch.manual_seed(0)
    model = small(embedding={"hidden": [16], "size": 64})
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = model(torch.rand(4, 1, 32, 32), output="embedding")
    assert rows.dtype == torch.float32
    assert (rows.norm(dim=1) - 1).abs().max() < 1e-6


def test_classes_are_told_on_the_body_or_on_the_embedding():
    embedding = {"hidden": [16], "size": 8}
    model, other = small(embedding=embedding), small(embedding=embedding, on="embedding")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    images = torch.rand(2, 1, 32, 32)
    rows = model(images, output="embedding")
    assert torch.allclose(model(images), model.head(model.body(model.inputs(images))))
    assert torch.allclose(other(images), model.embedding_head(rows))
    model.on = "embedding"
    assert torch.equal(model(images), other(images))


def test_auxiliary_outputs_stand_beside_the_classes():
    model = small(opacity=True, mask=True)
    images = torch.rand(2, 1, 32, 32)
    found = model(images, output="all")
    assert {name: tuple(values.shape) for name, values in found.items()} == {
        "classes": (2, 3),
        "opacity": (2,),
        "mask": (2, 4, 4),
    }
    assert torch.equal(found["classes"], model(images))
    assert set(small()(images, output="all")) == {"classes"}


def test_predictions_hold_the_probability_of_an_opacity():
    model = small(opacity=True, mask=True)
    images = torch.rand(2, 1, 32, 32)
    found = model.predict_all(images)
    assert set(found) == {"classes", "opacity"}
    assert torch.equal(found["classes"], model.predict(images))
    assert torch.allclose(found["opacity"], model(images, output="all")["opacity"].sigmoid())


def test_with_flips_an_image_and_its_mirror_image_get_one_answer():
    plain, flipping = small(opacity=True), small(opacity=True, flip_tta=True)
    images = torch.rand(3, 1, 32, 32)
    mirrored = images.flip(-1)
    assert not torch.allclose(plain.predict(images), plain.predict(mirrored), atol=1e-6)
    found = flipping.predict_all(images)
    for name, values in flipping.predict_all(mirrored).items():
        assert torch.equal(values, found[name])
        assert torch.equal(values, (plain.predict_all(images)[name] + plain.predict_all(mirrored)[name]) / 2)


def test_each_part_is_frozen_by_itself():
    model = small(embedding={"hidden": [], "size": 8}, opacity=True, mask=True)
    parts = ("body", "head", "embedding", "embedding_head", "opacity_head", "mask_head")
    assert sum(parameters(getattr(model, part)) for part in parts) == parameters(model)
    model.body.requires_grad_(False)
    images = torch.rand(2, 1, 32, 32)
    sum(values.sum() for values in model(images, output="all").values()).backward()
    learnt = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learnt == {"head", "opacity_head", "mask_head"}
    model.zero_grad()
    model.head.requires_grad_(False)
    model.body.features[6].requires_grad_(True)
    model(images).sum().backward()
    learnt = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learnt == {"body.features.6.weight", "body.features.6.bias"}


def test_the_mask_head_looks_at_the_last_maps():
    model = small(mask=True)
    images = torch.rand(2, 1, 32, 32)
    maps = feature_maps(model.body, model.inputs(images))
    assert torch.equal(model(images, output="all")["mask"], model.mask_head(maps))
    assert parameters(model.mask_head) == 9 * 128 * 64 + 64 + 64 + 1


def test_sizes_of_the_reports_classifiers():
    with torch.device("meta"):
        body = parameters(build_body("resnext101_32x8d"))
        backbone = build_classifier("resnext101_32x8d", num_classes=14, activation="sigmoid", **GREY)
        study = build_classifier(
            "resnext101_32x8d", num_classes=4, activation="softmax", head={"hidden": [1024], "dropout": 0.5}, **GREY
        )
        slices = build_classifier("slice_fcn", num_classes=2, activation="softmax", head={"kernel": 2}, **ONE_GREY)
    assert parameters(backbone) - body == 2048 * 14 + 14
    assert parameters(study) - body == 2048 * 1024 + 1024 + 1024 * 4 + 4
    assert parameters(slices.head) == 4 * 512 * 2 + 2


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"on": "embedding"}, "told on the embedding, expected one"),
        ({"head": {"kernel": 2, "hidden": [8]}}, "a head with a kernel has no other layers, found hidden"),
        ({"groups": {"a": [0], "b": [1, 2]}}, "groups need the activation log_softmax"),
        ({"groups": {"a": [0], "b": [1]}, "activation": "log_softmax"}, "groups hold 2 classes, expected 3"),
        ({"groups": {"a": [0], "b": [1, 1]}, "activation": "log_softmax"}, r"groups hold the classes \[0, 1, 1\]"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(changes, line):
    with pytest.raises(ValueError, match=line):
        small(**changes)
