"""TPC-H: its tables as data of the package tpchgen-cli, in a lake, and its 22 queries with the parameters of their validation.

The tables and queries are those of the TPC-H specification, chapters 1.4 and 2.4; a query stands in tpch_queries/NN.sql.
"""

from __future__ import annotations

import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.check import files_of
from lakeflow.declare import TableSpec
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.write import DataWriter

NAMESPACE: Final = "tpch"
TABLES: Final = ("customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier")
NUMBERS: Final = range(1, 23)
QUERIES: Final = Path(__file__).parent / "tpch_queries"
GENERATOR: Final = Path(sysconfig.get_path("scripts")) / "tpchgen-cli"


def query_text(number: int, scale: float) -> str:
    """Query `number` at a scale factor, on which one threshold of query 11 depends (specification, 2.4.11.3)."""
    return (QUERIES / f"{number:02}.sql").read_text().replace("{fraction}", f"{0.0001 / scale:.10f}")


def generated(folder: Path, scale: float) -> Path:
    """The folder with a Parquet file for each table, made where it is not there yet."""
    made = folder / f"tpch-{scale:g}"
    if not made.exists():
        partly = folder / f"tpch-{scale:g}.partly"
        subprocess.run(
            [GENERATOR, "parquet", "--overwrite", f"--scale-factor={scale:g}", "--num-threads=2", f"--output-dir={partly}"],
            check=True,
        )
        partly.rename(made)
    return made


def load(lake: Lake, data: Path) -> None:
    """Write every table of `data` into the lake, a commit each."""
    for table in TABLES:
        file = pq.ParquetFile(data / f"{table}.parquet")
        schema = pa.schema([pa.field(column.name, _kept(column.type), nullable=False) for column in file.schema_arrow])
        name = f"{NAMESPACE}.{table}"
        writer = DataWriter(lake.ensure(TableSpec(name, schema)))
        for batch in file.iter_batches():
            writer.write(pa.Table.from_batches([batch]).cast(schema))
        Committer(lake, keep_snapshots=10).commit(Change(name, add=writer.finish()))


def files_in(lake: Lake) -> dict[str, str]:
    """What DuckDB reads in place of each table: the very files that it consists of."""
    return {table: files_of(lake.table(f"{NAMESPACE}.{table}")) for table in TABLES}


def plain(files: Mapping[str, str], threads: int) -> duckdb.DuckDBPyConnection:
    """DuckDB by itself, with a view of each table over its files."""
    connection = duckdb.connect(config={"threads": threads})
    connection.execute(f"CREATE SCHEMA {NAMESPACE}")
    for table, source in files.items():
        connection.execute(f"CREATE VIEW {NAMESPACE}.{table} AS SELECT * FROM {source}")
    return connection


def _kept(arrow: pa.DataType) -> pa.DataType:
    return pa.string() if arrow == pa.string_view() else arrow
