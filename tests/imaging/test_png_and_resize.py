import struct
import zlib

import cv2
import numpy as np
import pytest

from siimdet.errors import ImageError
from siimdet.imaging.png import read_grey, write_png
from siimdet.imaging.resize import shrink


def noise(shape, dtype=np.uint8):
    return np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_keeps_every_pixel(tmp_path, dtype):
    image = noise((31, 17), dtype)
    write_png(tmp_path / "a.png", image)
    back = read_grey(tmp_path / "a.png")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, image)


@pytest.mark.parametrize("image", [noise((4, 4, 3)), noise((4, 4)).astype(np.float32), np.zeros((0, 4), np.uint8)])
def test_png_of_grey_pixels_only(tmp_path, image):
    with pytest.raises(ValueError, match="expected u8 or u16"):
        write_png(tmp_path / "a.png", image)


@pytest.mark.parametrize(("name", "channels"), [("a.png", 3), ("a.png", 4), ("a.jpg", 3)])
def test_colour_becomes_grey(tmp_path, name, channels):
    image = np.full((16, 16, channels), 255, np.uint8)
    image[..., :3] = (0, 0, 200)  # BGR: red, of luma .299
    cv2.imwrite(str(tmp_path / name), image)
    assert np.abs(read_grey(tmp_path / name).astype(int) - 60).max() <= 1


def test_exif_orientation_is_ignored(tmp_path):
    _, plain = cv2.imencode(".jpg", noise((8, 16)))
    tiff = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    exif = b"Exif\0\0" + tiff
    code = plain.tobytes()
    (tmp_path / "a.jpg").write_bytes(code[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(exif)) + exif + code[2:])
    assert read_grey(tmp_path / "a.jpg").shape == (8, 16)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, data):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "found 0 bytes"),
        (b"GIF89a..", "found a file that starts with b'GIF89a..'"),
        (png(60_000, 60_000, b""), "found 60000 rows of 60000 pixels, expected 1 to 150000000"),
        (png(100_000, 1, b""), "expected 1 to 150000000 pixels, 65535 a side"),
        (png(0, 5, b""), "found 5 rows of 0 pixels"),
        (png(4, 4, b"")[:-3], "cut off"),
        (png(4, 4, b"").replace(b"IDAT", b"IDAX"), "wrong checksum"),
        (png(4, 4, zlib.compress(bytes(20))[:9]), "cannot be decoded"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IEND", b""), "without a header"),
        (b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0\xff\xd9", "found 65535 rows of 65535 pixels"),
    ],
)
def test_files_that_are_refused(tmp_path, data, message):
    path = tmp_path / "a.img"
    path.write_bytes(data)
    with pytest.raises(ImageError) as error:
        read_grey(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(ImageError, match="No such file"):
        read_grey(tmp_path / "none.png")


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_every_cut_is_noticed(tmp_path, extension):
    _, code = cv2.imencode(extension, noise((24, 24)))
    for length in range(0, len(code), 7):
        (tmp_path / "a").write_bytes(code.tobytes()[:length])
        with pytest.raises(ImageError):
            read_grey(tmp_path / "a")


def test_shrink_takes_the_mean_of_an_area():
    image = np.array([[0, 10, 100, 100], [20, 10, 100, 100]], np.uint16)
    assert shrink(image, 2).tolist() == [[10, 100]]
    assert shrink(image, 4) is image
    assert shrink(image, 9) is image


@pytest.mark.parametrize(("shape", "side", "expected"), [((300, 201), 100, (100, 67)), ((3, 900), 100, (1, 100))])
def test_shrink_keeps_the_proportions(shape, side, expected):
    assert shrink(np.zeros(shape, np.uint8), side).shape == expected


def test_shrink_to_nothing():
    with pytest.raises(ValueError, match="at least 1"):
        shrink(np.zeros((2, 2), np.uint8), 0)
