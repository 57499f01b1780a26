"""Columns, properties and names of a table changed by name, with rows that were there before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.declare import PartitionField, TableSpec
from lakeflow.errors import DeclarationError, LakeflowError, SchemaMismatch, UnknownName
from lakeflow.lake.alter import (
    Placed,
    add_columns,
    drop_columns,
    modify_columns,
    rename_column,
    rename_table,
    reset_properties,
    set_properties,
)
from lakeflow.lake.catalog import Lake, arrow_schema
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.declared import DOC, as_declared
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.lake.write import DataWriter
from tests.lakes import open_lake

NAME = "gold.t"
SCHEMA = pa.schema(
    [pa.field("id", pa.int32(), nullable=False), pa.field("city", pa.string(), metadata={DOC: b"where"}), ("day", pa.date32())]
)
SPEC = TableSpec(NAME, SCHEMA, partitioning=(PartitionField("day"),))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = open_lake(tmp_path)
    lake.ensure(SPEC)
    add(lake, [{"id": 1, "city": "Oslo", "day": None}])
    return lake


def add(lake: Lake, rows: list[dict[str, Any]]) -> None:
    table = lake.table(NAME)
    writer = DataWriter(table)
    writer.write(pa.RecordBatch.from_pylist(rows, schema=arrow_schema(table)))
    files = writer.finish()
    Committer(lake).commit(Change(NAME, files))


def rows(lake: Lake, name: str = NAME) -> list[dict[str, Any]]:
    table = lake.table(name)
    found = [row for batch in read(table, splits_at(table, snapshot_at(table))) for row in batch.to_pylist()]
    return sorted(found, key=lambda row: row["id"])


def columns(lake: Lake) -> list[tuple[str, str, bool]]:
    return [(field.name, str(field.type), field.nullable) for field in arrow_schema(lake.table(NAME))]


def comment(lake: Lake, column: str) -> bytes | None:
    return (arrow_schema(lake.table(NAME)).field(column).metadata or {}).get(DOC)


def test_a_comment_that_is_declared_is_kept_by_the_table(lake: Lake) -> None:
    assert comment(lake, "city") == b"where"


def test_added_columns_stand_where_they_are_put_and_read_as_null(lake: Lake) -> None:
    first = pa.field("a", pa.int64(), metadata={DOC: b"new"})
    add_columns(
        lake,
        NAME,
        [
            Placed(first, first=True),
            Placed(pa.field("b", pa.list_(pa.string())), after="id"),
            Placed(pa.field("c", pa.date32())),
        ],
    )
    assert [name for name, _, _ in columns(lake)] == ["a", "id", "b", "city", "day", "c"]
    assert comment(lake, "a") == b"new"
    add(lake, [{"a": 5, "id": 2, "b": ["x"], "city": "Rome", "day": None, "c": None}])
    assert rows(lake) == [
        {"a": None, "id": 1, "b": None, "city": "Oslo", "day": None, "c": None},
        {"a": 5, "id": 2, "b": ["x"], "city": "Rome", "day": None, "c": None},
    ]


def test_a_column_widens_moves_and_gets_a_comment(lake: Lake) -> None:
    modify_columns(lake, NAME, [Placed(pa.field("id", pa.int64(), metadata={DOC: b"key"}), after="city")])
    assert columns(lake) == [("city", "large_string", True), ("id", "int64", True), ("day", "date32[day]", True)]
    assert comment(lake, "id") == b"key"
    assert comment(lake, "city") == b"where"
    assert rows(lake) == [{"city": "Oslo", "id": 1, "day": None}]


def test_a_renamed_column_keeps_its_rows_and_a_dropped_one_is_gone(lake: Lake) -> None:
    rename_column(lake, NAME, "city", "town")
    assert rows(lake) == [{"id": 1, "town": "Oslo", "day": None}]
    drop_columns(lake, NAME, ["town"])
    assert rows(lake) == [{"id": 1, "day": None}]
    add_columns(lake, NAME, [Placed(pa.field("town", pa.string()))])
    assert rows(lake) == [{"id": 1, "day": None, "town": None}]


def test_a_column_may_change_the_case_of_its_name(lake: Lake) -> None:
    rename_column(lake, NAME, "city", "City")
    assert rows(lake) == [{"id": 1, "City": "Oslo", "day": None}]


def test_a_renamed_table_keeps_its_rows_and_its_identity(lake: Lake) -> None:
    before = lake.table(NAME).metadata.table_uuid
    rename_table(lake, NAME, "silver.other")
    assert lake.table("silver.other").metadata.table_uuid == before
    assert rows(lake, "silver.other") == [{"id": 1, "city": "Oslo", "day": None}]
    assert not lake.exists(NAME)


def test_properties_are_set_and_taken_away(lake: Lake) -> None:
    set_properties(lake, NAME, {"a": "1", "b": "2"})
    reset_properties(lake, NAME, ["a"])
    properties = lake.table(NAME).properties
    assert ("a" in properties, properties["b"]) == (False, "2")


def test_a_change_that_changes_nothing_makes_no_metadata(lake: Lake) -> None:
    before = lake.table(NAME).metadata_location
    modify_columns(lake, NAME, [Placed(pa.field("id", pa.int32(), nullable=False))])
    assert lake.table(NAME).metadata_location == before


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            lambda lake: add_columns(lake, NAME, [Placed(pa.field("CITY", pa.string()))]),
            DeclarationError,
            "has the column 'city' already",
        ),
        (
            lambda lake: add_columns(lake, NAME, [Placed(pa.field("x", pa.int32(), nullable=False))]),
            DeclarationError,
            "would be NOT NULL",
        ),
        (
            lambda lake: add_columns(lake, NAME, [Placed(pa.field("x", pa.int32()), after="town")]),
            UnknownName,
            "behind AFTER 'town'",
        ),
        (lambda lake: add_columns(lake, NAME, [Placed(pa.field("x", pa.int32()), after="x")]), UnknownName, "behind AFTER 'x'"),
        (
            lambda lake: modify_columns(lake, NAME, [Placed(pa.field("cty", pa.string()))]),
            UnknownName,
            "'cty'; did you mean 'city'?",
        ),
        (lambda lake: modify_columns(lake, NAME, [Placed(pa.field("id", pa.string()))]), SchemaMismatch, "another type"),
        (
            lambda lake: modify_columns(lake, NAME, [Placed(pa.field("day", pa.timestamp("us")))]),
            SchemaMismatch,
            "cannot evolve",
        ),
        (
            lambda lake: modify_columns(lake, NAME, [Placed(pa.field("city", pa.string(), nullable=False))]),
            DeclarationError,
            "may hold nulls",
        ),
        (lambda lake: drop_columns(lake, NAME, ["nowhere"]), UnknownName, "unknown column of gold.t 'nowhere'"),
        (lambda lake: drop_columns(lake, NAME, ["day"]), DeclarationError, "in which partition a row lies"),
        (lambda lake: rename_column(lake, NAME, "city", "ID"), DeclarationError, "has the column 'id' already"),
        (lambda lake: rename_column(lake, NAME, "town", "x"), UnknownName, "unknown column of gold.t 'town'"),
        (lambda lake: set_properties(lake, NAME, {"lakeflow.progress.x": "1"}), DeclarationError, "lakeflow's own"),
        (lambda lake: reset_properties(lake, NAME, ["lakeflow.progress.x"]), DeclarationError, "lakeflow's own"),
        (
            lambda lake: reset_properties(lake, NAME, ["write.parquet.compresion-codec"]),
            UnknownName,
            "did you mean 'write.parquet.compression-codec'",
        ),
        (lambda lake: rename_table(lake, "gold.x", "gold.y"), UnknownName, "unknown table 'gold.x'"),
        (lambda lake: rename_table(lake, NAME, "gold.there"), DeclarationError, "table gold.there is there already"),
        (lambda lake: add_columns(lake, "gold.x", []), UnknownName, "unknown table 'gold.x'"),
    ],
)
def test_what_cannot_be_changed_is_refused_and_the_table_stays(
    lake: Lake, change: Any, kind: type[LakeflowError], message: str
) -> None:
    lake.ensure(TableSpec("gold.there", SCHEMA))
    before = lake.table(NAME).metadata_location
    with pytest.raises(kind) as raised:
        change(lake)
    assert message in str(raised.value)
    assert lake.table(NAME).metadata_location == before


def test_the_last_columns_stay(lake: Lake) -> None:
    lake.ensure(TableSpec("gold.one", pa.schema([("id", pa.int32())])))
    with pytest.raises(DeclarationError, match=r"table gold.one would have no column left"):
        drop_columns(lake, "gold.one", ["id"])


def test_a_narrower_type_is_refused_even_where_the_rows_would_fit(lake: Lake) -> None:
    modify_columns(lake, NAME, [Placed(pa.field("id", pa.int64(), nullable=False))])
    with pytest.raises(SchemaMismatch, match="int64, which does not become int32"):
        modify_columns(lake, NAME, [Placed(pa.field("id", pa.int32(), nullable=False))])


def test_a_table_of_the_catalog_is_a_declaration_again(lake: Lake) -> None:
    parts = (PartitionField("day", "month"), PartitionField("id", "bucket", 16))
    options = {"write.parquet.compression-codec": "gzip"}
    lake.ensure(TableSpec("gold.u", SCHEMA, partitioning=parts, comment="it's"), {**options, "lakeflow.x": "y"})
    found = as_declared("gold.u", lake.table("gold.u"))
    assert (found.name, found.partitioning, found.comment, found.options) == ("gold.u", parts, "it's", options)
    assert found.schema.equals(SCHEMA, check_metadata=True)
