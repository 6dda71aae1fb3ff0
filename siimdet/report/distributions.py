"""Pictures of a data set's boxes: how many, how large, where; drawn from `summarise`'s distributions."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from siimdet.report.counts import count, percent, round_up
from siimdet.report.elements import DASH, TIMES, element, table
from siimdet.report.figures import histogram
from siimdet.report.heat_map import heat_map, heat_scale

MOST_MAPS = 12
"""As many classes have a map of their own, those with the most boxes."""

_MEASURES = ("width", "height", "area")


def boxes(summary: Mapping[str, Any]) -> list[Element]:
    """Boxes per image, their positions and sizes, and the positions by class where there are several."""
    if not summary["boxes"]:
        return [element("p", "No image has a box.")]
    drawn = summary["distributions"]
    grid = drawn["box_positions"]["all"]
    parts = [
        element("div", _per_image(summary), _positions(grid, summary["boxes"]), class_="pair top"),
        _sizes(drawn["box_sizes"]),
    ]
    classes = sorted((item for item in summary["classes"].items() if item[1]), key=lambda item: -item[1])
    if len(classes) > 1:
        maps = [_map_of_class(name, n, drawn["box_positions"]["classes"][name]) for name, n in classes[:MOST_MAPS]]
        parts += [element("h3", "Where the boxes of each class lie"), element("div", *maps, class_="gallery maps")]
    if len(classes) > MOST_MAPS:
        parts.append(element("p", f"And {len(classes) - MOST_MAPS} more classes with fewer boxes."))
    return parts


def _per_image(summary: Mapping[str, Any]) -> Element:
    found = {int(number): images for number, images in summary["distributions"]["boxes_per_image"]["all"].items()}
    without = found.pop(0, 0)
    listed = ", ".join(f"{number}: {images}" for number, images in sorted(found.items()))
    share = percent(without / summary["images"])
    note = f"Images by their number of boxes. {count(without)} of {count(summary['images'])} ({share}) have none."
    description = f"Images by their number of boxes: {listed}; without boxes {without}"
    chart = histogram({1: 0} | found, "boxes in the image", description=description)
    return element(
        "figure", element("figcaption", element("h3", "Boxes per image"), element("p", note)), chart, class_="card"
    )


def _positions(grid: Sequence[Sequence[int]], number: int) -> Element:
    most = max(map(max, grid))
    note = (
        f"Boxes over each of {len(grid)} {TIMES} {len(grid[0])} cells; every image is stretched to a square. "
        "On a frontal radiograph the patient's right is on the left."
    )
    sides = element("p", element("span", "patient's right"), element("span", "patient's left"), class_="sides")
    return element(
        "figure",
        element("figcaption", element("h3", "Where boxes lie"), element("p", note)),
        element("div", heat_map(grid, description=_described("all classes", number, grid)), sides, class_="square"),
        element("div", heat_scale(most, f"Scale of the map: 0 to {count(most)} boxes over a cell"), class_="square"),
        class_="card",
    )


def _map_of_class(name: str, number: int, grid: Sequence[Sequence[int]]) -> Element:
    most = max(map(max, grid))
    caption = element(
        "figcaption",
        element("p", element("strong", name)),
        element("p", f"{_boxes(number)}, at most {count(most)} over a cell"),
    )
    return element("figure", heat_map(grid, description=_described(name, number, grid)), caption, class_="card shot")


def _described(name: str, number: int, grid: Sequence[Sequence[int]]) -> str:
    """In words, the place of the most boxes."""
    most = max(map(max, grid))
    y, x = next((y, x) for y, row in enumerate(grid) for x, value in enumerate(row) if value == most)
    across, down = percent((x + 0.5) / len(grid[0])), percent((y + 0.5) / len(grid))
    return f"Positions of {_boxes(number)}, {name}: most, {most}, at {across} from the left and {down} from the top"


def _boxes(number: int) -> str:
    return f"{count(number)} box" if number == 1 else f"{count(number)} boxes"


def _sizes(sizes: Mapping[str, Any]) -> Element:
    rows = {"all": sizes["all"]} if len(sizes["classes"]) > 1 else {}
    rows |= sizes["classes"]
    highs = {measure: round_up(sizes["all"][measure]["most"]) for measure in _MEASURES}
    body = [
        (name, *(_range(figures, measure, highs[measure]) for measure in _MEASURES)) for name, figures in rows.items()
    ]
    heads = [
        element("span", measure, " ", element("small", f"line 0 to {percent(highs[measure])}")) for measure in _MEASURES
    ]
    caption = (
        "Box sizes as shares of the image's width, height and area: the median, then the least and the most. "
        "The line spans them, the bar the middle half, the mark is the median."
    )
    return table(caption, ("Class", *heads), body, class_="card sizes")


def _range(figures: Mapping[str, Mapping[str, float]] | None, measure: str, high: float) -> Element:
    if figures is None:
        return element("td", DASH)
    values = figures[measure]
    least, lower, median, upper, most = (
        values[name] for name in ("least", "lower_quartile", "median", "upper_quartile", "most")
    )
    ends = element("small", f"{_share(least)} to {_share(most)}")
    text = element("span", element("strong", _share(median)), " ", ends, class_="figure")
    return element("td", text, _strip([value / high * 100 for value in (least, lower, median, upper, most)]))


def _strip(places: Sequence[float]) -> Element:
    """A box plot of least, quartiles and most on a line of 100 units."""
    least, lower, median, upper, most = places
    return element(
        "svg",
        element("line", x1=0, x2=100, y1=6, y2=6, class_="grid"),
        element("line", x1=f"{least:.1f}", x2=f"{most:.1f}", y1=6, y2=6, class_="whisker"),
        element("rect", x=f"{lower:.1f}", y=1, width=f"{upper - lower:.1f}", height=10, class_="quartiles"),
        element("line", x1=f"{median:.1f}", x2=f"{median:.1f}", y1=0, y2=12, class_="median"),
        class_="strip",
        viewBox="0 0 100 12",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def _share(value: float) -> str:
    if value < 0.0005:
        return "<0.1%"
    return f"{value:.0%}" if value >= 0.1 else f"{value:.1%}"
