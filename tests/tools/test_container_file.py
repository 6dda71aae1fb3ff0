"""What the Dockerfile, its .dockerignore and the compose example promise."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from dockerfile import Stage, is_sent, parse, read_ignore
from lock_part import asked_for, names, part_of
from packaging.requirements import Requirement

from siimdet.cli import COMMANDS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = ("serve", "pacs", "yolo")


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    return {stage.name: stage for stage in parse(TEXT)}


@pytest.fixture(scope="module")
def image(stages) -> Stage:
    return stages[""]


def test_base_images_are_plain_names(stages):
    bases = {name: stage.base for name, stage in stages.items()}
    assert bases == {"viewer": "node:22-slim", "wheel": "python:3.11-slim", "": "python:3.11-slim"}


def test_nothing_comes_by_an_address():
    assert "://" not in TEXT
    assert not re.search(r"^ADD\b|\bcurl\b|\bwget\b|\bapt-get\b|\bgit\+", TEXT, re.MULTILINE)


def test_every_installation_has_hashes(stages):
    lines = [step.rest for stage in stages.values() for step in stage.instructions if step.name == "RUN"]
    installs = [part for line in lines for part in line.split("&&") if re.search(r"\binstall (?!-d)", part)]
    assert len(installs) == 3
    # The last one installs the wheel that was built here, and may ask no index.
    assert all("--require-hashes" in part and "--only-binary :all:" in part for part in installs[:2])
    assert "--no-index" in installs[2] and "/wheels/" in installs[2]
    assert [line for line in lines if "pip wheel" in line and "--no-build-isolation" in line]
    assert "npm ci --ignore-scripts --loglevel error" in lines
    assert "npm ci --ignore-scripts --loglevel error && npm run build" in (ROOT / "Makefile").read_text()


def test_build_backend_is_pinned_as_the_project_asks():
    pinned = dict(re.findall(r"(?m)^([a-z-]+)==(\S+) \\", (ROOT / "tools/build_backend.lock").read_text()))
    (asked,) = map(Requirement, PROJECT["build-system"]["requires"])
    assert asked.specifier.contains(pinned[asked.name])


def test_it_runs_as_a_number_that_is_not_root(image):
    user = image.last("USER")
    assert user.rest == "10001:10001"
    assert "RUN" not in [step.name for step in image.instructions if step.line > user.line]


def test_everything_written_goes_to_one_volume(image):
    env = " ".join(step.rest for step in image.instructions if step.name == "ENV")
    assert image.last("VOLUME").words() == ["/scratch"]
    assert re.findall(r"\b(HOME|TMPDIR)=(\S+)", env) == [("HOME", "/scratch"), ("TMPDIR", "/scratch")]
    assert image.last("WORKDIR").rest == "/scratch"
    # A tmpfs on it is root's, whom the image's user is not.
    assert "install -d -m 1777 /scratch " in image.last("RUN").rest


def test_health_is_asked_by_python_where_the_server_listens(image):
    check = image.last("HEALTHCHECK")
    assert set(check.flags) == {"interval", "timeout", "start-period", "retries"}
    program, *options, code = check.after("CMD")
    assert (program, options) == ("python", ["-I", "-c"])
    compile(code, "HEALTHCHECK", "exec")
    assert "'127.0.0.1', 8000" in code and "'/healthz'" in code
    assert image.last("EXPOSE").rest == "8000"
    assert "--port" not in image.last("CMD").words()  # 8000 is the default of serve


def test_no_secret_and_no_token_in_the_image(stages):
    assert "SIIMDET_TOKEN=" not in TEXT
    assert "--token" not in stages[""].last("CMD").words()


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("siimdet/serve/app.py", True),
        ("siimdet/serve/web/src/main.ts", True),
        ("siimdet/serve/web/node_modules/a/index.js", False),
        ("siimdet/serve/static/index.html", False),
        ("siimdet/core/__pycache__/types.cpython-311.pyc", False),
        ("tools/lock_part.py", True),
        ("tools/pairs.py", False),
        ("runs/yolo/model.json", True),
        ("runs/yolo/weights/best.safetensors", True),
        ("runs/yolo/state/last.pt", False),
        ("runs/yolo/oof.json", False),
        ("raw/siim/train/a/b/c.dcm", False),
        ("data_sets/siim/manifest.csv", False),
        (".git/config", False),
        (".env", False),
    ],
)
def test_context_holds_what_the_image_needs(path, sent):
    assert is_sent(path, read_ignore((ROOT / ".dockerignore").read_text())) is sent


def test_part_of_the_lock_is_of_the_lock():
    part = part_of(LOCK, asked_for(PROJECT["project"], EXTRAS))
    assert set(part.splitlines()) <= set(LOCK.splitlines())
    found = names(re.findall(r"(?m)^[A-Za-z0-9].*", part))
    assert {"torch", "fastapi", "highdicom", "ultralytics", "numpy"} <= found
    assert not found & {"pytest", "playwright", "openvino", "onnx", "tensorboard", "grad-cam", "dask"}
    without = part_of(LOCK, asked_for(PROJECT["project"], ("serve", "pacs")))
    assert "\nultralytics==" in part and "\nultralytics==" not in without


def test_part_of_the_lock_has_all_that_its_packages_ask_for():
    found = names(re.findall(r"(?m)^[A-Za-z0-9].*", part_of(LOCK, asked_for(PROJECT["project"], EXTRAS))))
    installed = {name: distribution(name) for name in found}
    asked = [Requirement(text) for each in installed.values() if each for text in each.requires or ()]
    assert len(asked) > 100
    assert names(each.name for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})) <= found


def test_part_of_the_lock_has_one_version_of_each_package_for_a_python():
    part = part_of(LOCK, asked_for(PROJECT["project"], EXTRAS))
    pins = [Requirement(line.rstrip("\\")) for line in re.findall(r"(?m)^[A-Za-z0-9].*", part)]
    for version in ("3.11.9", "3.12.5", "3.13.1"):
        python = {"python_full_version": version, "python_version": version.rpartition(".")[0]}
        held = [pin.name for pin in pins if pin.marker is None or pin.marker.evaluate(python)]
        assert len(held) == len(set(held)) and {"numpy", "scipy", "torch", "triton"} <= set(held)


def distribution(name: str) -> importlib.metadata.Distribution | None:
    """A package as it is installed here, or none, such as those for other systems."""
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def test_part_of_a_small_lock():
    lock = (
        "# made by make lock\na==1 \\\n    --hash=sha256:aa\n    # via siimdet (pyproject.toml)\n"
        "b==2 ; sys_platform == 'linux' \\\n    --hash=sha256:bb\n    # via\n    #   a\n    #   e\n"
        "c==3 ; python_version < '3.12' \\\n    --hash=sha256:cc\n    # via b\n"
        "c==3.1 ; python_version >= '3.12' \\\n    --hash=sha256:cd\n    # via b\n"
        "d==4 \\\n    --hash=sha256:dd\n    # via e\n"
        "e==5 \\\n    --hash=sha256:ee\n    # via siimdet (pyproject.toml)\n"
    )
    assert re.findall(r"(?m)^\w", part_of(lock, {"a"})) == ["a", "b", "c", "c"]
    assert re.findall(r"(?m)^\w", part_of(lock, {"e"})) == ["b", "c", "c", "d", "e"]
    assert part_of(lock, {"a", "e"}) == lock.partition("\n")[2]
    with pytest.raises(ValueError, match="lacks z: run `make lock`"):
        part_of(lock, {"a", "z"})


def test_names_and_extras():
    project = {"dependencies": ["Torch>=2", "a_b.c"], "optional-dependencies": {"x": ["dask[distributed]>=1"]}}
    assert asked_for(project, ()) == {"torch", "a-b-c"}
    assert asked_for(project, ("x",)) == {"torch", "a-b-c", "dask"}
    with pytest.raises(KeyError, match="y"):
        asked_for(project, ("y",))


def test_compose_example_is_locked_down(compose, image):
    service = compose["services"]["siimdet"]
    assert (service["read_only"], service["init"], service["cap_drop"]) == (True, True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [place.split(":")[0] for place in service["tmpfs"]] == image.last("VOLUME").words()
    assert service["volumes"] == ["./runs:/models:ro", "state:/state"]
    assert "state" in compose["volumes"]
    assert "/state/pacs.sqlite" in service["command"]
    secrets = ("SIIMDET_TOKEN", "SIIMDET_PACS_PASSWORD")
    assert all(re.fullmatch(r"\$\{[A-Z_]+:\?set it\}", service["environment"][name]) for name in secrets)
    known = {f"--{name.replace('_', '-')}" for name in COMMANDS["serve"].__annotations__}
    assert {word for word in service["command"] if word.startswith("--")} <= known


def test_compose_example_listens_on_loopback_alone(compose):
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 3 and all(port.startswith("127.0.0.1:") for port in ports)
    images = [service["image"] for service in compose["services"].values()]
    assert not [name for name in images if "." in name.split("/")[0]]  # no host of a registry
