"""An image by its Dockerfile, without an engine: every stage is a folder, every instruction is executed on it."""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from container_root import SPACES, entered, prepare, search_path
from dockerfile import Instruction, Stage, assignments, expand, parse, read_ignore, sent_below

# What a machine sets to reach its package indexes, by the beginnings of names. Folders of its own are not in the image.
_INDEXES = (
    *("PIP_INDEX_", "PIP_EXTRA_INDEX_", "PIP_CERT", "PIP_TRUSTED_", "NPM_CONFIG_"),
    *("SSL_CERT_", "NODE_EXTRA_CA_CERTS", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)


@dataclass
class Image:
    """A stage so far: its files below `root`, and what its instructions say of a process in it.

    `given` are the arguments of the build, `arguments` those that the stage has declared.
    """

    stage: Stage
    root: Path
    given: Mapping[str, str]
    env: dict[str, str]
    arguments: dict[str, str] = field(default_factory=dict)
    user: str = "0:0"
    folder: str = "/"

    def command(self, words: Sequence[str] = ()) -> list[str]:
        """What is started: ENTRYPOINT, then `words` if there are any, else CMD."""
        return [*self.stage.last("ENTRYPOINT").words(), *(words or self.stage.last("CMD").words())]

    @property
    def known(self) -> dict[str, str]:
        """The variables of instructions."""
        return {**self.arguments, **self.env}

    def inside(self, command: Sequence[str], env: Mapping[str, str]) -> list[str]:
        """A command as the image's user, who has no capability, with nothing but its environment and `env`."""
        user, group = self.user.split(":")
        dropped = [] if user == "0" else ["--no-new-privs", "--bounding-set=-all"]
        settings = [f"{name}={value}" for name, value in {**self.env, **env}.items()]
        become = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *dropped]
        return [*become, "env", "-i", f"--chdir={self.folder}", *settings, *command]

    def path(self, place: str) -> Path:
        """Where a path of the image lies on this machine."""
        return self.root / os.path.normpath(os.path.join(self.folder, place)).lstrip("/")


def build(context: Path, folder: Path, given: Mapping[str, str]) -> Image:
    """Execute every stage below a folder; the last is the image. `given` are the arguments of --build-arg.

    Raises: ValueError for a step that is not known, CalledProcessError for a RUN that fails.
    """
    done: dict[str, Image] = {}
    image = None
    for number, stage in enumerate(parse((context / "Dockerfile").read_text(encoding="utf-8"))):
        image = based(stage, folder / (stage.name or str(number)), given)
        for step in stage.instructions:
            begin = time.monotonic()
            apply(step, image, context, done)
            seconds = f"{time.monotonic() - begin:6.1f} s"
            print(f"{seconds}  Dockerfile:{step.line}  {step.name} {' '.join(step.rest.split())[:80]}", flush=True)
        done[stage.name] = image
    assert image is not None, "parse refuses a file without FROM"
    return image


def based(stage: Stage, root: Path, given: Mapping[str, str]) -> Image:
    """An image of nothing but its base, which this machine stands in for."""
    prepare(root)
    return Image(stage, root, given, {"PATH": search_path(), "HOME": "/root"})


def apply(step: Instruction, image: Image, context: Path, done: Mapping[str, Image]) -> None:
    """One instruction, done to an image. Those that only describe it are read from its stage."""
    match step.name:
        case "ARG":
            for name, default in assignments(step, image.known).items():
                image.arguments[name] = image.given.get(name, default)
        case "ENV":
            settings = assignments(step, image.known)
            if "PATH" in settings:  # the base's programs are elsewhere than in the true base
                settings["PATH"] += f":{image.env['PATH']}"
            image.env.update(settings)
        case "WORKDIR":
            image.folder = os.path.join(image.folder, expand(step.rest, image.known))
            image.path(".").mkdir(parents=True, exist_ok=True)
        case "USER":
            image.user = step.rest
        case "COPY":
            copy(step, image, context, done)
        case "RUN":
            indexes = {name: value for name, value in os.environ.items() if name.upper().startswith(_INDEXES)}
            shell = image.inside(["sh", "-c", step.rest], {**indexes, **image.arguments})
            subprocess.run(entered(image.root, shell, SPACES), check=True)


def copy(step: Instruction, image: Image, context: Path, done: Mapping[str, Image]) -> None:
    """COPY: of another stage everything, by hard links; of the context what .dockerignore lets through.

    Raises: FileNotFoundError for a source of which nothing is sent.
    """
    *sources, target = step.words(image.known)
    if "from" in step.flags:
        for source in sources:
            place = done[step.flags["from"]].path(source)
            shutil.copytree(place, image.path(target), symlinks=True, copy_function=os.link, dirs_exist_ok=True)
        return
    owner, group = map(int, step.flags.get("chown", "0:0").split(":"))
    patterns = read_ignore((context / ".dockerignore").read_text(encoding="utf-8"))
    for source in sources:
        files = sent_below(context, source, patterns)
        if not files:
            raise FileNotFoundError(f"Dockerfile:{step.line}: nothing of {source} is sent")
        into = (context / source).is_dir() or target.endswith("/")
        base = source if (context / source).is_dir() else os.path.dirname(source)
        for file in files:
            copied = image.path(target) / os.path.relpath(file, base or ".") if into else image.path(target)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(context / file, copied)
            shutil.copymode(context / file, copied)
            os.chown(copied, owner, group)
