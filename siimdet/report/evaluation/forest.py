"""A chart of differences around a line at zero."""

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from siimdet.report.elements import element

_WIDTH, _ROW, _LEFT, _RIGHT, _FOOT = 400, 24, 104, 372, 30


def forest(values: Mapping[str, float | None], intervals: Mapping[str, list[float] | None], title: str) -> Element:
    """A row per figure: a dot at its value, a line over its interval; figures that lack either are left out."""
    rows = {name: (value, intervals[name]) for name, value in values.items() if value is not None and intervals[name]}
    reach = max((abs(end) for _, interval in rows.values() for end in interval or ()), default=0.0) or 0.01
    middle, scale = (_LEFT + _RIGHT) / 2, (_RIGHT - _LEFT) / 2 / reach

    def place(value: float) -> str:
        return f"{middle + value * scale:.1f}"

    bottom = len(rows) * _ROW + 8
    parts = [element("line", x1=place(0), x2=place(0), y1=0, y2=bottom, class_="zero")]
    for number, (name, (value, interval)) in enumerate(rows.items()):
        assert value is not None and interval is not None, "left out above"
        y = number * _ROW + 20
        kind = "sure" if interval[0] > 0 or interval[1] < 0 else "unsure"
        ends = {"x1": place(interval[0]), "x2": place(interval[1])}
        parts += [
            element("text", name, x=_LEFT - 14, y=y + 4, class_="tick end"),
            element("line", **ends, y1=y, y2=y, class_=f"whisker {kind}"),
            element("circle", cx=place(value), cy=y, r=4.5, class_=f"mark {kind}"),
        ]
    ticks = ((-reach, f"{-reach:+.3f}"), (0.0, "0"), (reach, f"{reach:+.3f}"))
    parts += [element("text", text, x=place(at), y=bottom + 20, class_="tick middle") for at, text in ticks]
    described = ", ".join(f"{name} {value:+.4f}" for name, (value, _) in rows.items())
    frame = {"class_": "forest", "viewBox": f"0 0 {_WIDTH} {bottom + _FOOT}", "role": "img"}
    chart = element("svg", *parts, **frame, aria_label=f"{title}: {described}")
    return element("figure", element("figcaption", element("h3", title)), chart, class_="card")
