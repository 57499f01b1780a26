"""The queries of TPC-H over Iceberg tables, beside plain DuckDB over the same Parquet files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from benchmarks.harness import Bar, Best, Result, Settings, Spent, in_child, spending
from benchmarks.projects import project_in
from benchmarks.tpch_data import NAMESPACE, NUMBERS, files_in, generated, load, plain, query_text
from lakeflow import Project
from lakeflow.runner.sql_names import ProjectNames
from lakeflow.runner.sql_query import query_project
from lakeflow.sql.compile import compile_query
from lakeflow.sql.execute import Limits, run_compiled
from lakeflow.sql.query import tables_of

SCALE = 0.1
THREADS = 2
LIMIT = 1.5


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of a query by both, those of lakeflow without compiling and planning, and how many rows it has."""

    number: int
    lakeflow: Spent
    running: Spent
    duckdb: Spent
    rows: int


def run(settings: Settings) -> Result:
    scale = SCALE * settings.scale
    done = in_child(_measured, settings.place("lake"), generated(settings.cache, scale), scale, settings.rounds)
    ours, running = _sum([one.lakeflow for one in done.value]), _sum([one.running for one in done.value])
    theirs = _sum([one.duckdb for one in done.value])
    rows = [(f"Q{one.number}", *_cells(one.lakeflow, one.running, one.duckdb), str(one.rows)) for one in done.value]
    return Result(
        title="TPC-H",
        data=(
            f"Scale factor {scale:g} (tpchgen-cli) as Iceberg tables in a local lake. lakeflow: each query as `lakeflow query` "
            "runs it, compiled, planned from the tables' metadata and run in a database of its own; and the running alone. "
            "DuckDB: a new database with views of the tables over the same files, whose names it is given. Both with "
            f"{THREADS} threads, in turn, the best of {settings.rounds} rounds after one that is not counted, whose answers "
            "were compared and were equal for every query. All in milliseconds."
        ),
        columns=(
            "query",
            "lakeflow",
            "running",
            "DuckDB",
            "ratio",
            "lakeflow, CPU",
            "running, CPU",
            "DuckDB, CPU",
            "ratio",
            "rows",
        ),
        rows=(*rows, ("all", *_cells(ours, running, theirs), "")),
        bars=(
            Bar("all 22 queries by the clock, of DuckDB's time", ours.wall / theirs.wall, LIMIT, at_least=False),
            Bar("all 22 queries in CPU time, of DuckDB's", ours.cpu / theirs.cpu, LIMIT, at_least=False),
            Bar("running them alone in CPU time, of DuckDB's", running.cpu / theirs.cpu, LIMIT, at_least=False),
        ),
        notes=(
            "What compiling and planning take does not grow with the rows: a database is opened for the query (some 13 ms, "
            "as its own takes DuckDB) beside the reading of the text and of the manifests of each table (7 ms in all).",
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
    project = project_in(place, {})
    load(project.lake, data)
    files = files_in(project.lake)
    return [_both(number, query_text(number, scale), project, files, rounds) for number in NUMBERS]


def _both(number: int, text: str, project: Project, files: Mapping[str, str], rounds: int) -> Measured:
    named = {table: source for table, source in files.items() if f"{NAMESPACE}.{table}" in tables_of(text)}
    answer = _asked(text, project)
    assert same(answer, _plainly(text, named)), f"query {number} differs"
    names = ProjectNames(project)
    compiled = compile_query(text, names)
    relations = names.relations(compiled)
    ours, running, theirs = Best(), Best(), Best()
    for _ in range(rounds):
        with spending() as spent:
            _asked(text, project)
        ours.take(spent)
        with spending() as spent:
            run_compiled(compiled, relations, (), Limits(threads=THREADS)).read_all()
        running.take(spent)
        with spending() as spent:
            _plainly(text, named)
        theirs.take(spent)
    return Measured(number, ours.spent, running.spent, theirs.spent, answer.num_rows)


def _asked(text: str, project: Project) -> pa.Table:
    with ExitStack() as held:
        return query_project(text, project, Limits(threads=THREADS), held).read_all()


def _plainly(text: str, files: Mapping[str, str]) -> pa.Table:
    with plain(files, THREADS) as connection:
        return connection.sql(text).to_arrow_table()


def _sum(parts: list[Spent]) -> Spent:
    return Spent(sum(part.wall for part in parts), sum(part.cpu for part in parts))


def _cells(ours: Spent, running: Spent, theirs: Spent) -> tuple[str, ...]:
    wall, cpu = [one.wall for one in (ours, running, theirs)], [one.cpu for one in (ours, running, theirs)]
    return tuple(
        cell for part in (wall, cpu) for cell in (*(f"{figure * 1000:.1f}" for figure in part), f"{part[0] / part[2]:.2f}")
    )
