"""Tables of counts: of the parts of a data set, and of classes with a bar for each share."""

import math
from collections.abc import Mapping
from xml.etree.ElementTree import Element

from siimdet.report.elements import DASH, element, table

_COLUMNS = ("images", "studies", "patients", "boxes", "images_with_boxes", "images_without_boxes")


def counts_table(caption: str, parts: Mapping[str, Mapping[str, int | None]]) -> Element:
    """Images, studies, patients and boxes of each part, as counted by siimdet.data.summary.count_images."""
    rows = [(name, *(count(counts.get(column)) for column in _COLUMNS)) for name, counts in parts.items()]
    return table(caption, ("Part", *(column.replace("_", " ") for column in _COLUMNS)), rows, class_="card counts")


def count(value: int | None) -> str:
    """A whole number with its thousands apart, a dash for None."""
    return DASH if value is None else f"{value:,}"


def shares_table(
    caption: str,
    name: str,
    columns: Mapping[str, Mapping[str, tuple[int, int]]],
    further: Mapping[str, Mapping[str, str]] | None = None,
) -> Element:
    """Counts and what they are shares of, by column and row, with a bar each; then columns of plain text.

    A share of nothing is a dash. The bars are to one scale, which the caption tells. `name` heads the rows, which
    are those of the first column.
    """
    further = further or {}
    shares = [value / total for cells in columns.values() for value, total in cells.values() if total]
    full = round_up(max(shares, default=0))
    scale = f"; a full bar is {percent(full)}" if full < 1 else ""
    body = [
        (
            row,
            *(_share(*cells[row], full) for cells in columns.values()),
            *(texts[row] for texts in further.values()),
        )
        for row in next(iter(columns.values()))
    ]
    return table(f"{caption}{scale}.", (name, *columns, *further), body, class_="card shares")


def _share(value: int, total: int, full: float) -> Element:
    if not total:
        return element("td", DASH)
    figures = element("span", count(value), " ", element("small", percent(value / total)), class_="figure")
    bar = element("span", class_="bar", style=f"--value:{value / total / full:.3f}", aria_hidden="true")
    return element("td", figures, bar)


def percent(share: float) -> str:
    """A share as whole per cent; a little is not nothing, and nearly all is not all."""
    text = f"{share:.0%}"
    if text == "0%" and share > 0:
        return "<1%"
    return ">99%" if text == "100%" and share < 1 else text


def round_up(share: float) -> float:
    """The next tenth above 0, at most 1: where a scale of shares ends."""
    return min(10, max(1, math.ceil(share * 10 - 1e-9))) / 10
