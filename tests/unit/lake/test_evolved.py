"""Files that were written before the table got the columns that it has now."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import Table
from pyiceberg.table.update.schema import UpdateSchema
from pyiceberg.typedef import Record
from pyiceberg.types import DecimalType, DoubleType, ListType, LongType, NestedField, StringType, StructType

from lakeflow.declare import PartitionField
from lakeflow.errors import SchemaMismatch
from lakeflow.lake.catalog import Lake, arrow_schema
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.evolved import column_map
from lakeflow.lake.read import BATCH_ROWS, read, snapshot_at, splits_at
from lakeflow.lake.reshape import FIELD_ID
from lakeflow.lake.write import DataWriter
from tests.lakes import NAME, append, batches_of, made, open_lake, path_of

LONG = pa.int64()
BEFORE = pa.schema(
    [
        pa.field("id", pa.int32(), nullable=False),
        ("price", pa.decimal128(5, 2)),
        ("s", pa.struct([("x", pa.float32()), ("y", LONG)])),
        ("items", pa.list_(pa.struct([("sku", pa.string())]))),
        ("by_key", pa.map_(pa.string(), pa.struct([("n", pa.int32())]))),
    ]
)
ROWS: list[dict[str, Any]] = [
    {"id": 1, "price": Decimal("1.25"), "s": {"x": 0.5, "y": 7}, "items": [{"sku": "a"}, None], "by_key": [("k", {"n": 1})]},
    {"id": 2, "price": None, "s": None, "items": None, "by_key": None},
    {"id": 3, "price": Decimal("9.00"), "s": {"x": None, "y": None}, "items": [], "by_key": [("k", None)]},
]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path)


def shown(table: Table, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return [row for batch in read(table, splits_at(table, snapshot_at(table)), columns) for row in batch.to_pylist()]


def altered(lake: Lake, alter: Callable[[UpdateSchema], object], *, incompatible: bool = False) -> Table:
    with lake.table(NAME).update_schema(allow_incompatible_changes=incompatible) as update:
        alter(update)
    return lake.table(NAME)


def is_mapped(table: Table) -> bool:
    """Whether every file of the table is read a row group at a time."""
    told = [column_map(pq.read_schema(path_of(s.path)), arrow_schema(table), set(), s.path) for s in head_splits(table)]
    return all(each is not None for each in told)


def head_splits(table: Table) -> Iterable[Any]:
    return splits_at(table, snapshot_at(table))


Expect = Callable[[dict[str, Any]], dict[str, Any]]

SAME: Expect = lambda row: row  # noqa: E731
ALTERED: list[tuple[str, Callable[[UpdateSchema], object], Expect]] = [
    ("int to long", lambda u: u.update_column("id", LongType()), SAME),
    ("wider decimal", lambda u: u.update_column("price", DecimalType(12, 2)), SAME),
    ("float to double in a struct", lambda u: u.update_column(("s", "x"), DoubleType()), SAME),
    ("long in a map", lambda u: u.update_column(("by_key", "value", "n"), LongType()), SAME),
    ("required to optional", lambda u: u.make_column_optional("id"), SAME),
    ("added column", lambda u: u.add_column("new", StringType()), lambda row: {**row, "new": None}),
    (
        "added to a struct",
        lambda u: u.add_column(("s", "z"), LongType()),
        lambda row: {**row, "s": row["s"] and {**row["s"], "z": None}},
    ),
    (
        "added to a struct in a list",
        lambda u: u.add_column(("items", "count"), ListType(100, StructType(NestedField(101, "a", LongType())))),
        lambda row: {**row, "items": row["items"] and [item and {**item, "count": None} for item in row["items"]]},
    ),
    (
        "added to a struct in a map",
        lambda u: u.add_column(("by_key", "m"), LongType()),
        lambda row: {**row, "by_key": row["by_key"] and [(k, v and {**v, "m": None}) for k, v in row["by_key"]]},
    ),
    ("dropped", lambda u: u.delete_column("s"), lambda row: {k: v for k, v in row.items() if k != "s"}),
    (
        "renamed in a list",
        lambda u: u.rename_column(("items", "element", "sku"), "code"),
        lambda row: {**row, "items": row["items"] and [item and {"code": item["sku"]} for item in row["items"]]},
    ),
    (
        "renamed crosswise",
        lambda u: u.rename_column(("s", "x"), "w").rename_column(("s", "y"), "x"),
        lambda row: {**row, "s": row["s"] and {"w": row["s"]["x"], "x": row["s"]["y"]}},
    ),
    ("moved", lambda u: u.move_first("by_key"), lambda row: {"by_key": row["by_key"], **row}),
]


@pytest.mark.parametrize(("alter", "expect"), [case[1:] for case in ALTERED], ids=[case[0] for case in ALTERED])
def test_rows_are_seen_with_the_columns_of_now(lake: Lake, alter: Callable[[UpdateSchema], object], expect: Expect) -> None:
    made(lake, BEFORE)
    append(lake, pa.Table.from_pylist(ROWS, schema=BEFORE))
    table = altered(lake, alter)
    assert is_mapped(table)
    expected = [expect(row) for row in ROWS]
    assert shown(table) == expected
    assert [list(row) for row in shown(table)] == [list(row) for row in expected]
    assert shown(table, ["by_key"]) == [{"by_key": row["by_key"]} for row in expected]


def test_a_field_dropped_and_added_again_within_a_list_is_another_one(lake: Lake) -> None:
    made(lake, BEFORE)
    append(lake, pa.Table.from_pylist(ROWS, schema=BEFORE))
    altered(lake, lambda u: u.add_column(("items", "other"), LongType()))
    altered(lake, lambda u: u.delete_column(("items", "element", "sku")), incompatible=True)
    table = altered(lake, lambda u: u.add_column(("items", "sku"), StringType()))
    assert is_mapped(table)
    assert [row["items"] for row in shown(table)] == [[{"other": None, "sku": None}, None], None, []]


def test_a_large_file_of_an_older_schema_is_never_held_as_a_whole(lake: Lake) -> None:
    """Some 16 row groups, 64 MiB of values in the file, of which the reader may hold a row group and a batch or two."""
    schema = pa.schema([("id", pa.int32()), *((f"x{place}", pa.float32()) for place in range(7))])
    made(lake, schema)
    table, random = lake.table(NAME), np.random.default_rng(0)
    writer, count = DataWriter(table), 2 << 20
    values = [random.normal(size=count).astype("float32") for _ in range(7)]
    for piece in batches_of(pa.table([np.arange(count, dtype="int32"), *values], schema=schema), 1 << 17):
        writer.write(piece)
    Committer(lake).commit(Change(NAME, writer.finish()))
    del values, piece
    table = altered(lake, lambda u: u.update_column("id", LongType()).update_column("x3", DoubleType()))
    table = altered(lake, lambda u: u.add_column("new", StringType()))
    before, held, rows = pa.total_allocated_bytes(), 0, 0
    for batch in read(table, splits_at(table, snapshot_at(table))):
        held = max(held, pa.total_allocated_bytes() - before)
        rows += batch.num_rows
        assert batch.num_rows <= BATCH_ROWS
    assert rows == count
    assert held < 32 << 20


def test_rows_are_counted_where_the_file_holds_none_of_the_columns(lake: Lake) -> None:
    made(lake, BEFORE)
    append(lake, pa.Table.from_pylist(ROWS, schema=BEFORE))
    table = altered(lake, lambda u: u.add_column("new", StringType()))
    assert shown(table, ["new"]) == [{"new": None}] * 3


def test_a_required_column_that_the_file_lacks_is_refused(lake: Lake) -> None:
    made(lake, BEFORE)
    append(lake, pa.Table.from_pylist(ROWS, schema=BEFORE))
    table = altered(lake, lambda u: u.add_column("new", LongType(), required=True), incompatible=True)
    with pytest.raises(SchemaMismatch, match=r"column 'new' in data file .*parquet: the table requires it"):
        shown(table)


def test_a_null_in_a_column_that_became_required_is_refused(lake: Lake) -> None:
    made(lake, pa.schema([("a", LONG)]))
    append(lake, pa.table({"a": pa.array([1, None], LONG)}))
    table = altered(lake, lambda u: u.update_column("a", required=True), incompatible=True)
    with pytest.raises(SchemaMismatch, match=r"column 'a' in data file .* is required and holds a null"):
        shown(table)


def by_hand(table: Table, rows: pa.Table, partition: Record) -> DataFile:
    """A data file as another engine may have written it."""
    path = f"{table.location()}/data/by-hand.parquet"
    path_of(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, path_of(path))
    data_file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=partition,
        record_count=rows.num_rows,
        file_size_in_bytes=path_of(path).stat().st_size,
    )
    data_file.spec_id = table.metadata.default_spec_id
    return data_file


def numbered(name: str, kind: pa.DataType, number: int) -> pa.Field:
    return pa.field(name, kind, metadata={FIELD_ID: str(number)})


def test_a_partition_column_that_the_file_lacks_has_the_value_of_the_partition(lake: Lake) -> None:
    """As files of a migrated Hive table do."""
    table = made(lake, pa.schema([("id", LONG), ("region", pa.string())]), [PartitionField("region")])
    rows = pa.table([[1, 2]], schema=pa.schema([numbered("id", LONG, 1)]))
    Committer(lake).commit(Change(NAME, (by_hand(table, rows, Record("north")),)))
    assert shown(lake.table(NAME)) == [{"id": 1, "region": "north"}, {"id": 2, "region": "north"}]


def test_a_file_without_field_ids_is_read_by_the_name_mapping(lake: Lake) -> None:
    table = made(lake, pa.schema([("id", LONG), ("name", pa.string())]))
    path = path_of(table.location()) / "mapped.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": [1], "name": ["a"]}), path)
    table.add_files([f"file://{path}"])
    table = altered(lake, lambda u: u.rename_column("name", "title"))
    assert not is_mapped(table)
    assert shown(table) == [{"id": 1, "title": "a"}]


def test_a_default_is_read_where_the_file_lacks_the_column(lake: Lake) -> None:
    made(lake, pa.schema([("id", LONG)]))
    append(lake, pa.table({"id": [1]}))
    table = altered(lake, lambda u: u.add_column("size", LongType(), default_value=5))
    assert shown(table) == [{"id": 1, "size": 5}]


def test_files_of_engines_that_name_elements_otherwise_are_read_by_id(lake: Lake) -> None:
    table = made(lake, pa.schema([("l", pa.list_(LONG)), ("m", pa.map_(pa.string(), LONG))]))
    ids = {name: table.schema().find_field(name).field_id for name in ("l", "l.element", "m", "m.key", "m.value")}
    array = pa.list_(numbered("array", pa.int32(), ids["l.element"]))
    mapped = pa.map_(
        pa.field("k", pa.large_string(), nullable=False, metadata={FIELD_ID: str(ids["m.key"])}),
        numbered("v", pa.int32(), ids["m.value"]),
    )
    rows = pa.table(
        [pa.array([None, [1]], array), pa.array([[("a", 2)], None], mapped)],
        schema=pa.schema([numbered("l", array, ids["l"]), numbered("m", mapped, ids["m"])]),
    )
    Committer(lake).commit(Change(NAME, (by_hand(table, rows, Record()),)))
    assert is_mapped(lake.table(NAME))
    assert shown(lake.table(NAME)) == [{"l": None, "m": [("a", 2)]}, {"l": [1], "m": None}]
