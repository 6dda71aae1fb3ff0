"""The engine: every source goes through here, from a raw folder to a data set on disk."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import siimdet
from converters.assemble import assemble, count_labels, list_repairs
from converters.image import RawFiles
from converters.item import Done, Settings, Task, convert_item
from converters.journal import JOURNAL, Journal, task_digest
from converters.pool import ATTEMPTS, Crash, run_tasks
from converters.source import Failure, Item, Source, Tables
from siimdet.core.files import sha256_file
from siimdet.data.dataset import HEADER
from siimdet.data.manifest import Dataset, read_header, write_dataset
from siimdet.data.summary import count_images
from siimdet.data.table import write_table
from siimdet.data.yolo import remove_yolo, write_yolo
from siimdet.errors import SourceError

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


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
    bit_depth: int = 8,
    workers: int | None = None,
    folds: int | None = None,
    seed: int = 0,
    limit: int | None = None,
    present_only: bool = False,
    progress: Progress | None = None,
) -> ConversionSummary:
    """Convert a raw folder into a data set; a second run redoes only what is missing or changed.

    image_size bounds the longer side in pixels and never enlarges; limit takes the first images by
    id; present_only passes over labelled images without a file, which are failures otherwise. Splits
    and folds follow from all label rows, so a partial download keeps them. The files written are the
    same whatever the number of workers.
    Raises: SourceError for label tables that are not what the source publishes, or no image at all.
    """
    raw, out = raw.absolute(), out.absolute()
    if not raw.is_dir():
        raise SourceError(raw, "folder", found="nothing there", expected=f"the raw files of {source.name}")
    _check_out(source, raw, out)
    tables = source.read(raw)
    files = RawFiles(raw, without=out)
    tasks, missing = _find_images(tables.items, files, raw, present_only=present_only, limit=limit)
    _sweep(out)
    settings = Settings(out, source.load, source.native, image_size, bit_depth)
    done, refused, resumed = _run(settings, tasks, workers or _cores(), progress)
    failures = sorted([*missing, *refused])
    repairs = list_repairs(tables.items, done, source.native)
    write_table(out / "failures.csv", ("id", "path", "reason"), failures)
    write_table(out / "repairs.csv", ("id", "field", "before", "after"), repairs)
    dataset = _write(source, settings, tables, done, where=raw, folds=folds, seed=seed)
    without_file = sum(item.image_id not in files for item in tables.items)
    return ConversionSummary(dataset, len(done) - resumed, resumed, without_file, len(failures), len(repairs))


def _write(
    source: Source,
    settings: Settings,
    tables: Tables,
    done: Mapping[str, Done],
    *,
    where: Path,
    folds: int | None,
    seed: int,
) -> Dataset:
    records, boxes = assemble(tables.items, done, where=where, folds=folds, seed=seed)
    preprocessing = {"image_size": settings.image_size, "resize": "area", "grey": "VOI, then min-max without padding"}
    dataset = write_dataset(
        settings.out,
        records,
        boxes,
        source=source.name,
        labels=source.labels,
        classes=source.classes,
        bit_depth=settings.bit_depth,
        details={
            "converter": siimdet.__version__,
            "preprocessing": preprocessing,
            "splits": {"seed": seed, "folds": folds},
            "counts": {"labels": count_labels(tables.items, done), "converted": count_images(records, boxes)},
            "label_files": {path.name: sha256_file(path) for path in tables.files},
        },
    )
    (write_yolo if settings.bit_depth == 8 else remove_yolo)(dataset)
    return dataset


def _check_out(source: Source, raw: Path, out: Path) -> None:
    """Refuse to write over raw files or over another source's data set."""
    if raw.resolve().is_relative_to(out.resolve()) or (out / "images").resolve() == raw.resolve():
        raise SourceError(out, "--out", found="a folder that holds the raw files", expected="another folder")
    if (out / HEADER).is_file():
        found = read_header(out / HEADER).get("source")
        if found != source.name:
            raise SourceError(
                out, "--out", found=f"a data set of {found}", expected=f"a new folder, or one of {source.name}"
            )


def _find_images(
    items: Sequence[Item], files: RawFiles, raw: Path, *, present_only: bool, limit: int | None
) -> tuple[list[Task], list[Failure]]:
    if not any(item.image_id in files for item in items):
        found = f"none of the {len(items)} labelled images"
        raise SourceError(raw, "images", found=found, expected="files named by image id: .dcm, .png, .jpg or .jpeg")
    chosen = [item for item in items if item.image_id in files] if present_only else items
    tasks, failures = [], []
    for item in chosen[:limit]:
        try:
            path = files.path(item.image_id)
        except SourceError as error:
            failures.append(Failure(item.image_id, "", error.reason))
        else:
            tasks.append(Task(item, path, path.relative_to(raw).as_posix()))
    return tasks, failures


def _run(
    settings: Settings, tasks: Sequence[Task], workers: int, progress: Progress | None
) -> tuple[dict[str, Done], list[Failure], int]:
    journal = Journal(settings.out)
    digests = {task.item.image_id: task_digest(settings, task) for task in tasks}
    earlier = {task.item.image_id: journal.finished(task, digests[task.item.image_id]) for task in tasks}
    done = {image_id: known for image_id, known in earlier.items() if known is not None}
    resumed, refused = len(done), []
    todo = [task for task in tasks if task.item.image_id not in done]
    if todo:  # until it is written again, images and manifest may not fit each other
        (settings.out / HEADER).unlink(missing_ok=True)
    for task, result in run_tasks(partial(convert_item, settings), todo, workers=workers):
        image_id = task.item.image_id
        if isinstance(result, Done):
            done[image_id] = result
            journal.add(digests[image_id], result)
        elif isinstance(result, Crash):
            reason = f"worker process: found exit code {result.exit_code} {ATTEMPTS} times, expected a result"
            refused.append(Failure(image_id, task.place, reason))
        else:
            refused.append(result)
        if progress is not None:
            progress(len(done) + len(refused), len(tasks))
    journal.settle(set(done))
    return done, refused, resumed


def _sweep(out: Path) -> None:
    """Remove the temporary files of a run that was killed; only atomic_write makes such names here."""
    names = ("manifest.csv", "annotations.json", "dataset.json", "data.yaml", "*.txt", "failures.csv", "repairs.csv")
    for folder, patterns in ((out, (*names, JOURNAL)), (out / "images", ("*.png",)), (out / "labels", ("*.txt",))):
        for pattern in patterns:
            for path in folder.glob(f".{pattern}.????????"):
                path.unlink()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
