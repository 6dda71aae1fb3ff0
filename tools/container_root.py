"""A folder as the root of a process: this machine's system stands in for a base image, read-only, in namespaces."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROGRAMS = ("chroot", "env", "ip", "mount", "node", "npm", "nsenter", "setpriv", "unshare")
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/sys")
DEVICES = ("null", "zero", "full", "random", "urandom")
SPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
ALONE = (*SPACES, "--net")
"""Without any network but a loopback of its own."""


def missing() -> str | None:
    """Why this machine cannot do it; None if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs Linux and root"
    if absent := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"needs {', '.join(absent)}"
    if not (Path(sys.base_prefix) / "bin/python").exists():
        return f"needs a `python` in {sys.base_prefix}/bin"
    allowed = subprocess.run([*ALONE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return None if allowed.returncode == 0 else "needs namespaces, which this machine does not allow"


def prepare(root: Path) -> None:
    """Make the folders that are mounted on."""
    for name in ("dev", "proc", "root", "tmp", *(place.lstrip("/") for place in _shared())):
        (root / name).mkdir(parents=True, exist_ok=True)
    for place in filter(os.path.islink, SYSTEM):
        (root / place.lstrip("/")).symlink_to(os.readlink(place))
    (root / "tmp").chmod(0o1777)


def search_path() -> str:
    """PATH of a base image: where Python, Node.js and the system's programs are."""
    return ":".join(dict.fromkeys((f"{sys.base_prefix}/bin", f"{_node()}/bin", "/usr/bin", "/bin")))


def entered(root: Path, command: Sequence[str], spaces: Sequence[str], more: Sequence[str] = ()) -> list[str]:
    """A command in a root that `prepare` made. `more` are lines of the shell in that folder, before the chroot."""
    place = shlex.quote(str(root))
    lines = ["set -e", f"mount --bind {place} {place}", f"cd {place}"]
    for shared in map(shlex.quote, _shared()):
        lines += [f"mount --rbind {shared} .{shared}", f"mount -o remount,bind,ro .{shared}"]
    lines += ["mount -t proc none proc", "mount -t tmpfs -o mode=755 none dev", "mkdir -m 1777 dev/shm"]
    lines += [f"touch dev/{name}; mount --bind /dev/{name} dev/{name}" for name in DEVICES]
    lines += ["mount -t tmpfs -o size=64m none dev/shm", *more, f"exec chroot . {shlex.join(command)}"]
    return [*spaces, "sh", "-c", "\n".join(lines)]


def _shared() -> list[str]:
    """Folders that are bound into a root at their own place."""
    system = [place for place in SYSTEM if os.path.isdir(place) and not os.path.islink(place)]
    programs = dict.fromkeys(str(place) for place in (Path(sys.base_prefix), _node()) if place.parts[1] != "usr")
    return [*system, *programs]


def _node() -> Path:
    return Path(str(shutil.which("node"))).parents[1]
