"""Image ids from file names: each its own, valid, and the same whatever the order of the files."""

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.names import image_ids, mended, renamings
from siimdet.core.files import check_id

# Few letters, so that names collide; blanks, dots, case, and bytes that are no text.
NAMES = st.text("aA1 .%_-é\udcdf", min_size=1, max_size=4)
PLACES = st.lists(
    st.builds(
        lambda folders, stem, suffix: "/".join([*folders, f"{stem}{suffix}"]),
        st.lists(NAMES.filter(lambda name: name not in (".", "..")), max_size=2),
        NAMES,
        st.sampled_from([".png", ".PNG", ".jpg", ".dcm", ""]),
    ).filter(lambda place: place.rsplit("/", 1)[-1].strip(".")),
    max_size=30,
    unique=True,
)
SUFFIXES = st.sampled_from([None, (".dcm", ".ima")])


@given(places=PLACES, suffixes=SUFFIXES, seed=st.integers(0, 9))
def test_ids_are_unique_valid_and_independent_of_order(places, suffixes, seed):
    ids = image_ids(places, suffixes=suffixes)
    assert ids.keys() == set(places)
    assert len({name.lower() for name in ids.values()}) == len(places)
    for name in ids.values():
        assert check_id(name, file="test", field="id") == name
        assert not name.startswith(".")
    shuffled = random.Random(seed).sample(places, len(places))
    assert image_ids(shuffled, suffixes=suffixes) == ids


@given(st.text(max_size=300))
def test_what_is_mended_stays_as_it_is(text):
    assert mended(mended(text)) == check_id(mended(text), file="test", field="id")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a-1_B.2", "a-1_B.2"),
        ("COVID(1) é%", "COVID_1____"),
        ("../../etc", "_._.._etc"),
        ("", "_"),
        (".", "_"),
        ("..", "_."),
        (".hidden", "_hidden"),
        ("x" * 200, "x" * 200),
    ],
)
def test_mended(text, expected):
    assert mended(text) == expected


def test_a_long_name_is_cut_and_keeps_apart():
    names = [mended("x" * 250 + end) for end in "ab"]
    assert [len(name) for name in names] == [200, 200]
    assert all(re.fullmatch("x{191}-[0-9a-f]{8}", name) for name in names)
    assert names[0] != names[1]


def test_the_shortest_name_that_tells_files_apart():
    assert image_ids(["a/1.png", "b/1.png", "b/2.png", "3.1.png"]) == {
        "a/1.png": "a-1",
        "b/1.png": "b-1",
        "b/2.png": "2",
        "3.1.png": "3.1",
    }
    ids = image_ids(["1.png", "1.jpg", "2.png"])
    assert ids["2.png"] == "2"
    assert re.fullmatch(r"1\.png-[0-9a-f]{8}", ids["1.png"]) and re.fullmatch(r"1\.jpg-[0-9a-f]{8}", ids["1.jpg"])


def test_a_file_that_is_called_what_another_one_would_be():
    places = ["1.png", "1.jpg"]
    for _ in range(3):
        places.append(f"{image_ids(places)['1.png']}.png")
        ids = image_ids(places)
        assert len(set(ids.values())) == len(places)


def test_suffixes_that_are_a_part_of_the_name():
    places = ["CT.dcm_LittleEndian_1.2.3.dcm", "1.2.840.5", "IM1.IMA"]
    assert list(image_ids(places, suffixes=(".dcm", ".ima")).values()) == [
        "CT.dcm_LittleEndian_1.2.3",
        "1.2.840.5",
        "IM1",
    ]


def test_only_changed_names_are_reported():
    assert renamings("a/b c.png", "b_c") == (("b_c", "image_id", "b c", "b_c"),)
    assert renamings("a/b.png", "a-b") == (("a-b", "image_id", "b", "a-b"),)
    assert renamings("a/b.png", "b") == ()
    assert renamings("a/1.2.3", "1.2.3", suffixes=(".dcm",)) == ()
