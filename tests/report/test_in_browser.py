"""The reports in a real browser: nothing from outside, nothing on the console, all in view and legible."""

import io

import numpy as np
import pytest
from PIL import Image

from siimdet.cli import run
from siimdet.core.types import Detections
from siimdet.data.coco import write_detections
from siimdet.data.table import write_table

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

SECTIONS = ("score", "difference", "detection", "classes", "shortcuts", "images", "facts")
SMALLEST_TEXT = """() => Math.min(...[...document.querySelectorAll('p, td, th, dt, dd, li, small, caption, svg text')]
    .filter(node => node.textContent.trim() && node.getClientRects().length)
    .map(node => parseFloat(getComputedStyle(node).fontSize)
        * (node instanceof SVGTextElement ? Math.hypot(node.getScreenCTM().a, node.getScreenCTM().b) : 1)))"""
CUT_OFF = """() => [...document.querySelectorAll('.scroll, figure')]
    .filter(node => node.scrollWidth > node.clientWidth + 1).map(node => node.className)"""


@pytest.fixture(scope="module")
def report(tmp_path_factory, dataset):
    """A submission beside a second one, both of a detector and a classifier on phantoms."""
    folder, rng = tmp_path_factory.mktemp("report"), np.random.default_rng(4)
    records = [record for record in dataset.records if record.split == "test"]
    for name in ("first", "second"):
        found = {}
        for record in records:
            xyxy = dataset.boxes[record.image_id].xyxy
            scores = rng.uniform(0.3, 0.9, len(xyxy))
            found[record.image_id] = Detections(xyxy, np.zeros(len(xyxy)), scores, dataset.boxes[record.image_id].size)
        write_detections(folder / f"{name}.json", dataset, found)
        rows = [(record.image_id, *rng.dirichlet(np.ones(4) + 3 * record.labels)) for record in records]
        write_table(folder / f"{name}_study.csv", ("image_id", *dataset.labels.names), rows)
        options = ["--boxes", f"{folder}/{name}.json", "--study", f"{folder}/{name}_study.csv"]
        assert run(["submit", "--dataset", str(dataset.root), *options, "--out", f"{folder}/{name}.csv"]) == 0
    pages = {}
    for name in ("first.csv", "first.json", "first_study.csv"):
        other = [str(folder / "second.csv"), "--boxes", f"{folder}/first.json"] if name == "first.csv" else []
        pages[name] = folder / f"{name}.html"
        options = ["--dataset", str(dataset.root), "--report", str(pages[name]), "--bootstrap", "100"]
        assert run(["evaluate", f"{folder}/{name}", *other, *options]) == 0
    return pages


def opened(browser, path, width, scheme="light"):
    """A page of a report, the addresses that it asked for and what it wrote to the console."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri(), wait_until="load")
    return page, asked, said


@pytest.mark.parametrize("name", ["first.csv", "first.json", "first_study.csv"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_by_itself_and_fits(browser, report, name, width):
    page, asked, said = opened(browser, report[name], width)
    assert [url for url in asked if not url.startswith("data:")] == [report[name].as_uri()]
    assert said == []
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.evaluate(SMALLEST_TEXT) >= (11 if width == 1280 else 9)
    if width == 1280:
        assert page.evaluate(CUT_OFF) == []
    page.close()


def test_every_section_is_in_view_and_drawn(browser, report):
    page, _, _ = opened(browser, report["first.csv"], 1280)
    heights = {name: page.locator(f"section#{name}").bounding_box()["height"] for name in SECTIONS}
    assert all(height > 80 for height in heights.values()), heights
    for chart in page.locator("svg.chart, svg.forest").all():
        drawn = np.asarray(Image.open(io.BytesIO(chart.screenshot())).convert("L"))
        assert np.unique(drawn).size > 8
    shots = page.locator("svg.radiograph").all()
    assert len(shots) == 12
    assert np.asarray(Image.open(io.BytesIO(shots[0].screenshot())).convert("L")).std() > 20
    page.close()


def test_dark_paper_where_the_system_is_dark(browser, report):
    shades = {}
    for scheme in ("light", "dark"):
        page, _, _ = opened(browser, report["first.csv"], 1280, scheme)
        shades[scheme] = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))[5, 5]
        page.close()
    assert shades["dark"] < 60 < 200 < shades["light"]
