"""The leak audit of a data set as tables: what stands on both sides of a split, and in another data set."""

from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from siimdet.report.counts import count
from siimdet.report.elements import DASH, element, table

MOST_ROWS = 50

LIMITS = (
    "Not found: patients under other ids, and copies that are flipped, turned by more than 2 degrees, cropped by more "
    "than 8% of a side, of strongly changed local contrast, or drawn over."
)

_LEAK = "leak"
_SPLITS = "splits"
_PAIR = ("left", "right")

_Findings = Sequence[Mapping[str, Any]]


def leaks(audit: Mapping[str, Any]) -> list[Element]:
    """A table of every check, and the findings of each, leaks first."""
    parts = [element("h3", "Within this data set"), *_checks(audit["within"], "within this data set")]
    for other in audit["against"]:
        name = f"{other['source']}, {other['root']}"
        lists = {key: value for key, value in other.items() if isinstance(value, list)}
        parts += [element("h3", f"Against {name}"), *_checks(lists, f"against {name}")]
    return parts


def verdict(audit: Mapping[str, Any]) -> list[Element]:
    """The outcome in one line, with a link to the section, and what no outcome excludes."""
    images, found = audit["leaking_images"], audit["leaks"]
    against = f" and against {len(audit['against'])} more" if audit["against"] else ""
    text = f"{count(images)} {'image leaks' if images == 1 else 'images leak'}" if found else "No leak"
    findings = f", by {count(found)} {'finding' if found == 1 else 'findings'}" if found else " found"
    link = element("a", "Leaks", href="#leaks")
    words = element("span", element("strong", text), f"{findings} within this data set{against}. See ", link, ".")
    return [
        element("p", words, class_=f"verdict {'bad' if found else 'good'}"),
        element("p", LIMITS, class_="explains"),
    ]


def _checks(lists: Mapping[str, _Findings], where: str) -> list[Element]:
    rows = [(_words(name), count(len(found)), _marked(sum(map(_leaks, found)))) for name, found in lists.items()]
    overview = table(
        f"What was found {where}, and how much of it is a leak.",
        ("Check", "found", "leaks"),
        rows,
        class_="card checks",
    )
    return [overview, *(_findings(name, found, where) for name, found in lists.items() if found)]


def _findings(name: str, found: _Findings, where: str) -> Element:
    ordered = sorted(found, key=lambda finding: not _leaks(finding))
    known = list(dict.fromkeys(key for finding in ordered for key in finding))
    first = [key for key in known if key in _PAIR] or known[:1]
    keys = list(dict.fromkeys([*first, *(key for key in (_LEAK, _SPLITS) if key in known), *known]))
    rows = [[_cell(key, finding.get(key)) for key in keys] for finding in ordered[:MOST_ROWS]]
    leaking = count(sum(map(_leaks, found)))
    more = f"; {MOST_ROWS} shown, and {count(len(found) - MOST_ROWS)} more" if len(found) > MOST_ROWS else ""
    caption = f"{_words(name).capitalize()} {where}: {count(len(found))} found, {leaking} of them a leak{more}."
    return table(caption, [_words(key) for key in keys], rows, class_="card findings")


def _leaks(finding: Mapping[str, Any]) -> bool:
    return bool(finding.get(_LEAK))


def _cell(key: str, value: Any) -> Element | str:
    if key == _LEAK:
        return element("span", "leak", class_="flag") if value else "no"
    return _text(value)


def _marked(leaking: int) -> Element | str:
    return element("span", count(leaking), class_="flag") if leaking else "0"


def _text(value: Any) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    return str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")
