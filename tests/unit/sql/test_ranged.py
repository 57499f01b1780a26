"""A range of moments of a table: which rows a query sees, and that DuckDB holds it against the statistics of row groups."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakeflow.sql.compiled import Compiled, TableRead
from lakeflow.sql.execute import plan_compiled, run_compiled
from lakeflow.sql.relations import ArrowRelation, ParquetRelation, Plain, RangedRelation, parquet_columns

ZERO = datetime(1969, 12, 31, 23, tzinfo=UTC)
HOUR = 3_600_000_000
TEXT = "SELECT n FROM s.t ORDER BY n"
QUERY = Compiled(TEXT, TEXT, (TableRead("s.t", "s.t"),))


def table(path: Path, zone: str | None, kind: str) -> Plain:
    """An hour a row, from an hour before 1970 on, and one without a moment; a row group each."""
    at = pa.field("at", pa.timestamp("us", zone), metadata={"PARQUET:field_id": "1"})
    schema = pa.schema([at, pa.field("n", pa.int64(), metadata={"PARQUET:field_id": "2"})])
    moments = [ZERO + timedelta(hours=hour) for hour in range(6)]
    rows = pa.table([pa.array([*moments, None], at.type), pa.array(range(7), pa.int64())], schema=schema)
    if kind == "arrow":
        return ArrowRelation(schema, lambda: pa.RecordBatchReader.from_batches(schema, rows.to_batches()))
    pq.write_table(rows, path / "t.parquet", row_group_size=1)
    return ParquetRelation((str(path / "t.parquet"),), parquet_columns(schema))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("zone", [None, "UTC"])
@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(0, 2 * HOUR, [1, 2]), (-HOUR, 1, [0, 1]), (None, 0, [0]), (4 * HOUR, None, [5]), (-(1 << 62), 1 << 62, [*range(6)])],
)
def test_rows_of_the_range_are_seen(
    tmp_path: Path, kind: str, zone: str | None, low: int | None, high: int | None, wanted: list[int]
) -> None:
    ranged = RangedRelation(table(tmp_path, zone, kind), "at", low, high, zone is not None)
    assert ranged.column_names == ("at", "n")
    with run_compiled(QUERY, {"s.t": ranged}, ()) as reader:
        assert reader.read_all().column("n").to_pylist() == wanted


def test_the_range_is_a_filter_of_the_scan(tmp_path: Path) -> None:
    ranged = RangedRelation(table(tmp_path, "UTC", "parquet"), "at", 0, HOUR, True)
    plan = json.dumps(plan_compiled(QUERY, {"s.t": ranged}))
    scan = plan[plan.index("READ_PARQUET") :]
    assert "at>='1970-01-01 00:00:00+00'" in scan.replace(" >= ", ">=").replace("::TIMESTAMP WITH TIME ZONE", "")
    assert '"FILTER' not in plan
