"""How often an address may ask."""

import time
from collections import deque

_MINUTE = 60.0
_ADDRESSES = 10_000  # that are remembered; beyond that the silent ones are forgotten at once


class Rate:
    """Counts of the last minute, by address."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._asked: dict[str, deque[float]] = {}

    def wait(self, address: str) -> int:
        """Whole seconds until the address may ask again; 0 if it may now, which counts."""
        now = time.monotonic()
        if len(self._asked) >= _ADDRESSES:
            self._asked = {key: times for key, times in self._asked.items() if times[-1] > now - _MINUTE}
        asked = self._asked.setdefault(address, deque(maxlen=self._per_minute))
        if len(asked) == self._per_minute and asked[0] > now - _MINUTE:
            return max(1, round(asked[0] + _MINUTE - now))
        asked.append(now)
        return 0
