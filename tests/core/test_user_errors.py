"""Every error for users is one line and survives the way back from a worker process."""

import pickle
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from siimdet import errors
from siimdet.errors import ConfigError, MissingExtra, UserError

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, UserError) and kind is not MissingExtra
]


def parts(error: UserError) -> tuple:
    return type(error), str(error), error.file, error.field, error.found, error.expected, error.reason


def test_the_line_names_file_field_found_and_expected():
    error = ConfigError(Path("a/b.yaml"), "lr", found=-1, expected="a number above 0")
    assert str(error) == "a/b.yaml: lr: found -1, expected a number above 0"
    assert error.reason == "lr: found -1, expected a number above 0"
    assert str(ConfigError("f", "x", found="", expected="y")) == "f: x: found nothing, expected y"


@given(kind=st.sampled_from(KINDS), file=st.text(), field=st.text(), found=st.text(), expected=st.text())
def test_every_kind_is_one_line_and_pickles(kind, file, field, found, expected):
    error = kind(file, field, found=found, expected=expected)
    assert len(str(error).splitlines()) == 1
    assert parts(pickle.loads(pickle.dumps(error))) == parts(error)


def test_a_missing_extra_says_how_to_install_it_and_pickles():
    error = MissingExtra("ultralytics", "yolo")
    assert (
        str(error) == "ultralytics: import: found not installed, expected the extra `yolo`: pip install 'siimdet[yolo]'"
    )
    assert parts(pickle.loads(pickle.dumps(error))) == parts(error)
