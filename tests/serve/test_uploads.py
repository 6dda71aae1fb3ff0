"""Uploads are sniffed, kept as they came, and decoded where they cannot hurt."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from siimdet.core.types import ImageSize
from siimdet.errors import ImageError
from siimdet.imaging.png import read_grey
from siimdet.serve.uploads import DecodeLimits, kind_of, receive


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (bytes(128) + b"DICM", "dicom"),
        (b"\x89PNG\r\n\x1a\n" + bytes(10), "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"GIF89a", None),
        (b"\x80\x04\x95", None),
        (b"<svg onload=alert(1)>", None),
        (b"", None),
    ],
)
def test_content_tells_what_a_file_is(head, kind):
    assert kind_of(head) == kind


def test_a_copy_of_eight_bits_stays_as_it_is_and_so_do_the_bytes(png, tmp_path):
    upload = receive(tmp_path, png(3), "png")
    assert upload.size == ImageSize(48, 48)
    assert upload.path.read_bytes() == png(3)
    assert np.array_equal(read_grey(upload.image), np.asarray(Image.open(io.BytesIO(png(3)))))
    assert upload.digest.startswith(upload.image_id)
    assert len(upload.image_id) == 16


def test_the_same_bytes_have_the_same_id(png, tmp_path):
    ids = [receive(tmp_path, png(seed), "png").image_id for seed in (1, 1, 2)]
    assert ids[0] == ids[1] != ids[2]


def test_a_process_that_takes_too_much_memory_is_refused_alone(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (6000, 6000), np.uint8)).save(stream, "jpeg", quality=30)
    with pytest.raises(ImageError, match=r"expected an image that can be decoded within the limits"):
        receive(tmp_path, stream.getvalue(), "jpeg", DecodeLimits(memory_bytes=1 << 27))
    assert receive(tmp_path, stream.getvalue(), "jpeg").size == ImageSize(6000, 6000)


def test_a_process_that_takes_too_long_is_ended(png, tmp_path):
    started = time.monotonic()
    with pytest.raises(ImageError, match="memory or time"):
        receive(tmp_path, png(side=2000), "png", DecodeLimits(seconds=0))
    assert time.monotonic() - started < 5


def test_the_reason_names_the_field_and_not_our_file(png, tmp_path):
    with pytest.raises(ImageError) as error:
        receive(tmp_path, png()[:-20], "png")
    assert error.value.reason == "file: found a PNG that is cut off, expected a whole PNG or JPEG image"
    assert str(tmp_path) not in str(error.value)
