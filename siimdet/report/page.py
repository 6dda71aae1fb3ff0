"""The frame of every page: head, header, sections and footer, styled by page.css, written as one file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element, tostring

from siimdet.core.files import atomic_write
from siimdet.report.elements import element

NOT_FOR_DIAGNOSIS = "Research software, not a medical device: not for diagnosis."

_STYLE = Path(__file__).with_name("page.css")
# The browser itself refuses whatever would leave the page.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(
    path: Path,
    *,
    title: str,
    subtitle: str,
    opening: Sequence[Element],
    sections: Mapping[str, Sequence[Element]],
) -> None:
    """Write a page as one HTML file, atomically; equal content gives equal bytes.

    `opening` stands below the title; `sections` are by heading, one word each, in order.
    """
    header = element(
        "header",
        element("h1", title),
        element("p", subtitle, class_="subtitle"),
        *opening,
        element("p", NOT_FOR_DIAGNOSIS, class_="notice"),
        _contents(sections),
    )
    body = element(
        "body",
        header,
        element("main", *(_section(name, parts) for name, parts in sections.items())),
        element("footer", element("p", f"Written by siimdet. {NOT_FOR_DIAGNOSIS}")),
    )
    page = tostring(element("html", _head(title), body, lang="en"), encoding="unicode", method="html")
    with atomic_write(path) as stream:
        stream.write(f"<!doctype html>\n{page}\n")


def stats(figures: Mapping[str, str]) -> Element:
    """Figures in large type, each above its name."""
    listed = [element("div", element("dt", name), element("dd", figure)) for name, figure in figures.items()]
    return element("dl", *listed, class_="stats")


def _head(title: str) -> Element:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", _STYLE.read_text(encoding="utf-8")),
    )


def _contents(sections: Mapping[str, Sequence[Element]]) -> Element:
    links = [element("li", element("a", name, href=f"#{name.lower()}")) for name in sections]
    return element("nav", element("ul", *links), aria_label="Sections")


def _section(name: str, parts: Sequence[Element]) -> Element:
    heading = element("h2", name, id=f"{name.lower()}-heading")
    return element("section", heading, *parts, id=name.lower(), aria_labelledby=f"{name.lower()}-heading")
