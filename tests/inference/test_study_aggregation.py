"""Studies from images: known means, maxima, and the image that has the boxes."""

import numpy as np
import pytest

from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import ImageRecord, ImageSize, Probabilities
from siimdet.errors import ConfigError
from siimdet.inference.aggregate import study_probabilities

SIZE = ImageSize(10, 10)
RECORDS = [
    ImageRecord(image, study, "p", f"images/{image}.png", SIZE, SIZE, [0], "val")
    for image, study in (("a", "two"), ("b", "one"), ("c", "two"))
]
IMAGES = Probabilities(("a", "b", "c"), [[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.5, 0], [0.1, 0.5, 0.1, 0.3]], STUDY)


@pytest.mark.parametrize(
    ("rule", "two"), [("mean", [0.4, 0.3, 0.1, 0.2]), ("max", np.array([0.7, 0.5, 0.1, 0.3]) / 1.6)]
)
def test_studies_combine_their_images_and_sum_to_one(rule, two):
    studies = study_probabilities(IMAGES, RECORDS, rule)
    assert studies.keys == ("one", "two")
    assert studies.values == pytest.approx(np.array([[0.25, 0.25, 0.5, 0], two]), abs=1e-6)
    assert studies.space is STUDY


def test_no_images_and_all_zero_rows():
    assert study_probabilities(Probabilities((), [], STUDY), RECORDS, "mean").values.shape == (0, 4)
    zero = study_probabilities(Probabilities(("a",), [[0, 0, 0, 0]], STUDY), RECORDS, "mean")
    assert zero.values.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(("opacity", "rows"), [((0.2, 0.9, 0.3), [1, 2]), ((0.3, 0.9, 0.3), [1, 0])])
def test_the_image_with_the_highest_opacity_speaks_for_its_study(opacity, rows):
    told = Probabilities(IMAGES.keys, np.array(opacity)[:, None], OPACITY)
    studies = study_probabilities(IMAGES, RECORDS, "opacity", opacity=told)
    assert studies.keys == ("one", "two")
    assert studies.values == pytest.approx(IMAGES.values[rows])


def test_opacity_of_a_model_that_does_not_tell_it_is_refused():
    with pytest.raises(ConfigError, match=r"^coupling: study_from_images: found opacity, .* expected mean, max"):
        study_probabilities(IMAGES, RECORDS, "opacity")
