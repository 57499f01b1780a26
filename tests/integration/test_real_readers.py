"""What lakeflow wrote, read by engines that no one here wrote: Spark with Iceberg's runtime, DuckDB's iceberg extension.

Every type that a table can hold, at its limits, in all of Iceberg's nesting; files from before and after the table
changed; merged and compacted tables; each catalog. Values and types are compared column by column with what went in.
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyiceberg.table import Table
from pyiceberg.types import LongType

from lakeflow.declare import PartitionField
from lakeflow.lake.catalog import Lake, arrow_schema
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.compact import compact, plan_compaction
from lakeflow.lake.compact_plan import Readers as Waiting
from lakeflow.lake.compact_plan import Sizes
from lakeflow.lake.evolution import evolve
from lakeflow.lake.merge import KeyedMerge
from lakeflow.lake.read import appended, read
from lakeflow.lake.schema import storable
from lakeflow.lake.schema_change import plan_schema
from lakeflow.lake.write import DataWriter
from tests.lakes import append, catalog_in, made, written
from tests.rig.duck import DuckDB
from tests.rig.readers import assert_same_in_duckdb, assert_same_in_spark, assert_same_rows
from tests.rig.rig import Rig
from tests.rig.spark import RefusedBySpark, Spark

PLACE = pa.struct([("latitude", pa.float64()), ("names", pa.list_(pa.string()))])
STEP = pa.struct([pa.field("at", pa.timestamp("us", "UTC")), pa.field("cost", pa.decimal128(9, 2))])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("is_late", pa.bool_()),
        pa.field("small", pa.int32()),
        pa.field("large", pa.int64()),
        pa.field("single", pa.float32()),
        pa.field("double", pa.float64()),
        pa.field("price", pa.decimal128(9, 2)),
        pa.field("huge", pa.decimal128(38, 10)),
        pa.field("text", pa.string()),
        pa.field("bytes", pa.binary()),
        pa.field("digest", pa.binary(4)),
        pa.field("day", pa.date32()),
        pa.field("local", pa.timestamp("us")),
        pa.field("moment", pa.timestamp("us", "UTC")),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("grid", pa.list_(pa.list_(pa.int32()))),
        pa.field("counts", pa.map_(pa.string(), pa.int32())),
        pa.field("by_number", pa.map_(pa.int64(), PLACE)),
        pa.field("place", PLACE),
        pa.field("steps", pa.list_(STEP)),
    ]
)
"""Every type of lakeflow.lake.schema but the time of day, which Spark has none for."""

WHOLE: dict[str, Any] = {
    "is_late": True,
    "small": 2**31 - 1,
    "large": 2**63 - 1,
    "single": 0.1,
    "double": 1e308,
    "price": Decimal("-9999999.99"),
    "huge": Decimal("1234567890123456789012345678.0123456789"),
    "text": "naïve \N{SNOWMAN} \N{GRINNING FACE}\n\x00",
    "bytes": b"\x00\xff",
    "digest": b"\x00\x01\xfe\xff",
    "day": date(9999, 12, 31),
    "local": datetime(9999, 12, 31, 23, 59, 59, 999_999),
    "moment": datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC),
    "tags": ["", None, "a"],
    "grid": [[1, None], [], None],
    "counts": [("a", 1), ("", None)],
    "by_number": [(-1, {"latitude": -0.5, "names": [None]}), (7, None)],
    "place": {"latitude": math.pi, "names": []},
    "steps": [{"at": datetime(2020, 2, 29, 12, tzinfo=UTC), "cost": Decimal("0.01")}, None, {"at": None, "cost": None}],
}
LEAST: dict[str, Any] = {
    "is_late": False,
    "small": -(2**31),
    "large": -(2**63),
    "single": -math.inf,
    "double": math.nan,
    "huge": Decimal("-9999999999999999999999999999.9999999999"),
    "text": "",
    "bytes": b"",
    "day": date(1, 1, 1),
    "local": datetime(1, 1, 1),
    "moment": datetime(1582, 10, 4, 1, 2, 3, 4, UTC),
    "tags": [],
    "counts": [],
    "place": {"latitude": None, "names": None},
    "steps": [],
}


@dataclass(frozen=True, slots=True)
class Readers:
    """Both engines, and [catalog] of the lake that they look at."""

    lake: Lake
    catalog: dict[str, str]
    spark: Spark
    duckdb: DuckDB

    def agree(self, table: Table, expected: pa.Table | None = None) -> None:
        assert_same_in_spark(self.spark, self.catalog, table, expected)
        assert_same_in_duckdb(self.duckdb, table, expected)


numbers = iter(range(1000))
NOBODY = Waiting()
SIZES = Sizes(below_bytes=1 << 20, target_bytes=4 << 20)


@pytest.fixture(params=["folder", "rest", "postgres"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    rig: Rig = request.getfixturevalue("rig")
    match request.param:
        case "folder":
            return catalog_in(tmp_path)
        case "rest":
            options: dict[str, str] = request.getfixturevalue("rest_catalog").options()
            return options
        case _:
            request.getfixturevalue("postgres")
            request.getfixturevalue("storage")
            return {**rig.postgres_options(), "name": f"readers{next(numbers)}"}


@pytest.fixture
def readers(catalog: dict[str, str], spark: Spark, duckdb_iceberg: DuckDB) -> Readers:
    return Readers(Lake.open(catalog), catalog, spark, duckdb_iceberg)


@pytest.fixture
def local(tmp_path: Path, spark: Spark, duckdb_iceberg: DuckDB) -> Readers:
    catalog = catalog_in(tmp_path)
    return Readers(Lake.open(catalog), catalog, spark, duckdb_iceberg)


@pytest.fixture
def name() -> str:
    """The servers' catalogs are those of all tests."""
    return f"bronze.readers{next(numbers)}"


def rows(*given: dict[str, Any], schema: pa.Schema = SCHEMA) -> pa.Table:
    return pa.Table.from_pylist([dict.fromkeys(schema.names) | row for row in given], schema=schema)


def test_every_type_at_its_limits(readers: Readers, name: str) -> None:
    table = made(readers.lake, SCHEMA, [PartitionField("moment", "day"), PartitionField("id", "bucket", 2)], name=name)
    given = rows({"id": 1, **WHOLE}, {"id": 2, **LEAST}, {"id": 3})
    append(readers.lake, given, name=name)
    readers.agree(table, given)


def test_a_time_of_day_is_read_by_duckdb_and_refused_by_spark(local: Readers) -> None:
    schema = pa.schema([("id", pa.int64()), ("at", pa.time64("us"))])
    table = made(local.lake, schema)
    given = rows({"id": 1, "at": time(23, 59, 59, 999_999)}, {"id": 2, "at": time(0)}, {"id": 3}, schema=schema)
    append(local.lake, given)
    assert_same_in_duckdb(local.duckdb, table, given)
    with pytest.raises(RefusedBySpark, match="time"):
        local.spark.rows(local.catalog, "SELECT id FROM bronze.flights")


GROWN_PLACE = pa.struct([*PLACE, ("airport", pa.string())])
GROWN = pa.schema(
    [
        ("id", pa.int64()),
        ("small", pa.int64()),
        ("single", pa.float64()),
        ("price", pa.decimal128(20, 2)),
        ("grid", pa.list_(pa.list_(pa.int64()))),
        ("counts", pa.map_(pa.string(), pa.int64())),
        ("by_number", pa.map_(pa.int64(), GROWN_PLACE)),
        ("place", GROWN_PLACE),
        ("steps", pa.list_(pa.struct([*STEP, ("way", pa.string())]))),
        ("note", pa.string()),
    ]
)
"""Fields added to the table, to a struct, to one in a list and to one in a map; each widening that Iceberg has, nested too."""
GROWN_ROW: dict[str, Any] = {
    "id": 4,
    "small": 2**40,
    "single": 1e300,
    "price": Decimal("123456789012345678.99"),
    "grid": [[2**62]],
    "counts": [("b", -(2**50))],
    "by_number": [(1, {"latitude": 2.0, "names": None, "airport": "OGG"})],
    "place": {"latitude": 1.0, "names": ["n"], "airport": "HNL"},
    "steps": [{"at": None, "cost": Decimal("1.10"), "way": "by air"}],
    "note": "new",
}


def test_files_from_before_and_after_the_table_changed(readers: Readers, name: str) -> None:
    made(readers.lake, SCHEMA, name=name)
    before = rows({"id": 1, **WHOLE}, {"id": 2, **LEAST}, {"id": 3})
    append(readers.lake, before, name=name)
    grow(readers.lake, rows(GROWN_ROW, schema=GROWN), name)
    table = readers.lake.table(name)
    old = [{**row, "single": as_stored(row["single"])} for row in before.to_pylist()]
    expected = rows(*old, GROWN_ROW, schema=storable(arrow_schema(table), name))
    readers.agree(table, expected)
    assert_same_rows(pa.Table.from_batches(read(table, appended(table, None))), expected, "lakeflow")


def grow(lake: Lake, new: pa.Table, name: str) -> None:
    """The columns that the rows need, and the rows, in one commit."""
    table = lake.table(name)
    evolved = evolve(arrow_schema(table), new.schema, name)
    assert evolved is not None
    planned = plan_schema(table, evolved.schema)
    Committer(lake).commit(Change(name, written(planned.table, new), schema=planned.change))


def test_a_table_that_was_compacted_across_a_change_of_its_columns(local: Readers) -> None:
    name = "bronze.flights"
    schema = pa.schema([("id", pa.int64()), ("spot", pa.struct([("latitude", pa.float64())]))])
    made(local.lake, schema)
    for start in range(0, 40, 10):
        append(local.lake, rows(*({"id": start + place, "spot": {"latitude": 0.5}} for place in range(10)), schema=schema))
    wider = pa.schema([("id", pa.int64()), ("spot", pa.struct([("latitude", pa.float64()), ("airport", pa.string())]))])
    grow(local.lake, rows({"id": 1000, "spot": {"latitude": 1.5, "airport": "HNL"}}, schema=wider), name)
    before = local.lake.table(name)
    expected = before.scan().to_arrow()
    plan = plan_compaction(before, NOBODY, SIZES)
    done = compact(local.lake, Committer(local.lake), name, plan, SIZES)
    assert (done.files_before, done.files_after) == (5, 1), done.left
    local.agree(local.lake.table(name), expected)


def test_merged_rows_and_deletes_by_key(local: Readers) -> None:
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    table = made(local.lake, schema)
    for start in (0, 100):
        append(local.lake, rows(*({"id": start + place, "text": "old"} for place in range(100)), schema=schema))
    with closing(KeyedMerge(local.lake.table("bronze.flights"), ["id"])) as merge:
        merge.write(rows({"id": 5, "text": "new"}, {"id": 500, "text": "new"}, schema=schema))
        merge.delete(pa.table({"id": pa.array([7, 150], pa.int64())}))
        merged = merge.merge(DataWriter(local.lake.table("bronze.flights")))
        Committer(local.lake).commit(Change("bronze.flights", merged.add, merged.remove, base=merged.base))
    kept = [{"id": number, "text": "old"} for number in range(200) if number not in (5, 7, 150)]
    local.agree(table, rows(*kept, {"id": 5, "text": "new"}, {"id": 500, "text": "new"}, schema=schema))


def test_snapshots_are_read_as_they_were(local: Readers) -> None:
    schema = pa.schema([("id", pa.int64())])
    made(local.lake, schema)
    first = append(local.lake, rows({"id": 1}, schema=schema))
    append(local.lake, rows({"id": 2}, schema=schema))
    query = f"SELECT * FROM bronze.flights VERSION AS OF {first.snapshot_id}"
    assert local.spark.rows(local.catalog, query).to_pylist() == [{"id": 1}]


class TestTheComparison:
    """It fails where it must."""

    def test_a_row_more_or_less_or_other_is_seen(self) -> None:
        table = pa.table({"a": [1, 2, 2], "b": ["x", "y", None]})
        assert_same_rows(table.take([2, 0, 1]), table, "same")
        for other in (table.slice(1), table.take([0, 1, 1, 2]), pa.table({"a": [1, 2, 2], "b": ["x", "z", None]})):
            with pytest.raises(AssertionError, match="other"):
                assert_same_rows(other, table, "other")

    def test_columns_that_agree_in_rows_that_do_not_are_seen(self) -> None:
        one, other = pa.table({"a": [1, 2], "b": [1, 2]}), pa.table({"a": [1, 2], "b": [2, 1]})
        with pytest.raises(AssertionError, match="the rows do not"):
            assert_same_rows(one, other, "swapped")

    def test_types_of_a_table_that_changed_since_are_seen(self, local: Readers) -> None:
        table = made(local.lake, pa.schema([("id", pa.int32())]))
        append(local.lake, pa.table({"id": pa.array([1], pa.int32())}))
        stale = local.lake.table("bronze.flights")
        with table.update_schema() as update:
            update.update_column("id", LongType())
        stale.refresh = lambda: stale  # type: ignore[method-assign]
        with pytest.raises(AssertionError, match="integer"):
            assert_same_in_spark(local.spark, local.catalog, stale)


def as_stored(value: float | None) -> float | None:
    """A number that was stored in 32 bits, as the double that it is."""
    return None if value is None else float(np.float32(value))
