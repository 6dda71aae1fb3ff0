"""submission.csv: every refusal names file, line, found and expected; what is written reads back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siimdet.core.types import ImageSize
from siimdet.errors import SubmissionError
from siimdet.submission.file import read_submission, write_submission
from siimdet.submission.table import CLASSES, Submission, check_ids, check_inside

STUDY = "s_study,negative 0.5 0 0 1 1 typical 0.25 0 0 1 1"
IMAGE = "i_image,none 0.125 0 0 1 1 opacity 0.75 10 20 30.5 40"
TEXT = f"id,PredictionString\n{STUDY}\n{IMAGE}\n"


@pytest.fixture
def read(tmp_path):
    def read_text(text, encoding="utf-8"):
        path = tmp_path / "submission.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return read_submission(path)

    return read_text


def check_values(submission):
    assert submission.ids == ("s_study", "i_image")
    assert submission.rows.tolist() == [0, 0, 1, 1]
    assert [CLASSES.names[k] for k in submission.class_ids] == ["negative", "typical", "none", "opacity"]
    assert submission.scores.tolist() == [0.5, 0.25, 0.125, 0.75]
    assert submission.xyxy[3].tolist() == [10, 20, 30.5, 40]
    assert submission.studies == 1


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT, id="plain"),
        pytest.param(TEXT.rstrip("\n"), id="no newline at the end"),
        pytest.param(TEXT + "\n\n", id="blank lines at the end"),
        pytest.param("\ufeff" + TEXT, id="byte-order mark"),
        pytest.param(TEXT.replace("\n", "\r\n"), id="CRLF"),
        pytest.param("\ufeff" + TEXT.replace("\n", "\r\n"), id="byte-order mark and CRLF"),
        pytest.param(TEXT.replace("\n", "\r"), id="CR"),
        pytest.param(
            "\ufeff" + TEXT.replace("\n", "\r").rstrip("\r"), id="byte-order mark, CR, no end of the last line"
        ),
        pytest.param(TEXT.replace("\n", "\r\n", 1).replace("1\ni_", "1\ri_"), id="CRLF, CR and a newline"),
        pytest.param(TEXT.replace("\n", "\r") + "\r\r", id="blank lines at the end by CR"),
        pytest.param(TEXT.replace("id,PredictionString", '"id","PredictionString"'), id="a quoted header"),
        pytest.param("\ufeff" + TEXT.replace("id,", '"id",').replace("\n", "\r\n"), id="a header with one quoted cell"),
        pytest.param(TEXT.replace("\n", " \n"), id="blanks at the end of cells"),
        pytest.param(TEXT.replace("s_study,negative", '"s_study","negative').replace("1\ni_", '1"\ni_'), id="quotes"),
    ],
)
def test_reads(read, text):
    check_values(read(text))


def test_row_without_predictions(read):
    submission = read(f"id,PredictionString\ne_image,\n{IMAGE}\nf_image,\n")
    assert submission.ids == ("e_image", "i_image", "f_image")
    assert submission.rows.tolist() == [1, 1]
    assert len(read("id,PredictionString\ne_image,\n")) == 0
    assert read("id,PredictionString\n").ids == ()


@pytest.mark.parametrize(
    ("row", "place", "found", "expected"),
    [
        ("s_study,none 0.5 0 0 1 1", "line 4, 's_study'", "none", "one of negative"),
        ("j_image,typical 0.5 0 0 1 1", "line 4, 'j_image'", "typical", "none or opacity"),
        ("j_image,effusion 0.5 0 0 1 1", "line 4, 'j_image'", "'effusion'", "one of negative"),
        ("j_image,opacity nan 0 0 5 5", "line 4, 'j_image'", "nan", "confidence in [0, 1]"),
        ("j_image,opacity 1.5 0 0 5 5", "line 4, 'j_image'", "1.5", "confidence in [0, 1]"),
        ("j_image,opacity -0.1 0 0 5 5", "line 4, 'j_image'", "-0.1", "confidence in [0, 1]"),
        ("j_image,opacity x 0 0 5 5", "line 4, 'j_image'", "'x'", "a number for confidence"),
        ("j_image,opacity 0.5 0 0 5 5,9", "line 4, 'j_image'", "'5,9'", "a number for ymax"),
        ("j_image,opacity 0.5 0  5 5", "line 4, 'j_image'", "''", "a number for ymin"),
        ("j_image,opacity 0.5 0 0 5 nan", "line 4, 'j_image'", "opacity 0 0 5 nan", "xmin <= xmax"),
        ("j_image,opacity 0.5 0 0 5 inf", "line 4, 'j_image'", "opacity 0 0 5 inf", "xmin <= xmax"),
        ("j_image,opacity 0.5 6 0 5 5", "line 4, 'j_image'", "opacity 6 0 5 5", "xmin <= xmax"),
        ("j_image,opacity 0.5 -1 0 5 5", "line 4, 'j_image'", "opacity -1 0 5 5", "0 <= xmin"),
        ("j_image,none 0.5 0 0 5 5", "line 4, 'j_image'", "none 0 0 5 5", "the box 0 0 1 1"),
        ("j_image,opacity 0.5 0 0 5", "line 4, 'j_image'", "5 tokens", "class confidence xmin"),
        ("i_image,none 0.5 0 0 1 1", "line 4, 'i_image'", "a second time", "every id once"),
        ("j,none 0.5 0 0 1 1", "line 4, 'j'", "j", "_study or _image"),
        ("=cmd(),none 0.5 0 0 1 1", "line 4, '=cmd()'", "=cmd()", "_study or _image"),
        ("j_image", "line 4, 'j_image'", "one cell", "id,PredictionString"),
    ],
)
def test_refusals_name_line_found_and_expected(read, row, place, found, expected):
    text = TEXT.replace(STUDY, "t" + STUDY[1:]) + row + "\n"
    with pytest.raises(SubmissionError) as caught:
        read(text)
    error = caught.value
    assert error.file.endswith("submission.csv")
    assert error.field == place
    assert found in error.found
    assert expected in error.expected
    assert "\n" not in str(error)


def test_a_line_in_the_midst_of_many_megabytes_is_named(read):
    cell = "opacity 0.5 10 20 30 40 " * 2000
    rows = [f"i{n}_image,none 0.25 0 0 1 1 {cell}" for n in range(120)]
    text = "id,PredictionString\n" + "\n".join(rows) + "\n"
    assert len(text) > 5_000_000
    whole = read(text)
    assert len(whole) == 120 * 2001
    assert whole.rows.tolist() == np.repeat(np.arange(120), 2001).tolist()
    assert whole.scores.reshape(120, 2001)[:, :2].tolist() == [[0.25, 0.5]] * 120
    for old, new, found in (
        ("none 0.25", "none 0,25", "'0,25'"),
        ("none 0.25", "none nan", "nan"),
        ("i118_image", "i7_image", "a second time"),
        ("none 0.25 0 0 1 1 ", "none 0.25 0 0 1 ", "12005 tokens"),
        ("i118_image,", "", "one cell"),
        ("i118_image", "\ni118_image", "one cell"),
    ):
        broken = [*rows[:118], rows[118].replace(old, new), rows[119]]
        if old == "i118_image,":
            broken[118] = "i118_image"
        with pytest.raises(SubmissionError) as caught:
            read("id,PredictionString\n" + "\n".join(broken) + "\n")
        assert caught.value.field.startswith("line 120, ")
        assert found in caught.value.found


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
def test_lines_of_many_megabytes_end_by_any_convention(read, end):
    cell = "opacity 0.5 10 20 30 40 " * 2000
    rows = [f"i{n}_image,none 0.25 0 0 1 1 {cell}" for n in range(100)]
    text = end.join(["id,PredictionString", *rows, ""])
    assert len(text) > 1.1 * 4_194_304
    whole = read(text)
    assert whole.ids == tuple(f"i{n}_image" for n in range(100))
    assert whole.rows.tolist() == np.repeat(np.arange(100), 2001).tolist()
    with pytest.raises(SubmissionError, match="line 100, 'i98_image': found 5 tokens"):
        read(text.replace("i98_image,none 0.25 0 0 1 1 " + cell, "i98_image,none 0.25 0 0 1"))


def test_a_blank_line_among_the_rows_is_refused(read):
    with pytest.raises(SubmissionError, match="line 3, '': found one cell"):
        read(TEXT.replace("i_image", "\ni_image"))


@pytest.mark.parametrize(
    ("line", "found"),
    [(b"j\xff_image,\n", "can't decode byte 0xff"), (b'"j_image,\n', "unexpected end of data")],
    ids=["not UTF-8", "an open quote"],
)
def test_a_line_that_is_no_text_is_named(read, line, found):
    with pytest.raises(SubmissionError) as caught:
        read(TEXT.encode() + line)
    assert caught.value.field == "line 4"
    assert found in caught.value.found


@pytest.mark.parametrize(
    "token", [b"\xff", "\u0664".encode(), b"0x1", b"1_0"], ids=["not UTF-8", "other digits", "hexadecimal", "1_0"]
)
def test_a_token_that_is_no_number_of_the_competition_is_refused(read, token):
    with pytest.raises(SubmissionError, match=r"line 4, 'j_image': found .*, expected a number for xmax"):
        read(TEXT.encode() + b"j_image,opacity 0.5 0 0 " + token + b" 5\n")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"id,boxes\n",
        b"ID,PredictionString\n",
        b"a\n1\n",
        b"id,PredictionString,more\n",
        b"\xff\xfe\x00",
        b'"id\n',
        b'"id,PredictionString\n',
        b'"id","boxes"\n',
        b"id\rPredictionString\r",
    ],
)
def test_wrong_header_or_bytes(read, data):
    with pytest.raises(SubmissionError):
        read(data)


def test_missing_file(tmp_path):
    with pytest.raises(SubmissionError, match="no such file"):
        read_submission(tmp_path / "none.csv")


def test_a_directory_is_said_to_be_one(tmp_path):
    with pytest.raises(SubmissionError, match="file: found a directory, expected a submission CSV"):
        read_submission(tmp_path)


def test_ids_must_be_those_expected(read):
    submission = read(TEXT)
    check_ids(submission, ["i_image", "s_study"])
    check_ids(submission, ["i_image", "s_study", "more_study"], complete=False)
    with pytest.raises(SubmissionError, match="no row for 'more_study' \\(1 ids lack\\)"):
        check_ids(submission, ["i_image", "s_study", "more_study"])
    with pytest.raises(SubmissionError, match="line 3, 'i_image': found 1 unknown ids"):
        check_ids(submission, ["s_study"], complete=False)


def test_boxes_must_lie_inside_their_image(read):
    submission = read(TEXT)
    check_inside(submission, {"i": ImageSize(31, 40)})
    check_inside(submission, {})
    with pytest.raises(
        SubmissionError, match=r"line 3, 'i_image': found opacity 10 20 30.5 40.* inside its 30x40 image"
    ):
        check_inside(submission, {"i": ImageSize(30, 40)})


def test_written_bytes(read, tmp_path):
    write_submission(tmp_path / "out.csv", read(TEXT))
    assert (tmp_path / "out.csv").read_text() == TEXT
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["out.csv", "submission.csv"]


fraction = st.floats(0, 1) | st.sampled_from((0.0, 1.0, 1e-5, 5e-324, 0.1 + 0.2))
corner = st.floats(0, 1e5) | st.integers(0, 5000).map(float)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 2), fraction, corner, corner, corner, corner), max_size=20))
def test_round_trip_is_exact(tmp_path_factory, predictions):
    predictions.sort(key=lambda p: p[0])
    corners = [(min(x, u), min(y, v), max(x, u), max(y, v)) for _, _, x, y, u, v in predictions]
    path = tmp_path_factory.mktemp("round") / "submission.csv"
    made = Submission(
        "made",
        ("a_image", "b_image", "c_image"),
        np.array([p[0] for p in predictions]),
        np.full(len(predictions), CLASSES.index("opacity")),
        np.array([p[1] for p in predictions]),
        np.array(corners),
    )
    write_submission(path, made)
    read = read_submission(path)
    assert read.ids == made.ids
    for column in ("rows", "class_ids", "scores", "xyxy"):
        np.testing.assert_array_equal(getattr(read, column), getattr(made, column))
