"""What `evaluate` finds out about a file."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from siimdet.scoring.bootstrap import ResampledFigures, Resamples, described


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Figures of resamples of a file's patients or studies, which `unit` names."""

    figures: ResampledFigures
    resamples: Resamples
    unit: str

    def as_dict(self) -> dict[str, Any]:
        """`intervals` by figure, and `bootstrap`, which says of what."""
        return described(self.figures, self.resamples, unit=self.unit)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The figures of a file, of which ids they are (rows, images or patients), and those of resamples if asked for."""

    figures: dict[str, Any]
    ids: Collection[str]
    drawn: Drawn | None = None

    def as_dict(self) -> dict[str, Any]:
        """The figures, then `intervals` and `bootstrap` if there are any."""
        return self.figures | (self.drawn.as_dict() if self.drawn else {})
