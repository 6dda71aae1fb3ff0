"""Executes the Dockerfile where no Docker engine runs: `python tools/container_steps.py FOLDER [--models RUNS]`.

The steps are read from the Dockerfile itself. Every stage gets a folder as its root, in which this machine's system,
its Python and its Node.js stand in for the base images. With --models, or with models baked in, the image is then run
as docs/container.md says, until its HEALTHCHECK is content, and ended: a read-only root, the image's user without any
capability, /scratch in memory. There is no network but a loopback of its own, so that nobody else reaches the server.

Needs Linux, root, util-linux, iproute2 and npm.
"""

import argparse
import contextlib
import os
import secrets
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from container_image import Image, build
from container_root import ALONE, entered, missing

ROOT = Path(__file__).parents[1]
PATIENCE = 180  # seconds until HEALTHCHECK must be content


@dataclass(frozen=True)
class Running:
    """A container: its image and its process."""

    image: Image
    process: subprocess.Popen

    @property
    def pid(self) -> int:
        """Of its first process, as this machine counts them. Raises: RuntimeError if it has ended."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        until = time.monotonic() + 10
        while self.process.poll() is None and time.monotonic() < until:
            if text := children.read_text():
                return int(text)
            time.sleep(0.05)
        raise RuntimeError(f"the container has ended: exit code {self.process.poll()}")

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as `docker exec` does."""
        join = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--net", "--root"]
        return subprocess.run([*join, *self.image.inside(command, {})], capture_output=True, text=True, check=False)

    def wait(self) -> None:
        """Until HEALTHCHECK is content. Raises: RuntimeError if the container ends, TimeoutError."""
        health = self.image.stage.last("HEALTHCHECK").after("CMD")
        until = time.monotonic() + PATIENCE
        while self.execute(*health).returncode != 0:
            if time.monotonic() > until:
                raise TimeoutError(f"HEALTHCHECK is not content after {PATIENCE} s")
            time.sleep(0.5)

    def stop(self) -> int:
        """SIGTERM, as `docker stop` sends it, and the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(timeout=60)


@contextlib.contextmanager
def running(
    image: Image,
    volumes: Mapping[str, Path],
    *,
    env: Mapping[str, str],
    command: Sequence[str] = (),
    log: int | None = None,
) -> Iterator[Running]:
    """A container until the block ends. `volumes` are folders by where they are mounted, such as `/models:ro`.

    `command` are other words than those of CMD, `log` gets its output.
    """
    lines = ["ip link set lo up"]
    for mounted, folder in volumes.items():
        place, _, mode = mounted.partition(":")
        lines.append(f"mount --bind {shlex.quote(str(folder.resolve()))} .{place}")
        lines.append(f"mount -o remount,bind,{mode or 'rw'} .{place}")
    for place in image.stage.last("VOLUME").words():
        # As --tmpfs: it is root's, and has the mode of the folder below it, whatever mode is asked for.
        lines.append(f"mount -t tmpfs -o noexec,nosuid,nodev,mode=$(stat -c %a .{place}) none .{place}")
    # By its path, which leads to the mount; this folder was entered when that was the root's own.
    lines.append(f"mount -o remount,bind,ro {shlex.quote(str(image.root))}")
    inside = image.inside(image.command(command), env)
    process = subprocess.Popen(entered(image.root, inside, ALONE, lines), stdout=log, stderr=log)
    try:
        yield Running(image, process)
    finally:
        process.kill()  # and with it, by --kill-child, all that runs in there
        process.wait()


def main() -> None:
    """Build, and where there are models run until it is healthy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to build; empty")
    parser.add_argument("--models", type=Path, help="runs, mounted as /models")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    if reason := missing():
        parser.error(reason)
    if options.folder.exists() and any(options.folder.iterdir()):
        parser.error(f"{options.folder} is not empty")
    given = dict(each.split("=", 1) for each in options.build_arg)
    image = build(ROOT, options.folder.resolve(), given)
    if options.models is None and "MODELS" not in given:
        return
    volumes = {} if options.models is None else {"/models:ro": options.models}
    begin = time.monotonic()
    with running(image, volumes, env={"SIIMDET_TOKEN": secrets.token_hex()}) as container:
        container.wait()
        print(f"{time.monotonic() - begin:6.1f} s  healthy", flush=True)
        print(f"exit code {container.stop()} after SIGTERM", flush=True)


if __name__ == "__main__":
    main()
