"""A step of a job that goes on by key: what is kept first, then the target's rows of it. keyed.py says why these are two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.declare import TableSpec
from lakeflow.errors import SchemaMismatch
from lakeflow.job import Output
from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.commit import Progress, fenced
from lakeflow.lake.prune import Pruner
from lakeflow.lake.read import Split, read, snapshot_at, splits_at
from lakeflow.lake.schema import fit, storable
from lakeflow.lake.spool import RowSpool
from lakeflow.lake.touch import frame
from lakeflow.lake.write import DataWriter
from lakeflow.models.lost import Counted
from lakeflow.runner.keyed import STEP, Kept, KeyedPlan, Standing
from lakeflow.runner.letters import PartLetters
from lakeflow.runner.putting import Putting
from lakeflow.runner.querying import relation_over, spilling
from lakeflow.runner.sql_body import SqlBody, assigned, failing
from lakeflow.sql.compiled import Compiled, TableRead
from lakeflow.sql.execute import run_compiled
from lakeflow.sql.incremental_keys import KEPT, NEW, STATE
from lakeflow.sql.relations import ArrowRelation, Relation

if TYPE_CHECKING:
    from lakeflow.runner.execute import RunCounts, _Work


def keyed_step(work: _Work) -> tuple[int, RunCounts]:
    """Carry out a step: its snapshot, and its counts. Raises Fenced where another process runs the same job."""
    return _Step(work).run()


class _Step:
    """One step as it is carried out."""

    def __init__(self, work: _Work) -> None:
        plan, body = work.plan, work.body
        assert plan.keyed is not None, "the caller looked"
        assert isinstance(body, SqlBody), "queries alone go on by key"
        self._work, self._plan, self._body = work, plan, body
        self._keyed: KeyedPlan = plan.keyed
        self._runtime = work.runtime
        self._target_id = str(work.target.metadata.table_uuid)
        self._whole = plan.output is Output.COMPLETE
        self._names = [body.columns.names[place] for place in self._keyed.query.places]
        if plan.job.key and set(plan.job.key) != set(self._names):
            raise SchemaMismatch(
                f"job {plan.job.name!r} ({plan.job.origin}) makes a row for each {', '.join(self._names) or 'table'}, and "
                f"{plan.target} has the PRIMARY KEY ({', '.join(plan.job.key)})",
                next_step="declare the table with the key of the query, or without any",
            )

    def run(self) -> tuple[int, RunCounts]:
        """Both commits; only the second where the first was made by a run that died."""
        work, keyed = self._work, self._keyed
        found = self._runtime.commits.progress(keyed.table, keyed.writer)
        kept, start = Kept.loads(found), work.progress.start
        shown = self._shown()  # after what is kept: a rival that comes between moves that, and the first commit is fenced
        if shown != start:
            raise fenced(self._plan.target, self._plan.job.writer, start, shown)
        standing = Standing.NOTHING
        if not self._whole:
            standing = keyed.standing(self._plan.job, kept, self._target_id, start, self._shown)
        if (standing is Standing.AHEAD) != (not work.step.reads):  # another run of the job has been here since this was planned
            raise fenced(keyed.table, keyed.writer, start, found)
        if standing is not Standing.AHEAD:
            kept = self._keep(kept, anew=standing is Standing.NOTHING)
        assert kept is not None, "it has just been written"
        return self._publish(kept)

    def _shown(self) -> str | None:
        """The job's progress, as the target shows it now."""
        return self._runtime.commits.progress(self._plan.target, self._plan.job.writer)

    def _keep(self, before: Kept | None, *, anew: bool) -> Kept:
        """Compute and commit what is kept of the groups of new rows; `anew` where nothing from before counts."""
        work, keyed, runtime = self._work, self._keyed, self._runtime
        step = (before.step if before else 0) + 1
        kept = Kept(work.progress.start, work.step.end, step, self._target_id, keyed.fingerprint, self._whole)
        table = self._state(anew=anew)
        found = runtime.commits.progress(keyed.table, keyed.writer)
        if Kept.loads(found) != before and not (anew and found is None):
            raise fenced(keyed.table, keyed.writer, before.dumps() if before else None, found)
        schema = arrow_schema(table)
        with closing(RowSpool(schema, runtime.spool)) as new:
            groups, lost = self._spool_new(new, schema, step)
            kept = replace(kept, read=work.rows, dead_lettered=lost.dead_lettered, skipped=lost.skipped)
            relations: dict[str, Relation] = {
                NEW: _streamed(schema, lambda: _batches(new.batches())),
                STATE: relation_over(table, () if anew else _touched(table, groups)),
            }
            rows = (fit(_numbered(one, step), schema, keyed.table) for one in self._query(keyed.query.merge, relations))
            putting = Putting(table, () if anew else keyed.query.keys, groups, self._writer(table), runtime.spool)
            progress = Progress(keyed.writer, found, kept.dumps())
            putting.put(rows, lambda change: runtime.commits.commit(replace(change, progress=progress)).snapshot_id)
        return kept

    def _state(self, *, anew: bool) -> Table:
        """The state table. One that was made for other columns is made anew where nothing from before counts."""
        lake, name = self._runtime.lake, self._keyed.table
        wanted = storable(self._keyed.compiled.columns.append(pa.field(STEP, pa.int64())), f"table {name}")
        spec = TableSpec(name, pa.schema([field.with_nullable(True) for field in wanted]))
        try:
            return lake.ensure(spec)
        except SchemaMismatch:
            if not anew:
                raise
        lake.drop(name)
        return lake.ensure(spec)

    def _spool_new(self, spool: RowSpool, schema: pa.Schema, step: int) -> tuple[pa.Table, PartLetters]:
        """Fill the spool with what is kept of the new rows: their groups, and the rows that models gave no answer to."""
        work, keys = self._work, list(self._keyed.query.keys)
        unordered = replace(self._plan, job=replace(self._plan.job, key=()))
        first = replace(self._body, plan=unordered, compiled=self._keyed.compiled, columns=self._keyed.compiled.columns)
        lost = work.letters.part()
        groups = [schema.empty_table().select(keys)]
        try:
            for chunk in first.chunks(work.step.reads, work.on_rows, lost):
                rows = fit(_numbered(chunk, step), schema, self._keyed.table)
                spool.write(rows)
                groups.append(rows.select(keys))
            work.letters.land(lost.finish())
        except BaseException:
            lost.abort()
            raise
        for _ in spool.batches():  # it takes no more rows from here on, whoever reads it
            break
        return pa.concat_tables(groups), lost

    def _publish(self, kept: Kept) -> tuple[int, RunCounts]:
        """Make the target's rows of what the step kept, and commit them with the job's progress."""
        from lakeflow.runner.execute import RunCounts

        work, query, columns = self._work, self._keyed.query, self._body.columns
        table = self._runtime.lake.table(self._keyed.table)
        schema, splits = arrow_schema(table), _of_step(table, kept.step)
        into, names = arrow_schema(work.target), self._names
        keys = list(query.keys)
        found = [rows.select(keys) for rows in _rows_of(table, splits, kept.step, [*keys, STEP])]
        stored = pa.concat_tables([schema.empty_table().select(keys), *found], promote_options="permissive")
        groups = assigned(stored.rename_columns(names), into)
        relation = _streamed(schema, lambda: _batches(_rows_of(table, splits, kept.step)))
        rows = (
            fit(assigned(one.rename_columns(columns.names), columns), into, self._plan.target)
            for one in self._query(query.finish, {KEPT: relation})
        )
        putting = Putting(work.target, () if kept.whole else names, groups, work.writer, self._runtime.spool)
        counts = RunCounts(kept.read, 0, kept.dead_lettered, kept.skipped)
        snapshot = putting.put(
            work.expecting.kept(rows, work.target, Counted()),
            lambda change: work.commit(replace(change, summary={**change.summary, **_counted(counts, putting).summary()})),
        )
        return snapshot, _counted(counts, putting)

    def _writer(self, table: Table) -> Callable[[], DataWriter]:
        runtime = self._runtime
        return lambda: DataWriter(table, buffer_bytes=runtime.buffer_bytes, target_file_bytes=runtime.target_file_bytes)

    def _query(self, text: str, relations: dict[str, Relation]) -> Iterator[pa.Table]:
        queries = self._runtime.queries
        compiled = Compiled(text, text, tuple(TableRead(view, view) for view in relations))
        folder = queries.spool or Path(gettempdir())
        with (
            spilling(folder, queries.memory_bytes) as limits,
            failing(self._plan.job),
            run_compiled(compiled, relations, (), limits) as reader,
        ):
            for batch in reader:
                yield pa.Table.from_batches([batch])


def _counted(counts: RunCounts, putting: Putting) -> RunCounts:
    return replace(counts, written=putting.rows)


def _numbered(rows: pa.Table, step: int) -> pa.Table:
    """The rows with the number of the step."""
    return rows.append_column(STEP, pa.array([step] * rows.num_rows, pa.int64()))


def _touched(table: Table, groups: pa.Table) -> tuple[Split, ...]:
    """The files that may hold a row of one of the groups; all where there are no keys."""
    splits = splits_at(table, snapshot_at(table))
    if not groups.num_columns:
        return splits
    pruner = Pruner(table, frame(groups).unique())
    return tuple(split for split in splits if len(pruner.in_file(split.task.file)))


def _of_step(table: Table, step: int) -> tuple[Split, ...]:
    """The files that may hold rows which the step wrote."""
    pruner = Pruner(table, pl.DataFrame({STEP: [step]}))
    return tuple(split for split in splits_at(table, snapshot_at(table)) if len(pruner.in_file(split.task.file)))


def _rows_of(table: Table, splits: Sequence[Split], step: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows that the step wrote."""
    for batch in read(table, splits, columns):
        yield pa.Table.from_batches([batch.filter(pc.equal(batch.column(STEP), step))])


def _streamed(schema: pa.Schema, batches: Callable[[], Iterator[pa.RecordBatch]]) -> Relation:
    return ArrowRelation(schema, lambda: pa.RecordBatchReader.from_batches(schema, batches()))


def _batches(tables: Iterator[pa.Table]) -> Iterator[pa.RecordBatch]:
    for rows in tables:
        yield from rows.to_batches()
