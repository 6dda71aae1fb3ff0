"""A server on loopback with small models of random weights, and files to send to it."""

import io
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from siimdet.config import Coupling
from siimdet.core.labels import OPACITY, STUDY
from siimdet.data.phantom import render, sample_opacities, sample_thorax, stretch
from siimdet.imaging.dicom import write_radiograph
from siimdet.models.weights import ModelSpec, build_model, save_model
from siimdet.serve.app import make_app
from siimdet.serve.guard import Limits
from siimdet.serve.jobs import Jobs
from siimdet.serve.listening import Server, address_of, listen
from siimdet.serve.runtime import Runtime

GREY = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
SMALL = {"finest_stage": 2, "fpn_channels": 8, "box_head_features": 8, "anchor_sizes": [8, 16, 32, 48]}
FASTER_RCNN = {"body": "resnet18", "proposals": 20, "score_threshold": 0.05, **SMALL, **GREY}
YOLO = {"architecture": "yolov5n.yaml", "confidence": 0.001, "iou": 0.5}
STUDY_MODEL = {"body": "simple_cnn", "activation": "softmax", "mean": [0.5], "std": [0.25]}
PATIENT = "Doe^Jane"


@dataclass(frozen=True)
class Runs:
    """Run directories."""

    faster_rcnn: Path
    yolo: Path
    study: Path

    @property
    def options(self) -> list[str]:
        """As `siimdet serve` takes them."""
        return ["--detector", str(self.faster_rcnn), str(self.yolo), "--study", str(self.study)]


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Runs:
    """Models of random weights, the same every time."""
    folder = tmp_path_factory.mktemp("runs")
    specs = {
        "faster_rcnn": ModelSpec("faster_rcnn", FASTER_RCNN, OPACITY, 64, "stretch", 4),
        "yolo": ModelSpec("yolo", YOLO, OPACITY, 64, "stretch", 4),
        "study": ModelSpec("classifier", STUDY_MODEL, STUDY, 32, "stretch", 4),
    }
    for name, spec in specs.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            save_model(folder / name, spec, build_model(spec).state_dict(), {})
    return Runs(*(folder / name for name in specs))


@dataclass(frozen=True)
class Client:
    """Whoever asks a server at an address."""

    address: str

    def post(self, *files: bytes, wait: int = 1, detector: str | None = "ensemble", **options) -> httpx.Response:
        """POST /api/predict."""
        parts = [("files", (f"{number}.bin", data)) for number, data in enumerate(files)]
        data = {} if detector is None else {"detector": detector}
        return self.ask("POST", f"/api/predict?wait={wait}", files=parts or None, data=data, **options)

    def get(self, path: str, **options) -> httpx.Response:
        return self.ask("GET", path, **options)

    def study(self, key: str) -> dict[str, Any]:
        """GET /api/predict/KEY."""
        return self.get(f"/api/predict/{key}").json()

    def figures(self) -> dict[str, float]:
        """GET /metrics."""
        lines = self.get("/metrics").text.splitlines()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[0] != "#")}

    def ask(self, method: str, path: str, **options) -> httpx.Response:
        with httpx.Client(base_url=self.address, timeout=120, trust_env=False) as client:
            return client.request(method, path, **options)


@dataclass(frozen=True)
class Started(Client):
    """A server's process, its address, and its log so far."""

    process: BaseProcess
    log: Path

    def stop(self) -> int | None:
        """SIGTERM, and the exit code."""
        self.process.terminate()
        self.process.join(60)
        return self.process.exitcode

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.join()


@pytest.fixture(scope="session")
def start(start, runs, tmp_path_factory) -> Iterator[Callable[..., Started]]:
    """Start `siimdet serve` on a free port; `start(OPTION, ...)`."""
    started: list[Started] = []

    def start_(*options: str, environment: dict[str, str] | None = None) -> Started:
        log = tmp_path_factory.mktemp("server") / "log.txt"
        log.touch()
        process = start(["serve", *runs.options, "--port", "0", *options], log, environment)
        until = time.monotonic() + 120
        while "listens on" not in (text := log.read_text()):
            assert process.is_alive() and time.monotonic() < until, text
            select.select([], [], [], 0.05)
        address = text.split("listens on ")[1].split("\n")[0]
        started.append(Started(address, process, log))
        return started[-1]

    yield start_
    for server in started:
        if server.process.is_alive():
            server.stop()


@pytest.fixture(scope="session")
def running(start) -> Started:
    """A server that many tests share."""
    return start("--per-minute", "100000")


@pytest.fixture(scope="session")
def server(running) -> str:
    """Its address."""
    return running.address


@pytest.fixture(scope="session")
def runtime(runs) -> Runtime:
    """The models in this process."""
    return Runtime(
        [runs.faster_rcnn, runs.yolo], runs.study, coupling=Coupling(kind="coupling"), device=torch.device("cpu")
    )


@dataclass(frozen=True)
class Served(Client):
    """A server in this process, and its queue."""

    jobs: Jobs


@pytest.fixture
def serve(runtime, tmp_path) -> Iterator[Callable[..., Served]]:
    """Serve the models from a thread on a free port, with other limits, token, hosts or queue than usual."""
    ends: list[Callable[[], None]] = []

    def serve_(*, limits=None, token=None, hosts=frozenset({"127.0.0.1"}), static=tmp_path, **queue) -> Served:
        jobs = Jobs(runtime, **queue)
        listening = listen("127.0.0.1", 0)
        server = Server(make_app(jobs, limits=limits or Limits(), token=token, hosts=hosts, static=static), jobs.stop)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()

        def end() -> None:
            server.should_exit = True
            thread.join()
            jobs.close()

        ends.append(end)
        return Served(address_of("127.0.0.1", listening), jobs)

    yield serve_
    for end in ends:
        end()


@pytest.fixture(scope="session")
def png() -> Callable[..., bytes]:
    """Noise as PNG; another seed, another picture."""

    def png_(seed: int = 0, side: int = 48) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side), np.uint8)).save(stream, "png")
        return stream.getvalue()

    return png_


@pytest.fixture(scope="session")
def radiograph(tmp_path_factory) -> Path:
    """A phantom as DICOM of 12 bits, MONOCHROME1, 240 x 200 px."""
    rng = np.random.default_rng(3)
    thorax = sample_thorax(rng)
    grey = stretch(rng, render(rng, thorax, sample_opacities(rng, "typical", thorax)), 240, 200)
    path = tmp_path_factory.mktemp("radiograph") / "a.dcm"
    ids = {"patient_id": PATIENT, "study_uid": "1.2.3", "series_uid": "1.2.3.4", "sop_uid": "1.2.3.4.5"}
    pixels = 4095 - (grey * 4095).astype(np.uint16)
    write_radiograph(path, pixels, bits_stored=12, photometric="MONOCHROME1", **ids)
    return path
