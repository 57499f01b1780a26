"""A step of a job whose target keeps every version: a slowly changing dimension of type 2.

The job's rows become statements, which are rows of the target (`Stating`), and the merge makes versions of them.
Statements that make no version are kept in a table beside the target, since one that comes late, between, can make them
count. They land just before the versions, with a progress of their own. A run that dies in between leaves them there; the
next one makes the same statements again, of which the last of each key and moment stands, so that the target is right.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.declare import SYSTEM_NAMESPACE, TableSpec
from lakeflow.dimension import History
from lakeflow.errors import SchemaMismatch
from lakeflow.job import Job, Output
from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.commit import Change, Progress, fenced
from lakeflow.lake.history_merge import HistoryMerge
from lakeflow.lake.on_base import land
from lakeflow.lake.read import snapshot_at
from lakeflow.lake.versions_of_keys import Names
from lakeflow.lake.write import DataFile, DataWriter
from lakeflow.models.lost import Lost
from lakeflow.runner.bodies import Body
from lakeflow.runner.plan import Source

if TYPE_CHECKING:
    from lakeflow.runner.execute import RunCounts, _Work

PART_ROWS = 250_000
MOST_PARTS = 32


@dataclass(frozen=True, slots=True)
class Stating:
    """The body of a job whose rows become statements: rows of a target with history. One by which its key ceases is valid until
    the moment from which it is valid."""

    body: Body
    history: History
    label: str

    def prepare(self) -> None:
        self.body.prepare()

    def schema(self, reads: Sequence[Source]) -> pa.Schema:
        return self._stated(self.body.schema(reads).empty_table()).schema

    def chunks(self, reads: Sequence[Source], on_rows: Callable[[int], None], lost: Lost) -> Iterator[pa.Table]:
        for rows in self.body.chunks(reads, on_rows, lost):
            yield self._stated(rows)

    def _stated(self, rows: pa.Table) -> pa.Table:
        history, since = self.history, self._since(rows)
        rows = rows.rename_columns([history.valid_from if name == since.name else name for name in rows.schema.names])
        moments = rows.column(history.valid_from)
        ceases = pa.array([False] * rows.num_rows, pa.bool_())
        if history.deleted is not None:
            ceases = pc.fill_null(rows.column(self._known(rows, history.deleted, "deleted")).cast(pa.bool_()), False)
            rows = rows.drop_columns([history.deleted])
        until = pc.if_else(ceases, moments, pa.nulls(rows.num_rows, since.type))
        rows = rows.append_column(pa.field(history.valid_to, since.type), until)
        return rows if history.current is None else rows.append_column(history.current, pc.invert(ceases))

    def _since(self, rows: pa.Table) -> pa.Field:
        """The column that says from when a row is valid."""
        history = self.history
        clash = [name for name in (*history.kept, history.valid_from) if name in rows.schema.names and name != history.by]
        clash = [name for name in clash if name != history.valid_from or history.by is not None]
        if clash:
            raise SchemaMismatch(
                f"{self.label} gives the column {clash[0]!r}, which its history fills", next_step="leave it out of the rows"
            )
        field = rows.schema.field(self._known(rows, history.by or history.valid_from, "by"))
        if not (pa.types.is_temporal(field.type) or pa.types.is_integer(field.type)) or pa.types.is_duration(field.type):
            raise SchemaMismatch(
                f"{self.label}: column {field.name!r} is {field.type}, and says from when a row is valid; valid: timestamp, "
                "date, a whole number",
                next_step="cast it in the job",
            )
        return field

    def _known(self, rows: pa.Table, name: str, part: str) -> str:
        if rows.schema.names.count(name) != 1:
            raise SchemaMismatch(
                f"{self.label} gives no column {name!r}, which its history names as {part}; it gives: "
                f"{', '.join(rows.schema.names)}",
                next_step="give the rows that column, or name another in history",
            )
        return name


def stating(body: Body, job: Job, history: History) -> Stating:
    """What carries out a job whose target keeps a history."""
    return Stating(body, history, f"job {job.name!r} ({job.origin})")


def names_of(job: Job, history: History, table: Table) -> Names:
    """The columns of the target by what they are to its versions."""
    named = {*job.key, history.valid_from, *history.kept}
    values = tuple(name for name in arrow_schema(table).names if name not in named)
    return Names(job.key, values, history.valid_from, history.valid_to, history.current)


def given_columns(history: History, target: pa.Schema) -> pa.Schema:
    """What a query gives for a target with history: all columns but those that are kept, and whether the key ceased."""
    given = [field for field in target if field.name not in history.kept]
    return pa.schema([*given, *([pa.field(history.deleted, pa.bool_())] if history.deleted else [])])


def idle_table(target: str) -> str:
    """Where the statements about a target's rows are kept that make no version."""
    plain = "".join(letter if letter.isalnum() else "_" for letter in target.lower())
    return f"{SYSTEM_NAMESPACE}.history_{plain}_{hashlib.sha256(target.encode()).hexdigest()[:6]}"


def history_step(work: _Work) -> tuple[int, RunCounts]:
    """Carry out a step: its snapshot, and its counts. Where another writer's commit comes first, versions are made again of
    what it left. Raises Fenced where another process runs the same job."""
    from lakeflow.runner.execute import RunCounts

    plan, runtime, history = work.plan, work.runtime, work.plan.job.history
    assert history is not None, "the caller looked"
    beside = _Beside(work)
    whole = plan.output is Output.COMPLETE
    parts = max(1, min(MOST_PARTS, work.rows // PART_ROWS))
    names = names_of(plan.job, history, work.target)
    lost = work.letters.part()
    merge = HistoryMerge(work.target, None if whole else beside.table, names, beside.writer, runtime.spool, parts)
    with closing(merge):
        try:
            for chunk in work.chunks(work.step.reads, lost):
                merge.write(chunk)
            counts = RunCounts(work.rows, merge.rows, lost.dead_lettered, lost.skipped)
            work.letters.land(lost.finish())
        except BaseException:
            lost.abort()
            raise

        def commit(change: Change) -> int:
            beside.land(merge.idle)
            return work.commit(change)

        snapshot, _ = land(merge, work.target, work.writer, commit, counts.summary())
        return snapshot, counts


class _Beside:
    """The table of idle statements of a step's target, and its commits."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self._name = idle_table(work.plan.target)
        self._writer = f"history.{work.plan.job.name}"
        self._anew = work.plan.output is Output.COMPLETE or work.progress.start is None
        schema = pa.schema([field.with_nullable(True).remove_metadata() for field in arrow_schema(work.target)])
        commits, progress = work.runtime.commits, work.progress
        self.table = work.runtime.lake.ensure(TableSpec(self._name, schema))
        self._start = commits.progress(self._name, self._writer)
        found = commits.progress(work.plan.target, progress.writer)
        if found != progress.start:
            raise fenced(work.plan.target, progress.writer, progress.start, found)
        if progress.start is None and snapshot_at(self.table) is not None:
            self.land(())  # of a target that was there before this one

    def writer(self) -> DataWriter:
        runtime = self._work.runtime
        return DataWriter(self.table, buffer_bytes=runtime.buffer_bytes // 4, target_file_bytes=runtime.target_file_bytes)

    def land(self, files: tuple[DataFile, ...]) -> None:
        """Commit idle statements; those of a target that is made anew replace all that were there."""
        if not files and (not self._anew or snapshot_at(self.table) is None):
            return
        end = self._work.progress.end
        change = Change(
            self._name,
            files,
            replace_all=self._anew,
            progress=Progress(self._writer, self._start, end),
            table_uuid=str(self.table.metadata.table_uuid),
        )
        self._work.runtime.commits.commit(change)
        self.table.refresh()
        self._start, self._anew = end, False
