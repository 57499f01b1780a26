"""Rows of tables as text, JSON lines and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from lakeflow.cli.rows import CELL_WIDTH, Head, RowFormat, csv_text, row_text, shortened, unlike, write_rows


def batches(*sizes: int) -> list[pa.RecordBatch]:
    return [pa.RecordBatch.from_pydict({"n": pa.array(range(size))}) for size in sizes]


def written(table: pa.Table, form: RowFormat, capsys: pytest.CaptureFixture[str]) -> str:
    write_rows(table.to_batches(), table.column_names, form, lambda rows: None)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("sizes", "most", "taken", "cut"),
    [
        ((3, 3), None, [3, 3], False),
        ((3, 3), 6, [3, 3], False),
        ((3, 3), 5, [3, 2], True),
        ((3, 3), 3, [3], True),
        ((3, 0), 3, [3, 0], False),
        ((), 3, [], False),
    ],
)
def test_head_takes_so_many_rows_and_knows_whether_there_were_more(
    sizes: tuple[int, ...], most: int | None, taken: list[int], cut: bool
) -> None:
    head = Head(batches(*sizes), most)
    assert [batch.num_rows for batch in head] == taken
    assert head.cut is cut


def test_head_reads_no_further_than_it_needs() -> None:
    read: list[int] = []

    def coming() -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(batches(2, 2, 2, 2)):
            read.append(number)
            yield batch

    assert sum(batch.num_rows for batch in Head(coming(), 3)) == 3
    assert read == [0, 1]


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    table = pa.table({"a": [1, None], "when": pa.array([datetime(2013, 1, 1, tzinfo=UTC), None])})
    lines = written(table, RowFormat.JSON, capsys).splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1, "when": "2013-01-01T00:00:00Z"}, {"a": None, "when": None}]


def test_two_columns_of_one_name_both_stand_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    assert json.loads(written(table, RowFormat.JSON, capsys)) == {"x": 1, "x_1": 2}
    assert unlike(["x", "x_1", "x"]) == ["x", "x_1", "x_2"]


def test_csv_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    table = pa.table({"text": ['a,"b"\nc', None], "nested": [[1, 2], None], "flag": [True, False]})
    rows = list(csv.reader(io.StringIO(written(table, RowFormat.CSV, capsys))))
    assert rows == [["text", "nested", "flag"], ['a,"b"\nc', "[1,2]", "true"], ["", "", "false"]]


def test_text_is_aligned_and_shortened(capsys: pytest.CaptureFixture[str]) -> None:
    lines = written(pa.table({"year": [2013], "text": ["word " * 100]}), RowFormat.TEXT, capsys).splitlines()
    assert lines[0] == "year  text"
    assert lines[1].startswith("2013  word word")
    assert lines[1].endswith("…")
    assert len(lines[1]) <= 6 + CELL_WIDTH


@pytest.mark.parametrize(
    ("value", "for_people", "for_programs"),
    [
        (None, "NULL", ""),
        (2013, "2013", "2013"),
        (0.1 + 0.2, "0.3", "0.30000000000000004"),
        (b"plain", "plain", "cGxhaW4="),
        (b"\xff\x00", "0xff00", "/wA="),
        (date(2013, 1, 2), "2013-01-02", "2013-01-02"),
        (Decimal("1.50"), "1.50", "1.50"),
        ({"a": [1]}, '{"a":[1]}', '{"a":[1]}'),
        (True, "true", "true"),
    ],
)
def test_values(value: object, for_people: str, for_programs: str) -> None:
    assert row_text(value) == for_people
    assert csv_text(value) == for_programs


@pytest.mark.parametrize("text", ["", "short", "x" * 79, "x" * 80, "x" * 81, "a b " * 50, "\n" * 300])
def test_shortened_texts_are_one_line_of_the_width_at_most(text: str) -> None:
    short = shortened(text)
    assert len(short) <= CELL_WIDTH
    assert "\n" not in short
    assert short == text or short.endswith("…") or " ".join(text.split()) == short
