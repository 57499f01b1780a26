"""Looks at tables by DuckDB over their Parquet files: a reader that shares no code with what wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb

from lakeflow.lake.catalog import Table


def stored_rows(warehouse: Path, table: str) -> int:
    """Rows in all files under the folder of a table that was only ever appended to."""
    return int(_one(f"SELECT count(*) FROM '{warehouse / table.replace('.', '/')}/data/**/*.parquet'")[0])


def live_rows(table: Table, sql: str = "SELECT count(*) FROM rows") -> tuple[Any, ...]:
    """The first row of `sql` over `rows`, the files of the table's current snapshot."""
    return _one(sql.replace("FROM rows", f"FROM {files_of(table)}"))


def files_of(table: Table) -> str:
    """The files of the table's current snapshot as DuckDB's SQL reads them."""
    paths = [task.file.file_path.removeprefix("file://") for task in table.scan().plan_files()]
    return f"read_parquet({paths}, hive_partitioning=false)"


def _one(sql: str) -> tuple[Any, ...]:
    with duckdb.connect() as connection:
        rows: list[tuple[Any, ...]] = connection.sql(sql).limit(1).fetchall()
    return rows[0]
