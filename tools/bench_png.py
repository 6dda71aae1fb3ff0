"""PNG files of radiographs, ours against OpenCV's default: writing, reading, size.

`python tools/bench_png.py FOLDER` takes the images below a folder, at 1024 px; without one, phantoms.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from pairs import compare

from siimdet.core.files import atomic_write
from siimdet.data.phantom import render, sample_opacities, sample_thorax, stretch
from siimdet.imaging.png import read_grey, write_png
from siimdet.imaging.resize import shrink

SIDE, MOST = 1024, 48


def phantoms() -> list[np.ndarray]:
    """Eight phantom radiographs u8[1024, 1024]."""
    rng = np.random.default_rng(0)
    thoraces = [sample_thorax(rng) for _ in range(8)]
    greys = (render(rng, thorax, sample_opacities(rng, "typical", thorax)) for thorax in thoraces)
    return [(stretch(rng, grey, SIDE, SIDE) * 255).astype(np.uint8) for grey in greys]


def encoded(images: Sequence[np.ndarray], folder: Path, *, ours: bool) -> list[bytes]:
    """The files of either side, written and read back."""
    files, path = [], folder / "image.png"
    for image in images:
        if ours:
            write_png(path, image)
        else:
            with atomic_write(path, "wb") as stream:
                stream.write(cv2.imencode(".png", image)[1])
        files.append(path.read_bytes())
    return files


def decode(files: Sequence[bytes]) -> list[np.ndarray]:
    """The pixels of PNG files."""
    return [np.asarray(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)) for file in files]


def same(left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> bool:
    """Whether all pixels are equal."""
    return all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def main() -> None:
    """Print a row for writing and one for reading, and what a file takes."""
    paths = sorted(path for path in Path(sys.argv[1]).rglob("*.*g"))[:MOST] if len(sys.argv) > 1 else []
    images = [shrink(read_grey(path), SIDE) for path in paths] or phantoms()
    folder = Path("bench")
    default, up = (encoded(images, folder, ours=ours) for ours in (False, True))
    compare(
        f"PNG writing, {len(images)} images",
        "OpenCV's default",
        lambda: encoded(images, folder, ours=False),
        lambda: encoded(images, folder, ours=True),
        equal=lambda theirs, ours: same(decode(theirs), decode(ours)),
    )
    compare(
        f"PNG reading, {len(images)} images",
        "OpenCV's default",
        lambda: decode(default),
        lambda: decode(up),
        equal=same,
    )
    sizes = [sum(map(len, files)) / len(files) / 1000 for files in (default, up)]
    print(f"kB a file: {sizes[0]:.0f} by default, {sizes[1]:.0f} ours ({sizes[1] / sizes[0] - 1:+.0%})")
    (folder / "image.png").unlink()


if __name__ == "__main__":
    main()
