"""The commands of the hospital's side: images as they are sent, results where the images live."""

from pathlib import Path
from typing import Annotated

import typer

from siimdet.cli.messages import say


def dicom_results(
    predictions: Annotated[Path, typer.Argument(help="submission.csv, or COCO results (.json) with --dataset.")],
    raw: Annotated[Path, typer.Option(help="Folder of the DICOM files that were predicted on.")],
    out: Annotated[Path, typer.Option(help="Folder to write: STUDY/report.dcm and two files per image.")],
    dataset: Annotated[Path | None, typer.Option(help="The data set that the predictions are of.")] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Least score of a box that is shown.")] = 0.13,
    model: Annotated[str, typer.Option(help="Name of the model, for the objects to carry.")] = "siimdet",
    allow_failures: Annotated[bool, typer.Option("--allow-failures", help="Exit 0 despite refused inputs.")] = False,
) -> None:
    """Write predictions as DICOM: reports, presentation states and pictures with boxes. Not for diagnosis."""
    from datetime import datetime

    from converters.raw_files import walk
    from siimdet import __version__
    from siimdet.core.files import sha256_file
    from siimdet.data.manifest import read_dataset
    from siimdet.progress import progress_bar
    from siimdet.serve.dicom_find import DicomFiles
    from siimdet.serve.dicom_identity import ModelIdentity, Origin, require_highdicom
    from siimdet.serve.dicom_predictions import read_predictions

    require_highdicom()
    from siimdet.serve.dicom_files import FAILURES, write_results

    found = read_predictions(predictions, read_dataset(dataset) if dataset else None, detector=model)
    identity = ModelIdentity(model, __version__, sha256_file(predictions))
    files = DicomFiles(raw, walk(raw))
    with progress_bar("dicom-results") as progress:
        written = write_results(
            found, files, out, Origin(identity, threshold, datetime.now().astimezone()), progress=progress
        )
    say(f"{out}: {written.images} images of {written.studies} studies, {len(written.refused)} failures")
    if written.refused:
        say(f"reasons: {out / FAILURES}")
    if written.refused and not allow_failures:
        raise typer.Exit(3)


def receive(
    out: Annotated[Path, typer.Option(help="Folder that gets STUDY/SERIES/INSTANCE.dcm by UID.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 11112,
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs --calling.")] = "127.0.0.1",
    ae_title: Annotated[str, typer.Option(help="Title of this application entity.")] = "SIIMDET",
    calling: Annotated[list[str] | None, typer.Option(help="Titles of the entities that may send; else all.")] = None,
) -> None:
    """Receive radiographs that a modality or an archive sends (C-STORE), and keep them as files."""
    import contextlib
    import importlib.util
    import signal

    from siimdet.errors import MissingExtra, UserError
    from siimdet.serve.loopback import is_loopback

    if importlib.util.find_spec("pynetdicom") is None:
        raise MissingExtra("pynetdicom", "pacs")
    from siimdet.serve.receive import Receiver

    if not calling and not is_loopback(host):
        raise UserError("receive", "--host", found=f"{host} without --calling", expected="the titles that may send")
    ends = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before there are other threads, which then block them, too
    with contextlib.closing(Receiver(out, host, port, title=ae_title, callers=calling or ())) as receiver:
        say(f"siimdet receives as {ae_title} on {host}:{receiver.port}")
        signal.sigwait(ends)
