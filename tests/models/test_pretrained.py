"""ImageNet weights: where they come from, that they fit and classify, and one line where they cannot be had."""

import importlib.util
import time
from pathlib import Path

import cv2
import pytest
import timm
import torch
from huggingface_hub import constants

from siimdet.errors import RunError
from siimdet.models.bodies import build_body
from siimdet.models.pretrained import PACKAGES, imagenet_tensors
from siimdet.models.pyramid import build_pyramid
from siimdet.models.weight_files import read_weight_file
from siimdet.models.weights import init_body, init_trunk

MINIBUS = 654
NOWHERE = "http://127.0.0.1:1"


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"the package {name} is not installed")
    return Path(spec.submodule_search_locations[0])


@pytest.mark.parametrize("name", PACKAGES)
def test_a_packages_tensors_come_under_the_bodys_names(name):
    package_folder(PACKAGES[name])
    body = build_body(name)
    init_body(body, name, "imagenet")
    tensors = imagenet_tensors(name)
    assert list(tensors) == list(body.state_dict())
    assert all(torch.equal(value, tensors[key]) for key, value in body.state_dict().items())


@pytest.mark.parametrize("frozen", [False, True], ids=["living", "frozen"])
def test_a_packages_tensors_reach_a_detectors_trunk(frozen):
    package_folder(PACKAGES["efficientnet_lite0"])
    name = "efficientnet_lite0"
    trunk = build_pyramid(name, finest_stage=2, channels=8, coarser="pooled", freeze_batch_norm=frozen).body
    init_trunk(trunk, name, "imagenet")
    tensors = imagenet_tensors(name)
    assert all(torch.equal(value, tensors[key]) for key, value in trunk.state_dict().items())
    passed_over = {key for key in tensors.keys() - trunk.state_dict().keys() if not key.endswith("_tracked")}
    assert {key.partition(".")[0] for key in passed_over} == {"conv_head", "bn2"}


def test_a_packages_weights_know_a_bus_when_they_see_one():
    path = next((package_folder(PACKAGES["efficientnet_lite0"]) / "models").glob("*.pth"))
    photo = cv2.imread(str(package_folder("ultralytics") / "assets" / "bus.jpg"))
    square = cv2.cvtColor(cv2.resize(photo, (224, 224), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
    images = (torch.from_numpy(square).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5
    body = build_body("efficientnet_lite0").eval()
    init_body(body, "efficientnet_lite0", "imagenet")
    classifier = timm.create_model("tf_efficientnet_lite0").classifier
    classifier.weight.data, classifier.bias.data = list(read_weight_file(path).values())[-2:]
    with torch.inference_mode():
        probabilities = classifier(body(images)).softmax(1)[0]
    assert probabilities.argmax() == MINIBUS
    assert probabilities[MINIBUS].item() == pytest.approx(0.911, abs=0.002)  # as efficientnet_lite_pytorch gives


@pytest.mark.parametrize("name", ["resnext14_32x4d", "slice_fcn", "mobilenetv3_small_150"])
def test_a_body_without_imagenet_weights_is_named(name):
    line = f"^weights: imagenet: found none for {name}, expected a body that torchvision or timm has$"
    with pytest.raises(RunError, match=line):
        imagenet_tensors(name)


def test_without_a_network_torchvisions_weights_are_refused_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", NOWHERE)
    with pytest.raises(
        RunError, match=r"^weights: imagenet: found no connection \(.*refused\), expected a network to "
    ):
        imagenet_tensors("resnet18")


def test_without_a_network_timms_weights_are_refused_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", NOWHERE)
    began = time.monotonic()
    with pytest.raises(
        RunError, match=r"^weights: imagenet: found no connection \(.*refused\), expected a network to "
    ):
        imagenet_tensors("mobilenetv3_small_050")
    assert time.monotonic() - began < 20  # huggingface_hub's own retries take 46 s
    assert not constants.HF_HUB_OFFLINE
