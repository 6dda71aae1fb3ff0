"""Bootstrap intervals as plain text."""

from typing import Any


def with_interval_texts(result: dict[str, Any]) -> dict[str, Any]:
    """The result of an evaluation for people: `.412 (.355 to .470)` for each figure that has an interval.

    What was drawn, and which classes were without truth in some resamples, are lines in place of `bootstrap`.
    """
    if "bootstrap" not in result:
        return result
    drawn = result["bootstrap"]
    plural = {"patient": "patients", "study": "studies"}[drawn["unit"]]
    texts = {name: _text(result[name], interval) for name, interval in result["intervals"].items()}
    shown = {key: value for key, value in result.items() if key not in ("intervals", "bootstrap")}
    # A classifier's F1 and AUROC stand in the table of its classes, which has no room for intervals.
    shown |= {"intervals": texts} if "classes" in result else texts
    level = f"{drawn['level']:.0%}".replace("%", " %")
    shown["bootstrap"] = f"{level} of {drawn['samples']} resamples of {drawn['units']} {plural}"
    if drawn["left_out"]:
        shown["left out of resamples"] = drawn["left_out"]
    return shown


def _text(figure: float | None, interval: list[float] | None) -> str | None:
    if figure is None or interval is None:
        return None
    low, high = map(_short, interval)
    return f"{_short(figure)} ({low} to {high})"


def _short(figure: float) -> str:
    return f"{figure:.3f}".removeprefix("0")
