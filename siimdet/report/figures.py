"""Figures as SVG: line charts, histograms, and boxes drawn over a radiograph.

SVG inside the page takes its colours from the page's style, so one figure serves light and dark, stays
sharp at any size, and its text can be read aloud. Classes c0 ... c5 are the colours of a series.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from xml.etree.ElementTree import Element

import cv2
import numpy as np
from numpy.typing import NDArray

from siimdet.imaging.png import read_grey
from siimdet.imaging.resize import shrink
from siimdet.report.elements import element

COLOURS = 6
MOST_TICKS = 12
JPEG_QUALITY = 82

_WIDTH, _HEIGHT = 360, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 350, 10, 198


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis from 0 to `high`; ticks at whole numbers only if `whole`."""

    label: str
    high: float
    whole: bool = False

    def ticks(self) -> list[float]:
        """At most six round numbers: multiples of 1, 2 or 5 times a power of ten."""
        power = 10.0 ** math.floor(math.log10(self.high / 5))
        step = next(power * factor for factor in (1, 2, 5, 10) if self.high / (power * factor) <= 5.0001)
        step = max(step, 1) if self.whole else step
        return [round(i * step, 9) for i in range(math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A series: points f64[P, 2] in the axes' units, and one point of it to mark, if any.

    With `spread` f64[P, 2], low and high, every point is marked and has a whisker.
    """

    name: str
    points: NDArray[np.float64]
    mark: tuple[float, float] | None = None
    spread: NDArray[np.float64] | None = None


def line_chart(lines: Sequence[Line], x: Axis, y: Axis, *, description: str, diagonal: bool = False) -> Element:
    """A chart of lines over common axes, and where both are equal; `description` is what a screen reader says."""
    series = [
        part
        for index, line in enumerate(lines)
        if len(line.points)
        for part in (_path(line, index, x, y), *_marks(line, index, x, y))
    ]
    equal = [element("line", x1=_LEFT, x2=_RIGHT, y1=_BOTTOM, y2=_TOP, class_="diagonal")] if diagonal else []
    return _chart([*_y_ticks(y), *equal, *_x_ticks(x), _x_label(x.label), _y_label(y.label), *series], description)


def histogram(counts: Mapping[int, int], label: str, *, description: str) -> Element:
    """A bar over every whole number from the least key of `counts` to the greatest, 0 where it has none."""
    y = Axis("", max(counts.values()) * 1.1, whole=True)
    numbers = range(min(counts), max(counts) + 1)
    slot = (_RIGHT - _LEFT) / len(numbers)
    every = -(-len(numbers) // MOST_TICKS)
    parts = _y_ticks(y)
    for place, number in enumerate(numbers):
        middle, count = _LEFT + (place + 0.5) * slot, counts.get(number, 0)
        breadth, height = min(0.72 * slot, 56), (_BOTTOM - _TOP) * count / y.high
        bar = {"x": middle - breadth / 2, "y": _BOTTOM - height, "width": breadth, "height": height}
        parts.append(element("rect", **{name: _short(value) for name, value in bar.items()}, class_="column"))
        if place % every == 0:
            parts.append(element("text", str(number), x=_short(middle), y=_BOTTOM + 17, class_="tick middle"))
        if len(numbers) <= MOST_TICKS:
            top = _short(_BOTTOM - height - 5)
            parts.append(element("text", f"{count:,}", x=_short(middle), y=top, class_="tick middle"))
    return _chart([*parts, _x_label(label)], description)


def swatch(index: int) -> Element:
    """A short piece of a series' line, for legends."""
    stroke = element("line", x1=1, x2=27, y1=5, y2=5, class_=f"line {colour(index)}")
    return element("svg", stroke, class_="swatch", viewBox="0 0 28 10", aria_hidden="true")


def colour(index: int) -> str:
    """The class that colours a series."""
    return f"c{index % COLOURS}"


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """Boxes to draw: xyxy f64[N, 4] in pixels of the thumbnail, a style class, and N texts or None."""

    xyxy: NDArray[np.float64]
    style: str
    texts: Sequence[str] | None = None


def thumbnail(path: Path, longer_side: int) -> NDArray[np.uint8]:
    """A radiograph u8[H, W] whose longer side has `longer_side` pixels; 16 bits are spread from black to white."""
    image = shrink(read_grey(path), longer_side)
    if (enlarged := longer_side / max(image.shape)) > 1:  # texts over it have a size of their own
        image = cv2.resize(image, None, fx=enlarged, fy=enlarged, interpolation=cv2.INTER_LINEAR)
    if image.dtype == np.uint8:
        return image.astype(np.uint8)
    low, high = int(image.min()), int(image.max())
    return np.round((image.astype(np.float64) - low) * (255 / max(1, high - low))).astype(np.uint8)


def radiograph(image: NDArray[np.uint8], overlays: Sequence[Boxes], *, description: str) -> Element:
    """An image u8[H, W] as JPEG with boxes over it; texts stand on another side for every overlay."""
    height, width = image.shape
    _, encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    address = "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
    boxes = [_rectangle(box, overlay.style) for overlay in overlays for box in overlay.xyxy]
    told = [overlay for overlay in overlays if overlay.texts is not None]
    texts = [text for side, overlay in enumerate(told) for text in _texts(overlay, side, width, height)]
    picture = element("image", href=address, width=width, height=height)
    return element(
        "svg",
        *(picture, *boxes, *texts),
        class_="radiograph",
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=description,
    )


def _chart(parts: Sequence[Element], description: str) -> Element:
    frame = {"class_": "chart", "viewBox": f"0 0 {_WIDTH} {_HEIGHT}", "role": "img"}
    return element("svg", *parts, **frame, aria_label=description)


def _y_ticks(y: Axis) -> list[Element]:
    parts = []
    for tick in y.ticks():
        at = _BOTTOM - (_BOTTOM - _TOP) * tick / y.high
        text = f"{tick / 1000:g}k" if tick >= 10_000 else f"{tick:g}"
        parts.append(element("line", x1=_LEFT, x2=_RIGHT, y1=_short(at), y2=_short(at), class_="grid"))
        parts.append(element("text", text, x=_LEFT - 7, y=_short(at + 4), class_="tick end"))
    return parts


def _x_ticks(x: Axis) -> list[Element]:
    places = [(tick, _LEFT + (_RIGHT - _LEFT) * tick / x.high) for tick in x.ticks()]
    return [element("text", f"{tick:g}", x=_short(at), y=_BOTTOM + 17, class_="tick middle") for tick, at in places]


def _x_label(label: str) -> Element:
    return element("text", label, x=(_LEFT + _RIGHT) / 2, y=_HEIGHT - 6, class_="tick middle")


def _y_label(label: str) -> Element:
    middle = (_TOP + _BOTTOM) / 2
    return element("text", label, transform=f"translate(11 {middle:g}) rotate(-90)", class_="tick middle")


def _path(line: Line, index: int, x: Axis, y: Axis) -> Element:
    places = [_place(right, up, x, y) for right, up in line.points.tolist()]
    corners = [corner for corner, _ in groupby(f"{_short(left)} {_short(top)}" for left, top in places)]
    return element("path", d="M" + "L".join(corners), class_=f"line {colour(index)}")


def _marks(line: Line, index: int, x: Axis, y: Axis) -> list[Element]:
    if line.spread is not None:
        return _spread_marks(line.points, line.spread, index, x, y)
    # A path of one point draws nothing.
    mark = tuple(line.points[0].tolist()) if line.mark is None and len(line.points) == 1 else line.mark
    if mark is None:
        return []
    left, top = _place(mark[0], mark[1], x, y)
    return [element("circle", cx=_short(left), cy=_short(top), r=4.5, class_=f"mark {colour(index)}")]


def _spread_marks(
    points: NDArray[np.float64], spread: NDArray[np.float64], index: int, x: Axis, y: Axis
) -> list[Element]:
    parts = []
    for (right, up), (low, high) in zip(points.tolist(), spread.tolist(), strict=True):
        (left, bottom), (_, top), (_, middle) = (_place(right, value, x, y) for value in (low, high, up))
        ends = {"x1": _short(left), "x2": _short(left), "y1": _short(bottom), "y2": _short(top)}
        parts.append(element("line", **ends, class_=f"spread {colour(index)}"))
        parts.append(element("circle", cx=_short(left), cy=_short(middle), r=3, class_=f"mark {colour(index)}"))
    return parts


def _place(right: float, up: float, x: Axis, y: Axis) -> tuple[float, float]:
    return _LEFT + (_RIGHT - _LEFT) * right / x.high, _BOTTOM - (_BOTTOM - _TOP) * up / y.high


def _rectangle(box: NDArray[np.float64], style: str) -> Element:
    x1, y1, x2, y2 = box.tolist()
    return element(
        "rect", x=_short(x1), y=_short(y1), width=_short(x2 - x1), height=_short(y2 - y1), class_=f"box {style}"
    )


def _texts(overlay: Boxes, side: int, width: int, height: int) -> list[Element]:
    assert overlay.texts is not None
    parts = []
    for (x1, y1, x2, y2), text in zip(overlay.xyxy.tolist(), overlay.texts, strict=True):
        half = 5 * len(text)
        middle, centre = (x1 + x2) / 2, (y1 + y2) / 2 + 6
        x, y = ((middle, y1 - 5), (middle, y2 + 17), (x2 + half + 2, centre), (x1 - half - 2, centre))[side % 4]
        x, y = max(min(x, width - half), half), min(max(y, 16), height - 4)
        parts.append(element("text", text, x=_short(x), y=_short(y), class_=f"label middle {overlay.style}"))
    return parts


def _short(value: float) -> str:
    return f"{round(value, 1):g}"
