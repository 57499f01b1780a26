"""The last row of each key: whatever the chunks, with nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.errors import SchemaMismatch, UnknownName
from lakeflow.lake.latest import LatestRows

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("value", pa.int64())])
ROWS = st.lists(st.tuples(st.integers(0, 20), st.sampled_from("abc")), max_size=80)


def table(rows: list[tuple[int, str, int]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)


def last_of(rows: list[tuple[int, str, int]], key: list[str], chunk: int) -> list[dict[str, object]]:
    latest = LatestRows(SCHEMA, key, "a.b")
    try:
        for start in range(0, len(rows), chunk):
            latest.write(table(rows[start : start + chunk]))
        return [row for part in latest.last_rows() for row in part.to_pylist()]
    finally:
        latest.close()


@given(rows=ROWS, key=st.sampled_from([["id"], ["name"], ["id", "name"]]), chunk=st.integers(1, 30))
def test_the_last_row_of_each_key_stays(rows: list[tuple[int, str]], key: list[str], chunk: int) -> None:
    numbered = [(number, name, place) for place, (number, name) in enumerate(rows)]
    expected = {tuple(row[column] for column in key): row for row in table(numbered).to_pylist()}
    found = last_of(numbered, key, chunk)
    assert sorted(found, key=str) == sorted(expected.values(), key=str)


def test_a_null_key_is_refused() -> None:
    latest = LatestRows(SCHEMA, ["name"], "a.b")
    with pytest.raises(SchemaMismatch, match="holds 1 nulls"):
        latest.write(pa.table({"id": [1], "name": pa.array([None], pa.string()), "value": [1]}))
    latest.close()


def test_a_key_that_is_no_column_is_refused() -> None:
    with pytest.raises(UnknownName, match="nmae"):
        LatestRows(SCHEMA, ["nmae"], "a.b")


def test_the_spool_is_gone_after_close(tmp_path: Path) -> None:
    latest = LatestRows(SCHEMA, ["id"], "a.b", tmp_path)
    latest.write(table([(1, "a", 1)]))
    assert len(list(tmp_path.rglob("*.arrow"))) > 1
    latest.close()
    assert list(tmp_path.iterdir()) == []
