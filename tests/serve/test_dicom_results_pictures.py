"""The picture of an image: the pipeline's own grey levels, boxes where they belong, and what it is in words."""

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siimdet.core.types import ImageSize
from siimdet.imaging.dicom_write import write_radiograph
from siimdet.imaging.grayscale import to_grey
from siimdet.serve.burned_in import LONGER_SIDE, burn_in
from siimdet.serve.dicom_identity import ModelIdentity, Origin
from siimdet.serve.dicom_results import study_objects
from siimdet.serve.dicom_source import read_source
from siimdet.serve.results import FoundBox, ImageResult

ORIGIN = Origin(ModelIdentity("model", "1", ""), 0.5, datetime(2026, 1, 2, 3, 4, 5))
COLOUR = [255, 191, 0]
LINES = ["NOT FOR DIAGNOSIS: model 1"]


def box(x1, y1, x2, y2):
    return FoundBox(x1, y1, x2, y2, 0.9, "a")


def coloured(picture):
    return (picture == COLOUR).all(2)


def test_a_box_lies_on_its_pixels_below_the_strip():
    picture = burn_in(np.zeros((400, 600), np.uint8), [box(100, 150, 300, 250)], LINES)
    strip = len(picture) - 400
    inside = coloured(picture)[strip:]
    rows, columns = np.nonzero(inside[:, 200:])  # left of that stands the score
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (150, 249, 0, 99)
    assert np.nonzero(inside)[1].min() == 100
    assert inside[150, 100:300].all() and inside[249, 100:300].all()
    assert inside[150:250, 100].all() and inside[150:250, 299].all()
    assert not inside[160:240, 110:290].any()
    assert coloured(picture)[:strip].any()


def test_pixels_outside_boxes_and_text_stay():
    grey = np.arange(256, dtype=np.uint8).repeat(4)[None].repeat(300, 0)
    picture = burn_in(grey, [], LINES)
    assert picture.shape[1:] == (1024, 3)
    assert (picture[-300:] == grey[..., None]).all()


def test_a_large_image_shrinks_with_its_boxes():
    picture = burn_in(np.zeros((6000, 3000), np.uint8), [box(0, 3000, 3000, 6000)], LINES)
    assert len(picture) == LONGER_SIDE
    strip = LONGER_SIDE - round(picture.shape[1] * 2)
    rows, columns = np.nonzero(coloured(picture)[strip:, 500:])  # left of that stands the score
    assert abs(rows.min() - (LONGER_SIDE - strip) / 2) <= 1
    assert columns.max() + 500 == picture.shape[1] - 1


@settings(max_examples=30)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    shares=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_every_size_has_room_for_the_words(width, height, shares):
    (x1, x2), (y1, y2) = sorted(shares[:2]), sorted(shares[2:])
    found = [box(x1 * width, y1 * height, x2 * width, y2 * height)]
    picture = burn_in(np.zeros((height, width), np.uint8), found, LINES)
    alone = burn_in(np.zeros((height, width), np.uint8), [], LINES)
    assert picture.shape == alone.shape
    strip = len(picture) - height
    # The words end before the picture does: its last column is black there.
    assert coloured(alone)[:strip].any() and not alone[:strip, -1].any()


@pytest.fixture
def source(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4096, (300, 500)).astype(np.uint16)
    ids = {"patient_id": "P7", "study_uid": "1.2.3", "series_uid": "1.2.3.4", "sop_uid": "1.2.3.4.5"}
    path = tmp_path / "image.dcm"
    write_radiograph(path, pixels, bits_stored=12, photometric="MONOCHROME1", window=(1000, 500), **ids)
    return read_source(path)


def test_capture_is_what_the_pipeline_renders(source):
    result = ImageResult("image", ImageSize(500, 300), (box(10, 20, 30, 40),))
    (made,) = study_objects([source], [result], None, ORIGIN).captures
    grey = to_grey(source.radiograph)
    shown = made.pixel_array[-300:]
    assert (shown[100:] == grey[100:, :, None]).all()
    assert (made.Rows, made.Columns) == made.pixel_array.shape[:2]
    assert (made.BurnedInAnnotation, made.PhotometricInterpretation, made.BitsAllocated) == ("YES", "RGB", 8)
    assert made.ImageComments == "Not for diagnosis. Boxes with a score from 0.5"
    assert made.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.5"
    assert (made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture) == ("20260102", "030405")
    assert "PixelSpacing" not in made


def test_the_words_name_class_and_count(source):
    study = {"negative": 0.125, "typical": 0.5, "indeterminate": 0.25, "atypical": 0.125}
    result = ImageResult("image", ImageSize(500, 300), (box(10, 20, 30, 40),))
    with_class = study_objects([source], [result], study, ORIGIN).captures[0].pixel_array
    words = [
        "NOT FOR DIAGNOSIS: model 1",
        "study: typical 0.50, indeterminate 0.25, negative 0.12, atypical 0.12",
        "1 opacity with a score from 0.5",
    ]
    assert (with_class == burn_in(to_grey(source.radiograph), result.boxes, words)).all()


def test_what_was_lossy_stays_lossy(tmp_path):
    path = tmp_path / "image.dcm"
    ids = {"patient_id": "P7", "study_uid": "1.2.3", "series_uid": "1.2.3.4", "sop_uid": "1.2.3.4.5"}
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80)).astype(np.uint8)
    write_radiograph(path, pixels, bits_stored=8, syntax="jpeg", **ids)
    source = read_source(path)
    (made,) = study_objects([source], [ImageResult("image", ImageSize(80, 60), ())], None, ORIGIN).captures
    assert (made.LossyImageCompression, made.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
