"""A data set of phantoms, and a parser of pages, for every test of a page."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, ImageRecord, ImageSize
from siimdet.data.manifest import Dataset, write_dataset
from siimdet.data.phantom import render, sample_opacities, sample_thorax, stretch
from siimdet.imaging.png import write_png

SIZE = ImageSize(240, 200)


def _make_dataset(root: Path, *, count: int = 24, bit_depth: int = 8) -> Dataset:
    """Phantoms of the four study classes in turn; every third image is for training."""
    rng = np.random.default_rng(3)
    records, boxes = [], {}
    for number in range(count):
        thorax = sample_thorax(rng)
        phantom = render(rng, thorax, sample_opacities(rng, STUDY.names[number % 4], thorax))  # type: ignore[arg-type]
        grey = stretch(rng, phantom, SIZE.width, SIZE.height)
        pixels = (grey * 4095).astype(np.uint16) if bit_depth == 16 else (grey * 255).astype(np.uint8)
        image_id = f"image-{number:02d}"
        write_png(root / "images" / f"{image_id}.png", pixels)
        records.append(
            ImageRecord(
                image_id,
                f"study-{number:02d}",
                f"patient-{number:02d}",
                f"images/{image_id}.png",
                SIZE,
                SIZE,
                np.eye(4, dtype=np.float32)[number % 4],
                "test" if number % 3 else "train",
            )
        )
        xyxy = phantom.boxes * np.array([SIZE.width, SIZE.height] * 2)
        boxes[image_id] = BoxLabels(xyxy.astype(np.float32), np.zeros(len(xyxy), np.int64), SIZE)
    return write_dataset(root, records, boxes, source="siim", labels=STUDY, classes=OPACITY, bit_depth=bit_depth)


class Page(HTMLParser):
    """Tags, addresses, ids and visible text of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str | None] = []
        self.handlers: list[str] = []
        self.ids: list[str | None] = []
        self.images: list[dict[str, str | None]] = []
        self.texts: list[str] = []
        self.style = False
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(" ".join(self.texts).split())

    def outside(self) -> list[str]:
        """All that could leave the page, run, or lead nowhere; none of it may be there."""
        targets = {f"#{name}" for name in self.ids}
        found = [str(a) for a in self.addresses if not str(a).startswith("data:") and a not in targets]
        found += [tag for tag in self.tags if tag in ("script", "iframe", "object", "embed", "form")]
        found += [text for text in ("url(", "@import") if text in self.source]
        return found + self.handlers + (["an id twice"] if len(set(self.ids)) < len(self.ids) else [])

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        self.tags.append(tag)
        self.addresses += [names[key] for key in ("src", "href", "xlink:href", "srcset", "action") if key in names]
        self.handlers += [name for name in names if name.startswith("on")]
        self.ids += [names["id"]] if "id" in names else []
        self.images += [names] if names.get("role") == "img" else []
        self.style = tag == "style"

    def handle_endtag(self, tag):
        self.style = self.style and tag != "style"

    def handle_data(self, data):
        if not self.style:
            self.texts.append(data)


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Dataset]:
    return _make_dataset


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    return _make_dataset(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="session")
def read_page() -> type[Page]:
    return Page
