"""A real `siimdet receive` on loopback, and radiographs to send to it."""

import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import ComputedRadiographyImageStorage

from siimdet.imaging.dicom import write_radiograph

PATIENT = "Doe^Jane"
PYTHON = (sys.executable, "-m", "siimdet")


class Service:
    """A running `siimdet receive`."""

    def __init__(self, out: Path, log: Path, *options: str, run: Sequence[str] = PYTHON) -> None:
        self.out, self._log = out, log
        command = [*run, "receive", "--out", str(out), "--port", "0", *options]
        with open(log, "wb") as stream:
            self.process = subprocess.Popen(command, stderr=stream)
        until = time.monotonic() + 60
        while "siimdet receives" not in self.log:
            assert self.process.poll() is None and time.monotonic() < until, self.log
            select.select([], [], [], 0.02)
        said = re.search(r"receives as \w+ on 127.0.0.1:(\d+)", self.log)
        assert said
        self.port = int(said[1])

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def said(self) -> list[str]:
        """The log's lines on senders."""
        return re.findall(r"receive: (.+)\n", self.log)

    @property
    def files(self) -> list[str]:
        return sorted(path.relative_to(self.out).as_posix() for path in self.out.rglob("*") if path.is_file())

    @property
    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def memory(self) -> float:
        """The most that was resident so far, MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def associate(self, *classes: str, syntaxes=None, title: str = "MODALITY", **extra) -> Association:
        entity = AE(title)
        for sop_class in classes or (ComputedRadiographyImageStorage,):
            entity.add_requested_context(sop_class, syntaxes)
        return entity.associate("127.0.0.1", self.port, **extra)

    def send(self, *objects: pydicom.Dataset, **options) -> list[int]:
        """Statuses."""
        classes = sorted({each.SOPClassUID for each in objects})
        syntaxes = sorted({each.file_meta.TransferSyntaxUID for each in objects})
        association = self.associate(*classes, syntaxes=syntaxes, **options)
        assert association.is_established
        try:
            return [association.send_c_store(each).Status for each in objects]
        finally:
            association.release()

    @staticmethod
    def wait_for(holds: Callable[[], object]) -> None:
        until = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < until, "nothing happened"
            time.sleep(0.02)


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Service]:
    """A service that many tests send to."""
    folder = tmp_path_factory.mktemp("receive")
    service = Service(folder / "out", folder / "log")
    yield service
    assert service.stop() == 0
    assert PATIENT not in service.log and "Traceback" not in service.log


@pytest.fixture
def service(tmp_path) -> Iterator[Callable[..., Service]]:
    """Starts services of its own; `service("--option", ..., run=COMMAND, MAX_FILE_BYTES=...)`.

    `run` is the command up to `receive`; limits of the module are set so that they are reached sooner.
    """
    started: list[Service] = []

    def service_(*options: str, run: Sequence[str] = PYTHON, **limits: float) -> Service:
        if limits:
            lines = "".join(f"receive.{name} = {value}; " for name, value in limits.items())
            code = f"from siimdet.__main__ import main; from siimdet.serve import receive; {lines}main()"
            run = (sys.executable, "-c", code)
        started.append(Service(tmp_path / "out", tmp_path / "log", *options, run=run))
        return started[-1]

    yield service_
    for each in started:
        if each.process.poll() is None:
            assert each.stop() == 0
        assert PATIENT not in each.log and "Traceback" not in each.log


@pytest.fixture(scope="session")
def film(tmp_path_factory) -> Callable[..., pydicom.Dataset]:
    """A radiograph, read: film("1.2", seed=...)."""

    def film_(study: str, seed: int = 0, syntax: str = "explicit") -> pydicom.Dataset:
        path = tmp_path_factory.mktemp("film") / "a.dcm"
        pixels = np.random.default_rng(seed).integers(0, 4096, (60, 50), dtype=np.uint16)
        ids = {"study_uid": study, "series_uid": f"{study}.1", "sop_uid": f"{study}.1.1"}
        write_radiograph(path, pixels, patient_id=PATIENT, bits_stored=12, syntax=syntax, **ids)
        return pydicom.dcmread(path)

    return film_
