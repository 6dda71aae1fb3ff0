"""Grad-CAM: which places of a radiograph speak for a class. The one door to pytorch-grad-cam (extra `explain`).

Legend: B images, S the square input's side in pixels, K classes, H x W the stored image's pixels.
Source: Selvaraju et al., arXiv:1610.02391.
"""

import copy
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from siimdet.core.files import atomic_write
from siimdet.core.types import ImageRecord, ImageSize
from siimdet.data.loader import Samples
from siimdet.data.manifest import Dataset
from siimdet.data.placement import Placement, Resize
from siimdet.data.table import write_table
from siimdet.errors import MissingExtra, RunError, UserError
from siimdet.imaging.png import read_grey
from siimdet.models.bodies import last_map_module
from siimdet.models.classifier import Classifier
from siimdet.models.image_classifier import ImageClassifier
from siimdet.models.two_stage import TwoStage
from siimdet.models.weights import MODEL, load_model, read_spec

TABLE = "explanations.csv"
STRONGEST = 0.6
"""Share of the colour where the heat is 1; the rest is the radiograph."""


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Why a classifier gives an image a class.

    Shapes: heat f32[H, W] in [0, 1] over the stored image; 0 where the model did not look.
    """

    image_id: str
    class_id: int
    probability: float
    heat: NDArray[np.float32]


def explain_run(
    run: Path, dataset: Dataset, ids: Sequence[str], out: Path, *, class_name: str | None, device: torch.device
) -> None:
    """Write OUT/ID.png for every id, the radiograph under its heat map, and their table explanations.csv.

    The class is `class_name`, or else the most probable one of each image.
    Raises, before anything is written: MissingExtra, RunError for a detector or an unknown class, UserError for
    an unknown id or one twice.
    """
    spec = read_spec(run)
    if spec.kind != "classifier":
        raise RunError(run / MODEL, "kind", found="a detector", expected="a classifier")
    if class_name is not None and class_name not in spec.classes.names:
        raise RunError(run / MODEL, "classes", found=f"no {class_name!r}", expected=", ".join(spec.classes.names))
    records = _chosen(dataset, ids)
    class_id = None if class_name is None else spec.classes.index(class_name)
    model = cast(ImageClassifier, load_model(run)[0]).to(device)
    found = explanations(
        model, dataset, records, side=spec.image_size, resize=spec.resize, device=device, class_id=class_id
    )
    rows: list[tuple[object, ...]] = []
    for record, each in zip(records, found, strict=True):
        file = f"{record.image_id}.png"
        _write_colour(out / file, overlay(read_grey(dataset.root / record.path), each.heat))
        rows.append((record.image_id, spec.classes.names[each.class_id], each.probability, file))
    write_table(out / TABLE, ("image_id", "class", "probability", "file"), rows)


def explanations(
    model: ImageClassifier,
    dataset: Dataset,
    records: Sequence[ImageRecord],
    *,
    side: int,
    resize: Resize,
    device: torch.device,
    class_id: int | None = None,
) -> Iterator[Explanation]:
    """An explanation of every record, in their order, for a class or for the most probable one of each.

    A model that predicts by an image and its mirror image is explained by both. The model is in evaluation mode.
    """
    samples = Samples(dataset.root, records, dataset.boxes, side=side, resize=resize)
    for index, record in enumerate(records):
        batch = samples.collate([samples.load(index, None, seed=0)])
        images, placement = batch.greys(device), batch.placements[0]
        probabilities = model.predict(images)[0]
        told = int(probabilities.argmax()) if class_id is None else class_id
        heat = heat_map(model, images, told)
        if model.flip_tta:
            heat = np.mean((heat, heat_map(model, images.flip(-1), told)[:, ::-1]), axis=0)
        yield Explanation(record.image_id, told, probabilities[told].item(), to_stored(heat, placement, record.stored))


def heat_map(model: ImageClassifier, images: Tensor, class_id: int) -> NDArray[np.float32]:
    """Grad-CAM f32[S, S] of one image f32[1, 1, S, S] for a class: 0 to 1, or 0 where no place stands out.

    Of two stages it is the mean of both networks' maps. Raises: MissingExtra.
    """
    grad_cam, target = _open_grad_cam()
    with torch.no_grad():
        layers = [last_map_module(each.body, each.inputs(images)) for each in _networks(model)]
    cam = grad_cam(_Scores(model), layers)
    try:
        # With the image's own gradient wanted, those of the maps exist even where all weights are frozen.
        return cam(images.clone().requires_grad_(), [target(class_id)])[0]
    finally:
        cam.activations_and_grads.release()  # `with` would release too, but swallows every IndexError


def to_stored(heat: NDArray[np.float32], placement: Placement, size: ImageSize) -> NDArray[np.float32]:
    """A heat map [S, S] of the input over the stored image, [H, W]: fit_image undone; 0 where it cut pixels off."""
    side = len(heat)
    width, height = round(placement.scale[0] * size.width), round(placement.scale[1] * size.height)
    left, top = int(placement.offset[0]), int(placement.offset[1])
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, side), min(top + height, side)
    scaled = np.zeros((height, width), np.float32)
    scaled[y1 - top : y2 - top, x1 - left : x2 - left] = heat[y1:y2, x1:x2]
    return np.asarray(cv2.resize(scaled, (size.width, size.height), interpolation=cv2.INTER_LINEAR), np.float32)


def overlay(stored: NDArray[np.unsignedinteger], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A stored image u8 or u16 [H, W] under a heat map f32[H, W]: u8[H, W, 3] in OpenCV's order blue, green, red.

    The hotter, the more colour: where the heat is 0 the image is as it was.
    """
    grey = (stored >> 8 if stored.dtype == np.uint16 else stored).astype(np.float32)[..., None]
    colours = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_JET).astype(np.float32)
    share = STRONGEST * heat[..., None]
    return np.rint(grey + share * (colours - grey)).astype(np.uint8)


class _Scores(nn.Module):
    """Scores f32[B, K] before the softmax: probabilities of a model that is sure have no gradient left.

    A class of two stages scores its group's and its own, which counts only beside others in the group.
    """

    def __init__(self, model: ImageClassifier) -> None:
        super().__init__()
        self.networks = nn.ModuleList(_with_logits(network) for network in _networks(model))
        self.groups = model.groups if isinstance(model, TwoStage) else None

    def forward(self, images: Tensor) -> Tensor:
        if self.groups is None:
            return self.networks[0](images)
        groups, classes = (network(images) for network in self.networks)
        scores = torch.empty_like(classes)
        for index, members in enumerate(self.groups):
            scores[:, members] = groups[:, index, None] + classes[:, members] * (len(members) > 1)
        return scores


def _networks(model: ImageClassifier) -> list[Classifier]:
    found = [model.first, model.second] if isinstance(model, TwoStage) else [model]
    return cast(list[Classifier], found)


def _with_logits(network: Classifier) -> Classifier:
    """The same modules, whose forward does not take the log_softmax."""
    own = copy.copy(network)
    own.activation = "sigmoid" if network.activation == "sigmoid" else "softmax"
    return own


def can_explain() -> bool:
    """Whether the package that makes heat maps is installed."""
    return importlib.util.find_spec("pytorch_grad_cam") is not None


def _open_grad_cam() -> tuple[Any, Any]:
    """GradCAM and the target of a class. Raises: MissingExtra if the package is not installed."""
    if not can_explain():
        raise MissingExtra("grad-cam", "explain")
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    return GradCAM, ClassifierOutputTarget


def _chosen(dataset: Dataset, ids: Sequence[str]) -> list[ImageRecord]:
    """The records of ids. Raises: UserError for an unknown id or one twice."""
    records = {record.image_id: record for record in dataset.records}
    for index, image_id in enumerate(ids):
        if image_id not in records:
            raise UserError(dataset.root, "--ids", found=repr(image_id), expected="ids of images of this data set")
        if image_id in ids[:index]:
            raise UserError(dataset.root, "--ids", found=f"{image_id!r} twice", expected="every id once")
    return [records[image_id] for image_id in ids]


def _write_colour(path: Path, image: NDArray[np.uint8]) -> None:
    _, encoded = cv2.imencode(".png", image)
    with atomic_write(path, "wb") as stream:
        stream.write(encoded)
