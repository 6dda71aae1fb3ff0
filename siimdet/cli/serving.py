"""The command that serves the web application."""

import contextlib
import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

from siimdet.arguments import DeviceChoice
from siimdet.cli.messages import say
from siimdet.cli.options import DeviceOption
from siimdet.errors import MissingExtra, UserError

TOKEN = "SIIMDET_TOKEN"
_MODULES = ("fastapi", "uvicorn", "python_multipart")


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
    device: DeviceOption = DeviceChoice.AUTO,
) -> None:
    """Serve the web application and its interface. Not for diagnosis."""
    if missing := [name for name in _MODULES if importlib.util.find_spec(name) is None]:
        raise MissingExtra(missing[0], "serve")
    from siimdet.config import Coupling
    from siimdet.config_file import load_config
    from siimdet.inference.device import pick_device
    from siimdet.serve.app import make_app
    from siimdet.serve.audit import Audit
    from siimdet.serve.guard import Limits, is_loopback
    from siimdet.serve.jobs import Jobs
    from siimdet.serve.listening import Server, address_of, listen, run
    from siimdet.serve.runtime import Runtime

    token = token or os.environ.get(TOKEN) or None
    if token is None and not is_loopback(host):
        raise UserError("serve", "--host", found=f"{host} without a token", expected=f"{TOKEN} in the environment")
    settings = load_config(coupling, kinds=("coupling",)) if coupling else Coupling(kind="coupling")
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(listen(host, port))
        lines = Audit(audit) if audit else None
        runtime = Runtime(detector, study, coupling=settings, device=pick_device(device.value))
        runtime.warm_up()
        jobs = stack.enter_context(contextlib.closing(Jobs(runtime, longest=queue, keep_for=keep_for, audit=lines)))
        limits = Limits(request_bytes=max_mb << 20, file_bytes=max_mb << 19, per_minute=per_minute)
        hosts = frozenset(("localhost", "127.0.0.1", "::1", host)) if is_loopback(host) else None
        app = make_app(jobs, limits=limits, token=token, hosts=hosts)
        address = address_of(host, listening)
        run(Server(app, jobs.stop), listening, ready=lambda: say(f"siimdet listens on {address}"))
