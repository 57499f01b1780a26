"""Carries out the plan of a job: reads, has the job make its rows of that, writes, and commits each step once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.errors import JobFailed, LakeflowError
from lakeflow.expect import Finding
from lakeflow.job import Caps, Job, Mode, Output, Read, SqlQuery
from lakeflow.lake.catalog import Lake, Table, arrow_schema
from lakeflow.lake.commit import Change, CommitProtocol, Progress
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.iceberg import delete_files
from lakeflow.lake.latest import LatestRows
from lakeflow.lake.merge import KeyedMerge
from lakeflow.lake.on_base import land
from lakeflow.lake.schema import fit, require_columns, storable
from lakeflow.lake.write import DataFile, DataWriter
from lakeflow.models.lost import Forgotten, Lost
from lakeflow.models.registry import ModelSet
from lakeflow.runner.bodies import Body, PythonBody
from lakeflow.runner.embedding import facts_of_embeddings, knowing, require_same_model
from lakeflow.runner.engines import Engine
from lakeflow.runner.expecting import Expecting
from lakeflow.runner.fingerprint import facts_of_job
from lakeflow.runner.history_step import stating
from lakeflow.runner.interval_plan import columns_of_groups
from lakeflow.runner.letters import PartLetters, StepLetters
from lakeflow.runner.lookups import Lookups, Surroundings, as_of_now, facts_of
from lakeflow.runner.plan import JobPlan, Source, Step, pack
from lakeflow.runner.recompute import recompute_of
from lakeflow.runner.searched import facts_of_searches
from lakeflow.runner.sql_body import Queries, sql_body
from lakeflow.runner.step_kinds import special_step
from lakeflow.runner.vector_search import Searches
from lakeflow.runner.window_read import arrived
from lakeflow.runner.window_rows import require_windows

logger = logging.getLogger("lakeflow.runner")

TASK_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Runtime:
    """What jobs run with: the lake and its commits, the models, an engine, declared target tables, sizes in bytes.

    `spool` is the folder for rows that wait on disk; None: the system's. `queries` is what jobs in SQL run with, `searches`
    what those in Python may search, `surroundings` where their dimensions outside of the lake are.
    """

    lake: Lake
    commits: CommitProtocol
    models: ModelSet
    engine: Engine
    declared: Mapping[str, TableSpec] = field(default_factory=dict)
    caps: Caps = field(default_factory=Caps)
    buffer_bytes: int = 64 << 20
    target_file_bytes: int = 128 << 20
    spool: Path | None = None
    queries: Queries = field(default_factory=Queries)
    searches: Searches | None = None
    surroundings: Surroundings = field(default_factory=Surroundings)


@dataclass(frozen=True, slots=True)
class RunCounts:
    """Rows that a run read and wrote, and those that a model gave no answer to. `filtered` is what the job left out.

    read = written + dead_lettered + skipped + filtered for a row-wise job.
    """

    read: int = 0
    written: int = 0
    dead_lettered: int = 0
    skipped: int = 0

    @property
    def filtered(self) -> int:
        return max(0, self.read - self.written - self.dead_lettered - self.skipped)

    def __add__(self, other: RunCounts) -> RunCounts:
        return RunCounts(
            self.read + other.read,
            self.written + other.written,
            self.dead_lettered + other.dead_lettered,
            self.skipped + other.skipped,
        )

    def summary(self) -> dict[str, str]:
        """As facts of a commit's summary."""
        return {
            "lakeflow.rows-read": str(self.read),
            "lakeflow.rows-written": str(self.written),
            "lakeflow.rows-dead-lettered": str(self.dead_lettered),
            "lakeflow.rows-skipped": str(self.skipped),
        }


@dataclass(frozen=True, slots=True)
class JobRun:
    """What a run of a job has committed so far: a snapshot a step; how its expectations have fared."""

    plan: JobPlan
    counts: RunCounts
    snapshots: tuple[int, ...]
    end: str | None
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class _Written:
    files: tuple[DataFile, ...]
    counts: RunCounts
    letters: tuple[DataFile, ...] = ()


def run_job(
    plan: JobPlan,
    runtime: Runtime,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> Iterator[JobRun]:
    """Carry out a plan, step by step, and tell after each what the run has done so far. `stop` is asked between steps.

    Where there is nothing to read yet, the target is made nonetheless, for those who read it.

    Raises JobFailed for what the job's function raises, SchemaMismatch where its rows do not fit the target, Fenced
    where another process runs the same job, ExpectationFailed where a batch is not as it must be. The steps before stay
    committed; nothing of the failing one is visible.
    """
    expecting = Expecting.of(plan, runtime)
    runtime = replace(runtime, commits=expecting.commits(runtime.commits))
    try:
        yield from _run_steps(plan, runtime, expecting, stop, on_rows)
    finally:
        expecting.tell()


def _run_steps(
    plan: JobPlan, runtime: Runtime, expecting: Expecting, stop: Callable[[], bool], on_rows: Callable[[int], None]
) -> Iterator[JobRun]:
    runtime.models.begin_run()
    progress, kept = plan.start, plan.letters
    total = RunCounts()
    snapshots: list[int] = []
    body = body_of(plan, runtime)
    facts = facts_of(plan, runtime.surroundings.root)  # before the dimensions are read
    if not plan.steps and not runtime.lake.exists(plan.target):
        _target(plan, _no_rows(plan.job, runtime.lake), body, runtime, expecting)
    for step in plan.steps:
        if stop():
            return
        if (now := as_of_now(plan, runtime.lake)) is not plan:
            plan, body, facts = now, body_of(now, runtime), facts_of(now, runtime.surroundings.root)
        step = _by_windows(plan, step, progress, runtime)
        target = _target(plan, step.reads, body, runtime, expecting)
        expecting.begin()
        moved = Progress(plan.job.writer, progress, step.end)
        told = {**facts, **facts_of_searches(plan.job, runtime.searches)}
        letters = StepLetters(plan.job, target, moved, kept, runtime.lake, runtime.commits, runtime.buffer_bytes)
        work = _Work(plan, step, target, moved, body, runtime, on_rows, letters, expecting, told)
        snapshot, counts = knowing(work, _step_of(plan, step))
        kept = letters.kept
        snapshots.append(snapshot)
        total += counts
        progress = step.end
        yield JobRun(plan, total, tuple(snapshots), progress, expecting.findings())


def _no_rows(job: Job, lake: Lake) -> tuple[Source, ...]:
    """What the job reads, with nothing in it."""
    return tuple(
        Source(parameter, lake.table(source.table), None, ())
        for parameter, source in job.inputs.items()
        if isinstance(source, Read)
    )


def _target(plan: JobPlan, reads: Sequence[Source], body: Body, runtime: Runtime, expecting: Expecting) -> Table:
    """The target table, made where it is missing; checked to fit before any row is read."""
    schema = body.schema(reads)
    if not schema.names:
        raise JobFailed(
            f"job {plan.job.name!r} ({plan.job.origin}) gives rows without columns", next_step="select at least one column"
        )
    passed_on = (*plan.job.key, *plan.job.by, *columns_of_groups(plan, reads))
    require_columns(passed_on, schema, f"the rows of job {plan.job.name!r}")
    require_windows(plan.job, schema, plan.compiled.columns.names if plan.compiled else ())
    if (table := runtime.lake.find(plan.target)) is not None:
        fit(schema.empty_table(), arrow_schema(table), plan.target)
        expecting.bind(arrow_schema(table))
        if plan.output is not Output.COMPLETE:
            require_same_model(plan.job, body, table)
        return table
    declared = runtime.declared.get(plan.job.target) or made_by(plan.job, schema)
    wanted = storable(declared.schema, plan.target)
    fit(schema.empty_table(), wanted, plan.target)
    expecting.bind(wanted)
    return runtime.lake.ensure(replace(declared, name=plan.target))


def made_by(job: Job, schema: pa.Schema) -> TableSpec:
    """How a target that is declared nowhere is made for rows of a schema."""
    return replace(job.creates or TableSpec(job.target, schema, origin=job.origin), schema=schema)


def body_of(plan: JobPlan, runtime: Runtime) -> Body:
    """What carries out the job's function or query, for one run."""
    body = _plain_body(plan, runtime)
    return body if plan.job.history is None else stating(body, plan.job, plan.job.history)


def _plain_body(plan: JobPlan, runtime: Runtime) -> Body:
    if isinstance(plan.job.body, SqlQuery):
        return sql_body(plan, runtime.lake, runtime.declared, runtime.queries)
    lookups = Lookups(plan.lookups, outside=plan.job.outside, surroundings=runtime.surroundings)
    return PythonBody(plan.job, lookups, runtime.models, runtime.searches)


@dataclass(frozen=True, slots=True)
class _Work:
    """One step as it is carried out: into which table, with which progress, with what."""

    plan: JobPlan
    step: Step
    target: Table
    progress: Progress
    body: Body
    runtime: Runtime
    on_rows: Callable[[int], None]
    letters: StepLetters
    expecting: Expecting
    facts: Mapping[str, str]

    @property
    def rows(self) -> int:
        return sum(source.rows for source in self.step.reads)

    def chunks(self, reads: Sequence[Source], lost: Lost) -> Iterator[pa.Table]:
        """The job's rows over `reads` in their order, streamed, but those that an expectation leaves out."""
        yield from self.expecting.kept(self.body.chunks(reads, self.on_rows, lost), self.target, lost)

    def chunks_again(self, reads: Sequence[Source]) -> Iterator[pa.Table]:
        """The same of rows that were read before: those that are left out have been counted then, and have their letters."""
        forgotten = Forgotten()
        yield from self.expecting.kept(self.body.chunks(reads, self.on_rows, forgotten), self.target, forgotten, again=True)

    def writer(self, part: int = 0) -> DataWriter:
        runtime = self.runtime
        return DataWriter(
            self.target, buffer_bytes=runtime.buffer_bytes, target_file_bytes=runtime.target_file_bytes, part=part
        )

    def commit(self, change: Change) -> int:
        """Land the change with the step's progress, in the table that its files were written for; its snapshot."""
        table_uuid = str(self.target.metadata.table_uuid)
        made, properties = facts_of_embeddings(self.body, self.target)
        summary = {**change.summary, **self.facts, **made, **facts_of_job(self.plan.job, self.runtime.models.used)}
        change = replace(change, table=self.plan.target, progress=self.progress, table_uuid=table_uuid, summary=summary)
        return self.runtime.commits.commit(replace(change, properties=properties)).snapshot_id


RunStep = Callable[[_Work], tuple[int, RunCounts]]


def _by_windows(plan: JobPlan, step: Step, progress: str | None, runtime: Runtime) -> Step:
    """The step with all that its windows need; as it is, where the job has none or is a query that sees the whole table."""
    windowed = plan.job.windowed
    if windowed is None or (plan.mode is Mode.SNAPSHOT and isinstance(plan.job.body, SqlQuery) and not windowed.waits):
        return step
    return arrived(plan, step, progress, runtime.declared)


def _step_of(plan: JobPlan, step: Step) -> RunStep:
    if (special := special_step(plan, step)) is not None:
        return special
    if plan.output is Output.UPDATE:
        return _merge_step
    return _replace_by_key_step if plan.job.key else _write_step


def _write_step(work: _Work) -> tuple[int, RunCounts]:
    """Append, or replace all: parts are written by the engine's workers, and committed once by the driver."""
    work.body.prepare()
    finished: list[_Written] = []

    def write(task: tuple[int, tuple[Source, ...]]) -> _Written:
        number, reads = task
        part = _write_part(work, reads, number)
        finished.append(part)
        return part

    try:
        written = list(work.runtime.engine.map(write, list(enumerate(_parts(work.plan, work.step)))))
    except BaseException:
        _discard(work.target, finished)
        work.letters.discard([data_file for part in finished for data_file in part.letters])
        raise
    counts = sum((part.counts for part in written), RunCounts())
    files = tuple(data_file for part in written for data_file in part.files)
    replaces = work.plan.output is Output.COMPLETE
    try:
        work.letters.land([data_file for part in written for data_file in part.letters])
    except BaseException:
        _discard(work.target, written)
        raise
    return work.commit(Change(work.plan.target, files, replace_all=replaces, summary=counts.summary())), counts


def _parts(plan: JobPlan, step: Step) -> list[tuple[Source, ...]]:
    """What each worker reads. Only a row-wise job may be split."""
    if not plan.is_row_wise or len(step.reads) != 1:
        return [step.reads]
    [source] = step.reads
    return [(replace(source, splits=group),) for group in pack(source.splits, TASK_BYTES)] or [step.reads]


def _write_part(work: _Work, reads: tuple[Source, ...], number: int) -> _Written:
    writer, lost = work.writer(number), work.letters.part(number)
    try:
        for chunk in work.chunks(reads, lost):
            writer.write(chunk)
        counts = _counted(sum(source.rows for source in reads), writer.rows, lost)
        return _Written(writer.finish(), counts, lost.finish())
    except BaseException:
        writer.abort()
        lost.abort()
        raise


def _counted(read: int, written: int, lost: PartLetters) -> RunCounts:
    return RunCounts(read, written, lost.dead_lettered, lost.skipped)


def _discard(target: Table, written: Sequence[_Written]) -> None:
    """Delete the files of parts. What fails here is logged and left: the error that led here says more."""
    paths = [data_file.file_path for part in written for data_file in part.files]
    name = ".".join(target.name())
    try:
        with lake_errors(f"table {name}"):
            delete_files(target.io, paths)
    except LakeflowError as error:
        logger.warning("data files for %s are left behind, %d at the most: %s", name, len(paths), error.message)


def _replace_by_key_step(work: _Work) -> tuple[int, RunCounts]:
    """Replace all by the last row of each key: what merging every row in turn into an empty table would come to."""
    plan = work.plan
    latest = LatestRows(arrow_schema(work.target), plan.job.key, plan.target, work.runtime.spool)
    writer, lost = work.writer(), work.letters.part()
    try:
        for chunk in work.chunks(work.step.reads, lost):
            latest.write(chunk)
        for rows in latest.last_rows():
            writer.write(rows)
        counts = _counted(work.rows, writer.rows, lost)
        files = writer.finish()
        work.letters.land(lost.finish())
    except BaseException:
        writer.abort()
        lost.abort()
        raise
    finally:
        latest.close()
    return work.commit(Change(plan.target, files, replace_all=True, summary=counts.summary())), counts


def _merge_step(work: _Work) -> tuple[int, RunCounts]:
    """Merge by key. Where another writer's commit comes first, the spooled rows are merged again into what it left."""
    plan = work.plan
    merge, lost = KeyedMerge(work.target, plan.job.key, work.runtime.spool), work.letters.part()
    try:
        recompute = recompute_of(plan.job, work.step.reads, work.target)
        for chunk in work.chunks(work.step.reads, lost):
            merge.write(chunk)
            recompute.took(chunk)
        counts = _counted(work.rows, merge.rows, lost)
        recompute.retire(merge, lambda source: work.chunks_again((source,)))
        work.letters.land(lost.finish())
        snapshot, _ = land(merge, work.target, work.writer, work.commit, counts.summary())
        return snapshot, counts
    except BaseException:
        lost.abort()
        raise
    finally:
        merge.close()
