"""What siimdet's YOLO is measured against: ultralytics' own trainer and predictions, nothing of siimdet in it.

    siimdet write DATASET --format yolo --out yolo
    python tools/plain_ultralytics.py yolo --annotations DATASET/annotations.json --architecture yolov5n.yaml \\
        --epochs 20 --side 320 --batch 8 --run runs/plain --out plain.json

From random weights, everything that is not named here at the library's defaults: its augmentation, its optimiser and
its batches. The boxes of its best epoch on the val images are COCO results, which
`siimdet evaluate plain.json --dataset DATASET --split val` scores by the rules of its own detectors' validation.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

HIDDEN = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "true"}


def results(model: Any, images: list[Path], known: dict[str, int], side: int) -> list[dict[str, Any]]:
    """COCO results in the images' own pixels; boxes without an area are left out."""
    rows = []
    for image in images:
        found = model.predict(str(image), imgsz=side, conf=0.001, max_det=100, verbose=False, save=False)[0].boxes
        for (x1, y1, x2, y2), score, kind in zip(
            found.xyxy.tolist(), found.conf.tolist(), found.cls.tolist(), strict=True
        ):
            if x1 < x2 and y1 < y2:
                box = [x1, y1, x2 - x1, y2 - y1]
                rows.append({"image_id": known[image.stem], "category_id": int(kind) + 1, "bbox": box, "score": score})
    return rows


def main() -> None:
    """Train, then predict the val images with the best epoch's weights."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="what `siimdet write --format yolo` wrote")
    parser.add_argument("--annotations", type=Path, required=True, help="annotations.json of the data set: its ids")
    parser.add_argument("--architecture", default="yolov5n.yaml")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--side", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run", type=Path, required=True, help="folder for the trainer's files")
    parser.add_argument("--out", type=Path, required=True, help="COCO results to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= HIDDEN | {"YOLO_CONFIG_DIR": folder}  # its settings otherwise go to the home folder
        import torch
        from ultralytics import YOLO  # type: ignore[attr-defined]

        model: Any = YOLO(options.architecture)
        # Its trainer sets the threads to one less than there are cores.
        model.add_callback("on_train_start", lambda trainer: torch.set_num_threads(options.threads))
        model.train(
            data=str((options.folder / "data.yaml").resolve()),
            epochs=options.epochs,
            imgsz=options.side,
            batch=options.batch,
            seed=options.seed,
            device="cpu",
            workers=0,
            pretrained=False,
            plots=False,
            project=str(options.run.resolve().parent),
            name=options.run.name,
        )
        best = YOLO(model.trainer.best)
        known = {
            Path(image["file_name"]).stem: image["id"]
            for image in json.loads(options.annotations.read_text())["images"]
        }
        images = [options.folder / line for line in (options.folder / "val.txt").read_text().split("\n") if line]
        options.out.write_text(json.dumps(results(best, images, known, options.side)))


if __name__ == "__main__":
    main()
