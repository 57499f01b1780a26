"""The queries of TPC-H over Iceberg tables, beside plain DuckDB over the same Parquet files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from benchmarks.harness import Bar, Best, Result, Settings, Spent, in_child, spending
from benchmarks.tpch_data import NAMESPACE, NUMBERS, files_in, generated, load, plain, query_text
from lakeflow.lake.catalog import Lake
from lakeflow.runner.querying import query
from lakeflow.sql.execute import Limits
from lakeflow.sql.query import tables_of

SCALE = 0.1
THREADS = 2
LIMIT = 1.5


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of a query by both, and how many rows it has."""

    number: int
    lakeflow: Spent
    duckdb: Spent
    rows: int


def run(settings: Settings) -> Result:
    scale = SCALE * settings.scale
    done = in_child(_measured, settings.place("lake"), generated(settings.cache, scale), scale, settings.rounds)
    ours, theirs = _sum([one.lakeflow for one in done.value]), _sum([one.duckdb for one in done.value])
    rows = [(f"Q{one.number}", *_cells(one.lakeflow, one.duckdb), str(one.rows)) for one in done.value]
    return Result(
        title="TPC-H",
        data=(
            f"Scale factor {scale:g} (tpchgen-cli) as Iceberg tables in a local lake. lakeflow: each query as `lakeflow query` "
            "runs it, checked, planned from the tables' metadata and in a database of its own. DuckDB: a new database with views "
            f"of the tables over the same files, whose names it is given. Both with {THREADS} threads, in turn, the best of "
            f"{settings.rounds} rounds after one that is not counted, whose answers were compared and equal for every query."
        ),
        columns=("query", "lakeflow, ms", "DuckDB, ms", "ratio", "lakeflow, CPU ms", "DuckDB, CPU ms", "ratio", "rows"),
        rows=(*rows, ("all", *_cells(ours, theirs), "")),
        bars=(
            Bar("all 22 queries by the clock, of DuckDB's time", ours.wall / theirs.wall, LIMIT, at_least=False),
            Bar("all 22 queries in CPU time, of DuckDB's", ours.cpu / theirs.cpu, LIMIT, at_least=False),
        ),
    )


def same(ours: pa.Table, theirs: pa.Table) -> bool:
    """Whether two results are one: names, types and rows in order; floating point numbers to twelve digits."""
    if not ours.schema.equals(theirs.schema) or ours.num_rows != theirs.num_rows:
        return False
    pairs = zip(ours.to_pylist(), theirs.to_pylist(), strict=True)
    return all(_same_value(one[name], other[name]) for one, other in pairs for name in ours.column_names)


def _same_value(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-12)
    return one == other


def _measured(place: Path, data: Path, scale: float, rounds: int) -> list[Measured]:
    lake = Lake.open({"type": "sql", "uri": f"sqlite:///{place}/catalog.db", "warehouse": f"file://{place}/warehouse"})
    load(lake, data)
    files = files_in(lake)
    return [_both(number, query_text(number, scale), lake, files, rounds) for number in NUMBERS]


def _both(number: int, text: str, lake: Lake, files: Mapping[str, str], rounds: int) -> Measured:
    limits = Limits(threads=THREADS)
    named = {table: source for table, source in files.items() if f"{NAMESPACE}.{table}" in tables_of(text)}
    answer = query(text, lake, limits).read_all()
    assert same(answer, _plainly(text, named)), f"query {number} differs"
    ours, theirs = Best(), Best()
    for _ in range(rounds):
        with spending() as spent:
            query(text, lake, limits).read_all()
        ours.take(spent)
        with spending() as spent:
            _plainly(text, named)
        theirs.take(spent)
    return Measured(number, ours.spent, theirs.spent, answer.num_rows)


def _plainly(text: str, files: Mapping[str, str]) -> pa.Table:
    with plain(files, THREADS) as connection:
        return connection.sql(text).to_arrow_table()


def _sum(parts: list[Spent]) -> Spent:
    return Spent(sum(part.wall for part in parts), sum(part.cpu for part in parts))


def _cells(ours: Spent, theirs: Spent) -> tuple[str, ...]:
    wall, cpu = ours.wall / theirs.wall, ours.cpu / theirs.cpu
    figures = (ours.wall, theirs.wall), (ours.cpu, theirs.cpu)
    (clock, plain_clock), (used, plain_used) = [(f"{one * 1000:.1f}", f"{other * 1000:.1f}") for one, other in figures]
    return clock, plain_clock, f"{wall:.2f}", used, plain_used, f"{cpu:.2f}"
