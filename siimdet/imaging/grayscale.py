"""From stored values to grey levels, black = air: the DICOM look-up pipeline folded into one table.

Order (PS3.4 N.2): modality table or rescale → VOI table or window → inversion, once → scaling of the
values that show something. A pixel's grey depends on its stored bits alone, so each step is computed
in float64 for the 256 or 65,536 possible patterns instead of for every pixel.
"""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from siimdet.imaging.radiograph import LookupTable, Radiograph, Window, stored_values

Scaling = Literal["minmax", "percentile", "window", "full"]
"""What becomes black and what white: the least and the most of the unpadded pixels; their percentiles
TAIL and 100 - TAIL; the ends of the VOI window or table, as a viewer shows it (minmax where there is
none); or the ends of all values that the stored bits can hold, before any VOI."""

TAIL_PER_MILLE = 5
"""Of the unpadded pixels, on either side, that `percentile` lets go black or white."""


def to_grey(radiograph: Radiograph, *, bit_depth: int = 8, scaling: Scaling = "minmax") -> NDArray[np.unsignedinteger]:
    """Grey levels from 0 (air, padding) to the largest of `bit_depth` bits, 8 or 16.

    Shapes: u8[H, W] or u16[H, W], as large as the radiograph. An image of one value, or of padding
    alone, is all 0 where the scaling asks the pixels for black and white.
    """
    pixels = radiograph.pixels
    size = 1 << 8 * pixels.itemsize
    counts = cv2.calcHist([pixels], [0], None, [size], [0, size])
    table = grey_table(radiograph, counts.ravel().astype(np.int64), bit_depth=bit_depth, scaling=scaling)
    return np.asarray(cv2.LUT(pixels, table), dtype=table.dtype)


def grey_table(
    radiograph: Radiograph, counts: NDArray[np.int64], *, bit_depth: int, scaling: Scaling
) -> NDArray[np.unsignedinteger]:
    """Grey level of every stored bit pattern.

    Shapes: counts i64[256 or 65536], how often each pattern occurs; the result u8 or u16, as long.
    """
    if bit_depth not in (8, 16):
        raise ValueError(f"bit depth {bit_depth}, expected 8 or 16")
    values = stored_values(
        np.arange(len(counts)),
        bits_allocated=8 * radiograph.pixels.itemsize,
        bits_stored=radiograph.bits_stored,
        signed=radiograph.signed,
    )
    shown = counts > 0
    if radiograph.padding is not None:
        first, last = radiograph.padding
        shown &= (values < first) | (values > last)
    table = np.zeros(len(counts), np.uint8 if bit_depth == 8 else np.uint16)
    if not shown.any():
        return table
    light = _light(values[shown], radiograph, voi=scaling != "full")
    black, white = _ends(light, counts[shown], radiograph, scaling)
    if white > black:
        scaled = (np.clip(light, black, white) - black) / (white - black)
        table[shown] = np.rint(scaled * ((1 << bit_depth) - 1))
    return table


def _light(values: NDArray[np.int64], radiograph: Radiograph, *, voi: bool) -> NDArray[np.floating]:
    """Modality, VOI and inversion: f64, larger is brighter."""
    # Lossy codecs overshoot, 1024 in an image of 10 bits, and no table goes further than the bits.
    low, high = _stored_range(radiograph)
    values = np.clip(values, low, high)
    if isinstance(radiograph.modality, LookupTable):
        light = _look_up(values, radiograph.modality)
    else:
        slope, intercept = radiograph.modality
        light = values.astype(np.float64) * slope + intercept
    shown = radiograph.voi if voi else None
    if isinstance(shown, LookupTable):
        light = _look_up(np.floor(light), shown)
    elif shown is not None:
        light = apply_window(light, shown)
    return -light if radiograph.inverted else light


def _ends(
    light: NDArray[np.floating], counts: NDArray[np.int64], radiograph: Radiograph, scaling: Scaling
) -> tuple[float, float]:
    """The light that becomes black and the light that becomes white."""
    if scaling == "percentile":
        order = np.argsort(light, kind="stable")
        rank = np.cumsum(counts[order])
        tail = -(-int(rank[-1]) * TAIL_PER_MILLE // 1000)
        low, high = np.searchsorted(rank, [tail, int(rank[-1]) - tail + 1])
        return float(light[order[low]]), float(light[order[high]])
    if scaling == "window" and isinstance(radiograph.voi, Window):
        return (-1.0, 0.0) if radiograph.inverted else (0.0, 1.0)
    if scaling == "window" and isinstance(radiograph.voi, LookupTable):
        # Of the entries, not of the bits that the descriptor claims for them: writers get these wrong.
        light = radiograph.voi.entries.astype(np.float64) * (-1 if radiograph.inverted else 1)
    elif scaling == "full":
        low, high = _stored_range(radiograph)
        light = _light(np.arange(low, high + 1), radiograph, voi=False)
    return float(light.min()), float(light.max())


def _stored_range(radiograph: Radiograph) -> tuple[int, int]:
    """Least and most that the stored bits can hold."""
    low = -(1 << radiograph.bits_stored - 1) if radiograph.signed else 0
    return low, low + (1 << radiograph.bits_stored) - 1


def _look_up(values: NDArray[np.int64] | NDArray[np.float64], table: LookupTable) -> NDArray[np.float64]:
    index = np.clip(values - table.first, 0, len(table.entries) - 1).astype(np.int64)
    return table.entries[index].astype(np.float64)


def apply_window(values: NDArray[np.floating], window: Window) -> NDArray[np.floating]:
    """Values through a window, from 0 to 1.

    Source: PS3.3 C.11.2.1.2.1 (LINEAR) and C.11.2.1.3 (SIGMOID, LINEAR_EXACT).
    """
    center, width = window.center, window.width
    with np.errstate(over="ignore"):  # far from a narrow window quotient and power are infinite, the result 0 or 1
        if window.function == "SIGMOID":
            return 1 / (1 + np.exp(-4 * (values - center) / width))
        if window.function == "LINEAR":
            center, width = center - 0.5, width - 1
        if width == 0:
            return (values > center).astype(np.float64)
        return np.clip((values - center) / width + 0.5, 0, 1)
