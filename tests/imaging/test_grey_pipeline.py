"""The one table against the DICOM pipeline computed per pixel in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siimdet.imaging.grayscale import to_grey
from siimdet.imaging.radiograph import HeaderIds, LookupTable, Radiograph, Window, stored_values

IDS = HeaderIds("p", "1.2", "1.2.3", "1.2.3.4")


def radiograph(pixels, **changes) -> Radiograph:
    pixels = np.asarray(pixels)
    values = {
        "pixels": pixels.view(f"u{pixels.itemsize}"),
        "bits_stored": 8 * pixels.itemsize,
        "signed": pixels.dtype.kind == "i",
        "photometric": "MONOCHROME2",
        "inverted": False,
        "modality": (1.0, 0.0),
        "voi": None,
        "padding": None,
    }
    return Radiograph(ids=IDS, **{**values, **changes})


def reference(image: Radiograph, bit_depth: int, scaling: str = "minmax") -> np.ndarray:
    """PS3.3 C.11 word by word on f64[H, W], without any table."""
    stored = image.pixels.view(f"i{image.pixels.itemsize}") if image.signed else image.pixels
    padded = np.zeros(stored.shape, bool)
    if image.padding:
        padded = (stored >= image.padding[0]) & (stored <= image.padding[1])
    x = reference_modality(stored.astype(np.float64), image)
    if scaling != "full" and isinstance(image.voi, LookupTable):
        x = reference_table(x, image.voi)
    elif scaling != "full" and image.voi:
        x = reference_window(x, image.voi)
    sign = -1.0 if image.inverted else 1.0
    grey, x = np.zeros(stored.shape), x * sign
    if (~padded).any():
        low, high = reference_ends(image, x[~padded], scaling, sign)
        if high > low:
            scaled = (np.minimum(np.maximum(x[~padded], low), high) - low) / (high - low)
            grey[~padded] = np.rint(scaled * (2**bit_depth - 1))
    return grey.astype(np.uint8 if bit_depth == 8 else np.uint16)


def reference_modality(x, image):
    if isinstance(image.modality, LookupTable):
        return reference_table(x, image.modality)
    return x * image.modality[0] + image.modality[1]


def reference_ends(image, shown, scaling, sign):
    """Black and white, from the pixels themselves rather than from counts of them."""
    if scaling == "percentile":
        ordered = sorted(shown.tolist())
        tail = -(-len(ordered) * 5 // 1000)
        return ordered[tail - 1], ordered[len(ordered) - tail]
    if scaling == "window" and image.voi:
        whole = image.voi.entries * sign if isinstance(image.voi, LookupTable) else np.array([0.0, 1.0]) * sign
        return whole.min(), whole.max()
    if scaling == "full":
        low = -(2 ** (image.bits_stored - 1)) if image.signed else 0
        whole = reference_modality(np.arange(low, low + 2**image.bits_stored, dtype=np.float64), image) * sign
        return whole.min(), whole.max()
    return shown.min(), shown.max()


def reference_table(x, table):
    last = table.first + len(table.entries) - 1
    return (
        np.array([table.entries[int(np.floor(min(max(v, table.first), last))) - table.first] for v in x.flat])
        .reshape(x.shape)
        .astype(np.float64)
    )


def reference_window(x, window):
    c, w = window.center, window.width
    if window.function == "SIGMOID":
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-4 * (x - c) / w))
    out = np.empty_like(x)
    for i, v in enumerate(x.flat):
        if window.function == "LINEAR":
            if v <= c - 0.5 - (w - 1) / 2:
                y = 0.0
            elif v > c - 0.5 + (w - 1) / 2:
                y = 1.0
            else:
                y = (v - (c - 0.5)) / (w - 1) + 0.5
        elif v <= c - w / 2:
            y = 0.0
        else:
            y = 1.0 if v > c + w / 2 else (v - c) / w + 0.5
        out.flat[i] = y
    return out


@st.composite
def radiographs(draw):
    dtype = np.dtype(draw(st.sampled_from(["u1", "i1", "u2", "i2"])))
    bits = draw(st.integers(2, 8 * dtype.itemsize))
    low = -(1 << bits - 1) if dtype.kind == "i" else 0
    value = st.integers(low, low + (1 << bits) - 1)
    pixels = np.array(draw(st.lists(value, min_size=1, max_size=24)), dtype)[None]
    table = st.builds(
        lambda first, entries: LookupTable(first, np.array(entries, np.uint16)),
        st.integers(-300, 300),
        st.lists(st.integers(0, 65535), min_size=1, max_size=40),
    )
    # Quarters are exact in binary, so no reordering of the arithmetic can hide in a rounding.
    quarter = st.integers(-40, 40).filter(bool).map(lambda n: n / 4)
    rescale = st.tuples(quarter, st.integers(-2000, 2000).map(float))
    window = st.builds(
        Window,
        st.integers(-5000, 70000).map(lambda n: n / 2),
        st.integers(2, 9000).map(lambda n: n / 2),
        st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    )
    return radiograph(
        pixels,
        bits_stored=bits,
        inverted=draw(st.booleans()),
        modality=draw(table | rescale),
        voi=draw(st.none() | table | window),
        padding=draw(st.none() | st.tuples(value, value).map(lambda ends: (min(ends), max(ends)))),
    )


@settings(max_examples=400)
@given(radiographs(), st.sampled_from([8, 16]), st.sampled_from(["minmax", "percentile", "window", "full"]))
def test_table_equals_the_pipeline_per_pixel(image, bit_depth, scaling):
    grey = to_grey(image, bit_depth=bit_depth, scaling=scaling)
    expected = reference(image, bit_depth, scaling)
    assert grey.dtype == expected.dtype
    np.testing.assert_array_equal(grey, expected)


@pytest.mark.parametrize("scaling", ["minmax", "percentile", "window", "full"])
@pytest.mark.parametrize("bit_depth", [8, 16])
def test_whole_range_of_16_bits(bit_depth, scaling):
    pixels = np.random.default_rng(0).permutation(65536).astype(np.uint16).reshape(256, 256)
    image = radiograph(pixels, modality=(-0.3, 7.1), voi=Window(-9000.3, 12000.7, "SIGMOID"))
    grey = to_grey(image, bit_depth=bit_depth, scaling=scaling)
    np.testing.assert_array_equal(grey, reference(image, bit_depth, scaling))


def test_known_scalings():
    # A thousand pixels of 10 bits: one at 0, one at 1000, the rest at 100 and 600; the window shows 0 to 400.
    pixels = np.array([[0, *[100] * 499, *[600] * 499, 1000]], np.uint16)
    image = radiograph(pixels, bits_stored=10, voi=Window(200, 400, "LINEAR_EXACT"))
    levels = {name: to_grey(image, scaling=name)[0, [0, 1, -2, -1]].tolist() for name in ("minmax", "window", "full")}
    assert levels == {"minmax": [0, 64, 255, 255], "window": [0, 64, 255, 255], "full": [0, 25, 150, 249]}
    plain = radiograph(pixels, bits_stored=10)
    assert to_grey(plain, scaling="percentile")[0, [0, 1, -2, -1]].tolist() == [0, 0, 255, 255]
    assert to_grey(plain, scaling="window")[0, [0, 1, -2, -1]].tolist() == [0, 26, 153, 255]


def test_a_window_keeps_its_ends_where_no_pixel_reaches_them():
    pixels = np.array([[100, 300]], np.uint16)
    assert to_grey(radiograph(pixels, voi=Window(200, 400, "LINEAR_EXACT")), scaling="window").tolist() == [[64, 191]]
    inverted = radiograph(pixels, voi=Window(200, 400, "LINEAR_EXACT"), inverted=True)
    assert to_grey(inverted, scaling="window").tolist() == [[191, 64]]


def test_known_window():
    # Window 10 ± 4 in the LINEAR form: 0 at 7.5 and below, 1 at 11.5 + and above.
    grey = to_grey(radiograph(np.array([[0, 7, 8, 9, 10, 11, 12, 99]], np.uint8), voi=Window(10, 5)))
    assert grey.tolist() == [[0, 0, 32, 96, 159, 223, 255, 255]]


def test_low_is_bright_when_inverted():
    assert to_grey(radiograph(np.array([[0, 51, 255]], np.uint8), inverted=True)).tolist() == [[255, 204, 0]]


def test_padding_is_black_and_out_of_the_scaling():
    pixels = np.array([[-32768, 100, 200, 300]], np.int16)
    grey = to_grey(radiograph(pixels, bits_stored=12, padding=(-32768, -32768)))
    assert grey.tolist() == [[0, 0, 128, 255]]
    assert to_grey(radiograph(pixels, bits_stored=12, padding=(-32768, -32768), inverted=True)).tolist() == [
        [0, 255, 128, 0]
    ]


@pytest.mark.parametrize("padding", [None, (7, 7)])
def test_constant_image_is_black(padding):
    assert not to_grey(radiograph(np.full((3, 2), 7, np.uint16), padding=padding)).any()


def test_value_one_past_the_bits_is_clipped():
    grey = to_grey(radiograph(np.array([[0, 1023, 1024]], np.uint16), bits_stored=10))
    assert grey.tolist() == [[0, 255, 255]]


def test_signed_numbers_with_and_without_extension_of_the_sign():
    patterns = np.array([0x0FFF, 0xFFFF, 0x0800, 0xF800, 0x07FF, 0x8000, 0x0801])
    values = stored_values(patterns, bits_allocated=16, bits_stored=12, signed=True)
    assert values.tolist() == [-1, -1, -2048, -2048, 2047, -32768, -2047]


@pytest.mark.parametrize(("function", "width"), [("LINEAR", 0), ("LINEAR", 0.9), ("SIGMOID", 0), ("LINEAR_EXACT", -1)])
def test_window_without_width(function, width):
    with pytest.raises(ValueError, match="window of width"):
        Window(10, width, function)


def test_unknown_bit_depth():
    with pytest.raises(ValueError, match="expected 8 or 16"):
        to_grey(radiograph(np.zeros((1, 1), np.uint8)), bit_depth=12)
