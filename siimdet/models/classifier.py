"""Image classifiers: a body, its head, and what else may stand on it.

Legend: B images, S the square input's side in pixels, K classes, D numbers of an embedding.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from siimdet.errors import RunError
from siimdet.models.bodies import (
    GreyInput,
    build_body,
    feature_count,
    feature_maps,
    input_channels,
    map_channels,
    pool_features,
)
from siimdet.models.heads import ConvolutionHead, Embedding, MaskHead, OpacityHead, build_head
from siimdet.models.image_classifier import Activation, ImageClassifier, Output
from siimdet.models.two_stage import TwoStage

On = Literal["body", "embedding"]


class Classifier(ImageClassifier):
    """One network: what `forward` calls classes comes from `head`, or from `embedding_head` if `on` says so.

    `on` may be changed between the phases of a training: it changes no module.
    """

    def __init__(
        self,
        inputs: GreyInput,
        body: nn.Module,
        head: nn.Module,
        *,
        activation: Activation,
        flip_tta: bool = False,
        on: On = "body",
        embedding: nn.Module | None = None,
        embedding_head: nn.Module | None = None,
        opacity_head: nn.Module | None = None,
        mask_head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.inputs, self.body, self.head = inputs, body, head
        self.embedding, self.embedding_head = embedding, embedding_head
        self.opacity_head, self.mask_head = opacity_head, mask_head
        self.activation, self.flip_tta, self.on = activation, flip_tta, on

    def bodies(self) -> list[nn.Module]:
        """The one body."""
        return [self.body]

    def forward(self, images: Tensor, *, output: Output = "classes") -> Tensor | dict[str, Tensor]:
        """What ImageClassifier says of `output`; `embedding` needs a classifier that has one."""
        maps = feature_maps(self.body, self.inputs(images))
        if output == "classes" and self.on == "body" and isinstance(self.head, ConvolutionHead):
            return self._ended(self.head(maps))
        features = pool_features(self.body, maps)
        if output == "embedding":
            assert self.embedding is not None, "this classifier was built without an embedding"
            return self.embedding(features)
        classes = self._classes(maps, features)
        if output == "classes":
            return classes
        found = {"classes": classes}
        if self.opacity_head is not None:
            found["opacity"] = self.opacity_head(features).float()
        if self.mask_head is not None:
            found["mask"] = self.mask_head(maps).float()
        return found

    def _classes(self, maps: Tensor, features: Tensor) -> Tensor:
        if self.on == "embedding":
            assert self.embedding is not None and self.embedding_head is not None, "built without an embedding"
            logits = self.embedding_head(self.embedding(features))
        else:
            logits = self.head(maps if isinstance(self.head, ConvolutionHead) else features)
        return self._ended(logits)

    def _ended(self, logits: Tensor) -> Tensor:
        return functional.log_softmax(logits.float(), dim=1) if self.activation == "log_softmax" else logits.float()


def build_classifier(
    body: str,
    *,
    num_classes: int,
    activation: Activation,
    mean: Sequence[float],
    std: Sequence[float],
    head: Mapping[str, Any] | None = None,
    embedding: Mapping[str, Any] | None = None,
    on: On = "body",
    opacity: bool = False,
    mask: bool = False,
    flip_tta: bool = False,
    groups: Mapping[str, Sequence[int]] | None = None,
) -> ImageClassifier:
    """Build a classifier with random weights.

    `head` holds the arguments of build_head, or `kernel` alone for a ConvolutionHead; `embedding` those of
    Embedding. `groups` names groups of class ids: two networks, see TwoStage; then activation is log_softmax
    and there is neither embedding nor further head.
    Raises: RunError for a body that does not exist or does not take len(mean) channels, ValueError for
    arguments that contradict each other, TypeError for unknown ones.
    """
    one = partial(_build_one, body, activation=activation, mean=mean, std=std, head=head or {})
    if groups is None:
        return one(num_classes=num_classes, embedding=embedding, on=on, opacity=opacity, mask=mask, flip_tta=flip_tta)
    if activation != "log_softmax" or embedding is not None or on != "body" or opacity or mask:
        raise ValueError("groups need the activation log_softmax, and no embedding, opacity or mask")
    members = list(groups.values())
    if sum(map(len, members)) != num_classes:
        raise ValueError(f"groups hold {sum(map(len, members))} classes, expected {num_classes}")
    return TwoStage(one(num_classes=len(groups)), one(num_classes=num_classes), members, flip_tta=flip_tta)


def _build_one(
    body: str,
    *,
    num_classes: int,
    activation: Activation,
    mean: Sequence[float],
    std: Sequence[float],
    head: Mapping[str, Any],
    embedding: Mapping[str, Any] | None = None,
    on: On = "body",
    opacity: bool = False,
    mask: bool = False,
    flip_tta: bool = False,
) -> Classifier:
    if on == "embedding" and embedding is None:
        raise ValueError("classes are told on the embedding, expected one")
    trunk = build_body(body)
    channels = input_channels(body)
    for name, numbers in (("mean", mean), ("std", std)):
        if len(numbers) != channels:
            expected = f"{channels}: {body} takes {'one grey channel' if channels == 1 else 'three channels'}"
            raise RunError("model", name, found=f"{len(numbers)} numbers", expected=expected)
    features = feature_count(trunk)
    return Classifier(
        GreyInput(mean, std),
        trunk,
        _build_head(trunk, num_classes=num_classes, **head),
        activation=activation,
        flip_tta=flip_tta,
        on=on,
        embedding=None if embedding is None else Embedding(features, **embedding),
        embedding_head=None if embedding is None else nn.Linear(embedding["size"], num_classes),
        opacity_head=OpacityHead(features) if opacity else None,
        mask_head=MaskHead(map_channels(trunk)) if mask else None,
    )


def _build_head(trunk: nn.Module, *, num_classes: int, kernel: int | None = None, **layers: Any) -> nn.Module:
    if kernel is None:
        return build_head(feature_count(trunk), num_classes=num_classes, **layers)
    if any(layers.values()):
        raise ValueError(f"a head with a kernel has no other layers, found {', '.join(layers)}")
    return ConvolutionHead(map_channels(trunk), num_classes=num_classes, kernel=kernel)
