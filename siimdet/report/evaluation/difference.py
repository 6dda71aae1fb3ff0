"""Two files compared: how much the second is better, and what that means."""

from collections.abc import Mapping
from xml.etree.ElementTree import Element

from siimdet.report.elements import DASH, element, number, table
from siimdet.report.evaluation.contents import Evaluation
from siimdet.report.evaluation.forest import forest
from siimdet.submission.evaluate_pair import Pair

Interval = list[float] | None


def difference(evaluation: Evaluation) -> list[Element]:
    """The second file against this one; nothing without a second."""
    if evaluation.other is None:
        return []
    name, pair = evaluation.other
    return paired(evaluation.name, name, pair)


def paired(first: str, second: str, pair: Pair) -> list[Element]:
    """A verdict, the differences with their intervals, and a chart of them."""
    differences, intervals = pair.differences(), pair.drawn.figures.intervals()
    rows = [
        (
            figure,
            number(pair.first.figures[figure]),
            number(pair.second.figures[figure]),
            signed(value),
            _between(intervals[figure]),
        )
        for figure, value in differences.items()
    ]
    caption = (
        f"{second} - {first}, both scored on the same resamples: what makes one hard for the one makes it hard for the "
        "other, so the interval is that of the difference."
    )
    columns = ("Figure", first, second, "Difference", "95 % interval")
    return [
        element("p", verdict(second, differences, intervals), class_="verdict"),
        table(caption, columns, rows, class_="card differences"),
        forest(differences, intervals, f"Difference {second} - {first}"),
    ]


def verdict(second: str, differences: Mapping[str, float | None], intervals: Mapping[str, Interval]) -> str:
    """What the last figure's interval says, in words."""
    figure = "mAP" if "mAP" in differences else list(differences)[-1]
    value, interval = differences[figure], intervals[figure]
    if value is None or interval is None:
        return f"{figure} of one of the files is not defined: there is no difference to judge."
    found = f"{figure} {signed(value)} ({_between(interval)})"
    if interval[0] <= 0 <= interval[1]:
        return f"{second}: {found}. The interval holds 0: no difference that these patients could show."
    return f"{second} is {'better' if value > 0 else 'worse'}: {found}. The interval does not hold 0."


def signed(value: float | None) -> str:
    """A difference with its sign, a dash for None."""
    return DASH if value is None else f"{value:+.4f}"


def _between(interval: Interval) -> str:
    return DASH if interval is None else f"{interval[0]:+.4f} to {interval[1]:+.4f}"
