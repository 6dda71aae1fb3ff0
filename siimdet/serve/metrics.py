"""Figures of a running server in the text format of Prometheus.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import os
import threading
from collections import Counter
from pathlib import Path

BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets of seconds."""


class Metrics:
    """Studies by outcome, and a histogram of the seconds that the models took for each.

    `pacs_up` is whether the last look at a watched archive ended well, None without one.
    """

    pacs_up: bool | None = None

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._outcomes = Counter({"done": 0, "failed": 0, "cancelled": 0})
        self._pacs = Counter({"stored": 0, "refused": 0, "failed": 0})
        self._buckets: Counter[float] = Counter()
        self._seconds = 0.0

    def ended(self, outcome: str, seconds: float) -> None:
        """Count a study."""
        with self._lock:
            self._outcomes[outcome] += 1
            self._seconds += seconds
            for bound in BOUNDS:
                self._buckets[bound] += seconds <= bound

    def pacs_ended(self, outcome: str) -> None:
        """Count a study of a watched archive."""
        with self._lock:
            self._pacs[outcome] += 1

    def text(self, waiting: int) -> str:
        """All figures; `waiting` studies are in the queue now."""
        with self._lock:
            total = sum(self._outcomes.values())
            lines = ["# TYPE siimdet_studies_total counter"]
            lines += [f'siimdet_studies_total{{outcome="{name}"}} {n}' for name, n in sorted(self._outcomes.items())]
            lines += ["# TYPE siimdet_study_seconds histogram"]
            lines += [f'siimdet_study_seconds_bucket{{le="{bound:g}"}} {self._buckets[bound]}' for bound in BOUNDS]
            lines += [f'siimdet_study_seconds_bucket{{le="+Inf"}} {total}']
            lines += [f"siimdet_study_seconds_sum {self._seconds:.6f}", f"siimdet_study_seconds_count {total}"]
        lines += ["# TYPE siimdet_waiting gauge", f"siimdet_waiting {waiting}"]
        if self.pacs_up is not None:
            lines += ["# TYPE siimdet_pacs_up gauge", f"siimdet_pacs_up {self.pacs_up:d}"]
            lines += ["# TYPE siimdet_pacs_studies_total counter"]
            lines += [f'siimdet_pacs_studies_total{{outcome="{name}"}} {n}' for name, n in sorted(self._pacs.items())]
        if (resident := resident_bytes()) is not None:
            lines += ["# TYPE process_resident_memory_bytes gauge", f"process_resident_memory_bytes {resident}"]
        return "\n".join(lines) + "\n"


def resident_bytes() -> int | None:
    """Memory of this process; None where the system has no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
