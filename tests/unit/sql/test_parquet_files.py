"""Which data files DuckDB reads plainly, and that it plans with their rows then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakeflow.errors import SchemaMismatch
from lakeflow.sql.parquet_files import parquet_bodies
from lakeflow.sql.relations import ParquetRelation, parquet_columns


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


def field(name: str, arrow: pa.DataType, number: int) -> pa.Field:
    return pa.field(name, arrow, metadata={"PARQUET:field_id": str(number)})


def written(path: Path, *fields: pa.Field) -> str:
    columns = [pa.array([7, 8], pa.int16()).cast(one.type) for one in fields]
    pq.write_table(pa.Table.from_arrays(columns, schema=pa.schema(fields)), path)
    return str(path)


def parquet_body(connection: duckdb.DuckDBPyConnection, table: str, relation: ParquetRelation) -> str:
    return parquet_bodies(connection, {table: relation})[table]


A, B = field("a", pa.int64(), 1), field("b b", pa.decimal128(20, 2), 2)
NOW = parquet_columns(pa.schema([A, B]))


def test_files_as_the_table_is_now_are_read_plainly_and_planned_with_their_rows(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    folder = tmp_path / "x=1"
    folder.mkdir()
    files = tuple(written(folder / name, A, B) for name in ("it's [1].parquet", "two.parquet"))
    body = parquet_body(connection, "ns.t", ParquetRelation(files, NOW))
    assert "schema =" not in body
    assert connection.sql(body).columns == ["a", "b b"]
    assert connection.sql(f"SELECT sum(a) FROM ({body})").fetchall() == [(30,)]
    assert "~4 rows" in connection.sql(f"EXPLAIN {body}").fetchall()[0][1]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param([field("a", pa.int32(), 1), B], id="narrower"),
        pytest.param([field("old", pa.int64(), 1), B], id="renamed"),
        pytest.param([field("a", pa.int64(), 9), B], id="dropped and added again"),
        pytest.param([B, A], id="moved"),
        pytest.param([A], id="without a later column"),
        pytest.param([A, B, field("c", pa.int64(), 3)], id="with a dropped column"),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_files_of_other_columns_are_read_by_field_ids(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, other: list[pa.Field], alone: bool
) -> None:
    files = [written(tmp_path / "other.parquet", *other)]
    if not alone:
        files.append(written(tmp_path / "now.parquet", A, B))
    body = parquet_body(connection, "ns.t", ParquetRelation(tuple(files), NOW))
    assert "schema =" in body
    assert connection.sql(body).columns == ["a", "b b"]


def test_nested_columns_are_read_by_field_ids(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    nested = field("s", pa.struct([field("x", pa.int64(), 2)]), 1)
    pq.write_table(pa.Table.from_pylist([{"s": {"x": 1}}], schema=pa.schema([nested])), tmp_path / "t.parquet")
    relation = ParquetRelation((str(tmp_path / "t.parquet"),), parquet_columns(pa.schema([nested])))
    assert "schema =" in parquet_body(connection, "ns.t", relation)


def test_a_file_without_field_ids_among_others_is_refused(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    files = (written(tmp_path / "with.parquet", A, B), str(tmp_path / "none.parquet"))
    pq.write_table(pa.table({"a": [1], "b b": [2]}), tmp_path / "none.parquet")
    with pytest.raises(SchemaMismatch, match=r"'ns.t': the data file .*none\.parquet carries no field ids"):
        parquet_body(connection, "ns.t", ParquetRelation(files, NOW))


def test_a_table_without_files_has_its_columns(connection: duckdb.DuckDBPyConnection) -> None:
    body = parquet_body(connection, "ns.t", ParquetRelation((), NOW))
    assert connection.sql(body).columns == ["a", "b b"]


def test_tables_are_told_apart_in_one_look(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """Also where two of them, as of two moments, share a file."""
    now, old = written(tmp_path / "now.parquet", A, B), written(tmp_path / "old.parquet", A)
    relations = {
        "ns.t": ParquetRelation((now,), NOW),
        "ns.t before": ParquetRelation((now, old), NOW),
        "ns.other": ParquetRelation((old,), parquet_columns(pa.schema([A]))),
        "ns.empty": ParquetRelation((), NOW),
    }
    bodies = parquet_bodies(connection, relations)
    assert ["schema =" in bodies[table] for table in relations] == [False, True, False, False]
    assert [connection.sql(f"SELECT count(*) FROM ({body})").fetchall()[0][0] for body in bodies.values()] == [2, 4, 2, 0]
