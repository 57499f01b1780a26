"""Carries out the plan of a job: reads, calls the job's function, writes, and commits each step once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl
import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.errors import CommitConflict, JobFailed, LakeflowError
from lakeflow.job import Caps, Job, Output, Read
from lakeflow.lake.catalog import Lake, Table, arrow_schema
from lakeflow.lake.commit import Change, CommitProtocol, Progress
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.iceberg import delete_files
from lakeflow.lake.latest import LatestRows
from lakeflow.lake.merge import KeyedMerge, Merged
from lakeflow.lake.schema import fit, require_columns, storable
from lakeflow.lake.write import DataFile, DataWriter
from lakeflow.models.lost import Forgotten, Lost
from lakeflow.models.predict import bound
from lakeflow.models.registry import ModelSet
from lakeflow.runner.engines import Engine
from lakeflow.runner.frames import arrow_schema_of, read_up_to, scan
from lakeflow.runner.letters import PartLetters, StepLetters
from lakeflow.runner.plan import JobPlan, Source, Step, pack
from lakeflow.runner.user_code import user_code

logger = logging.getLogger("lakeflow.runner")

CHUNK_ROWS = 128 * 1024
TASK_BYTES = 64 << 20
KEPT_LOOKUP_BYTES = 64 << 20
MERGE_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Runtime:
    """What jobs run with: the lake and its commits, the models, an engine, declared target tables, sizes in bytes.

    `spool` is the folder for rows that wait on disk; None: the system's.
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
    """What a run of a job has committed so far: a snapshot a step."""

    plan: JobPlan
    counts: RunCounts
    snapshots: tuple[int, ...]
    end: str | None


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
    where another process runs the same job. The steps before stay committed; nothing of the failing one is visible.
    """
    runtime.models.begin_run()
    progress, kept = plan.start, plan.letters
    total = RunCounts()
    snapshots: list[int] = []
    lookups = _Lookups(plan.lookups)
    if not plan.steps and not runtime.lake.exists(plan.target):
        _target(plan, _no_rows(plan.job, runtime.lake), lookups, runtime)
    for step in plan.steps:
        if stop():
            return
        target = _target(plan, step.reads, lookups, runtime)
        moved = Progress(plan.job.writer, progress, step.end)
        letters = StepLetters(plan.job, target, moved, kept, runtime.lake, runtime.commits, runtime.buffer_bytes)
        work = _Work(plan, step, target, moved, lookups, runtime, on_rows, letters)
        snapshot, counts = _step_of(plan)(work)
        kept = letters.kept
        snapshots.append(snapshot)
        total += counts
        progress = step.end
        yield JobRun(plan, total, tuple(snapshots), progress)


class _Lookups:
    """The lookups of a run, as of its start. They are read once and kept as long as there is room, else by each part."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._room = KEPT_LOOKUP_BYTES
        self._frames: dict[str, pl.LazyFrame] = {}

    def frames(self) -> dict[str, pl.LazyFrame]:
        for source in self._sources:
            if source.parameter not in self._frames:
                self._frames[source.parameter] = self._frame(source)
        return dict(self._frames)

    def _frame(self, source: Source) -> pl.LazyFrame:
        rows = read_up_to(source.table, source.splits, self._room) if source.bytes <= self._room else None
        if rows is None:
            return scan(source.table, source.splits)
        self._room -= int(rows.estimated_size())
        return rows.lazy()


def _output_frame(
    job: Job,
    reads: Sequence[Source],
    lookups: _Lookups,
    models: ModelSet,
    on_rows: Callable[[int], None] = lambda rows: None,
    lost: Lost | None = None,
) -> pl.LazyFrame:
    """The LazyFrame that the job's function makes of its inputs; rows that its models leave out go to `lost`."""
    frames = {source.parameter: scan(source.table, source.splits, on_rows) for source in reads}
    with bound(models, lost), user_code(job):
        frame = job.function(**frames, **lookups.frames())
    if not isinstance(frame, pl.LazyFrame):
        raise JobFailed(
            f"job {job.name!r} ({job.origin}) returned {type(frame).__name__}; it must return a polars LazyFrame",
            next_step="end the job's function with `return frame`; a DataFrame becomes one by `.lazy()`",
        )
    return frame


def _no_rows(job: Job, lake: Lake) -> tuple[Source, ...]:
    """What the job reads, with nothing in it."""
    return tuple(
        Source(parameter, lake.table(source.table), None, ())
        for parameter, source in job.inputs.items()
        if isinstance(source, Read)
    )


def _target(plan: JobPlan, reads: Sequence[Source], lookups: _Lookups, runtime: Runtime) -> Table:
    """The target table, made where it is missing; checked to fit before any row is read."""
    frame = _output_frame(plan.job, reads, lookups, runtime.models, lost=Forgotten())
    with user_code(plan.job):
        schema = arrow_schema_of(frame)
    if not schema.names:
        raise JobFailed(
            f"job {plan.job.name!r} ({plan.job.origin}) gives rows without columns", next_step="select at least one column"
        )
    require_columns(plan.job.key, schema, f"the rows of job {plan.job.name!r}")
    if runtime.lake.exists(plan.target):
        table = runtime.lake.table(plan.target)
        fit(schema.empty_table(), arrow_schema(table), plan.target)
        return table
    declared = runtime.declared.get(plan.job.target) or TableSpec(plan.target, schema, origin=plan.job.origin)
    fit(schema.empty_table(), storable(declared.schema, plan.target), plan.target)
    return runtime.lake.ensure(replace(declared, name=plan.target))


@dataclass(frozen=True, slots=True)
class _Work:
    """One step as it is carried out: into which table, with which progress, with what."""

    plan: JobPlan
    step: Step
    target: Table
    progress: Progress
    lookups: _Lookups
    runtime: Runtime
    on_rows: Callable[[int], None]
    letters: StepLetters

    @property
    def rows(self) -> int:
        return sum(source.rows for source in self.step.reads)

    def chunks(self, reads: Sequence[Source], lost: Lost) -> Iterator[pa.Table]:
        """The job's rows over `reads` in their order, streamed."""
        job = self.plan.job
        frame = _output_frame(job, reads, self.lookups, self.runtime.models, self.on_rows, lost)
        with user_code(job):
            for chunk in frame.collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True, engine="streaming"):
                yield chunk.to_arrow()

    def writer(self, part: int = 0) -> DataWriter:
        runtime = self.runtime
        return DataWriter(
            self.target, buffer_bytes=runtime.buffer_bytes, target_file_bytes=runtime.target_file_bytes, part=part
        )

    def commit(self, change: Change) -> int:
        """Land the change with the step's progress, in the table that its files were written for; its snapshot."""
        table_uuid = str(self.target.metadata.table_uuid)
        change = replace(change, table=self.plan.target, progress=self.progress, table_uuid=table_uuid)
        return self.runtime.commits.commit(change).snapshot_id


RunStep = Callable[[_Work], tuple[int, RunCounts]]


def _step_of(plan: JobPlan) -> RunStep:
    if plan.output is Output.UPDATE:
        return _merge_step
    return _replace_by_key_step if plan.job.key else _write_step


def _write_step(work: _Work) -> tuple[int, RunCounts]:
    """Append, or replace all: parts are written by the engine's workers, and committed once by the driver."""
    work.lookups.frames()
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
        for chunk in work.chunks(work.step.reads, lost):
            merge.write(chunk)
        counts = _counted(work.rows, merge.rows, lost)
        work.letters.land(lost.finish())
        for attempt in range(MERGE_ATTEMPTS):
            merged = _merged(merge, work.writer())
            summary = {
                **counts.summary(),
                "lakeflow.rows-inserted": str(merged.inserted),
                "lakeflow.rows-updated": str(merged.updated),
                "lakeflow.rows-superseded": str(merged.superseded),
            }
            change = Change(plan.target, merged.add, merged.remove, base=merged.base, on_base=True, summary=summary)
            try:
                return work.commit(change), counts
            except CommitConflict:
                if attempt == MERGE_ATTEMPTS - 1:
                    raise
                with lake_errors(f"table {plan.target}"):
                    work.target.refresh()
        raise AssertionError("the last attempt returns or raises")
    except BaseException:
        lost.abort()
        raise
    finally:
        merge.close()


def _merged(merge: KeyedMerge, writer: DataWriter) -> Merged:
    try:
        return merge.merge(writer)
    except BaseException:
        writer.abort()
        raise
