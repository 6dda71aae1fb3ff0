"""The viewer, opened in Chromium, and files to open in it."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect

from siimdet.core.labels import OPACITY, STUDY
from siimdet.data.phantom import render, sample_opacities, sample_thorax, stretch
from siimdet.imaging.dicom import read_radiograph, write_radiograph
from siimdet.models.weights import ModelSpec, build_model, save_model

ROOT = Path(__file__).parents[3]
STATIC = ROOT / "siimdet" / "serve" / "static" / "index.html"
AXE = ROOT / "siimdet" / "serve" / "web" / "node_modules" / "axe-core" / "axe.min.js"
NO_WEBGL = ("--no-sandbox", "--disable-gpu", "--disable-3d-apis")
RUN_MS = 60_000
NAMES = {"fasterrcnn": "Faster R-CNN", "yolo": "YOLO", "ensemble": "Ensemble"}


FASTER_RCNN = {
    **{"body": "resnet18", "finest_stage": 2, "fpn_channels": 8, "box_head_features": 8, "proposals": 20},
    **{"anchor_sizes": [8, 16, 32, 48], "mean": [0.5] * 3, "std": [0.25] * 3, "score_threshold": 0.05},
}
YOLO = {"architecture": "yolov5n.yaml", "confidence": 0.0001, "iou": 0.2}
CLASSIFIER = {"body": "simple_cnn", "activation": "softmax", "mean": [0.5], "std": [0.25]}
RUNS = {
    "faster_rcnn": ModelSpec("faster_rcnn", FASTER_RCNN, OPACITY, 64, "stretch", 1),
    "yolo": ModelSpec("yolo", YOLO, OPACITY, 64, "stretch", 1),
    "study": ModelSpec("classifier", CLASSIFIER, STUDY, 64, "stretch", 1),
}
FACTS = {"yolo": {"operating_points": {"opacity": {"threshold": 0.437}}}}
"""What the trainings would tell: Faster R-CNN has no operating point, and the ensemble has YOLO's."""


@dataclass(frozen=True)
class Viewer:
    """The page, and what a reader does on it."""

    page: Page

    def at(self, selector: str) -> Locator:
        return self.page.locator(selector)

    @property
    def rows(self) -> Locator:
        """The table's rows, a box each."""
        return self.at("#table tbody tr")

    @property
    def outlines(self) -> Locator:
        """The boxes on the radiograph."""
        return self.at("#overlay g[data-detector]")

    def show(self, *paths: Path) -> None:
        self.page.set_input_files("#files input", [str(path) for path in paths])
        expect(self.at("#viewport")).to_have_attribute("data-state", "shown")

    def run(self, detector: str = "ensemble", *, least: str | None = "0") -> None:
        """Run the files, and show boxes from a score on; None: from where the page begins."""
        self.at("#detectors label").filter(has_text=NAMES[detector]).click()
        self.page.click("#run")
        expect(self.at("#status")).to_contain_text("Done", timeout=RUN_MS)
        if least is not None:
            self.at("#confidence input").fill(least)

    def drag(self, dx: float, dy: float, button: str = "left") -> None:
        """Drag from the middle of the radiograph's place."""
        box = self.at("#viewport").bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down(button=button)
        self.page.mouse.move(x + dx, y + dy, steps=5)
        self.page.mouse.up(button=button)
        self.page.mouse.move(0, 0)
        self.page.wait_for_timeout(200)  # drawn with the next frame

    def greys(self) -> NDArray[np.float64]:
        """The place of the radiograph as it is seen, f64[H, W] in CSS pixels."""
        self.page.evaluate("window.scrollTo(0, 0)")  # elsewhere it may lie between pixels
        return np.asarray(Image.open(io.BytesIO(self.at("#viewport").screenshot())).convert("L"), float)

    def saved(self, kind: str) -> tuple[str, bytes]:
        """The name and the bytes of what a button saves."""
        with self.page.expect_download() as download:
            self.page.click(f"[data-save={kind}]")
        return download.value.suggested_filename, Path(download.value.path()).read_bytes()


@pytest.fixture(scope="session")
def built() -> None:
    """The viewer and axe-core are there, as `make web` leaves them."""
    missing = [str(path.relative_to(ROOT)) for path in (STATIC, AXE) if not path.is_file()]
    if missing and "SIIMDET_REQUIRE_BROWSER" in os.environ:
        pytest.fail(f"SIIMDET_REQUIRE_BROWSER is set, but {missing[0]} is missing: make web")
    if missing:
        pytest.skip(f"the viewer is not built: {missing[0]} is missing (make web)")


@pytest.fixture(scope="session")
def server(built, tmp_path_factory) -> Iterator[str]:
    """The address of `siimdet serve` with small runs of random weights, in a process of its own."""
    folder = tmp_path_factory.mktemp("runs")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        for name, spec in RUNS.items():
            save_model(folder / name, spec, build_model(spec).state_dict(), FACTS.get(name, {}))
    detectors = ["--detector", str(folder / "faster_rcnn"), str(folder / "yolo")]
    line = [sys.executable, "-m", "siimdet", "serve", *detectors, "--study", str(folder / "study")]
    limits = ["--port", "0", "--device", "cpu", "--per-minute", "1000"]
    with subprocess.Popen([*line, *limits], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = []
        for text in process.stderr:
            said.append(text)
            if found := re.search(r"http://\S+", text):
                break
        else:
            pytest.fail("".join(said))
        yield f"{found[0]}/"
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


@pytest.fixture
def open_viewer(built, browser: Browser, server: str) -> Iterator[Callable[..., Viewer]]:
    """Open the page; at the end nothing was asked of anybody else, and the console has no error.

    `refused` is the number of requests that the test lets the server refuse, each a line on the console.
    """
    pages, outside, errors, allowed, ours = [], [], [], [0], ["blob:"]

    def open_(*, address=server, width=1280, scheme="dark", touch=False, refused=0, browser=browser) -> Viewer:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, has_touch=touch)
        page.on("request", lambda request: outside.append(request.url))
        page.on("console", lambda line: errors.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        pages.append(page)
        ours.append(address.partition("?")[0])
        allowed[0] += refused
        return Viewer(page)

    yield open_
    for page in pages:
        page.close()
    assert [url for url in outside if not url.startswith(tuple(ours))] == []
    refusals = [text for text in errors if text.startswith("Failed to load resource")]
    assert [text for text in errors if text not in refusals] == []
    assert len(refusals) == allowed[0]


@pytest.fixture(scope="session")
def without_webgl(browser: Browser) -> Iterator[Browser]:
    """The same browser on a machine that cannot draw by WebGL."""
    plain = browser.browser_type.launch(executable_path=shutil.which("chromium"), args=list(NO_WEBGL))
    yield plain
    plain.close()


@pytest.fixture(scope="session")
def axe(built) -> str:
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def radiograph(tmp_path_factory) -> Path:
    """A phantom as a DICOM file of 12 bits and 600 x 500 pixels."""
    rng = np.random.default_rng(1)
    thorax = sample_thorax(rng)
    phantom = render(rng, thorax, sample_opacities(rng, "typical", thorax))
    stored = np.rint(np.clip(stretch(rng, phantom, 600, 500), 0, 1) * 4095).astype(np.uint16)
    path = tmp_path_factory.mktemp("phantom") / "phantom.dcm"
    identity = {"patient_id": "P2", "study_uid": "1.2.4", "series_uid": "1.2.4.1", "sop_uid": "1.2.4.1.1"}
    write_radiograph(path, stored, bits_stored=12, **identity)
    return path


@pytest.fixture(scope="session")
def rectangle(tmp_path_factory) -> tuple[Path, tuple[int, int, int, int]]:
    """A black picture with a white rectangle, and its edges x1, y1, x2, y2."""
    picture = np.zeros((200, 300), np.uint8)
    picture[60:150, 90:230] = 255
    path = tmp_path_factory.mktemp("rectangle") / "rectangle.png"
    Image.fromarray(picture).save(path)
    return path, (90, 60, 230, 150)


@pytest.fixture(scope="session")
def twelve_bit(shared_data, tmp_path_factory) -> Path:
    """A real MONOCHROME1 radiograph at 12 bits, with the window of its own range."""
    stored = read_radiograph(shared_data / "dicom" / "wg04" / "RG1_J2KI.dcm").pixels >> 3
    path = tmp_path_factory.mktemp("twelve") / "twelve_bit.dcm"
    identity = {"patient_id": "P1", "study_uid": "1.2.3", "series_uid": "1.2.3.1", "sop_uid": "1.2.3.1.1"}
    window = ((int(stored.max()) + int(stored.min())) / 2, float(np.ptp(stored)))
    write_radiograph(path, stored, bits_stored=12, photometric="MONOCHROME1", window=window, **identity)
    return path


@pytest.fixture(scope="session")
def jpeg(shared_data) -> Path:
    """A real radiograph of 1024 x 1024 pixels."""
    return sorted((shared_data / "rsna" / "stage_2_train_images").glob("*.jpg"))[0]
