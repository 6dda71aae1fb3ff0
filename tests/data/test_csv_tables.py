"""Label tables and manifests are read strictly: every complaint has file, line, field, found, expected."""

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siimdet.data.table import read_table, write_table
from siimdet.errors import SourceError


def read(path: Path, content: bytes, *columns: str):
    path.write_bytes(content)
    return read_table(path, columns, kind=SourceError)


def test_cells_come_with_the_line_their_row_began_on(tmp_path):
    table = read(tmp_path / "t.csv", b'id,note\na,"two\nlines"\n\nb,\n', "id")
    assert list(table.select("note", "id")) == [(2, ("two\nlines", "a")), (5, ("", "b"))]
    assert list(table.select("id")) == [(2, "a"), (5, "b")]


def test_a_byte_order_mark_and_crlf_are_tolerated(tmp_path):
    table = read(tmp_path / "t.csv", b"\xef\xbb\xbfid,x\r\na,1\r\n", "id", "x")
    assert table.header == ("id", "x")
    assert table.rows == (["a", "1"],)


def test_surplus_commas_of_nih_are_tolerated(tmp_path):
    assert read(tmp_path / "t.csv", b"id,Bbox [x,y],,,\na,1,2\nb,3,4,,\n", "y]").rows == (
        ["a", "1", "2"],
        ["b", "3", "4"],
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"id\na\n", "t.csv: header: found columns id, expected a column 'x'"),
        (b"", "t.csv: header: found an empty file, expected a column 'id'"),
        (b"id,x,id\n", "t.csv: header: found column 'id' twice, expected every column once"),
        (b"id,x\na,1\nb\n", "t.csv:3: row: found 1 cells, expected 2: id, x"),
        (b"id,x\na,1,2\n", "t.csv:2: row: found 3 cells, expected 2: id, x"),
        (b'id,x\na,"1\nb,2\n', "t.csv:2: row: found unexpected end of data, expected well-formed CSV"),
        (b"{" * 50_000, f"t.csv: header: found columns {'{' * 192}..., expected a column 'id'"),
        (
            b"id," * 2 + b"x" * 50_000,
            "t.csv: header: found columns id, id, " + "x" * 184 + "..., expected a column 'x'",
        ),
        (b"id,x," + b"y" * 50_000 + b"\na\n", f"t.csv:2: row: found 1 cells, expected 3: id, x, {'y' * 190}..."),
        (b"id,x\n\xff,1\n", "t.csv: encoding: found byte 0xff, expected UTF-8 text"),
    ],
)
def test_a_broken_table_is_one_clear_line(tmp_path, content, line):
    with pytest.raises(SourceError) as caught:
        read(tmp_path / "t.csv", content, "id", "x")
    assert str(caught.value) == f"{tmp_path}/{line}"


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"t\.csv: file: found nothing there"):
        read_table(tmp_path / "t.csv", (), kind=SourceError)
    with pytest.raises(SourceError, match="a readable CSV file"):
        read_table(tmp_path, (), kind=SourceError)


@pytest.mark.parametrize("cell", ["", "1_000", "0x10", "one", "1,5"])
def test_what_is_no_number_is_refused(tmp_path, cell):
    table = read(tmp_path / "t.csv", b"x\n1\n", "x")
    with pytest.raises(SourceError, match=r"t\.csv:2: x: found .*, expected a number"):
        table.number(2, "x", cell)


CELLS = st.text(string.printable, max_size=12)


@given(rows=st.lists(st.tuples(st.text(string.ascii_letters, min_size=1), CELLS, CELLS), max_size=6))
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "t.csv"
    write_table(path, ("a", "b", "c"), rows)
    assert [tuple(row) for row in read_table(path, ("a",), kind=SourceError).rows] == rows
