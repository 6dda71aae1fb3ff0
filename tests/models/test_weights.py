"""Models on disk: they come back as they were, and nothing damaged or foreign gets in."""

import dataclasses
import inspect
import json
import pickle
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
import torchvision

from siimdet.core.files import sha256_file
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import LabelSpace
from siimdet.errors import RunError
from siimdet.models.bodies import build_body
from siimdet.models.weight_files import read_safetensors
from siimdet.models.weights import (
    BUILDERS,
    MODEL,
    NEXT,
    WEIGHTS,
    ModelSpec,
    build_model,
    init_body,
    init_model,
    load_model,
    read_card,
    read_spec,
    save_model,
)

BODY = "resnext14_32x4d"
GREY = {"mean": [0.45, 0.45, 0.45], "std": [0.2, 0.2, 0.2]}
CLASSIFIER = ModelSpec("classifier", {"body": BODY, "activation": "softmax", **GREY}, STUDY, 64, "shorter", 4)
DETECTOR = ModelSpec(
    "faster_rcnn",
    {
        "body": BODY,
        "finest_stage": 2,
        "fpn_channels": 16,
        "box_head_features": 16,
        "anchor_sizes": [8, 16, 32, 48],
        "proposals": 30,
        **GREY,
    },
    OPACITY,
    64,
    "stretch",
    4,
)


def saved(run: Path, spec: ModelSpec, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    model = build_model(spec).eval()
    save_model(run, spec, model.state_dict(), {"scores": {"best": 0.5}})
    return model


@pytest.fixture(scope="module")
def classifier_run(tmp_path_factory) -> tuple[Path, torch.nn.Module]:
    run = tmp_path_factory.mktemp("classifier")
    return run, saved(run, CLASSIFIER)


@pytest.fixture
def broken(classifier_run, tmp_path) -> Path:
    """A copy of a run, to be damaged."""
    for name in (MODEL, WEIGHTS):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((classifier_run[0] / name).read_bytes())
    return tmp_path


def edit(run: Path, **changes) -> None:
    card = json.loads((run / MODEL).read_text()) | changes
    (run / MODEL).write_text(json.dumps({key: value for key, value in card.items() if value != "absent"}))


def refusal(run: Path) -> str:
    with pytest.raises(RunError) as caught:
        load_model(run)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value).removeprefix(f"{run}/")


def test_a_classifier_comes_back_with_equal_predictions(classifier_run):
    run, model = classifier_run
    again, spec = load_model(run)
    assert spec == CLASSIFIER
    assert not again.training
    images = torch.rand(2, 1, 64, 64)
    assert torch.equal(again.predict(images), model.predict(images))


@pytest.mark.parametrize(
    "changes",
    [
        {"embedding": {"hidden": [8, 8], "size": 4}, "on": "embedding"},
        {"head": {"hidden": [8], "input_norm": True}, "opacity": True, "mask": True, "flip_tta": True},
        {"activation": "log_softmax", "groups": {"negative": [0], "pneumonia": [1, 2, 3]}},
        {"body": "slice_fcn", "head": {"kernel": 2}},
    ],
    ids=["embedding", "auxiliary", "two-stage", "kernel"],
)
def test_every_kind_of_classifier_comes_back_with_equal_predictions(tmp_path, changes):
    architecture = {"body": "simple_cnn", "activation": "softmax", "mean": [0.5], "std": [0.5]} | changes
    spec = ModelSpec("classifier", architecture, STUDY, 64, "stretch", 4)
    model = saved(tmp_path, spec)
    again, found = load_model(tmp_path)
    assert found == spec
    images = torch.rand(2, 1, 64, 64)
    for name, values in again.predict_all(images).items():
        assert torch.equal(values, model.predict_all(images)[name])


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("faster_rcnn", {}),
        ("faster_rcnn", {"box_loss": "ciou", "body": "efficientnet_lite0"}),
        ("retinanet", {"anchor_sizes": [8, 16, 32, 48, 64], "anchor_octaves": 2, "box_loss": "giou"}),
        ("fcos", {"fpn_channels": 64}),
    ],
)
def test_a_detector_comes_back_with_equal_predictions(tmp_path, kind, changes):
    names = inspect.signature(BUILDERS[kind]).parameters
    settings = {name: value for name, value in DETECTOR.architecture.items() if name in names}
    made = dataclasses.replace(DETECTOR, kind=kind, architecture=settings | changes)
    model = saved(tmp_path, made)
    again, spec = load_model(tmp_path)
    assert spec == made
    images = torch.rand(2, 1, 64, 64)
    for ours, theirs in zip(again.predict(images), model.predict(images), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_card_says_what_the_model_is(classifier_run):
    run, _ = classifier_run
    card = read_card(run)
    assert card["kind"] == "classifier"
    assert card["classes"] == {"name": "siim-study", "names": list(STUDY.names)}
    assert card["input"] == {"image_size": 64, "resize": "shorter", "channels": 1, "batch_size": 4}
    assert card["scores"] == {"best": 0.5}
    assert card["sha256"] == sha256_file(run / WEIGHTS)


def test_what_is_not_there_is_named(tmp_path, broken):
    assert refusal(tmp_path / "none") == "model.json: file: found No such file or directory, expected " + (
        "the run directory of a finished epoch"
    )
    (broken / WEIGHTS).unlink()
    assert refusal(broken).startswith("weights/best.safetensors: file: found nothing, expected the weights of SHA-256 ")


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "header", "a byte of a tensor"])
def test_damaged_weights_are_refused(broken, damage):
    path = broken / WEIGHTS
    data = path.read_bytes()
    path.write_bytes(
        {
            "cut": data[:-100],
            "empty": b"",
            "foreign": b"\x89PNG" * 50,
            "header": b"\xff" * 8 + data[8:],
            "a byte of a tensor": data[:-1] + bytes([data[-1] ^ 1]),
        }[damage]
    )
    assert refusal(broken).startswith(
        "weights/best.safetensors: file: found other bytes, expected the weights of SHA-256 "
    )
    if damage != "a byte of a tensor":
        with pytest.raises(RunError, match=r"content: found .*, expected safetensors$"):
            read_safetensors(path)


def test_a_kill_between_card_and_weights_leaves_a_pair_that_fits(tmp_path):
    first = saved(tmp_path, CLASSIFIER, seed=1)
    old = (tmp_path / WEIGHTS).read_bytes()
    second = saved(tmp_path, CLASSIFIER, seed=2)
    assert not same_body(first.body, second.body)
    (tmp_path / WEIGHTS).rename(tmp_path / NEXT)  # as if killed after model.json
    (tmp_path / WEIGHTS).write_bytes(old)
    model, _ = load_model(tmp_path)
    assert same_body(model.body, second.body)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null", b"[]", b"{}", b'{"format": 99}'])
def test_a_broken_card_is_refused(broken, content):
    (broken / MODEL).write_bytes(content)
    assert refusal(broken).startswith(("model.json: content: found ", "model.json: format: found "))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"classes": "absent"}, "model.json: classes: found nothing, expected a value"),
        ({"input": {"resize": "stretch"}}, "model.json: image_size: found nothing, expected a value"),
        (
            {"kind": "vgg"},
            "model.json: kind: found 'vgg', expected classifier or faster_rcnn or retinanet or fcos or yolo",
        ),
        ({"kind": ["classifier"]}, "model.json: kind: found ['classifier'], expected"),
        ({"classes": "opacity"}, "model.json: content: found "),
        ({"classes": {"name": "x", "names": ["a", "a"]}}, "model.json: content: found label space x has a class twice"),
        ({"architecture": {"body": "vgg16"}}, "model.json: architecture: found "),
        (
            {"architecture": {"body": BODY, "activation": "softmax", **GREY, "depth": 3}},
            "model.json: architecture: found",
        ),
        ({"architecture": None}, "model.json: architecture: found "),
        ({"architecture": {**CLASSIFIER.architecture, "head": {"depth": 3}}}, "model.json: architecture: found "),
        (
            {"architecture": {**CLASSIFIER.architecture, "on": "embedding"}},
            "model.json: architecture: found classes are told on the embedding, expected one, expected that of a class",
        ),
    ],
)
def test_a_foreign_card_is_refused(broken, changes, line):
    edit(broken, **changes)
    assert refusal(broken).startswith(line)


def test_weights_of_another_architecture_are_refused(broken):
    edit(broken, classes={"name": "two", "names": ["a", "b"]})
    assert refusal(broken) == "weights/best.safetensors: head.weight: found (4, 2048), expected (2, 2048)"
    edit(broken, architecture={**CLASSIFIER.architecture, "head": {"hidden": [8]}})
    assert refusal(broken).startswith("weights/best.safetensors: head.0.bias: found no such tensor, expected ")


def test_a_surplus_tensor_is_refused(broken):
    tensors = read_safetensors(broken / WEIGHTS)
    save_model(broken, read_spec(broken), {**tensors, "spare": torch.zeros(1)}, {})
    assert "spare: found a tensor, expected none of that name" in refusal(broken)


class Payload:
    """Would make a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self):
        return open, (self.target, "w")


@pytest.mark.parametrize(
    "write", [lambda path, value: path.write_bytes(pickle.dumps(value)), lambda p, v: torch.save(v, p)]
)
def test_a_pickle_is_refused_and_never_run(broken, tmp_path, write):
    trap = tmp_path / "was-run"
    write(broken / WEIGHTS, {"head.weight": Payload(trap)})
    assert "found other bytes" in refusal(broken)
    foreign = tmp_path / "weights.safetensors"
    write(foreign, {"x": Payload(trap)})
    with pytest.raises(RunError, match=r"expected safetensors"):
        init_body(build_body(BODY), BODY, str(foreign))
    foreign = tmp_path / "weights.pth"
    write(foreign, {"x": Payload(trap)})
    with pytest.raises(RunError, match=r"content: found a pickle of something else, expected a state dict of .*only$"):
        init_body(build_body(BODY), BODY, str(foreign))
    assert not trap.exists()


def same_body(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    state = right.state_dict()
    return all(torch.equal(value, state[key]) for key, value in left.state_dict().items() if key in state)


def test_a_body_starts_from_nothing_a_run_or_a_file(classifier_run, tmp_path):
    run, model = classifier_run
    torch.manual_seed(9)
    body = build_body(BODY)
    before = {key: value.clone() for key, value in body.state_dict().items()}
    init_body(body, BODY, "none")
    assert all(torch.equal(value, before[key]) for key, value in body.state_dict().items())
    init_body(body, BODY, str(run))
    assert same_body(body, model.body)
    plain = tmp_path / "body.safetensors"
    plain.write_bytes(safetensors.torch.save(build_body(BODY).state_dict()))
    init_body(body, BODY, str(plain))
    assert not same_body(body, model.body)
    init_body(body, BODY, str(run / WEIGHTS))
    assert same_body(body, model.body)


def test_a_body_of_another_shape_or_none_is_refused(classifier_run, tmp_path):
    run, _ = classifier_run
    with pytest.raises(RunError, match=r"found no such tensor|found \("):
        init_body(build_body("resnet18"), "resnet18", str(run))
    with pytest.raises(RunError, match=r"model.json: file: found No such file"):
        init_body(build_body(BODY), BODY, str(tmp_path / "no-run"))


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.safetensors"])
def test_a_published_state_dict_gives_its_body_without_its_classifier(tmp_path, name):
    torch.manual_seed(3)
    published = torchvision.models.resnet18(weights=None)
    path, state = tmp_path / name, published.state_dict()
    path.write_bytes(safetensors.torch.save(state)) if path.suffix == ".safetensors" else torch.save(state, path)
    body = build_body("resnet18")
    init_body(body, "resnet18", str(path))
    assert same_body(body, published)


def test_a_training_checkpoint_of_several_processes_is_read(tmp_path):
    torch.manual_seed(3)
    source = build_body("simple_cnn")
    state = {f"module.{key}": value for key, value in source.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 4}, tmp_path / "a.pth")
    body = build_body("simple_cnn")
    init_body(body, "simple_cnn", str(tmp_path / "a.pth"))
    assert same_body(body, source)


def test_tensors_of_a_densenet_may_have_the_names_that_torchvision_published(tmp_path):
    torch.manual_seed(3)
    source = build_body("densenet121")
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])")
    state = {old.sub(r"\1.\2", key): value for key, value in source.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    torch.save(state, tmp_path / "a.pth")
    body = build_body("densenet121")
    init_body(body, "densenet121", str(tmp_path / "a.pth"))
    assert same_body(body, source)


def test_weights_of_a_deeper_body_are_refused(tmp_path):
    torch.save(build_body("resnext26_32x4d").state_dict(), tmp_path / "a.pth")
    with pytest.raises(RunError, match=r"a.pth: layer1\.1\.bn1\.bias: found a tensor, expected none of that name"):
        init_body(build_body(BODY), BODY, str(tmp_path / "a.pth"))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "content: found EOFError, expected a state dict of tensors alone"),
        (b"PK\3\4 no archive", "content: found RuntimeError, expected a state dict of tensors alone"),
        ([1, 2], "content: found list, expected a state dict of tensors alone"),
        ({}, "content: found dict, expected a state dict of tensors alone"),
        ({"epoch": 3}, "epoch: found int, expected a tensor"),
        (None, "file: found nothing, expected a .pt or .pth file"),
    ],
    ids=["empty", "damaged", "list", "no-tensors", "numbers", "missing"],
)
def test_what_is_no_state_dict_is_refused(tmp_path, content, line):
    path = tmp_path / "a.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(RunError) as caught:
        init_body(build_body("simple_cnn"), "simple_cnn", str(path))
    assert str(caught.value).startswith(f"{path}: {line}")
    assert len(str(caught.value).splitlines()) == 1


def test_a_two_stage_run_gives_its_first_body(tmp_path):
    settings = {"body": "simple_cnn", "activation": "log_softmax", "mean": [0.5], "std": [0.5]}
    groups = {"negative": [0], "pneumonia": [1, 2, 3]}
    model = saved(tmp_path, ModelSpec("classifier", settings | {"groups": groups}, STUDY, 64, "stretch", 4))
    body = build_body("simple_cnn")
    init_body(body, "simple_cnn", str(tmp_path))
    assert same_body(body, model.first.body)
    assert not same_body(body, model.second.body)


def test_a_detector_starts_from_a_run_of_its_own_kind_only(classifier_run, tmp_path):
    first = saved(tmp_path, DETECTOR, seed=1)
    second = build_model(DETECTOR)
    init_model(second, DETECTOR, tmp_path)
    assert same_body(first, second)
    with pytest.raises(RunError, match=r"model.json: kind: found classifier, expected faster_rcnn"):
        init_model(second, DETECTOR, classifier_run[0])
    assert read_spec(tmp_path) == DETECTOR


def test_a_detector_of_other_classes_gives_all_that_does_not_depend_on_them(tmp_path):
    first = saved(tmp_path, DETECTOR, seed=1)
    spec = dataclasses.replace(DETECTOR, classes=LabelSpace("two", ("nodule", "mass")))
    second = build_model(spec)
    init_model(second, spec, tmp_path)
    theirs, found = first.state_dict(), second.state_dict()
    other = {key for key in found if theirs[key].shape != found[key].shape}
    assert other == {
        f"detector.roi_heads.box_predictor.{layer}.{kind}"
        for layer in ("cls_score", "bbox_pred")
        for kind in ("weight", "bias")
    }
    assert all(found[key].equal(theirs[key]) for key in found.keys() - other)
    wider = dataclasses.replace(spec, architecture={**spec.architecture, "fpn_channels": 48})
    with pytest.raises(RunError, match=r"best.safetensors: detector\.backbone\.fpn"):
        init_model(build_model(wider), wider, tmp_path)
