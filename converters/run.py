"""The engine: every source goes through here, from a raw folder to a data set on disk."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import siimdet
from converters.assemble import assemble, count_labels, list_repairs
from converters.image import Grey
from converters.item import Done, Settings, Task, convert_item
from converters.journal import JOURNAL, Journal, task_digest
from converters.patients import with_patients
from converters.pool import Crash, run_tasks
from converters.raw_files import ImagesByStem
from converters.source import Failure, Item, Source, Tables
from converters.spaces import check_spaces
from siimdet.core.files import sha256_file
from siimdet.data.dataset import HEADER
from siimdet.data.manifest import Dataset, read_header, write_dataset
from siimdet.data.summary import count_images
from siimdet.data.table import write_table
from siimdet.data.yolo import remove_yolo, write_yolo
from siimdet.errors import SourceError
from siimdet.imaging.grayscale import Scaling
from siimdet.imaging.resize import Resize

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
    resize: Resize = "area",
    bit_depth: int = 8,
    scaling: Scaling = "minmax",
    voi: int = 1,
    patient_pattern: str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
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
    _check_out(source, raw, out)
    tables = with_patients(source, source.read(raw), patient_pattern)
    check_spaces(raw, tables)
    tasks, missing, without_file = _find_images(tables.items, raw, present_only=present_only, limit=limit)
    _sweep(out)
    settings = Settings(out, source.load, source.native, image_size, resize, Grey(bit_depth, scaling, voi))
    journal = Journal(out)
    done, refused, resumed = _run(settings, journal, tasks, workers or _cores(), cluster, progress)
    failures = sorted([*missing, *refused])
    repairs = list_repairs(tables.items, done, source.native)
    write_table(out / "failures.csv", ("id", "path", "reason"), failures)
    write_table(out / "repairs.csv", ("id", "field", "before", "after"), repairs)
    dataset = _write(source, settings, tables, done, where=raw, folds=folds, seed=seed)
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
    grey = settings.grey
    dataset = write_dataset(
        settings.out,
        records,
        boxes,
        source=source.name,
        labels=tables.labels,
        classes=tables.classes,
        bit_depth=grey.bit_depth,
        details={
            "converter": siimdet.__version__,
            "preprocessing": {
                "image_size": settings.image_size,
                "resize": settings.resize,
                "scaling": grey.scaling,
                "voi": grey.voi,
            },
            "splits": {"seed": seed, "folds": folds},
            "counts": {"labels": count_labels(tables.items, done), "converted": count_images(records, boxes)},
            "label_files": {path.relative_to(where).as_posix(): sha256_file(path) for path in tables.files},
        },
    )
    (write_yolo if grey.bit_depth == 8 else remove_yolo)(dataset)
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
    items: Sequence[Item], raw: Path, *, present_only: bool, limit: int | None
) -> tuple[list[Task], list[Failure], int]:
    """The work, the images that cannot be found, and how many labelled images have no file."""
    by_stem = ImagesByStem(raw) if any(item.place is None for item in items) else None
    here = {item.image_id: _is_here(item, raw, by_stem) for item in items}
    if not any(here.values()):
        found = f"none of the {len(items)} labelled images"
        raise SourceError(raw, "images", found=found, expected="files named by image id: .dcm, .png, .jpg or .jpeg")
    chosen = [item for item in items if here[item.image_id]] if present_only else items
    tasks, failures = [], []
    for item in chosen[:limit]:
        try:
            place = _place(item, by_stem)
            if item.place is not None and not here[item.image_id]:
                raise SourceError(raw / place, "image file", found="none", expected=place)
        except SourceError as error:
            failures.append(Failure(item.image_id, item.place or "", error.reason))
        else:
            tasks.append(Task(item, raw / place, place))
    return tasks, failures, sum(not found for found in here.values())


def _is_here(item: Item, raw: Path, by_stem: ImagesByStem | None) -> bool:
    if item.place is not None:
        return os.path.isfile(raw / item.place)  # Path.is_file raises for a name that no file can have
    return by_stem is not None and item.image_id in by_stem


def _place(item: Item, by_stem: ImagesByStem | None) -> str:
    if item.place is not None:
        return item.place
    assert by_stem is not None
    return by_stem.place(item.image_id)


def _run(
    settings: Settings,
    journal: Journal,
    tasks: Sequence[Task],
    workers: int,
    cluster: str | None,
    progress: Progress | None,
) -> tuple[dict[str, Done], list[Failure], int]:
    digests = {task.item.image_id: task_digest(settings, task) for task in tasks}
    earlier = {task.item.image_id: journal.finished(task, digests[task.item.image_id]) for task in tasks}
    done = {image_id: known for image_id, known in earlier.items() if known is not None}
    resumed, refused = len(done), []
    todo = [task for task in tasks if task.item.image_id not in done]
    if todo:  # until it is written again, images and manifest may not fit each other
        (settings.out / HEADER).unlink(missing_ok=True)
    for task, result in _work(settings, todo, workers, cluster):
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
    journal.settle(set(done))
    return done, refused, resumed


def _work(
    settings: Settings, todo: Sequence[Task], workers: int, cluster: str | None
) -> Iterator[tuple[Task, Done | Failure | Crash]]:
    work = partial(convert_item, settings)
    if cluster is None:
        return run_tasks(work, todo, workers=workers)
    from converters.cluster import run_on_cluster

    return run_on_cluster(work, todo, address=cluster)


def _sweep(out: Path) -> None:
    """Remove the temporary files of a run that was killed; only atomic_write makes such names here."""
    names = ("manifest.csv", "annotations.json", "dataset.json", "data.yaml", "*.txt", "failures.csv", "repairs.csv")
    for folder, patterns in ((out, (*names, JOURNAL)), (out / "images", ("*.png",)), (out / "labels", ("*.txt",))):
        for pattern in patterns:
            for path in folder.glob(f".{pattern}.????????"):
                path.unlink()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
