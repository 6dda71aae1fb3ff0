"""The command: how it starts, how it ends, and mistakes at the start."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from siimdet.cli import run, serving

pytestmark = pytest.mark.timeout(180)


def test_from_start_to_sigterm(start, png, tmp_path):
    audit = tmp_path / "audit.jsonl"
    environment = {"SIIMDET_TOKEN": "secret", "TMPDIR": str(tmp_path)}
    server = start("--host", "localhost", "--keep-for", "1", "--audit", str(audit), environment=environment)
    bearer = {"Authorization": "Bearer secret"}
    assert server.get("/api/models").status_code == 401
    key = server.post(png(), headers=bearer).json()["id"]
    (folder,) = tmp_path.glob("siimdet-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    time.sleep(1.2)
    assert server.get(f"/api/predict/{key}", headers=bearer).status_code == 404
    assert [path.name for path in folder.iterdir()] == [".lock"]
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(server.post, png(seed, 1500), headers=bearer) for seed in range(4)]
        time.sleep(0.3)
        assert server.stop() == 0
    # Whoever waited has an answer: the result, or that the server ends.
    assert {answer.result().status_code for answer in waiting if not answer.exception()} <= {200, 409, 503}
    assert list(tmp_path.glob("siimdet-*")) == []
    lines = [json.loads(text) for text in audit.read_text().splitlines()]
    assert lines[0]["outcome"] == "done"
    assert server.log.read_text() == f"siimdet listens on {server.address}\n"


def line_of(capfd, *options: str) -> str:
    assert run(["serve", *options]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


def test_mistakes_at_the_start_are_one_line(runs, capfd, tmp_path, monkeypatch):
    monkeypatch.delenv("SIIMDET_TOKEN", raising=False)
    threads = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        expected = f"siimdet: serve: 127.0.0.1:{port}: found Address already in use, expected a free address\n"
        assert line_of(capfd, *runs.options, "--port", port) == expected
    assert "0.0.0.0 without a token, expected SIIMDET_TOKEN" in line_of(capfd, *runs.options, "--host", "0.0.0.0")
    free = (*runs.options, "--port", "0")
    assert "expected a free address" in line_of(capfd, *free, "--host", "no.such.host.invalid", "--token", "x")
    assert "--audit: found Is a directory" in line_of(capfd, *free, "--audit", str(tmp_path))
    none = ("--detector", str(tmp_path / "none"), "--study", str(runs.study), "--port", "0")
    assert "none/model.json" in line_of(capfd, *none)
    swapped = ("--detector", str(runs.study), "--study", str(runs.yolo), "--port", "0")
    assert "classes: found negative" in line_of(capfd, *swapped)
    coupling = tmp_path / "coupling.yaml"
    coupling.write_text("kind: coupling\nfusion_weights: [1, 2, 3]\n")
    assert "weights" in line_of(capfd, *free, "--coupling", str(coupling))
    archive = (*none, "--pacs", "http://127.0.0.1:9/dicom-web")  # the archive is looked at before the models
    assert "--pacs: found ftp://a" in line_of(capfd, *none, "--pacs", "ftp://a")
    assert f"{tmp_path}: --pacs-state: found Is a directory" in line_of(capfd, *archive, "--pacs-state", str(tmp_path))
    assert "--pacs-days, --pacs-state: found no --pacs" in line_of(capfd, *free, "--pacs-days", "1")
    monkeypatch.setitem(serving._MODULES, "pacs", ("no_such_package",))
    assert "expected the extra `pacs`" in line_of(capfd, *archive)
    monkeypatch.setitem(serving._MODULES, "serve", ("no_such_package",))
    assert "expected the extra `serve`" in line_of(capfd, *free)
    assert threading.active_count() == threads
