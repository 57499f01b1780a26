"""What a run of a job would do, as plain values: (job, request, tables as they stand) -> JobPlan. Reads metadata only."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from lakeflow.errors import DeclarationError, UnknownName, UsageError
from lakeflow.job import Caps, Job, Lookup, Mode, Output, Read, SqlQuery
from lakeflow.lake.catalog import SYSTEM_NAMESPACE, Lake, Table, arrow_schema
from lakeflow.lake.commit import CommitProtocol
from lakeflow.lake.history import writers_in
from lakeflow.lake.ranges import ValueRange
from lakeflow.lake.read import Split, position_at, snapshot_at, splits_at
from lakeflow.progress import JobProgress, SnapshotPosition
from lakeflow.runner.keyed import KeyedPlan, identity, keyed_plan
from lakeflow.runner.letters import Kept, kept_of
from lakeflow.runner.on_change import batches_of
from lakeflow.sql.compiled import Compiled, Names, PredictCall

if TYPE_CHECKING:
    import polars as pl

    from lakeflow.runner.interval_plan import Joined
    from lakeflow.runner.window_read import Arrived
    from lakeflow.runner.windows import View


@dataclass(frozen=True, slots=True)
class Request:
    """How a job is asked to run. `mode` of None is the job's own. `into` writes to another table than its target."""

    mode: Mode | None = None
    snapshot_id: int | None = None
    as_of: datetime | None = None
    into: str | None = None

    def __post_init__(self) -> None:
        if self.mode is Mode.INCREMENTAL and (self.snapshot_id is not None or self.as_of is not None):
            raise UsageError("--snapshot-id and --as-of read one moment: they go with --mode snapshot")
        if self.snapshot_id is not None and self.as_of is not None:
            raise UsageError("--snapshot-id and --as-of exclude each other")

    def mode_of(self, job: Job) -> Mode:
        """The mode that the job runs in: the one asked for, snapshot where one moment is, else the job's own."""
        of_a_moment = self.snapshot_id is not None or self.as_of is not None
        return self.mode or (Mode.SNAPSHOT if of_a_moment else job.mode)


@dataclass(frozen=True, slots=True)
class Source:
    """A table that a run reads: under which parameter, at which snapshot, which of its splits, in which windows.

    `removed` are files that the table no longer has and whose rows are to go from the target. Of `keys`, a row each under the
    names of columns, the rows of the splits are read alone; None: all. So are those `within` a range of a column's values.
    """

    parameter: str
    table: Table
    snapshot_id: int | None
    splits: tuple[Split, ...]
    view: View | None = None
    removed: tuple[Split, ...] = ()
    keys: pl.DataFrame | None = field(default=None, compare=False)
    within: ValueRange | None = None

    @property
    def name(self) -> str:
        return ".".join(self.table.name())

    @property
    def rows(self) -> int:
        return sum(split.rows for split in self.splits)

    @property
    def bytes(self) -> int:
        return sum(split.bytes for split in self.splits)


@dataclass(frozen=True, slots=True)
class Step:
    """One commit of a run: the splits that it reads of the tables that are read, and the progress after it.

    `arrived` is set as a step of a job by windows is carried out: its reads are then all that its windows need. `joined` is
    what a step of a join within a bound joins, beside the new rows in `reads`.
    """

    reads: tuple[Source, ...]
    end: str
    arrived: Arrived | None = None
    joined: Joined | None = None


@dataclass(frozen=True, slots=True)
class JobPlan:
    """A run of one job: its steps in order, each a commit. `start` is the target's progress now.

    `letters` are the dead letters that the job left last, `compiled` is the query of a job in SQL, `keyed` how one goes
    on that keeps by key what it must know of earlier rows: a step without reads makes rows of what is kept already.
    """

    job: Job
    mode: Mode
    output: Output
    target: str
    start: str | None
    lookups: tuple[Source, ...]
    steps: tuple[Step, ...]
    letters: Kept | None = None
    compiled: Compiled | None = None
    keyed: KeyedPlan | None = None

    @property
    def rows(self) -> int:
        return sum(source.rows for step in self.steps for source in step.reads)

    @property
    def files(self) -> int:
        return sum(len(source.splits) for step in self.steps for source in step.reads)

    @property
    def files_removed(self) -> int:
        """Files that the tables no longer have, and whose rows go from the target or come anew."""
        return sum(len(source.removed) for step in self.steps for source in step.reads)

    @property
    def is_row_wise(self) -> bool:
        """Whether the job's rows may be computed part by part: appending jobs must not depend on the cutting."""
        return self.job.is_row_wise


def plan_job(
    job: Job, request: Request, lake: Lake, commits: CommitProtocol, caps: Caps, names: Names | None = None
) -> JobPlan:
    """The plan as of now. Raises UnknownName for a missing table, SourceChanged where an incremental run cannot go on, and for
    a job in SQL what the compiler raises.

    `caps` bound a batch where the job has none of its own. `names` is what a query may name; a job in SQL needs it.
    """
    mode = request.mode_of(job)
    target = request.into or job.target
    if target in job.reads:
        raise UsageError(
            f"job {job.name!r} reads {target}, so it cannot write to it", next_step="name another table after --into"
        )
    compiled = _compiled(job, mode, names) if isinstance(job.body, SqlQuery) else None
    job = _windows_in_case(job, lake)
    start = commits.progress(target, job.writer)
    letters = kept_of(job, target, lake, commits)
    lookups = tuple(
        whole(parameter, _table(lake, job, s.table)) for parameter, s in job.inputs.items() if isinstance(s, Lookup)
    )
    keyed = _keyed(job, target, lake, commits, compiled, names)
    if mode is Mode.INCREMENTAL:
        ahead = keyed.ahead(job, identity(lake, target), start, lambda: commits.progress(target, job.writer)) if keyed else None
        steps = tuple(_incremental_steps(job, lake, ahead or start, _within(job.caps, caps), letters))
        steps = (Step((), ahead), *steps) if ahead is not None else steps
    else:
        steps = (_snapshot_step(job, request, lake),)
    output = _output(job, mode)
    if start is None:
        _check_free(target, job, output, lake)
    return JobPlan(job, mode, output, target, start, lookups, steps, letters, compiled, keyed)


def plan_again(job: Job, lake: Lake, commits: CommitProtocol, names: Names | None = None) -> JobPlan:
    """A plan without steps, of a job that is to be given rows which it has read before. Raises as `plan_job` does."""
    mode = Mode.INCREMENTAL
    compiled = _compiled(job, mode, names) if isinstance(job.body, SqlQuery) else None
    lookups = tuple(
        whole(parameter, _table(lake, job, s.table)) for parameter, s in job.inputs.items() if isinstance(s, Lookup)
    )
    start = commits.progress(job.target, job.writer)
    return JobPlan(_windows_in_case(job, lake), mode, _output(job, mode), job.target, start, lookups, (), None, compiled)


def backfill_writer(job: Job) -> str:
    """The name under which the job's target keeps the progress of its backfills."""
    return f"backfill.{job.name}"


def _windows_in_case(job: Job, lake: Lake) -> Job:
    """A query over windows may write the table's columns large or small."""
    if job.windowed is None or not isinstance(job.body, SqlQuery):
        return job
    from lakeflow.runner.sql_windows import in_case

    [source] = _reads(job).values()
    names = arrow_schema(_table(lake, job, source.table)).names
    return replace(job, windowed=in_case(job.windowed, names))


def _keyed(
    job: Job, target: str, lake: Lake, commits: CommitProtocol, compiled: Compiled | None, names: Names | None
) -> KeyedPlan | None:
    """How the job goes on by key; None where it does not, as jobs that always read the whole do not."""
    if not isinstance(job.body, SqlQuery) or not job.body.is_keyed or job.mode is Mode.SNAPSHOT:
        return None
    assert compiled is not None, "a query is compiled"
    assert names is not None, "by names"
    return keyed_plan(job, target, lake, commits, compiled, names)


def _compiled(job: Job, mode: Mode, names: Names | None) -> Compiled:
    """The query, once it is known to run in this mode. Raises DeclarationError, pointing at what is wrong in the job's file."""
    from lakeflow.runner.sql_placed import is_placed, placed_names
    from lakeflow.sql.compile import compile_query

    query = job.body
    assert isinstance(query, SqlQuery), "the caller looked"
    if mode is Mode.INCREMENTAL and query.obstacle is not None:
        raise DeclarationError(f"{job.origin.path}: job {job.name!r}: {query.obstacle}", next_step=_way_round(job))
    if names is None:
        raise UsageError(f"job {job.name!r} is a query, which runs in a project", next_step=f"lakeflow run {job.name}")
    placed = is_placed(job)
    try:
        compiled = compile_query(query.text, placed_names(job, names) if placed else names, placed=placed)
    except UsageError as error:
        if job.origin.path is not None:
            error.message = f"{job.origin.path}: job {job.name!r}: {error.message}"
        raise
    for call in compiled.calls:
        if isinstance(call, PredictCall) and call.model.loses_rows and call.model.name in query.values:
            raise UsageError(
                f"job {job.name!r} ({job.origin}) asks model {call.model.name!r} within an expression or by LEFT JOIN, where "
                "the rows that its 'on_error' leaves out would stay with nulls",
                next_step="write CROSS JOIN LATERAL TABLE(ML_PREDICT(..)), or say 'on_error' = 'ignore' or 'fail'",
            )
    return compiled


def _way_round(job: Job) -> str:
    """What to write for a query that must see the whole table."""
    always = "REFRESH_MODE = FULL" if job.materialized else f"INSERT OVERWRITE {job.target}"
    return (
        f"{always} in its file, or once: lakeflow run {job.name} --mode snapshot; a table that is looked up: docs/sql/jobs.md"
    )


def _within(own: Caps | None, settings: Caps) -> Caps:
    """The job's caps; where it has none of a kind, those of the settings."""
    if own is None:
        return settings
    return Caps(own.files or settings.files, own.rows or settings.rows, own.bytes or settings.bytes)


def _output(job: Job, mode: Mode) -> Output:
    """The same job in the other mode: what appends or merges incrementally replaces the whole table as a snapshot."""
    if mode is Mode.SNAPSHOT and job.mode is Mode.INCREMENTAL:
        return Output.COMPLETE
    if mode is Mode.INCREMENTAL and job.output is Output.COMPLETE:
        raise UsageError(
            f"job {job.name!r} replaces its whole table (output 'complete'), which an incremental run has not read",
            next_step=f"lakeflow run {job.name} --mode snapshot",
        )
    return job.output


def _check_free(target: str, job: Job, output: Output, lake: Lake) -> None:
    """That a job which has not written the target yet may. Raises UsageError where it is somebody else's."""
    if target.partition(".")[0] == SYSTEM_NAMESPACE:
        raise UsageError(f"job {job.name!r} cannot write to {target}: the tables of {SYSTEM_NAMESPACE} are lakeflow's own")
    table = lake.find(target)
    if table is None:
        return
    # Its own name is there where a rival's first commit came just now: that one is fenced, not refused.
    others = [writer for writer in writers_in(table.metadata) if writer not in (job.writer, backfill_writer(job))]
    foreign = target != job.target and output is Output.COMPLETE and bool(splits_at(table, snapshot_at(table)))
    if others or foreign:
        raise UsageError(
            f"table {target} holds the rows of {', '.join(others) or 'somebody else'}; "
            f"job {job.name!r} would repeat or replace them",
            next_step=f"write to another table, or take this one away first: lakeflow tables drop {target} --yes",
        )


def _table(lake: Lake, job: Job, name: str) -> Table:
    """A table that the job reads. Raises UnknownName, saying how a declared one comes to be."""
    try:
        return lake.table(name)
    except UnknownName as error:
        raise UnknownName(
            f"table, read by job {job.name!r} ({job.origin}):",
            name,
            error.known,
            next_step=f"lakeflow land {name}, or lakeflow run the job that writes it; lakeflow jobs graph shows which",
        ) from error


def _reads(job: Job) -> dict[str, Read]:
    return {parameter: source for parameter, source in job.inputs.items() if isinstance(source, Read)}


def _incremental_steps(job: Job, lake: Lake, start: str | None, caps: Caps, letters: Kept | None) -> Iterator[Step]:
    """A step whose letters have landed and whose rows have not comes first, as it was cut then."""
    reads = _reads(job)
    if job.within is not None:
        from lakeflow.runner.interval_plan import interval_steps

        tables = {parameter: _table(lake, job, source.table) for parameter, source in reads.items()}
        yield from interval_steps(job, tables, start, caps, letters)
        return
    if len(reads) > 1 and isinstance(job.body, SqlQuery):
        yield from _united_steps(job, lake, start, caps, letters)
        return
    if len(reads) != 1:
        raise DeclarationError(
            f"{job.origin}: job {job.name!r} reads {len(reads)} tables incrementally "
            f"({', '.join(read.table for read in reads.values())}), whose new rows would miss each other's old ones; "
            "make all but one an lf.Lookup, join two of them within=lf.Within(..), or say mode='snapshot'"
        )
    [(parameter, source)] = reads.items()
    table = _table(lake, job, source.table)
    for batch in batches_of(job, source.table, table, start, caps, letters):
        part = Source(parameter, table, batch.end.snapshot_id, batch.splits, removed=batch.removed)
        yield Step((part,), JobProgress({source.table: batch.end}).dumps())


def _united_steps(job: Job, lake: Lake, start: str | None, caps: Caps, letters: Kept | None) -> Iterator[Step]:
    """Of a query that puts tables together by UNION ALL, which each step reads one of."""
    from lakeflow.runner.united import united_batches

    named = {source.table: (parameter, _table(lake, job, source.table)) for parameter, source in _reads(job).items()}
    tables = {name: table for name, (_, table) in named.items()}
    for name, batch, end in united_batches(job, tables, start, caps, letters):
        parameter, table = named[name]
        yield Step((Source(parameter, table, batch.end.snapshot_id, batch.splits, removed=batch.removed),), end)


def _snapshot_step(job: Job, request: Request, lake: Lake) -> Step:
    reads = _reads(job)
    if request.snapshot_id is not None and len(reads) != 1:
        raise UsageError(
            f"job {job.name!r} reads {len(reads)} tables ({', '.join(r.table for r in reads.values())}); "
            "a snapshot id is of one table",
            next_step=f"lakeflow run {job.name} --mode snapshot --as-of TIME",
        )
    sources = []
    ends: dict[str, SnapshotPosition] = {}
    run = uuid.uuid4().hex
    for parameter, source in reads.items():
        table = _table(lake, job, source.table)
        snapshot = snapshot_at(table, snapshot_id=request.snapshot_id, as_of=request.as_of)
        sources.append(Source(parameter, table, snapshot.snapshot_id if snapshot else None, splits_at(table, snapshot)))
        ends[source.table] = replace(position_at(table, snapshot), run=run)
    return Step(tuple(sources), JobProgress(ends).dumps())


def whole(parameter: str, table: Table) -> Source:
    """A table as it is now, as what a run reads under a parameter."""
    head = snapshot_at(table)
    return Source(parameter, table, head.snapshot_id if head else None, splits_at(table, head))


def pack(splits: Sequence[Split], target_bytes: int) -> list[tuple[Split, ...]]:
    """Neighbouring splits as groups of about `target_bytes`, one split at the least: what one worker reads. Pure."""
    groups: list[tuple[Split, ...]] = []
    pending: list[Split] = []
    size = 0
    for split in splits:
        if pending and size + split.bytes > target_bytes:
            groups.append(tuple(pending))
            pending, size = [], 0
        pending.append(split)
        size += split.bytes
    return [*groups, tuple(pending)] if pending else groups
