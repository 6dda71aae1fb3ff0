"""Weights of a detector's trunk: from whole bodies, from other trunks, and what is refused."""

from pathlib import Path

import pytest
import torch
import torchvision

from siimdet.core.labels import OPACITY, STUDY
from siimdet.errors import RunError
from siimdet.models.bodies import build_body
from siimdet.models.pyramid import build_pyramid
from siimdet.models.weights import ModelSpec, build_model, init_body, init_trunk, save_model

BODY = "resnext14_32x4d"
GREY = {"mean": [0.45] * 3, "std": [0.2] * 3}


def classifier_of(run: Path, body: str) -> torch.nn.Module:
    """A classifier, saved as a run."""
    torch.manual_seed(0)
    spec = ModelSpec("classifier", {"body": body, "activation": "softmax", **GREY}, STUDY, 64, "shorter", 4)
    model = build_model(spec)
    save_model(run, spec, model.state_dict(), {})
    return model


def trunk_of(body: str, *, frozen: bool) -> torch.nn.Module:
    return build_pyramid(body, finest_stage=2, channels=16, coarser="pooled", freeze_batch_norm=frozen).body


def same_tensors(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    """Whether those of the left are the right's, but for the counters of batch norms."""
    state = right.state_dict()
    return all(
        torch.equal(value, state[key]) for key, value in left.state_dict().items() if not key.endswith("tracked")
    )


@pytest.mark.parametrize("frozen", [False, True], ids=["living", "frozen"])
@pytest.mark.parametrize("body", [BODY, "efficientnet_lite0"])
def test_a_classifiers_body_becomes_a_detectors_trunk(tmp_path, body, frozen):
    model = classifier_of(tmp_path, body)
    trunk = trunk_of(body, frozen=frozen)
    assert not same_tensors(trunk, model.body)
    init_trunk(trunk, body, str(tmp_path))
    assert same_tensors(trunk, model.body)


def test_a_detectors_trunk_becomes_anothers_and_a_resnets_body(tmp_path):
    model = classifier_of(tmp_path / "classifier", BODY)
    spec = ModelSpec("fcos", {"body": BODY, "fpn_channels": 64, **GREY}, OPACITY, 64, "stretch", 4)
    detector = build_model(spec)
    init_trunk(detector.detector.backbone.body, BODY, str(tmp_path / "classifier"))
    save_model(tmp_path, spec, detector.state_dict(), {})
    other = trunk_of(BODY, frozen=False)
    init_trunk(other, BODY, str(tmp_path))
    whole = build_body(BODY)
    init_body(whole, BODY, str(tmp_path))
    assert same_tensors(other, model.body)
    assert same_tensors(whole, model.body)


def test_a_trunk_starts_from_nothing_or_a_published_file(tmp_path):
    torch.manual_seed(3)
    published = torchvision.models.resnet18(weights=None)
    torch.save(published.state_dict(), tmp_path / "a.pth")
    trunk = trunk_of("resnet18", frozen=True)
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    init_trunk(trunk, "resnet18", "none")
    assert all(torch.equal(value, before[key]) for key, value in trunk.state_dict().items())
    init_trunk(trunk, "resnet18", str(tmp_path / "a.pth"))
    assert same_tensors(trunk, published)


def test_a_trunk_refuses_what_is_not_of_its_body(tmp_path):
    classifier_of(tmp_path, BODY)
    trunk = trunk_of("efficientnet_lite0", frozen=True)
    with pytest.raises(RunError, match=r"blocks.0.0.bn1.bias: found no such tensor, expected \d+ tensors of this arch"):
        init_trunk(trunk, "efficientnet_lite0", str(tmp_path))
    state = build_body("efficientnet_lite0").state_dict()
    torch.save({**state, "spare.weight": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(RunError, match=r"a.pth: spare.weight: found a tensor, expected none of that name"):
        init_trunk(trunk, "efficientnet_lite0", str(tmp_path / "a.pth"))


class Payload:
    """Would make a file when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self):
        return open, (self.target, "w")


def test_a_trunk_refuses_a_pickle_and_never_runs_it(tmp_path):
    trap = tmp_path / "was-run"
    torch.save({"x": Payload(trap)}, tmp_path / "evil.pt")
    with pytest.raises(RunError, match=r"content: found a pickle of something else, expected a state dict of .*only$"):
        init_trunk(trunk_of(BODY, frozen=True), BODY, str(tmp_path / "evil.pt"))
    assert not trap.exists()
