"""From stored values to grey levels, black = air: the DICOM look-up pipeline folded into one table.

Order (PS3.4 N.2): modality table or rescale → VOI table or window → inversion, once → minimum to
maximum of the pixels that show something. A pixel's grey depends on its stored bits alone, so each
step is computed in float64 for the 256 or 65,536 possible patterns instead of for every pixel.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from siimdet.imaging.radiograph import LookupTable, Radiograph, Window, stored_values


def to_grey(radiograph: Radiograph, *, bit_depth: int = 8) -> NDArray[np.unsignedinteger]:
    """Grey levels from 0 (air, padding) to the largest of `bit_depth` bits, 8 or 16.

    Shapes: u8[H, W] or u16[H, W], as large as the radiograph. An image of one value, or of padding
    alone, is all 0.
    """
    pixels = radiograph.pixels
    size = 1 << 8 * pixels.itemsize
    counts = cv2.calcHist([pixels], [0], None, [size], [0, size])
    table = grey_table(radiograph, counts.ravel() > 0, bit_depth=bit_depth)
    return np.asarray(cv2.LUT(pixels, table), dtype=table.dtype)


def grey_table(radiograph: Radiograph, present: NDArray[np.bool_], *, bit_depth: int) -> NDArray[np.unsignedinteger]:
    """Grey level of every stored bit pattern.

    Shapes: present bool[256 or 65536], which patterns occur; the result u8 or u16, as long.
    """
    if bit_depth not in (8, 16):
        raise ValueError(f"bit depth {bit_depth}, expected 8 or 16")
    values = stored_values(
        np.arange(len(present)),
        bits_allocated=8 * radiograph.pixels.itemsize,
        bits_stored=radiograph.bits_stored,
        signed=radiograph.signed,
    )
    shown = present.copy()
    if radiograph.padding is not None:
        first, last = radiograph.padding
        shown &= (values < first) | (values > last)
    table = np.zeros(len(present), np.uint8 if bit_depth == 8 else np.uint16)
    if not shown.any():
        return table
    light = _light(values[shown], radiograph)
    low, high = light.min(), light.max()
    if high > low:
        table[shown] = np.rint((light - low) / (high - low) * ((1 << bit_depth) - 1))
    return table


def _light(values: NDArray[np.int64], radiograph: Radiograph) -> NDArray[np.floating]:
    """Modality, VOI and inversion: f64, larger is brighter."""
    # Lossy codecs overshoot, 1024 in an image of 10 bits, and no table goes further than the bits.
    low = -(1 << radiograph.bits_stored - 1) if radiograph.signed else 0
    values = np.clip(values, low, low + (1 << radiograph.bits_stored) - 1)
    if isinstance(radiograph.modality, LookupTable):
        light = _look_up(values, radiograph.modality)
    else:
        slope, intercept = radiograph.modality
        light = values.astype(np.float64) * slope + intercept
    if isinstance(radiograph.voi, LookupTable):
        light = _look_up(np.floor(light), radiograph.voi)
    elif radiograph.voi is not None:
        light = apply_window(light, radiograph.voi)
    return -light if radiograph.inverted else light


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
