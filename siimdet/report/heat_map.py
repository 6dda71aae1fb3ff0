"""A heat map of counts over the image, and the scale to read it by."""

from collections.abc import Sequence
from itertools import groupby, pairwise
from xml.etree.ElementTree import Element

import numpy as np

from siimdet.report.elements import element
from siimdet.report.figures import Axis

LEVELS = 12
"""Shades from the least to the most; fewer where the most is less."""

_WIDTH, _BAND, _HEIGHT = 320, 12, 34


def heat_map(counts: Sequence[Sequence[int]], *, description: str) -> Element:
    """Counts [R][C] as cells, row 0 at the top, the deeper the more; those of 0 stay bare.

    Needs one count above 0. A shade is one path over all its cells, or a page of maps would be megabytes.
    """
    grid = np.asarray(counts)
    shades = _shades(int(grid.max()))
    levels = -(-grid * shades // int(grid.max()))
    paths = [
        element("path", d=_cells((levels == level).tolist()), class_="heat", style=f"--value:{level / shades:.3f}")
        for level in range(1, shades + 1)
        if (levels == level).any()
    ]
    rows, columns = grid.shape
    frame = {"class_": "heat-map", "viewBox": f"0 0 {columns} {rows}", "role": "img"}
    return element("svg", *paths, **frame, aria_label=description)


def heat_scale(most: int, label: str) -> Element:
    """The shades from none to `most`, with round numbers below."""
    shades = _shades(most)
    # Whole edges: rounded one by one, bands would overlap in a seam.
    edges = [round(_WIDTH * i / shades) for i in range(shades + 1)]
    bands = [
        element("rect", x=left, y=0, width=right - left, height=_BAND, class_="heat", style=f"--value:{i / shades:.3f}")
        for i, (left, right) in enumerate(pairwise(edges), start=1)
    ]
    ticks = [tick for tick in Axis(label, most, whole=True).ticks() if most - tick > most / 8]
    texts = [
        element("text", f"{tick:,g}", x=f"{_WIDTH * tick / most:.1f}", y=_HEIGHT - 6, class_=f"tick {side}")
        for tick, side in [*((tick, "middle" if tick else "start") for tick in ticks), (most, "end")]
    ]
    return element(
        "svg", *bands, *texts, class_="heat-scale", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label
    )


def _shades(most: int) -> int:
    return min(LEVELS, most)


def _cells(marked: Sequence[Sequence[bool]]) -> str:
    """A path around the runs of marked cells in every row."""
    steps = []
    for y, row in enumerate(marked):
        x = 0
        for value, run in groupby(row):
            length = len(list(run))
            if value:
                steps.append(f"M{x} {y}h{length}v1h-{length}z")
            x += length
    return "".join(steps)
