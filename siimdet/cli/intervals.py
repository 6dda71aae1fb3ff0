"""Bootstrap intervals as plain text."""

from typing import Any

from siimdet.plain_text import aligned, indented


def with_interval_texts(result: dict[str, Any]) -> dict[str, Any]:
    """The result of an evaluation for people: `.412 (.355 to .470)` for each figure that has an interval.

    What was drawn, and which classes were without truth in some resamples, are lines in place of `bootstrap`.
    """
    if "bootstrap" not in result:
        return result
    texts = {name: _text(result[name], interval) for name, interval in result["intervals"].items()}
    shown = {key: value for key, value in result.items() if key not in ("intervals", "bootstrap")}
    # A classifier's F1 and AUROC stand in the table of its classes, which has no room for intervals.
    shown |= {"intervals": texts} if "classes" in result else texts
    return shown | _drawn_texts(result["bootstrap"])


def difference_table(pair: dict[str, Any]) -> str:
    """Figures of two files, their difference and its interval, a row per figure, and what was drawn."""
    rows: list[list[object]] = [["figure", "first", "second", "difference", "interval"]]
    for name, difference in pair["difference"].items():
        shown = None if difference is None else f"{difference:+.4f}"
        interval = pair["intervals"][name]
        between = None if shown is None or interval is None else "{:+.4f} to {:+.4f}".format(*interval)
        rows.append([name, pair["first"][name], pair["second"][name], shown, between])
    return f"{aligned(rows)}\n\n{indented(_drawn_texts(pair['bootstrap']))}"


def _drawn_texts(drawn: dict[str, Any]) -> dict[str, Any]:
    from siimdet.submission.scored import drawn_text

    return {"bootstrap": drawn_text(drawn)} | (
        {"left out of resamples": drawn["left_out"]} if drawn["left_out"] else {}
    )


def _text(figure: float | None, interval: list[float] | None) -> str | None:
    if figure is None or interval is None:
        return None
    low, high = map(_short, interval)
    return f"{_short(figure)} ({low} to {high})"


def _short(figure: float) -> str:
    return f"{figure:.3f}".removeprefix("0")
