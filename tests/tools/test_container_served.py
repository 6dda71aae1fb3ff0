"""The Dockerfile's steps executed, and the image run: read-only, as its user, without a network."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from container_image import Image, build
from container_root import missing
from container_steps import Running, running

from siimdet.core.labels import OPACITY, STUDY
from siimdet.imaging.dicom import write_radiograph
from siimdet.models.weights import ModelSpec, build_model, save_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
TOKEN = "secret"
GREY = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
SMALL = {"finest_stage": 2, "fpn_channels": 8, "box_head_features": 8, "anchor_sizes": [8, 16, 32, 48]}
FASTER_RCNN = {"body": "resnet18", "proposals": 20, "score_threshold": 0.05, **SMALL, **GREY}
YOLO = {"architecture": "yolov5n.yaml", "confidence": 0.001, "iou": 0.5}
STUDY_MODEL = {"body": "simple_cnn", "activation": "softmax", "mean": [0.5], "std": [0.25]}
SPECS = {
    "faster_rcnn": ModelSpec("faster_rcnn", FASTER_RCNN, OPACITY, 64, "stretch", 4),
    "yolo": ModelSpec("yolo", YOLO, OPACITY, 64, "stretch", 4),
    "study": ModelSpec("classifier", STUDY_MODEL, STUDY, 32, "stretch", 4),
}
ASK = """
import sys, httpx
with httpx.Client(base_url="http://127.0.0.1:8000", trust_env=False, timeout=120) as client:
    assert client.get("/").status_code == 401
    client.headers["Authorization"] = "Bearer secret"
    page = client.get("/")
    assert "<script" in page.text and "not built" not in page.text, page.text
    files = {"files": open(sys.argv[1], "rb")}
    done = client.post("/api/predict?wait=1", files=files, data={"detector": "ensemble"})
    assert done.status_code == 200, done.text
    report = client.get(f"/api/predict/{done.json()['id']}/report.dcm")
    assert report.content[128:132] == b"DICM", report.text
    print(done.text)
"""


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """Built once, of this checkout, and removed: it is too large to be kept as pytest keeps its folders."""
    if reason := missing():
        pytest.skip(f"the Dockerfile's steps cannot be executed here: it {reason}")
    with tempfile.TemporaryDirectory(prefix="siimdet-container-") as folder:
        yield build(ROOT, Path(folder), {})


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    folder.chmod(0o755)
    for name, spec in SPECS.items():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            save_model(folder / name, spec, build_model(spec).state_dict(), {})
    return folder


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("log") / "log.txt"


@pytest.fixture(scope="module")
def container(image, models, log) -> Iterator[Running]:
    """Healthy, with the image's own command."""
    volumes, env = {"/models:ro": models}, {"SIIMDET_TOKEN": TOKEN}
    with open(log, "wb") as stream, running(image, volumes, env=env, log=stream.fileno()) as ran:
        ran.wait()
        yield ran


def test_image_holds_what_it_is_to_hold(container):
    told = container.execute("siimdet", "doctor").stdout.splitlines()
    states = {line[8:32].strip(): line.split()[0] for line in told}
    assert "MISSING" not in states.values()
    assert [states[f"extra {name}"] for name in ("serve", "pacs", "yolo", "export")] == ["ok", "ok", "ok", "-"]
    assert container.execute("python", "-m", "pip").returncode == 1  # nothing can be installed


def test_user_can_write_to_scratch_alone(container):
    assert container.execute("id", "-u").stdout == "10001\n"
    status = container.execute("cat", "/proc/self/status").stdout
    assert "CapEff:\t0000000000000000" in status and "CapBnd:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    for place in ("/", "/opt/siimdet", "/models", "/state", "/tmp", "/etc", "/root"):
        assert container.execute("touch", f"{place}/x").returncode == 1, place
    assert container.execute("touch", "/scratch/x").returncode == 0
    assert container.execute("rm", "/scratch/x").returncode == 0


def test_study_is_answered(container, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (96, 80)).astype(np.uint16)
    ids = {"patient_id": "Doe^Jane", "study_uid": "1.2.3", "series_uid": "1.2.3.4", "sop_uid": "1.2.3.4.5"}
    write_radiograph(tmp_path / "a.dcm", pixels, bits_stored=12, photometric="MONOCHROME1", **ids)
    client = ["nsenter", f"--target={container.pid}", "--net", sys.executable, "-c", ASK, str(tmp_path / "a.dcm")]
    answer = subprocess.run(client, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert '"state":"done"' in answer.stdout and '"width":80,"height":96' in answer.stdout
    kept = container.execute("find", "/scratch", "-name", "*.dicom").stdout
    assert kept.startswith("/scratch/siimdet-") and kept.count("\n") == 1


def test_container_ends_well(container, log):
    # The last test of the shared container.
    assert container.stop() == 0
    assert log.read_text() == "siimdet listens on http://0.0.0.0:8000\n"


def test_compose_example_watches_an_archive_and_keeps_its_journal(image, models, compose, tmp_path):
    service = compose["services"]["siimdet"]
    # A named volume has the owner and the mode of the image's folder.
    owner = image.path("/state").stat()
    (tmp_path / "state").mkdir(mode=owner.st_mode & 0o777)
    os.chown(tmp_path / "state", owner.st_uid, owner.st_gid)
    volumes = {"/models:ro": models, "/state": tmp_path / "state"}
    # No archive is there: a server that watches waits for it.
    command = [word.replace("orthanc:8042", "127.0.0.1:9") for word in service["command"]]
    env = {**service["environment"], "SIIMDET_TOKEN": TOKEN}
    with (
        open(tmp_path / "log", "wb") as stream,
        running(image, volumes, env=env, command=command, log=stream.fileno()) as ran,
    ):
        ran.wait()
        assert ran.stop() == 0
    assert (tmp_path / "state/pacs.sqlite").stat().st_uid == owner.st_uid == 10001
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_without_a_token_it_ends_with_one_line(image, models, tmp_path):
    volumes = {"/models:ro": models}
    with open(tmp_path / "log", "wb") as stream, running(image, volumes, env={}, log=stream.fileno()) as ran:
        assert ran.process.wait(timeout=120) == 2
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert "0.0.0.0 without a token, expected SIIMDET_TOKEN in the environment" in line


def test_image_of_a_checkout_without_models_says_so(image, tmp_path):
    env = {"SIIMDET_TOKEN": TOKEN}
    with open(tmp_path / "log", "wb") as stream, running(image, {}, env=env, log=stream.fileno()) as ran:
        assert ran.process.wait(timeout=120) == 2
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert "/models/faster_rcnn/model.json" in line
