"""A decoded radiograph and all that its grey scaling needs, free of any file format."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

WindowFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]


@dataclass(frozen=True, slots=True)
class HeaderIds:
    """What the header says about who and what; an id that the header lacks is empty."""

    patient_id: str
    study_uid: str
    series_uid: str
    sop_uid: str


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the values that is shown (PS3.3 C.11.2.1.2).

    Width is at least 1 for LINEAR and above 0 for the others.
    """

    center: float
    width: float
    function: WindowFunction = "LINEAR"

    def __post_init__(self) -> None:
        if self.width < 1 if self.function == "LINEAR" else self.width <= 0:
            raise ValueError(f"{self.function} window of width {self.width:g}")


@dataclass(frozen=True, slots=True, eq=False)
class LookupTable:
    """A table for the values from `first` on; values outside take its first or last entry.

    Shapes: entries u8[N] or u16[N], N >= 1 (PS3.3 C.11.1.1 and C.11.2.1.1).
    """

    first: int
    entries: NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Radiograph:
    """One frame as it is stored, and how to show it.

    Shapes: pixels u8[H, W] or u16[H, W], the stored bit patterns: where `signed`, they are two's
    complement numbers of `bits_stored` bits, whose higher bits may or may not repeat the sign.
    """

    ids: HeaderIds
    pixels: NDArray[np.unsignedinteger]
    bits_stored: int
    signed: bool
    photometric: str
    """PhotometricInterpretation (0028,0004): MONOCHROME1 or MONOCHROME2."""
    inverted: bool
    """Low values are bright: MONOCHROME1 or PresentationLUTShape INVERSE."""
    modality: LookupTable | tuple[float, float]
    """A table, or (slope, intercept); (1, 0) where the header says nothing."""
    voi: LookupTable | Window | None
    padding: tuple[int, int] | None
    """First and last stored value, inclusive, of pixels that show nothing."""

    @classmethod
    def plain(cls, pixels: NDArray[np.unsignedinteger]) -> "Radiograph":
        """Unsigned pixels u8[H, W] or u16[H, W] of which nothing more is known; low values are dark."""
        return cls(
            ids=HeaderIds("", "", "", ""),
            pixels=pixels,
            bits_stored=8 * pixels.itemsize,
            signed=False,
            photometric="",
            inverted=False,
            modality=(1.0, 0.0),
            voi=None,
            padding=None,
        )

    @property
    def patient_id(self) -> str:
        """PatientID (0010,0020)."""
        return self.ids.patient_id

    @property
    def study_uid(self) -> str:
        """StudyInstanceUID (0020,000D)."""
        return self.ids.study_uid

    @property
    def series_uid(self) -> str:
        """SeriesInstanceUID (0020,000E)."""
        return self.ids.series_uid

    @property
    def sop_uid(self) -> str:
        """SOPInstanceUID (0008,0018)."""
        return self.ids.sop_uid


def stored_values(
    patterns: NDArray[np.integer], *, bits_allocated: int, bits_stored: int, signed: bool
) -> NDArray[np.int64]:
    """The numbers that stored bit patterns stand for; they may lie beyond `bits_stored`.

    Where a signed number leaves spare bits above its own, these repeat its sign or are 0, and are no
    part of it. Any other filling is a value beyond `bits_stored`, such as padding of -32768 in an
    image of 12 bits, and is read with all the bits there are.
    """
    values = np.asarray(patterns, np.int64) & ((1 << bits_allocated) - 1)
    if not signed:
        return values
    own = np.where(values >> bits_stored == 0, bits_stored, bits_allocated)
    return values - np.where(values >> (own - 1) == 1, 1 << own, 0)
