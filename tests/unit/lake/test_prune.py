"""Which values a file and a row group may hold: what statistics, counts and partition values exclude, and what they cannot."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.types import NestedField, UUIDType

from lakeflow.declare import PartitionField
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.prune import Pruner
from lakeflow.lake.touch import frame
from lakeflow.lake.write import DataWriter
from tests.lakes import made, open_lake, path_of, written

NAN = float("nan")


def table_of(folder: Path, kind: pa.DataType, *partitioning: PartitionField) -> Table:
    return made(open_lake(folder), pa.schema([("k", kind), ("v", pa.int64())]), partitioning)


def file_of(table: Table, *values: Any) -> DataFile:
    kind = arrow_schema(table).field("k").type
    (one,) = written(table, pa.table({"k": pa.array(values, kind), "v": pa.array([0] * len(values), pa.int64())}))
    return one


def asked(table: Table, data_file: DataFile, *values: Any) -> list[Any]:
    """Those of `values` that the file may hold."""
    rows = pa.table({"k": pa.array(values, arrow_schema(table).field("k").type)})
    return [values[place] for place in Pruner(table, frame(rows)).in_file(data_file)]


OUTSIDE: list[tuple[pa.DataType, list[Any], list[Any], list[Any]]] = [
    (pa.int32(), [3, 9], [3, 5, 9], [2, 10, -1]),
    (pa.int64(), [-(2**62), 2**62], [0, 2**62], [2**62 + 1]),
    (pa.float64(), [1.5, 9.5], [1.5, 2.0, NAN], [1.4, float("inf"), -0.0]),
    (pa.float32(), [-0.0, 0.0], [0.0, -0.0], [0.1, -0.1]),
    (pa.bool_(), [True, True], [True], [False]),
    (pa.decimal128(9, 2), [Decimal("-1.50"), Decimal("2.25")], [Decimal("-1.50"), Decimal("2.25")], [Decimal("2.26")]),
    (pa.decimal128(38, 0), [Decimal(10**30), Decimal(10**31)], [Decimal(10**30 + 1)], [Decimal(-(10**30)), Decimal(1)]),
    (pa.date32(), [date(2024, 1, 2), date(2024, 1, 9)], [date(2024, 1, 2)], [date(1969, 12, 31), date(2024, 1, 10)]),
    (pa.time64("us"), [time(1), time(2)], [time(1, 30)], [time(2, 0, 0, 1)]),
    (pa.timestamp("us"), [datetime(1960, 1, 1), datetime(1961, 1, 1)], [datetime(1960, 6, 1)], [datetime(1961, 1, 1, 0, 0, 1)]),
    (pa.timestamp("us", "UTC"), [datetime(2024, 1, 1, tzinfo=UTC)], [datetime(2024, 1, 1, tzinfo=UTC)], [datetime(2024, 1, 2)]),
    (pa.string(), ["b" * 40, "ü" * 40], ["b" * 40, "c", "ü" * 40], ["b", "ý", ""]),
    (pa.binary(), [b"\x01", b"\x80" * 40], [b"\x7f", b"\x80" * 40], [b"\x00", b"\xff"]),
    (pa.binary(2), [b"\x01\x00", b"\x80\x00"], [b"\x7f\xff"], [b"\x80\x01"]),
]


@pytest.mark.parametrize(("kind", "held", "inside", "outside"), OUTSIDE, ids=[str(kind) for kind, *_ in OUTSIDE])
def test_bounds_of_a_file_and_of_a_row_group(
    tmp_path: Path, kind: pa.DataType, held: list[Any], inside: list[Any], outside: list[Any]
) -> None:
    table = table_of(tmp_path, kind)
    data_file = file_of(table, *held)
    assert str(asked(table, data_file, *inside, *outside, None)) == str(inside)
    footer = pq.ParquetFile(path_of(data_file))
    for value in (*inside, *outside):
        pruner = Pruner(table, frame(pa.table({"k": pa.array([value], kind)})))
        assert pruner.in_row_groups(footer) == ((0,) if value in inside else ())


def test_nulls_are_asked_of_the_counts(tmp_path: Path) -> None:
    table = table_of(tmp_path, pa.int64())
    assert asked(table, file_of(table, 1, None), 1, None, 2) == [1, None]
    assert asked(table, file_of(table, 1), 1, None) == [1]
    assert asked(table, file_of(table, None), 1, None) == [None]


def test_a_file_without_statistics_may_hold_everything(tmp_path: Path) -> None:
    table = made(open_lake(tmp_path), pa.schema([("k", pa.int64())]), properties={"write.metadata.metrics.default": "none"})
    (data_file,) = written(table, pa.table({"k": [5]}))
    assert asked(table, data_file, 1, None, 9) == [1, None, 9]


TRANSFORMED: list[tuple[pa.DataType, PartitionField, Any, list[Any], list[Any]]] = [
    (pa.string(), PartitionField("k"), "b", ["b"], ["a", "c", None]),
    (pa.int64(), PartitionField("k", "bucket", 16), 5, [5], [6, 7, 8, None]),
    (pa.string(), PartitionField("k", "truncate", 2), "abc", ["abc"], ["acc", "b"]),
    (pa.decimal128(9, 2), PartitionField("k"), Decimal("-2.50"), [Decimal("-2.50")], [Decimal("2.50")]),
    (pa.date32(), PartitionField("k", "month"), date(1969, 12, 31), [date(1969, 12, 31)], [date(1970, 1, 1)]),
    (
        pa.timestamp("us"),
        PartitionField("k", "day"),
        datetime(1969, 12, 31, 23),
        [datetime(1969, 12, 31, 23)],
        [datetime(1970, 1, 1)],
    ),
    (pa.int64(), PartitionField("k"), None, [None], [0, 1]),
]


@pytest.mark.parametrize(("kind", "part", "held", "inside", "outside"), TRANSFORMED, ids=lambda value: str(value)[:40])
def test_partition_values_exclude_where_there_are_no_bounds(
    tmp_path: Path, kind: pa.DataType, part: PartitionField, held: Any, inside: list[Any], outside: list[Any]
) -> None:
    lake = open_lake(tmp_path)
    table = made(lake, pa.schema([("k", kind)]), [part], {"write.metadata.metrics.default": "none"})
    (one,) = written(table, pa.table({"k": pa.array([held], kind)}))
    assert asked(table, one, *inside, *outside) == inside


def test_of_several_columns_all_must_leave_room(tmp_path: Path) -> None:
    table = made(open_lake(tmp_path), pa.schema([("a", pa.int64()), ("b", pa.string())]))
    (one,) = written(table, pa.table({"a": [1, 5], "b": ["k", "p"]}))
    values = pl.DataFrame({"a": [1, 1, 9, 5, 3, 3], "b": ["k", "z", "k", "p", None, "m"]})
    assert Pruner(table, values).in_file(one).to_list() == [0, 3, 5]


def test_row_groups_are_chosen_by_their_own_bounds(tmp_path: Path) -> None:
    table = table_of(tmp_path, pa.int64())
    writer = DataWriter(table)
    for start in range(0, 600_000, 150_000):
        writer.write(pa.table({"k": range(start, start + 150_000), "v": range(150_000)}))
    (one,) = writer.finish()
    footer = pq.ParquetFile(path_of(one))
    assert footer.num_row_groups > 2
    starts = [footer.metadata.row_group(number).column(0).statistics.min for number in range(footer.num_row_groups)]
    assert Pruner(table, pl.DataFrame({"k": [starts[1], 10**6, None]})).in_row_groups(footer) == (1,)


def test_uuids_are_compared_as_far_as_all_writers_agree_on_their_order(tmp_path: Path) -> None:
    """Some compare both halves as signed numbers: bounds that are in no order say nothing."""
    table = table_of(tmp_path, pa.int64())
    with table.update_schema() as update:
        update.add_column("u", UUIDType())
    number = table.schema().find_field("u").field_id
    assert isinstance(table.schema().find_field("u"), NestedField)
    low, inside, high, beyond = (UUID(int=value << 64 | 7) for value in (5, 6, 9, 10))
    halves = UUID(int=5 << 64 | 1)
    values = pl.DataFrame({"u": [one.bytes for one in (low, inside, high, beyond, halves)]})
    bounded = DataFile.from_args(
        partition=None, lower_bounds={number: low.bytes}, upper_bounds={number: high.bytes}, null_value_counts={number: 0}
    )
    bounded.spec_id = 0
    assert Pruner(table, values).in_file(bounded).to_list() == [0, 1, 2, 4]
    signed = DataFile.from_args(partition=None, lower_bounds={number: b"\xff" * 16}, upper_bounds={number: b"\x01" * 16})
    signed.spec_id = 0
    assert len(Pruner(table, values).in_file(signed)) == 5
