"""`siimdet demo`: everything on phantoms, from raw trees to a scored submission and a report.

What it runs is what the commands run, in one process; the log names each command.
"""

import json
import logging
import os
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import siimdet
from converters import SOURCES
from converters.run import convert
from siimdet.config_file import load_config
from siimdet.core.files import atomic_write
from siimdet.core.labels import SUBMISSION_CLASSES
from siimdet.data.coco import write_detections
from siimdet.data.dataset import by_split
from siimdet.data.manifest import Dataset
from siimdet.data.phantom_trees import write_nih, write_rsna, write_siim
from siimdet.errors import UserError
from siimdet.report.evaluation import write_evaluation
from siimdet.report.evaluation.gather import gather
from siimdet.submission.assemble import Predictions
from siimdet.submission.evaluate import evaluate_boxes, evaluate_file
from siimdet.submission.file import write_submission
from siimdet.submission.scored import SAMPLES, Scored
from siimdet.submission.submit import submit
from siimdet.submission.truth_files import TruthFiles
from siimdet.training.train import train

log = logging.getLogger(__name__)

IMAGE_SIZE = 128
"""Longer side of the converted images, px; every demo config has the same."""
SIIM_PATIENTS, RSNA_IMAGES, NIH_IMAGES = 400, 300, 300
RESULT = "demo.json"
MARK = ".siimdet-demo"
"""Marks a folder as a demo's, which the next demo may replace."""
OWN = ("raw", "data", "runs", "predictions", "submission.csv", "report.html", RESULT)


@dataclass(slots=True)
class _Clock:
    """Seconds that each step took."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step] = round(now - self.started, 1)
        self.started = now
        log.info("-- %s: %.1f s", step, self.seconds[step])


def run_demo(out: Path, *, seed: int = 0) -> str:
    """Run the whole chain into `out` and return the closing table.

    The same seed gives the same scores on the same machine. Raises: UserError if `out` holds anything
    but an earlier demo.
    """
    _clear(out)
    clock = _Clock()
    data = _convert(out, seed, clock)
    runs = _train(out, data, seed, clock)
    siim = data["siim"]
    records = by_split(siim, "test")
    made = submit(
        siim,
        records,
        detectors=[runs["faster_rcnn"], runs["yolo"]],
        study=runs["study"],
        coupling=load_config(demo_config("submit"), kinds=("coupling",)),
        file=str(out / "submission.csv"),
        device=torch.device("cpu"),
    )
    write_submission(out / "submission.csv", made.submission)
    against = TruthFiles(siim.root, "test")
    scored = evaluate_file(out / "submission.csv", against, bootstrap=SAMPLES)
    detectors = _detectors(out / "predictions", siim, made, runs, against)
    clock.lap("submission and score")
    facts = {
        "seed": str(seed),
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        **{f"seconds, {step}": f"{seconds:g}" for step, seconds in clock.seconds.items()},
    }
    _write_report(out / "report.html", scored, against, detectors, runs, facts)
    clock.lap("report")
    result = {
        "seed": seed,
        "detectors": {name: detector.figures["mAP"] for name, detector in detectors.items()},
        "score": scored.figures,
        "seconds": clock.seconds,
        "images": len(records),
    }
    with atomic_write(out / RESULT) as stream:
        stream.write(json.dumps(result, indent=2) + "\n")
    return _table(detectors, scored, out)


def demo_config(name: str) -> Path:
    """A config of the demo, from the checkout or from the installed package."""
    package = Path(siimdet.__file__).parent
    folder = package / "configs" if (package / "configs").is_dir() else package.parent / "configs"
    return folder / "demo" / f"{name}.yaml"


def _clear(out: Path) -> None:
    if not out.exists():
        return
    if out.is_dir() and not any(out.iterdir()):
        return
    marked = (out / MARK).is_file()
    if not marked or {path.name for path in out.iterdir()} - {MARK, *OWN}:
        found = "files of somebody else" if out.is_dir() else "a file"
        raise UserError(out, "--out", found=found, expected="a new folder, or an earlier demo and nothing else")
    shutil.rmtree(out)


def _convert(out: Path, seed: int, clock: _Clock) -> dict[str, Dataset]:
    with atomic_write(out / MARK) as stream:
        stream.write("Written by `siimdet demo`, which may replace this folder.\n")
    cores = os.cpu_count() or 1
    write_nih(out / "raw" / "nih", images=NIH_IMAGES, seed=seed, workers=cores)
    write_rsna(out / "raw" / "rsna", images=RSNA_IMAGES, seed=seed, workers=cores)
    write_siim(out / "raw" / "siim", patients=SIIM_PATIENTS, test_patients=0, seed=seed, workers=cores)
    clock.lap("phantoms")
    data = {}
    for name in ("nih", "rsna", "siim"):
        raw, target = out / "raw" / name, out / "data" / name
        log.info("siimdet convert %s --raw %s --out %s --image-size %d", name, raw, target, IMAGE_SIZE)
        summary = convert(SOURCES[name], raw, target, image_size=IMAGE_SIZE, seed=seed)
        assert not summary.failures, f"{summary.failures} phantoms refused: see {target / 'failures.csv'}"
        data[name] = summary.dataset
    clock.lap("convert")
    return data


def _train(out: Path, data: dict[str, Dataset], seed: int, clock: _Clock) -> dict[str, Path]:
    runs = {name: out / "runs" / name for name in ("backbone", "faster_rcnn_rsna", "faster_rcnn")}
    runs |= {name: out / "runs" / name for name in ("yolo_rsna", "yolo", "study")}
    steps = (
        ("backbone", "backbone", "train-backbone", "nih", None),
        ("faster_rcnn_rsna", "faster_rcnn_rsna", "train-detector", "rsna", ("weights", "backbone")),
        ("faster_rcnn", "faster_rcnn_siim", "train-detector", "siim", ("init_from", "faster_rcnn_rsna")),
        ("yolo_rsna", "yolo_rsna", "train-detector", "rsna", None),
        ("yolo", "yolo_siim", "train-detector", "siim", ("init_from", "yolo_rsna")),
        ("study", "study", "train-study", "siim", ("weights", "backbone")),
    )
    for run, config, command, source, start in steps:
        overrides = [f"seed={seed}", *([f"{start[0]}={runs[start[1]]}"] if start else [])]
        path = demo_config(config)
        arguments = " ".join((str(path), *overrides, "--dataset", str(data[source].root), "--out", str(runs[run])))
        log.info("siimdet %s %s", command, arguments)
        settings: Any = load_config(path, overrides, kinds=("backbone", "faster_rcnn", "yolo", "study"))
        train(settings, data[source], runs[run], device=torch.device("cpu"))
        clock.lap(run)
    return runs


def _detectors(
    folder: Path, siim: Dataset, made: Predictions, runs: dict[str, Path], against: TruthFiles
) -> dict[str, Scored]:
    """Both detectors and their fusion, scored from the files that `predict` and `fuse` would write."""
    found = {"Faster R-CNN": made.boxes[str(runs["faster_rcnn"])], "YOLO": made.boxes[str(runs["yolo"])]}
    scored = {}
    for name, boxes in {**found, "fused": made.fused}.items():
        file = folder / f"{name.lower().replace(' ', '_').replace('-', '')}.json"
        write_detections(file, siim, boxes)
        scored[name] = evaluate_boxes(file, against)
    return scored


def _write_report(
    path: Path,
    scored: Scored,
    against: TruthFiles,
    detectors: dict[str, Scored],
    runs: dict[str, Path],
    facts: dict[str, str],
) -> None:
    evaluation = gather(scored, against, detectors=list(detectors.values()))
    shown = replace(
        evaluation,
        title="siimdet demo",
        subtitle="Phantoms with subtle opacities: trained, fused and scored in this run, on held-out patients",
        detectors=detectors,
        runs=runs,
        facts={**evaluation.facts, **facts},
    )
    write_evaluation(path, shown)


def _table(detectors: dict[str, Scored], scored: Scored, out: Path) -> str:
    def shown(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    lines = [f"{'opacity, held out':<20}{'AP@.5':>8}{'F1':>8}{'prec.':>8}{'recall':>8}"]
    for name, detector in detectors.items():
        figures = (detector.figures[key] for key in ("mAP", "f1", "precision", "recall"))
        lines.append(f"{name:<20}" + "".join(f"{shown(value):>8}" for value in figures))
    lines += ["", f"{'six classes':<20}{'AP@.5':>8}"]
    lines += [f"{name:<20}{shown(scored.figures[name]):>8}" for name in (*SUBMISSION_CLASSES, "mAP")]
    lines += [
        "",
        f"submission  {out / 'submission.csv'}",
        f"report      {out / 'report.html'}",
        f"runs        {out / 'runs'}",
    ]
    return "\n".join(lines)
