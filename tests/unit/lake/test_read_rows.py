"""The rows of data files: in bounded memory where a file has the table's columns, by field id where it has not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.table import Table
from pyiceberg.types import LongType, StructType

from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.iceberg import FileReader
from lakeflow.lake.read import BATCH_BYTES, BATCH_ROWS, appended, read, snapshot_at, splits_at
from lakeflow.lake.write import DataWriter
from tests.lakes import NAME, append, batches_of, made, open_lake

WIDE = pa.schema([("id", pa.int64()), *((f"x{place}", pa.float64()) for place in range(7))])
NESTED = pa.schema([("id", pa.int64()), ("place", pa.struct([("x", pa.int64()), ("y", pa.int64())]))])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path)


def rows_of(table: Table, columns: list[str] | None = None) -> list[pa.RecordBatch]:
    return list(read(table, splits_at(table, snapshot_at(table)), columns))


def wide_rows(count: int) -> pa.Table:
    random = np.random.default_rng(0)
    return pa.table([np.arange(count), *(random.normal(size=count) for _ in range(7))], schema=WIDE)


def test_a_large_file_is_never_held_as_a_whole(lake: Lake) -> None:
    """Some 16 row groups, 128 MiB of values, of which the reader may hold a row group and a batch or two."""
    made(lake, WIDE)
    table = lake.table(NAME)
    writer = DataWriter(table)
    for piece in batches_of(wide_rows(2 << 20), 1 << 17):
        writer.write(piece)
    Committer(lake).commit(Change(NAME, writer.finish()))
    table.refresh()
    before, held, rows = pa.total_allocated_bytes(), 0, 0
    for batch in read(table, splits_at(table, snapshot_at(table))):
        held = max(held, pa.total_allocated_bytes() - before)
        rows += batch.num_rows
        assert batch.num_rows <= BATCH_ROWS
    assert rows == 2 << 20
    assert held < 48 << 20


def test_wide_rows_come_in_fewer_at_a_time(lake: Lake) -> None:
    made(lake, pa.schema([("id", pa.int64()), ("text", pa.string())]))
    texts = [f"{number:06d}" * 20_000 for number in range(400)]
    append(lake, pa.table({"id": range(400), "text": texts}))
    table = lake.table(NAME)
    sizes = [batch.nbytes for batch in rows_of(table)]
    assert len(sizes) > 1
    assert max(sizes) < 1.5 * BATCH_BYTES
    assert [batch.num_rows for batch in rows_of(table, ["id"])] == [400]


@pytest.mark.parametrize("columns", [None, ["id"], ["x6", "id"]], ids=["all", "one", "in another order"])
def test_rows_are_those_of_pyicebergs_reader(lake: Lake, columns: list[str] | None) -> None:
    made(lake, WIDE)
    append(lake, wide_rows(100_000))
    table = lake.table(NAME)
    (split,) = splits_at(table, snapshot_at(table))
    expected = list(FileReader(table, columns).read(split.task))
    given = rows_of(table, columns)
    assert sum(batch.num_rows for batch in given) == 100_000
    assert [value for batch in given for value in batch.to_pylist()] == [v for batch in expected for v in batch.to_pylist()]
    assert given[0].schema.equals(expected[0].schema, check_metadata=True)


def test_rows_are_counted_without_any_column(lake: Lake) -> None:
    made(lake, WIDE)
    append(lake, wide_rows(100_000))
    assert sum(batch.num_rows for batch in rows_of(lake.table(NAME), [])) == 100_000


def test_a_field_that_came_back_under_its_name_is_another_one(lake: Lake) -> None:
    made(lake, NESTED)
    append(lake, pa.table({"id": [1], "place": [{"x": 2, "y": 3}]}, schema=NESTED))
    with lake.table(NAME).update_schema(allow_incompatible_changes=True) as update:
        update.delete_column("place.y")
    with lake.table(NAME).update_schema() as update:
        update.add_column(("place", "y"), LongType())
    table = lake.table(NAME)
    assert isinstance(table.schema().find_type("place"), StructType)
    assert [batch.to_pylist() for batch in rows_of(table)] == [[{"id": 1, "place": {"x": 2, "y": None}}]]


def test_a_renamed_column_is_found(lake: Lake) -> None:
    made(lake, WIDE)
    append(lake, wide_rows(3))
    with lake.table(NAME).update_schema() as update:
        update.rename_column("id", "number")
    assert [batch.column("number").to_pylist() for batch in rows_of(lake.table(NAME))] == [[0, 1, 2]]


def test_a_null_list_of_structs_is_not_read_as_an_empty_one(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    kind = pa.list_(pa.struct([("x", pa.int64())]))
    rows = pa.table({"items": pa.array([None, [], [{"x": 1}], [None]], kind)})
    made(lake, rows.schema)
    append(lake, rows)
    table = lake.table(NAME)
    assert [value for batch in read(table, appended(table, None)) for value in batch.column(0).to_pylist()] == [
        None,
        [],
        [{"x": 1}],
        [None],
    ]
