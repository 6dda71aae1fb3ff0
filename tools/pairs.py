"""Interleaved pairs: A B A B ..., the ratio of each pair, and a line of JSON per item under bench/."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RESULTS = Path("bench")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Seconds of both sides (medians), the median ratio of the pairs, their spread, and whether results were equal."""

    item: str
    baseline: str
    baseline_seconds: float
    our_seconds: float
    ratio: float
    smallest_ratio: float
    largest_ratio: float
    equal: bool


def compare(
    item: str,
    baseline_name: str,
    baseline: Callable[[], Any],
    ours: Callable[[], Any],
    *,
    equal: Callable[[Any, Any], bool],
    pairs: int = 5,
) -> Comparison:
    """Run both sides in turn after one warm-up of each, check that their results agree, and print a row."""
    same = equal(baseline(), ours())
    times = [(_seconds(baseline), _seconds(ours)) for _ in range(pairs)]
    ratios = [theirs / mine for theirs, mine in times]
    result = Comparison(
        item,
        baseline_name,
        statistics.median(theirs for theirs, _ in times),
        statistics.median(mine for _, mine in times),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        same,
    )
    seconds = f"{result.baseline_seconds:>10.4f} s {result.our_seconds:>10.4f} s"
    spread = f"({result.smallest_ratio:.1f} to {result.largest_ratio:.1f})"
    print(f"{item:<44}{seconds}{result.ratio:>8.1f}x {spread} {'equal' if same else 'NOT EQUAL'}, {baseline_name}")
    RESULTS.mkdir(exist_ok=True)
    name = "".join(c if c.isalnum() else "-" for c in item.lower())
    (RESULTS / f"{name}.json").write_text(json.dumps(asdict(result), indent=2) + "\n")
    return result


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
