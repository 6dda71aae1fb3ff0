"""DICOM of 3000 x 2500 pixels and 12 bits to PNG of 1024 px: ours against pydicom, float64 and Pillow."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pydicom
from pairs import compare
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import UID

from converters.dicom import read_tables
from converters.image import Grey, load_image
from converters.item import Settings, Task, convert_item
from converters.pool import run_tasks
from siimdet.data.phantom import render, sample_opacities, sample_thorax
from siimdet.imaging.dicom import read_radiograph
from siimdet.imaging.dicom_write import write_radiograph
from siimdet.imaging.grayscale import to_grey
from siimdet.imaging.png import read_grey, write_png
from siimdet.imaging.resize import Resize, shrink

WIDTH, HEIGHT, SIDE = 2500, 3000, 1024
FILES = 32
BLUR, NOISE = 1.5, 12.0
"""Of the noise: standard deviations, in pixels and in grey levels of 4,096."""
SYNTAXES: dict[str, Callable[[np.ndarray], Any]] = {
    "1.2.840.10008.1.2.4.80": imagecodecs.jpegls_encode,
    "1.2.840.10008.1.2.4.90": partial(imagecodecs.jpeg2k_encode, codecformat="j2k", bitspersample=12, reversible=True),
}
"""Encoders of what our own writer does not write."""
MOST_MEMORY = 400


def make(path: Path, seed: int, syntax: str) -> None:
    """A phantom radiograph, the rescale that every DX image has (PS3.3 C.8.11.3), and a window that cuts both ends.

    Noise as a detector's blur leaves it, so that the codecs take what they take on a real file: RG3 of
    NEMA's WG04 set comes to 3.6 bits per pixel of 10 in JPEG Lossless, 2.2 in JPEG-LS, 2.1 in JPEG 2000.
    """
    rng = np.random.default_rng(seed)
    thorax = sample_thorax(rng)
    phantom = render(rng, thorax, sample_opacities(rng, "typical", thorax), noise_sd=0)
    grey = cv2.resize(phantom.image, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    noise = cv2.GaussianBlur(rng.standard_normal(grey.shape, np.float32), (0, 0), BLUR)
    pixels = np.clip(grey * 3800 + 100 + NOISE * noise / noise.std(), 0, 4095).astype(np.uint16)
    ids = {"patient_id": str(seed), "study_uid": f"1.2.{seed}", "series_uid": f"1.3.{seed}", "sop_uid": f"1.4.{seed}"}
    own = syntax if syntax not in SYNTAXES else "explicit"
    write_radiograph(path, pixels, **ids, bits_stored=12, syntax=own, rescale=(1, 0), window=(2000, 3400))  # type: ignore[arg-type]
    if syntax in SYNTAXES:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
        dataset.PixelData = encapsulate([bytes(SYNTAXES[syntax](pixels))])
        dataset["PixelData"].VR = "OB"
        dataset.save_as(path)


def theirs_grey(path: Path, plugin: str) -> np.ndarray:
    """What notebooks do, with all of the standard's steps: for every pixel in float64."""
    dataset = pydicom.dcmread(path)
    dataset.pixel_array_options(decoding_plugin=plugin)
    return float64_grey(dataset, dataset.pixel_array)


def float64_grey(dataset: pydicom.Dataset, stored: np.ndarray) -> np.ndarray:
    """Modality, VOI, inversion, minimum to maximum."""
    light = apply_voi_lut(apply_modality_lut(stored, dataset), dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        light = light.max() - light
    light = light - light.min()
    light = light / light.max()
    return np.rint(light * 255).astype(np.uint8)


def theirs(out: Path, plugin: str, path: Path) -> Path:
    """One file, to the size that ours has."""
    image = Image.fromarray(theirs_grey(path, plugin))
    scale = SIDE / max(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    image.save(out / f"{path.stem}.png")
    return out / f"{path.stem}.png"


def best_plugin(path: Path) -> str:
    """The fastest of pydicom's decoders that are installed."""
    syntax = pydicom.dcmread(path, stop_before_pixels=True).file_meta.TransferSyntaxUID
    plugins = get_decoder(syntax).available_plugins
    return min(plugins, key=lambda plugin: milliseconds(partial(theirs_grey, path, plugin)), default="")


def milliseconds(run: Callable[[], Any], times: int = 3) -> float:
    """The shortest of some runs after a warm-up."""
    run()
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return 1000 * min(spent)


def profile(name: str, path: Path, work: Path) -> None:
    """Where the time of one file goes, on either side."""
    plugin = best_plugin(path)
    dataset = pydicom.dcmread(path)
    stored = dataset.pixel_array
    grey = theirs_grey(path, plugin)
    small = Image.fromarray(grey).resize((round(WIDTH * SIDE / HEIGHT), SIDE), Image.Resampling.LANCZOS)
    radiograph = read_radiograph(path)
    reduced = shrink(grey, SIDE)

    def decode() -> np.ndarray:
        fresh = pydicom.dcmread(path)
        fresh.pixel_array_options(decoding_plugin=plugin)
        return fresh.pixel_array

    stages = {
        "decode": (milliseconds(decode), milliseconds(lambda: read_radiograph(path))),
        "grey": (milliseconds(lambda: float64_grey(dataset, stored)), milliseconds(lambda: to_grey(radiograph))),
        "reduce": (
            milliseconds(lambda: Image.fromarray(grey).resize(small.size, Image.Resampling.LANCZOS)),
            milliseconds(lambda: shrink(grey, SIDE)),
        ),
        "write": (
            milliseconds(lambda: small.save(work / "theirs.png")),
            milliseconds(lambda: write_png(work / "ours.png", reduced)),
        ),
    }
    spent = ", ".join(f"{stage} {theirs:.0f} / {ours:.0f}" for stage, (theirs, ours) in stages.items())
    print(f"{name}, ms theirs / ours: {spent}")


def tasks_of(raw: Path) -> list[Task]:
    """The work that `siimdet convert dicom` makes of a folder."""
    return [Task(item, raw / str(item.place), str(item.place)) for item in read_tables(raw).items]


def settings_of(out: Path, resize: Resize = "area") -> Settings:
    """Those of `--image-size 1024`."""
    return Settings(out, load_image, None, SIDE, resize, Grey())


def same_picture(raw: Path, plugin: str, tolerance: float) -> Callable[[object, object], bool]:
    """Before resizing bit-equal; after it within `tolerance` grey levels on average, 0 for every pixel."""

    def equal(left: object, right: object) -> bool:
        assert isinstance(left, list) and isinstance(right, list)
        first = sorted(raw.iterdir())[0]
        table = np.array_equal(theirs_grey(first, plugin), to_grey(read_radiograph(first)))
        pairs = [(read_grey(a).astype(int), read_grey(b).astype(int)) for a, b in zip(left, right, strict=True)]
        return table and all(a.shape == b.shape and np.abs(a - b).mean() <= tolerance for a, b in pairs)

    return equal


def one_core(raw: Path, work: Path, name: str, resize: Resize = "area", files: int = 3) -> None:
    """A row on one process."""
    tasks, plugin = tasks_of(raw)[:files], best_plugin(next(raw.iterdir()))
    out = work / f"ours-{name}"
    baseline = partial(theirs, work, plugin)
    compare(
        f"{name}, {resize}",
        f"pydicom ({plugin or 'native'}) + float64 + Pillow",
        lambda: [baseline(task.path) for task in tasks],
        lambda: [out / f"images/{convert_item(settings_of(out, resize), task).image_id}.png" for task in tasks],
        equal=same_picture(raw, plugin, 0 if resize == "lanczos" else 1.5),
    )


def two_processes(raw: Path, work: Path) -> None:
    """The same with two processes on either side, pools and their start included."""
    tasks, plugin, out = tasks_of(raw), best_plugin(next(raw.iterdir())), work / "ours-two"

    def pool() -> list[Path]:
        with ProcessPoolExecutor(2, mp_context=get_context("fork")) as processes:
            return list(processes.map(partial(theirs, work, plugin), [task.path for task in tasks]))

    def ours() -> list[Path]:
        done = dict(run_tasks(partial(convert_item, settings_of(out)), tasks, workers=2))
        return [out / f"images/{done[task].image_id}.png" for task in tasks]  # type: ignore[union-attr]

    compare(
        "JPEG Lossless, area, 2 processes",
        f"pydicom ({plugin}) + float64 + Pillow",
        pool,
        ours,
        equal=same_picture(raw, plugin, 1.5),
    )


def peak_memory(raw: Path, work: Path) -> float:
    """MiB that a process of its own takes at most, converting the folder."""
    command = [sys.executable, __file__, str(raw), str(work / "ours-memory")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ""})
    return float(done.stdout)


def main() -> None:
    """Print a row per item, and the peak memory of a process for each syntax."""
    cv2.setNumThreads(1)
    names = {"explicit": "raw", "rle": "RLE"} | dict(zip(SYNTAXES, ("JPEG-LS", "JPEG 2000"), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        folders = {name: work / name for name in ("JPEG Lossless", *names.values())}
        for name, syntax in {"JPEG Lossless": "jpeg-lossless", **{v: k for k, v in names.items()}}.items():
            folders[name].mkdir()
            for seed in range(FILES if name == "JPEG Lossless" else 3):
                make(folders[name] / f"image{seed}.dcm", seed, syntax)
        one_core(folders["JPEG Lossless"], work, "JPEG Lossless")
        one_core(folders["JPEG Lossless"], work, "JPEG Lossless", "lanczos")
        two_processes(folders["JPEG Lossless"], work)
        for name in names.values():
            one_core(folders[name], work, name)
        for name, raw in folders.items():
            profile(name, next(raw.iterdir()), work)
            peak = peak_memory(raw, work)
            verdict = "" if peak <= MOST_MEMORY else f", MORE THAN {MOST_MEMORY}"
            print(f"peak memory of a process, {name}: {peak:.0f} MiB{verdict}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        for one in tasks_of(Path(sys.argv[1]))[:3]:
            convert_item(settings_of(Path(sys.argv[2])), one)
        # Not getrusage, which remembers the process that this one was forked from.
        status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
        print(int(status.split()[0]) / 1024)
    else:
        main()
