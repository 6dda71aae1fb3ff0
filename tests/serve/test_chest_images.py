"""Which images of a study are looked at."""

import pytest

from siimdet.errors import ImageError
from siimdet.serve.archive import Instance
from siimdet.serve.chest_images import frontal_chest

CR, DX, RAW = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1.1"
CAPTURE, REPORT = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.34"


def image(uid, sop_class=CR, modality="CR", part="CHEST", view="PA"):
    return Instance("1.2", uid, sop_class, modality, part, view)


@pytest.mark.parametrize(
    ("instances", "taken"),
    [
        ([image("1.2"), image("1.1", DX, "DX", view="AP")], ["1.1", "1.2"]),
        ([image("1.1", part="", view="")], ["1.1"]),
        ([image("1.1", part="Thorax"), image("1.2", part="hand"), image("1.3", part="RIBCAGE")], ["1.1", "1.3"]),
        ([image("1.1", view="LL"), image("1.2", view="lateral"), image("1.3", view="LLD")], ["1.3"]),
        ([image("1.1", RAW, "DX"), image("1.2", DX, "DX")], ["1.2"]),
        ([image("1.1", RAW, "DX")], ["1.1"]),
        ([image("1.1", CAPTURE, "DX"), image("1.2", CAPTURE, "OT"), image("1.3", REPORT, "SR")], ["1.1"]),
    ],
)
def test_frontal_chest_radiographs_are_taken(instances, taken):
    assert [each.sop_uid for each in frontal_chest(instances)] == taken


@pytest.mark.parametrize(
    ("instances", "reason"),
    [
        ([], "image: found none of CR or DX, expected a radiograph"),
        ([image("1.1", CAPTURE, "OT")], "image: found none of CR or DX, expected a radiograph"),
        ([image("1.1", REPORT, "CR")], "image: found none of CR or DX, expected a radiograph"),
        (
            [image("1.1", part="HAND"), image("1.2", part="FOOT")],
            "BodyPartExamined: found FOOT, HAND, expected CHEST, or none told",
        ),
        ([image("1.1", view="RL")], "ViewPosition: found RL, expected PA or AP, or none told"),
    ],
)
def test_a_study_without_one_is_refused_by_what_it_has(instances, reason):
    with pytest.raises(ImageError) as refused:
        frontal_chest(instances)
    assert refused.value.reason == reason
