"""The command that serves the web application."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from siimdet.arguments import DeviceChoice
from siimdet.cli.messages import say
from siimdet.cli.options import DeviceOption
from siimdet.errors import MissingExtra, UserError

if TYPE_CHECKING:
    from siimdet.serve.archive import Archive
    from siimdet.serve.watch_journal import WatchJournal

TOKEN = "SIIMDET_TOKEN"
PACS_USER, PACS_PASSWORD = "SIIMDET_PACS_USER", "SIIMDET_PACS_PASSWORD"
_MODULES = {"serve": ("fastapi", "uvicorn", "python_multipart"), "pacs": ("dicomweb_client", "highdicom")}


def serve(
    detector: Annotated[list[Path], typer.Option(help="Run directory of a detector; several become an ensemble.")],
    study: Annotated[Path, typer.Option(help="Run directory of a study classifier.")],
    coupling: Annotated[Path | None, typer.Option(help="How boxes are fused and images become studies.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8000,
    token: Annotated[str | None, typer.Option(help=f"What clients must give; better in {TOKEN}.")] = None,
    keep_for: Annotated[float, typer.Option(min=1, help="Seconds after which results and files are deleted.")] = 3600,
    queue: Annotated[int, typer.Option(min=1, help="Studies that may wait.")] = 32,
    max_mb: Annotated[int, typer.Option(min=1, help="MiB of a request; half of them of a file.")] = 200,
    per_minute: Annotated[int, typer.Option(min=1, help="Predictions that an address may ask for.")] = 600,
    audit: Annotated[Path | None, typer.Option(help="File that gets a line per inference, nothing of a patient.")] = (
        None
    ),
    pacs: Annotated[str | None, typer.Option(help="DICOMweb address of an archive to watch for new CR and DX.")] = None,
    pacs_interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the archive.")] = 30,
    pacs_days: Annotated[
        int | None, typer.Option(min=0, max=36500, help="Days that a study's date may be past.")
    ] = None,
    pacs_state: Annotated[Path | None, typer.Option(help="File that knows which studies are done.")] = None,
    device: DeviceOption = DeviceChoice.AUTO,
) -> None:
    """Serve the web application and its interface. Not for diagnosis."""
    _require("serve")
    from siimdet.config import Coupling
    from siimdet.config_file import load_config
    from siimdet.inference.device import pick_device
    from siimdet.serve.app import make_app
    from siimdet.serve.audit import Audit
    from siimdet.serve.guard import Limits
    from siimdet.serve.jobs import Jobs
    from siimdet.serve.listening import Server, address_of, listen, run
    from siimdet.serve.loopback import is_loopback
    from siimdet.serve.runtime import Runtime

    token = token or os.environ.get(TOKEN) or None
    if token is None and not is_loopback(host):
        raise UserError("serve", "--host", found=f"{host} without a token", expected=f"{TOKEN} in the environment")
    if pacs is None and (pacs_days, pacs_state) != (None, None):
        raise UserError("serve", "--pacs-days, --pacs-state", found="no --pacs", expected="an archive to watch")
    settings = load_config(coupling, kinds=("coupling",)) if coupling else Coupling(kind="coupling")
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(listen(host, port))
        watched = stack.enter_context(_watched(pacs, pacs_state)) if pacs else None
        lines = Audit(audit) if audit else None
        runtime = Runtime(detector, study, coupling=settings, device=pick_device(device.value))
        runtime.warm_up()
        jobs = stack.enter_context(contextlib.closing(Jobs(runtime, longest=queue, keep_for=keep_for, audit=lines)))
        limits = Limits(request_bytes=max_mb << 20, file_bytes=max_mb << 19, per_minute=per_minute)
        hosts = frozenset(("localhost", "127.0.0.1", "::1", host)) if is_loopback(host) else None
        app = make_app(jobs, limits=limits, token=token, hosts=hosts)
        address = address_of(host, listening)
        watch = None
        if watched is not None:
            from siimdet.serve.pacs import Watch

            watch = Watch(*watched, jobs, interval=pacs_interval, days=pacs_days, limits=limits)
            stack.enter_context(contextlib.closing(watch)).start()

        def end() -> None:
            if watch is not None:
                watch.stop()
            jobs.stop()

        run(Server(app, end), listening, ready=lambda: say(f"siimdet listens on {address}"))


def _require(extra: str) -> None:
    if missing := [name for name in _MODULES[extra] if importlib.util.find_spec(name) is None]:
        raise MissingExtra(missing[0], extra)


@contextlib.contextmanager
def _watched(url: str, state: Path | None) -> Iterator[tuple["Archive", "WatchJournal"]]:
    """The archive to watch, with the user that the environment names, and its journal."""
    _require("pacs")
    from siimdet.serve.archive import Archive
    from siimdet.serve.watch_journal import WatchJournal, default_state

    archive = Archive(url, user=os.environ.get(PACS_USER), password=os.environ.get(PACS_PASSWORD))
    with contextlib.closing(WatchJournal(state or default_state(), archive.url)) as journal:
        yield archive, journal
