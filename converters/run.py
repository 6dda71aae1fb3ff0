"""The engine: every source goes through here, from a raw folder to a data set on disk."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import siimdet
from converters.assemble import SplitBy, assemble, count_labels, divide, list_repairs, owners_of
from converters.find import find_images
from converters.image import Grey
from converters.item import Done, Settings, Task, convert_item
from converters.journal import Journal, task_digest
from converters.out_folder import claimed
from converters.patients import with_patients
from converters.pool import Crash, run_tasks
from converters.source import Failure, Source, Tables
from converters.spaces import check_spaces
from siimdet.core.files import sha256_file
from siimdet.core.types import BoxLabels, ImageRecord
from siimdet.data.dataset import HEADER
from siimdet.data.manifest import Dataset, write_dataset
from siimdet.data.summary import count_images
from siimdet.data.table import write_table
from siimdet.data.yolo import remove_yolo, write_yolo
from siimdet.errors import SourceError
from siimdet.imaging.grayscale import Scaling
from siimdet.imaging.resize import Resize

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""

Work = Callable[[Sequence[Task]], Iterator[tuple[Task, Done | Failure | Crash]]]
"""Converts images, in no fixed order."""


@dataclass(frozen=True, slots=True, eq=False)
class ConversionSummary:
    """What a conversion did; `failures` above 0 means exit code 3 unless the user allows them."""

    dataset: Dataset
    converted: int
    """Images converted by this run."""
    resumed: int
    """Images that an earlier run had converted."""
    without_file: int
    """Labelled images whose file is not there."""
    failures: int
    """Rows of failures.csv."""
    repairs: int
    """Rows of repairs.csv."""


def convert(
    source: Source,
    raw: Path,
    out: Path,
    *,
    image_size: int | None = None,
    resize: Resize = "area",
    bit_depth: int = 8,
    scaling: Scaling = "minmax",
    voi: int = 1,
    patient_pattern: str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    split_by: SplitBy = "patient",
    folds: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    present_only: bool = False,
    progress: Progress | None = None,
) -> ConversionSummary:
    """Convert a raw folder into a data set; a second run redoes only what is missing or changed.

    A Dask scheduler's address in `cluster` takes the work to its workers, which must see both folders
    under the same paths; else `workers` processes do it here. The files written are the same either way.
    Raises: SourceError for labels that are not what the source publishes, or no image at all.
    """
    raw, out = raw.absolute(), out.absolute()
    if not raw.is_dir():
        raise SourceError(raw, "folder", found="nothing there", expected=f"the raw files of {source.name}")
    with claimed(source.name, raw, out):
        tables = with_patients(source, source.read(raw), patient_pattern)
        check_spaces(raw, tables)
        items = tables.items
        tasks, missing, without_file = find_images(items, raw, present_only=present_only, limit=limit)
        owners = owners_of(items, {})
        division_of = partial(divide, items, where=raw, split_by=split_by, folds=folds, seed=seed)
        # Where the labels name every patient, too many folds are said before hours of work.
        division = division_of(owners) if len(owners) == len(items) else None
        settings = Settings(out, source.load, source.native, image_size, resize, Grey(bit_depth, scaling, voi))
        journal, work = Journal(out, source.name), _work(settings, workers or _cores(), cluster)
        done, refused, resumed = _run(settings, journal, tasks, work, progress)
        owners = owners_of(items, done)
        division = division or division_of(owners)
        (out / HEADER).unlink(missing_ok=True)
        # What the labels still have is kept though this run leaves it out: its file may be away for now.
        journal.settle({item.image_id for item in items} - {failure.image_id for failure in refused})
        failures = sorted([*missing, *refused])
        repairs = list_repairs(items, done, owners, source.native)
        write_table(out / "failures.csv", ("id", "path", "reason"), failures)
        write_table(out / "repairs.csv", ("id", "field", "before", "after"), repairs)
        records, boxes = assemble(items, done, owners, division)
        details = {
            "splits": {"seed": seed, "split_by": split_by, "folds": folds, "patient_pattern": patient_pattern},
            "counts": {"labels": count_labels(items, owners), "converted": count_images(records, boxes)},
            "label_files": {path.relative_to(raw).as_posix(): sha256_file(path) for path in tables.files},
        }
        dataset = _write(source.name, settings, tables, records, boxes, details)
    return ConversionSummary(dataset, len(done) - resumed, resumed, without_file, len(failures), len(repairs))


def _write(
    source: str,
    settings: Settings,
    tables: Tables,
    records: Sequence[ImageRecord],
    boxes: Mapping[str, BoxLabels],
    details: Mapping[str, Any],
) -> Dataset:
    grey = settings.grey
    preprocessing = {
        "image_size": settings.image_size,
        "resize": settings.resize,
        "scaling": grey.scaling,
        "voi": grey.voi,
    }
    dataset = write_dataset(
        settings.out,
        records,
        boxes,
        source=source,
        labels=tables.labels,
        classes=tables.classes,
        bit_depth=grey.bit_depth,
        details={"converter": siimdet.__version__, "preprocessing": preprocessing, **details},
    )
    (write_yolo if grey.bit_depth == 8 else remove_yolo)(dataset)
    return dataset


def _run(
    settings: Settings, journal: Journal, tasks: Sequence[Task], work: Work, progress: Progress | None
) -> tuple[dict[str, Done], list[Failure], int]:
    digests = {task.item.image_id: task_digest(settings, task) for task in tasks}
    earlier = {task.item.image_id: journal.finished(task, digests[task.item.image_id]) for task in tasks}
    done = {image_id: known for image_id, known in earlier.items() if known is not None}
    resumed, refused = len(done), []
    header = settings.out / HEADER
    for task, result in work([task for task in tasks if task.item.image_id not in done]):
        # Until it is written again, images and manifest may not fit each other.
        header.unlink(missing_ok=True)
        image_id = task.item.image_id
        if isinstance(result, Done):
            done[image_id] = result
            journal.add(digests[image_id], result)
        elif isinstance(result, Crash):
            reason = f"worker process: found {result.cause}, expected a result"
            refused.append(Failure(image_id, task.place, reason))
        else:
            refused.append(result)
        if progress is not None:
            progress(len(done) + len(refused), len(tasks))
    return done, refused, resumed


def _work(settings: Settings, workers: int, cluster: str | None) -> Work:
    work = partial(convert_item, settings)
    if cluster is None:
        return partial(run_tasks, work, workers=workers)
    from converters.cluster import run_on_cluster

    return partial(run_on_cluster, work, address=cluster)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
