"""A step of a job that goes on by key: what is kept first, then the target's rows of it. keyed.py says why these are two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.errors import SchemaMismatch
from lakeflow.job import Output
from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.commit import Progress, fenced
from lakeflow.lake.on_base import land
from lakeflow.lake.schema import fit, storable
from lakeflow.lake.spool import RowSpool
from lakeflow.lake.write import DataWriter
from lakeflow.models.lost import Counted
from lakeflow.runner.interval_read import meeting
from lakeflow.runner.keyed import Kept, KeyedPlan, Standing
from lakeflow.runner.keyed_state import StateMerge, files_of_step, rows_of_step, streamed
from lakeflow.runner.letters import PartLetters
from lakeflow.runner.putting import Putting
from lakeflow.runner.querying import Ready, databases_ahead
from lakeflow.runner.sql_body import SqlBody, assigned, failing
from lakeflow.sql.compiled import Compiled, TableRead
from lakeflow.sql.execute import run_compiled
from lakeflow.sql.incremental_keys import KEPT, NEW, STATE, STEP
from lakeflow.sql.relations import Relation

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
        self._ready: Ready
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
        queries, ahead = self._runtime.queries, standing is Standing.AHEAD
        with databases_ahead(queries.spool or Path(gettempdir()), queries.memory_bytes, 1 if ahead else 2) as self._ready:
            if not ahead:
                return self._publish(*self._keep(kept, anew=standing is Standing.NOTHING))
            assert kept is not None, "the state table is ahead"
            return self._publish(kept, None)

    def _shown(self) -> str | None:
        """The job's progress, as the target shows it now."""
        return self._runtime.commits.progress(self._plan.target, self._plan.job.writer)

    def _keep(self, before: Kept | None, *, anew: bool) -> tuple[Kept, Sequence[pa.Table] | None]:
        """Compute and commit what is kept of the groups of new rows; `anew` where nothing from before counts.

        Gives the progress of the state table from then on, and the rows that were kept, where they are few.
        """
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
            merging = StateMerge(table, new, groups, step, self._merged, anew=anew)
            progress = Progress(keyed.writer, found, kept.dumps())
            land(merging, table, self._writer(table), lambda change: runtime.commits.commit(replace(change, progress=progress)))
        return kept, merging.rows

    def _merged(self, new: Relation, state: Relation) -> Iterator[pa.Table]:
        return self._query(self._keyed.query.merge, {NEW: new, STATE: state})

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
            reads = work.step.reads if work.step.joined is None else meeting(work.step).reads
            for chunk in first.chunks(reads, work.on_rows, lost):
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

    def _publish(self, kept: Kept, rows_kept: Sequence[pa.Table] | None) -> tuple[int, RunCounts]:
        """Make the target's rows of what the step kept, and commit them with the job's progress. `rows_kept` are those rows,
        where they are at hand; else they are read."""
        from lakeflow.runner.execute import RunCounts

        work, query, columns = self._work, self._keyed.query, self._body.columns
        table = self._runtime.lake.table(self._keyed.table)
        splits = () if rows_kept is not None else files_of_step(table, kept.step)
        into, names = arrow_schema(work.target), self._names

        def of_step(columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
            return iter(rows_kept) if rows_kept is not None else rows_of_step(table, splits, kept.step, columns)

        keys = list(query.keys)
        found = [] if kept.whole else [rows.select(keys) for rows in of_step([*keys, STEP])]
        stored = pa.concat_tables([arrow_schema(table).empty_table().select(keys), *found], promote_options="permissive")
        groups = assigned(stored.rename_columns(names), into)
        relation = streamed(arrow_schema(table), of_step)
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
        compiled = Compiled(text, text, tuple(TableRead(view, view) for view in relations))
        with (
            self._ready() as (limits, opening),
            failing(self._plan.job),
            run_compiled(compiled, relations, (), limits, opening) as reader,
        ):
            for batch in reader:
                yield pa.Table.from_batches([batch])


def _counted(counts: RunCounts, putting: Putting) -> RunCounts:
    return replace(counts, written=putting.rows)


def _numbered(rows: pa.Table, step: int) -> pa.Table:
    """The rows with the number of the step."""
    return rows.append_column(STEP, pa.array([step] * rows.num_rows, pa.int64()))
