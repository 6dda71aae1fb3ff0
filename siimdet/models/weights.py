"""What a trained model is on disk, and how it comes back: model.json and weights/best.safetensors."""

import inspect
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor, nn

from siimdet.core.files import atomic_write, read_versioned_json, sha256_file
from siimdet.core.types import LabelSpace
from siimdet.data.loader import Resize
from siimdet.errors import RunError
from siimdet.models.bodies import build_body
from siimdet.models.classifier import build_classifier
from siimdet.models.faster_rcnn import build_faster_rcnn
from siimdet.models.fcos import build_fcos
from siimdet.models.pretrained import imagenet_tensors
from siimdet.models.retinanet import build_retinanet
from siimdet.models.weight_files import SUFFIXES, read_safetensors, read_weight_file
from siimdet.models.yolo import build_yolo_detector

log = logging.getLogger(__name__)

Kind = Literal["classifier", "faster_rcnn", "retinanet", "fcos", "yolo"]
BUILDERS: dict[Kind, Callable[..., nn.Module]] = {
    "classifier": build_classifier,
    "faster_rcnn": build_faster_rcnn,
    "retinanet": build_retinanet,
    "fcos": build_fcos,
    "yolo": build_yolo_detector,
}
MODEL = "model.json"
WEIGHTS = "weights/best.safetensors"
NEXT = "weights/next.safetensors"
"""Weights whose model.json may be written already, until they take the name of WEIGHTS."""
FORMAT_VERSION = 1

_BODY_PREFIXES = ("detector.backbone.body.", "first.body.", "body.")
"""Where models of ours keep their body; a file without them is a body alone."""

_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""Names in the files that torchvision publishes, from a time before its modules were called norm1 and conv2."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """All that is needed to build a model and to feed it."""

    kind: Kind
    architecture: Mapping[str, Any]
    """Arguments of the builder."""
    classes: LabelSpace
    image_size: int
    """Side of the input outside training, px."""
    resize: Resize
    batch_size: int
    """Images at a time outside training, as in the validation of the training."""


def build_model(spec: ModelSpec) -> nn.Module:
    """Build a model with random weights."""
    return BUILDERS[spec.kind](**spec.architecture, num_classes=len(spec.classes))


def save_model(run: Path, spec: ModelSpec, state: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write weights and model.json with their SHA-256 so that a kill at any moment leaves a pair that fits.

    `facts` are what the training knows beyond the model: data, scores, operating point, versions.
    """
    tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    with atomic_write(run / NEXT, "wb") as stream:
        stream.write(safetensors.torch.save(tensors))
    card = {
        "format": FORMAT_VERSION,
        "kind": spec.kind,
        "architecture": dict(spec.architecture),
        "classes": {"name": spec.classes.name, "names": list(spec.classes.names)},
        "input": {"image_size": spec.image_size, "resize": spec.resize, "channels": 1, "batch_size": spec.batch_size},
        **facts,
        "sha256": sha256_file(run / NEXT),
    }
    with atomic_write(run / MODEL) as stream:
        stream.write(json.dumps(card, indent=2) + "\n")
    os.replace(run / NEXT, run / WEIGHTS)


def load_model(run: Path) -> tuple[nn.Module, ModelSpec]:
    """The best model of a run, in evaluation mode on the CPU.

    Raises: RunError for a run without a trained model, of another format, or with damaged weights.
    """
    spec = read_spec(run)
    try:
        model = build_model(spec)
    except (TypeError, ValueError) as error:  # a model.json that somebody edited
        raise RunError(run / MODEL, "architecture", found=error, expected=f"that of a {spec.kind}") from None
    _load(model, run)
    return model.eval(), spec


def read_card(run: Path) -> dict[str, Any]:
    """model.json of a run. Raises: RunError if there is none, or of another format."""
    what = "the run directory of a finished epoch"
    if run.is_file():
        raise RunError(run, "run", found="a file", expected=what)
    return read_versioned_json(run / MODEL, FORMAT_VERSION, kind=RunError, what=what)


def read_spec(run: Path) -> ModelSpec:
    """What model.json says of the model. Raises: RunError as read_card, or for a missing or foreign value."""
    card = read_card(run)
    if card.get("kind") not in tuple(BUILDERS):
        raise RunError(run / MODEL, "kind", found=repr(card.get("kind")), expected=" or ".join(BUILDERS))
    try:
        inspect.signature(BUILDERS[card["kind"]]).bind(num_classes=0, **(card["architecture"] or {}))
    except (KeyError, TypeError) as error:
        expected = f"the arguments of a {card['kind']}"
        raise RunError(run / MODEL, "architecture", found=error, expected=expected) from None
    try:
        return ModelSpec(
            kind=card["kind"],
            architecture=card["architecture"],
            classes=LabelSpace(card["classes"]["name"], tuple(card["classes"]["names"])),
            image_size=card["input"]["image_size"],
            resize=card["input"]["resize"],
            batch_size=card["input"]["batch_size"],
        )
    except KeyError as error:
        raise RunError(run / MODEL, error.args[0], found="nothing", expected="a value") from None
    except (TypeError, ValueError) as error:
        raise RunError(run / MODEL, "content", found=error, expected="what siimdet writes there") from None


def read_run_tensors(run: Path) -> dict[str, Tensor]:
    """Weights of a run's best model: those whose SHA-256 model.json names.

    Raises: RunError if there are none, or only others.
    """
    wanted = read_card(run).get("sha256")
    for place in (WEIGHTS, NEXT):  # a kill between model.json and the last rename leaves them under NEXT
        if (run / place).is_file() and sha256_file(run / place) == wanted:
            return read_safetensors(run / place)
    found = "other bytes" if (run / WEIGHTS).is_file() else "nothing"
    raise RunError(run / WEIGHTS, "file", found=found, expected=f"the weights of SHA-256 {wanted} in {MODEL}")


def init_body(body: nn.Module, name: str, source: str) -> None:
    """Give a body the weights of `source`: none, imagenet, a run directory, a .safetensors, .pt or .pth file.

    From a run, the tensors of its body are taken and its heads are left; of two bodies, the first's.
    Raises: RunError if they cannot be read, or do not fit.
    """
    if source != "none":
        _init(body, body, name, source)


def init_trunk(trunk: nn.Module, name: str, source: str) -> None:
    """Give a detector's trunk, such as `model.detector.backbone.body`, the weights of a body, or of a trunk like it.

    `source` is as in init_body; the body's tensors behind the last stage are passed over, which the trunk lacks.
    Raises: RunError if they cannot be read, or do not fit.
    """
    if source != "none":
        with torch.device("meta"):
            whole = build_body(name)
        _init(trunk, whole, name, source)


def _init(part: nn.Module, whole: nn.Module, name: str, source: str) -> None:
    state = imagenet_tensors(name) if source == "imagenet" else _body_tensors(Path(source))
    state = {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in state.items()}
    gone = {name for name, module in whole.named_modules() if isinstance(module, nn.Identity)}  # their classifier
    spare = whole.state_dict().keys() - part.state_dict().keys()
    state = {k: value for k, value in state.items() if k not in spare and k.rpartition(".")[0] not in gone}
    _check_fit(Path(source), part.state_dict(), state)
    part.load_state_dict(state, strict=False)  # checked already; only counters of batch norms may be missing


def _body_tensors(path: Path) -> dict[str, Tensor]:
    state = read_weight_file(path) if path.suffix in SUFFIXES else read_run_tensors(path)
    prefix = next((p for p in _BODY_PREFIXES if any(key.startswith(p) for key in state)), "")
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def init_model(model: nn.Module, spec: ModelSpec, run: Path) -> None:
    """Start a detector of `spec` from another run of its kind and shape, head included.

    If the run's classes are others, the tensors that depend on their number stay as they are. What the run was
    built with otherwise, such as other anchors, is logged.
    Raises: RunError for another kind, or if the rest does not fit.
    """
    theirs = read_spec(run)
    if theirs.kind != spec.kind:
        raise RunError(run / MODEL, "kind", found=theirs.kind, expected=spec.kind)
    names = theirs.classes.names
    with torch.device("meta"):
        shapes, of_more = (
            build_model(replace(spec, classes=LabelSpace("", each))).state_dict() for each in (names, (*names, ""))
        )
    state = read_run_tensors(run)
    _check_fit(run / WEIGHTS, shapes, state)
    if names != spec.classes.names:
        state = {
            key: value for key, value in state.items() if key in shapes and shapes[key].shape == of_more[key].shape
        }
    for name, value in spec.architecture.items():
        if name in theirs.architecture and theirs.architecture[name] != value:
            log.info("%s: its %s is %s, here %s", run, name, theirs.architecture[name], value)
    model.load_state_dict(state, strict=False)  # checked already


def _load(model: nn.Module, run: Path) -> None:
    state = read_run_tensors(run)
    _check_fit(run / WEIGHTS, model.state_dict(), state)
    model.load_state_dict(state, strict=False)  # checked already; only counters of batch norms may be surplus


def _check_fit(path: Path, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    # Frozen batch norms do not count batches; everything else must be there, in shape.
    needed = {key for key in own if not key.endswith("num_batches_tracked")}
    missing = sorted(key for key in needed if key not in state)
    if missing:
        raise RunError(path, missing[0], found="no such tensor", expected=f"{len(needed)} tensors of this architecture")
    surplus = sorted(key for key in state if key not in own and not key.endswith("num_batches_tracked"))
    if surplus:
        raise RunError(path, surplus[0], found="a tensor", expected="none of that name in this architecture")
    for key, value in own.items():
        if key in state and state[key].shape != value.shape:
            raise RunError(path, key, found=tuple(state[key].shape), expected=tuple(value.shape))
