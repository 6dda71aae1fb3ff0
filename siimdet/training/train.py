"""`train`: from a config and a data set to a run directory, whatever is trained."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from siimdet.config import AnyTraining, ClassifierTraining, StudyTraining
from siimdet.core.distributed import by_first, rank, world
from siimdet.core.types import Detections
from siimdet.data.coco import write_detections
from siimdet.data.dataset import labelled_test
from siimdet.data.manifest import Dataset, read_dataset, training_split
from siimdet.data.mixing import Learnt, mix_in
from siimdet.data.table import write_table
from siimdet.errors import DatasetError, RunError
from siimdet.inference.predict import ClassPredictions
from siimdet.inference.run import predict_run
from siimdet.training.checkpoint import STATE
from siimdet.training.classify import train_classifier
from siimdet.training.detect import train_detector
from siimdet.training.yolo import train_yolo_run

log = logging.getLogger(__name__)

TRAININGS: dict[str, Callable[..., None]] = {
    "backbone": train_classifier,
    "study": train_classifier,
    "classifier": train_classifier,
    "faster_rcnn": train_detector,
    "retinanet": train_detector,
    "fcos": train_detector,
    "yolo": train_yolo_run,
}


def train(config: AnyTraining, dataset: Dataset, run: Path, *, device: torch.device, resume: bool = False) -> None:
    """Train a model of `config` on the train images of `dataset` into `run`, validating on its val images.

    Raises: RunError if `run` holds another training and `resume` is not asked for, or nothing to resume.
    """
    others = [read_dataset(root) for root in config.mix_in]
    excluded = excluded_patients(config, dataset, others)
    records, val = training_split(dataset, fold=config.fold, exclude_patients=excluded)
    if others:
        withheld = excluded | {record.patient_id for record in (*val, *labelled_test(dataset))}
        dataset, added = mix_in(dataset, others, learnt=_learnt(config), withheld=withheld)
        records = (*records, *added)
        if rank() == 0:
            log.info("%d images mixed in", len(added))
    if not val:
        raise DatasetError(dataset.root, "split", found="no val images", expected="some to choose the best epoch by")
    if not resume and (run / STATE).exists():  # a run that ended in its first epoch left nothing worth keeping
        raise RunError(run, "--out", found="a run", expected="a new directory, or --resume")
    if config.kind == "yolo" and world() > 1:
        raise RunError("torchrun", "processes", found=world(), expected="1: YOLO trains in one process")
    with torch.random.fork_rng(devices=[device.index or 0] if device.type == "cuda" else []):
        TRAININGS[config.kind](config, dataset, records, val, run, device=device, resume=resume)


def train_folds(
    config: AnyTraining, dataset: Dataset, run: Path, *, folds: int, device: torch.device, resume: bool = False
) -> None:
    """Train one model per fold into RUN/fold-k/ and write their out-of-fold predictions: oof.json or oof.csv.

    A fold that is finished is not trained again with `resume`.
    """
    known = sorted({record.fold for record in dataset.records if record.fold is not None})
    if known != list(range(folds)):
        expected = f"{folds} folds (convert --folds {folds})"
        raise DatasetError(dataset.root, "fold", found=f"{len(known)} folds", expected=expected)
    parts = []
    for fold in range(folds):
        own = config.model_copy(update={"fold": fold})
        part = run / f"fold-{fold}"
        train(own, dataset, part, device=device, resume=resume and (part / STATE).exists())
        _, val = training_split(dataset, fold=fold, exclude_patients=excluded_patients(config, dataset))
        parts.append(predict_run(part, dataset, val, device=device, workers=config.workers))
    by_first(partial(write_out_of_fold, run, dataset, parts))


def write_out_of_fold(run: Path, dataset: Dataset, parts: list[Any]) -> None:
    """Join the predictions of all folds into one file in `run`."""
    if isinstance(parts[0], ClassPredictions):
        tables = [part.table() for part in parts]
        write_table(run / "oof.csv", tables[0][0], sorted(row for _, rows in tables for row in rows))
    else:
        joined: dict[str, Detections] = {}
        for part in parts:
            joined |= part
        write_detections(run / "oof.json", dataset, joined)


def excluded_patients(config: AnyTraining, dataset: Dataset, others: Sequence[Dataset] = ()) -> set[str]:
    """Patients of the data sets in `exclude_patients`.

    Raises: DatasetError if one of those shares no patient with this data set or the `others` that are mixed in: their
    ids are then of different kinds, and nothing would be left out.
    """
    own = {record.patient_id for part in (dataset, *others) for record in part.records}
    excluded: set[str] = set()
    for root in config.exclude_patients:
        theirs = {record.patient_id for record in read_dataset(root).records}
        if not own & theirs:
            expected = "a data set that shares some (RSNA needs rsna_to_nih.csv when it is converted)"
            raise DatasetError(root, "exclude_patients", found=f"no patient of {dataset.root}", expected=expected)
        log.info("%s: %d patients left out", root, len(own & theirs))
        excluded |= theirs
    return excluded


def _learnt(config: AnyTraining) -> tuple[Learnt, ...]:
    if not isinstance(config, ClassifierTraining):
        return ("classes",)
    boxes = isinstance(config, StudyTraining) and (
        config.study_images == "boxed" or any(config.auxiliary.model_dump().values())
    )
    return ("labels", "classes") if boxes else ("labels",)
