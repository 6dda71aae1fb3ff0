"""HTML and SVG as trees: text and attributes are escaped when the tree is written, never by hand.

Ids come from other people's files; a page put together from strings would run what they hold.
"""

from collections.abc import Iterable, Sequence
from xml.etree.ElementTree import Element

Child = Element | str

DASH = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"


def element(tag: str, *children: Child, **attributes: str | float) -> Element:
    """An element with text and elements inside; `class_` stands for class, `aria_label` for aria-label."""
    node = Element(tag, {name.rstrip("_").replace("_", "-"): str(value) for name, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            node.append(child)
        elif len(node):
            node[-1].tail = (node[-1].tail or "") + child
        else:
            node.text = (node.text or "") + child
    return node


def table(caption: str, columns: Sequence[Child], rows: Iterable[Sequence[Child]], *, class_: str) -> Element:
    """A table whose first column names the rows; a `td` element stands for itself, all else is put into one.

    A wide table scrolls inside its own frame, which the keyboard reaches.
    """
    head = element("tr", *(element("th", column, scope="col") for column in columns))
    body = [element("tr", element("th", row[0], scope="row"), *map(_cell, row[1:])) for row in rows]
    inner = element("table", element("caption", caption), element("thead", head), element("tbody", *body))
    return element("div", inner, class_=f"scroll {class_}", role="region", aria_label=caption, tabindex=0)


def number(value: float | None, digits: int = 3) -> str:
    """A figure to `digits` places, a dash for None."""
    return DASH if value is None else f"{value:.{digits}f}"


def _cell(child: Child) -> Element:
    return child if isinstance(child, Element) and child.tag == "td" else element("td", child)
