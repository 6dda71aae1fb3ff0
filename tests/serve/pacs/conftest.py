"""A real Orthanc on loopback, behind a relay that can be told to fail, and studies to store in it."""

import contextlib
import ctypes
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient

from siimdet.imaging.dicom_write import write_radiograph

USER, PASSWORD = "ward", "right"
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""In a network of its own: this version of Orthanc listens on every address of its machine."""
CLONE_NEWNET = 0x40000000
STORE = b"POST /dicom-web/studies"
STATUSES, EMPTY = {"full": b"500 No", "lost": b"200 OK"}, b"Content-Length: 0\r\nConnection: close\r\n"


def wait_for(holds: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Orthanc:
    """A server that can be stopped and started again on what it has stored."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self._config = folder / "orthanc.json"
        settings = {
            "StorageDirectory": str(folder / "stored"),
            "IndexDirectory": str(folder / "stored"),
            "HttpPort": self.port,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True},
        }
        self._config.write_text(json.dumps(settings))
        self.alone = subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with open(self._folder / "orthanc.log", "ab") as log:
            command = [*(ALONE if self.alone else ()), "Orthanc", str(self._config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(30)
        self.process = None

    def enter(self) -> None:
        """Bring this thread, and no other, into the network of the server."""
        if self.alone and self.process is not None:
            with open(f"/proc/{self.process.pid}/ns/net") as network:
                assert ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET) == 0


class Relay:
    """Takes connections on a port of loopback to the server, one thread each; `mode` says what becomes of them.

    - open: all goes through;
    - hold: what would store goes nowhere, and `held` tells that it came;
    - deaf: what stores goes through, its answer does not;
    - full: what would store is answered with 500, lost: with 200, and goes nowhere;
    - gone: what would store ends its connection, down: anything does, dying: first the one, then the other.

    `stores` counts what would store.
    """

    def __init__(self, server: Orthanc) -> None:
        self.mode, self.held, self.stores = "open", threading.Event(), 0
        self._server = server
        self._clients: set[socket.socket] = set()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hang_up(self) -> None:
        """End all connections."""
        for client in tuple(self._clients):
            client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._clients.add(client)
        with client:
            try:
                self._server.enter()
                with socket.create_connection(("127.0.0.1", self._server.port)) as server:
                    deaf = threading.Event()
                    threading.Thread(target=self._answer, args=(server, client, deaf), daemon=True).start()
                    while data := client.recv(1 << 16):
                        if data.startswith(STORE):
                            self.stores += 1
                            self.held.set()
                            if self.mode == "deaf":
                                deaf.set()
                        if data.startswith(STORE) and self.mode == "dying":
                            self.mode = "down"
                        if self.mode == "down" or (data.startswith(STORE) and self.mode == "gone"):
                            return
                        if data.startswith(STORE) and self.mode in STATUSES:
                            client.sendall(b"HTTP/1.1 %s\r\n%s\r\n" % (STATUSES[self.mode], EMPTY))
                        if not (data.startswith(STORE) and self.mode in ("hold", *STATUSES)):
                            server.sendall(data)
                            continue
                        while client.recv(1 << 16):  # until the one who stores is gone
                            pass
            except OSError:  # either side is gone
                pass
            finally:
                self._clients.discard(client)

    def _answer(self, server: socket.socket, client: socket.socket, deaf: threading.Event) -> None:
        try:
            while data := server.recv(1 << 16):
                if not deaf.is_set():
                    client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


class Archive:
    """What a test sees of the server: itself, the relay before it, and a client through the relay."""

    def __init__(self, server: Orthanc, relay: Relay) -> None:
        self.server, self.relay = server, relay
        self.url = f"http://127.0.0.1:{relay.port}/dicom-web"
        self.environment = {"SIIMDET_PACS_USER": USER, "SIIMDET_PACS_PASSWORD": PASSWORD, "NO_PROXY": "127.0.0.1"}
        session = requests.Session()
        session.auth, session.trust_env = (USER, PASSWORD), False
        self.client = DICOMwebClient(self.url, session=session)
        self.client.set_http_retry_params(retry=False)

    def await_start(self) -> None:
        def answers() -> bool:
            try:
                self.client.search_for_studies(limit=1)
            except requests.RequestException:
                return False
            return True

        wait_for(answers)

    def store(self, *paths: Path) -> None:
        for path in paths:
            self.client.store_instances([pydicom.dcmread(path)])

    def objects(self, study: str, *modalities: str) -> list[pydicom.Dataset]:
        """What a study has of these modalities, whole."""
        entries = self.client.search_for_instances(study, fields=["Modality"])
        places = [[entry[tag]["Value"][0] for tag in ("0020000E", "00080018")] for entry in entries]
        found = [self.client.retrieve_instance(study, *place) for place in sorted(places)]
        return [each for each in found if each.Modality in modalities]

    def results(self, study: str) -> list[str]:
        """Modalities of what is in a study beside its radiographs, one for each object."""
        entries = self.client.search_for_instances(study, fields=["Modality"])
        return sorted(each for entry in entries if (each := entry["00080060"]["Value"][0]) not in ("CR", "DX"))


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """Waits until something holds: eventually(HOLDS, SECONDS)."""
    return wait_for


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Archive]:
    if shutil.which("Orthanc") is None or not PLUGIN.exists():
        if "SIIMDET_REQUIRE_PACS" in os.environ:
            pytest.fail("SIIMDET_REQUIRE_PACS is set, but there is no Orthanc with its DICOMweb plugin")
        pytest.skip("no Orthanc: it comes with orthanc and orthanc-dicomweb")
    server = Orthanc(folder)
    server.start()
    relay = Relay(server)
    found = Archive(server, relay)
    try:
        found.await_start()
        yield found
    finally:
        if server.process is not None:
            server.process.kill()  # what it has is thrown away
            server.process.wait()
        relay.close()


@pytest.fixture
def archive(tmp_path_factory) -> Iterator[Archive]:
    """An empty one."""
    with running(tmp_path_factory.mktemp("orthanc")) as found:
        yield found


@pytest.fixture(scope="module")
def shared_archive(tmp_path_factory) -> Iterator[Archive]:
    """One for all tests of a file, each of which has studies of its own."""
    with running(tmp_path_factory.mktemp("orthanc")) as found:
        yield found


@pytest.fixture(scope="session")
def film(tmp_path_factory) -> Callable[..., Path]:
    """Writes a radiograph: film("1.2.3", 1) is the first one of the study 1.2.3; changes are of its header."""

    def write(study: str, number: int, patient: str = "Doe^Jane", **changes: str) -> Path:
        path = tmp_path_factory.mktemp("film") / f"{number}.dcm"
        pixels = np.random.default_rng([number, len(study)]).integers(0, 4096, (120 + 8 * number, 100), dtype=np.uint16)
        ids = {"study_uid": study, "series_uid": f"{study}.1", "sop_uid": f"{study}.1.{number}"}
        write_radiograph(path, pixels, patient_id=patient, bits_stored=12, **ids)
        if changes:
            header = pydicom.dcmread(path)
            for keyword, value in changes.items():
                setattr(header, keyword, value)
            header.save_as(path)
        return path

    return write
