"""A query as the body of a job: what it reads of a step, what stands behind its calls, and where its columns go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import gettempdir
from types import MappingProxyType
from typing import TYPE_CHECKING, assert_never

import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.declare import TableSpec
from lakeflow.errors import JobFailed, SchemaMismatch, UsageError
from lakeflow.job import Job, SqlQuery
from lakeflow.lake.catalog import Lake, Table, arrow_schema
from lakeflow.lake.moments import at_ref, at_snapshot, at_time
from lakeflow.lake.read import Snapshot, snapshot_at, splits_at
from lakeflow.models.lost import Lost
from lakeflow.runner.chosen_rows import chosen_relation
from lakeflow.runner.history_step import given_columns
from lakeflow.runner.plan import JobPlan, Source
from lakeflow.runner.sql_placed import is_placed, placed_relation, placed_schema, relation_of
from lakeflow.runner.sql_windows import check_key
from lakeflow.runner.window_rows import rows_among
from lakeflow.runner.windows import View
from lakeflow.sql.compiled import AtRef, AtRow, AtSnapshot, AtStart, AtTime, Compiled, Function, Moment, TableRead
from lakeflow.sql.relations import ArrowRelation, Relation

if TYPE_CHECKING:
    from lakeflow.runner.shared_scan import SharedScan

LEAST_BYTES = 64 << 20
"""What each of the parts that run at once may take, however many they are."""

Behind = Callable[[Compiled, Lost], Sequence[Function]]


def nothing_behind(compiled: Compiled, lost: Lost) -> Sequence[Function]:
    """For queries without calls of models and indexes."""
    return ()


@dataclass(frozen=True, slots=True)
class Queries:
    """What jobs in SQL run with: what stands behind their calls, the memory of all that run at once, and how many may.

    `spool` is the folder for what does not fit into memory; None: the system's. `shared` is the scan of the jobs of a
    statement set, which run together. `threads` is how many a query is given that may use so many cores.
    """

    behind: Behind = nothing_behind
    memory_bytes: int = 512 << 20
    workers: int = 1
    spool: Path | None = None
    shared: SharedScan | None = None
    threads: Callable[[Compiled, int], int] = lambda compiled, threads: threads


def sql_body(
    plan: JobPlan,
    lake: Lake,
    declared: Mapping[str, TableSpec],
    queries: Queries,
    sample: Mapping[str, Relation] = MappingProxyType({}),
) -> SqlBody:
    """The body of a planned job in SQL. `sample` has by its name what is read of a table in place of the steps' files.

    Raises SchemaMismatch where its columns and those of the target do not go together.
    """
    query, compiled = plan.job.body, plan.compiled
    assert isinstance(query, SqlQuery), "the caller looked"
    assert compiled is not None, "a plan of a query is compiled"
    into: pa.Schema | None = None
    if (table := lake.find(plan.target)) is not None:
        into = arrow_schema(table)
    elif plan.job.target in declared:
        into = declared[plan.job.target].schema
    if into is not None and plan.job.history is not None:
        into = given_columns(plan.job.history, into)
    names = placed(compiled.columns.names, query.columns, into.names if into is not None else None, plan.job)
    columns = assigned(compiled.columns.empty_table().rename_columns(names), into).schema
    if plan.job.windowed is not None and plan.job.target in declared:
        check_key(
            plan.job, declared[plan.job.target].primary_key, plan.job.windowed.named(compiled.columns.names, names).columns
        )
    return SqlBody(plan, compiled, lake, queries, columns, sample, declared)


def placed(given: Sequence[str], columns: Sequence[str], target: Sequence[str] | None, job: Job) -> list[str]:
    """Which column of the target each column of the query is, by place as in Flink. Pure.

    `columns` are those that INSERT INTO t (..) names, `target` those that the table has or is declared with; None: it is made
    of the query's own. Raises SchemaMismatch where the numbers differ, and where the same names come in another order, since
    one of the two is then an oversight.
    """
    wanted = list(columns) or (list(target) if target is not None else list(given))
    label = f"job {job.name!r} ({job.origin})"
    if len(wanted) != len(given):
        raise SchemaMismatch(
            f"{label}: the query gives {len(given)} columns ({', '.join(given)}); "
            f"{job.target} takes {len(wanted)} ({', '.join(wanted)})",
            next_step=f"INSERT INTO {job.target} (the columns that the query gives, in its order) SELECT ..",
        )
    if not columns and list(given) != wanted and sorted(given) == sorted(wanted):
        raise SchemaMismatch(
            f"{label}: columns go to the target by their place, and the query's stand in another order: it gives "
            f"{', '.join(given)}; {job.target} has {', '.join(wanted)}",
            next_step=f"INSERT INTO {job.target} ({', '.join(given)}) SELECT ..",
        )
    return wanted


def assigned(rows: pa.Table, into: pa.Schema | None) -> pa.Table:
    """Decimals, which sums and constants are, as the integers or reals that the target has, and integers as its decimals; so
    within lists. Raises SchemaMismatch where one does not fit."""
    for place, field in enumerate(rows.schema):
        found = into.get_field_index(field.name) if into is not None else -1
        if into is None or found < 0 or not _assigns(field.type, into.field(found).type):
            continue
        wanted = _number(into.field(found).type)
        try:
            values = pc.cast(pc.cast(rows.column(place), _widest(wanted, field.type)), wanted)
        except pa.ArrowInvalid as error:
            raise SchemaMismatch(f"column {field.name!r} is {wanted} and the query gives {field.type}: {error}") from error
        rows = rows.set_column(place, pa.field(field.name, wanted), values)
    return rows


def _assigns(given: pa.DataType, wanted: pa.DataType) -> bool:
    if _is_list(given) and _is_list(wanted):
        return _assigns(given.value_type, wanted.value_type)
    if pa.types.is_decimal(given):
        return bool(pa.types.is_integer(wanted) or pa.types.is_floating(wanted))
    return bool(pa.types.is_integer(given) and pa.types.is_decimal(wanted))


def _number(wanted: pa.DataType) -> pa.DataType:
    """The type, with lists whose elements may be null: whether they may is looked at when rows are fitted to the table."""
    return pa.large_list(_number(wanted.value_type)) if _is_list(wanted) else wanted


def _widest(wanted: pa.DataType, given: pa.DataType) -> pa.DataType:
    """What Arrow casts by way of: of integers it would have decimals that hold the greatest there is, whatever their values."""
    if _is_list(wanted):
        return pa.large_list(_widest(wanted.value_type, given.value_type))
    return pa.decimal128(38, wanted.scale) if pa.types.is_decimal(wanted) else given


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


@dataclass(frozen=True, slots=True)
class SqlBody:
    """A query over the sources of a step. `columns` are what its rows are written as."""

    plan: JobPlan
    compiled: Compiled
    lake: Lake
    queries: Queries
    columns: pa.Schema
    sample: Mapping[str, Relation]
    declared: Mapping[str, TableSpec]

    def prepare(self) -> None:
        """DuckDB reads lookups where it needs them."""

    def schema(self, reads: Sequence[Source]) -> pa.Schema:
        return self.columns

    def chunks(self, reads: Sequence[Source], on_rows: Callable[[int], None], lost: Lost) -> Iterator[pa.Table]:
        from lakeflow.runner.querying import spilling
        from lakeflow.sql.execute import run_compiled

        relations = self.relations(reads)
        behind = self.queries.behind(self.compiled, lost)
        alone, keyed = not self.plan.is_row_wise, bool(self.plan.job.key)
        memory = self.queries.memory_bytes if alone else max(LEAST_BYTES, self.queries.memory_bytes // self.queries.workers)
        with spilling(self.queries.spool or Path(gettempdir()), memory) as limits, failing(self.plan.job):
            threads = 1 if keyed else self.queries.threads(self.compiled, limits.threads if alone else 1)
            limits = replace(limits, threads=threads, in_order=keyed)
            with run_compiled(self.compiled, relations, behind, limits) as reader:
                for batch in reader:
                    rows = pa.Table.from_batches([batch]).rename_columns(self.columns.names)
                    yield self._of_windows(assigned(rows, self.columns), reads)
        on_rows(sum(source.rows for source in reads))

    def _of_windows(self, rows: pa.Table, reads: Sequence[Source]) -> pa.Table:
        """The rows of the windows that the step is about; the query has seen parts of others too."""
        windowed, view = self.plan.job.windowed, reads[0].view if reads else None
        if windowed is None or view is None or view.windows is None:
            return rows
        return rows_among(rows, view.windows, windowed.named(self.compiled.columns.names, self.columns.names))

    def relations(self, reads: Sequence[Source]) -> dict[str, Relation]:
        """What the query reads, by view."""
        return {read.view: self._relation(read, reads) for read in self.compiled.reads}

    def _relation(self, read: TableRead, reads: Sequence[Source]) -> Relation:
        """What a view reads: the new rows of the step, a lookup as of the start of the run, or a table at a moment."""
        from lakeflow.runner.querying import relation_over

        if read.at is None and is_placed(self.plan.job):
            return self._in_windows(read, reads)
        if read.at is None and read.name in self.sample:
            return self.sample[read.name]
        lookups, at_start = self.plan.lookups, isinstance(read.at, AtStart)
        for source in (*lookups, *reads) if at_start else reads if read.at is None else ():
            if source.name == read.name:
                if source.within is not None or source.keys is not None:
                    return chosen_relation(source)
                if self.queries.shared is not None and any(source is one for one in reads):
                    return self.queries.shared.relation(source.table, source.splits)
                return relation_over(source.table, source.splits)
        if isinstance(read.at, AtRow):
            return self._versions(read.name)
        if read.at is None:  # the step reads another table of a UNION ALL
            return relation_over(self.lake.table(read.name), ())
        table, snapshot = _at(self.lake.table(read.name), read.at)
        return relation_over(table, splits_at(table, snapshot))

    def _in_windows(self, read: TableRead, reads: Sequence[Source]) -> Relation:
        """The rows of the table, each in every window of the step that it is not too late for."""
        from lakeflow.sql.columns_read import columns_read

        [source] = [one for one in reads if one.name == read.name]
        windowed = self.plan.job.windowed
        assert windowed is not None, "the caller looked"
        sample = self.sample.get(read.name)
        if isinstance(sample, ArrowRelation):
            view = View(windowed.window)
            return relation_of(placed_schema(source, view), view, lambda columns: ((0, one) for one in sample.reader()))
        view = source.view or View(windowed.window)
        schema = placed_schema(source, view)
        without_rows = ArrowRelation(schema, lambda: pa.RecordBatchReader.from_batches(schema, []))
        others = {one.view: self._relation(one, reads) for one in self.compiled.reads if one.view != read.view}
        return placed_relation(source, view, columns_read(self.compiled, {**others, read.view: without_rows}, schema.names))

    def _versions(self, name: str) -> Relation:
        """The versions of a table that is looked up, as far as they were known at the start of the run."""
        from lakeflow.runner.sql_versions import versions_of

        source = next(one for one in self.plan.lookups if one.name == name)
        head = None if source.snapshot_id is None else snapshot_at(source.table, snapshot_id=source.snapshot_id)
        return versions_of(name, source.table, head, self.declared)


def _at(table: Table, at: Moment | None) -> tuple[Table, Snapshot | None]:
    match at:
        case AtSnapshot(snapshot_id):
            return at_snapshot(table, snapshot_id)
        case AtTime(microseconds):
            return at_time(table, microseconds)
        case AtRef(name):
            return at_ref(table, name)
        case None | AtStart() | AtRow():
            raise AssertionError(f"{'.'.join(table.name())} is among the sources of the plan")
        case _:
            assert_never(at)


@contextmanager
def failing(job: Job) -> Iterator[None]:
    """What the query itself meets in the rows, such as a text that is no number, is the job's failure."""
    try:
        yield
    except UsageError as error:
        if type(error) is not UsageError:
            raise
        raise JobFailed(
            f"job {job.name!r} ({job.origin}) failed: {error.message}",
            left_behind=f"{job.target}, as of the last step that was committed",
            next_step=f"mend the job, then: lakeflow run {job.name}",
        ) from error
