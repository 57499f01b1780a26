"""What a job knows between its runs: how far it is, and what it keeps. It is shown, set back, and handed to another name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from lakeflow.errors import LakeflowError, UnknownName, UsageError
from lakeflow.job import Caps, Job, Output, Read, is_keyed
from lakeflow.lake.alter import rename_table
from lakeflow.lake.branch import head_of
from lakeflow.lake.catalog import Lake, Table
from lakeflow.lake.commit import Change, CommitProtocol, Progress
from lakeflow.lake.history import PROGRESS, ancestors, writers_in
from lakeflow.lake.read import position_at, snapshot_at, splits_at
from lakeflow.progress import JobProgress, SnapshotPosition
from lakeflow.runner.backfill_ledger import Ledger
from lakeflow.runner.fingerprint import CODE, code_of
from lakeflow.runner.keyed import Kept, state_table
from lakeflow.runner.on_change import batches_of
from lakeflow.runner.refresh import refresh_branch, tables_beside
from lakeflow.runner.window_read import STATE as WINDOWS
from lakeflow.runner.windows import Watermarks

BEGINNING: Final = "beginning"
RESET: Final = "lakeflow.state-reset"
LAST: Final = 5
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class SourceState:
    """How far a job is in a table: `position` of None, it has not begun. `waiting` are the files and rows that it has not read;
    `problem` says why it cannot go on."""

    table: str
    position: SnapshotPosition | None
    files_waiting: int | None = None
    rows_waiting: int | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class KeptTable:
    """A table in which a job keeps what it must know between its runs. `step` is the last one, of a table of groups."""

    name: str
    rows: int
    files: int
    bytes: int
    step: int | None = None


@dataclass(frozen=True, slots=True)
class JobCommit:
    """A commit of a job to its target."""

    snapshot_id: int
    at: datetime
    read: int
    written: int


@dataclass(frozen=True, slots=True)
class JobState:
    """All that a job knows. `watermark` is how far event time has come; windows that end by it, less their lateness, are
    closed. `code` is the job's fingerprint now, `code_of_last` that of its last commit. `backfill` and `refresh` say what of it
    is being made anew."""

    job: str
    target: str
    progress: str | None
    sources: tuple[SourceState, ...]
    watermark: datetime | None
    closed_before: datetime | None
    kept: tuple[KeptTable, ...]
    commits: tuple[JobCommit, ...]
    code: str
    code_of_last: str | None
    backfill: str | None
    refresh: str | None


def state_of(job: Job, lake: Lake, commits: CommitProtocol) -> JobState:
    """What a job knows now. Reads metadata only. Raises as the catalog does."""
    there = lake.exists(job.target)
    progress = commits.progress(job.target, job.writer) if there else None
    made = tuple(_commits(lake.table(job.target), job)) if there else ()
    watermark = _watermark(job, progress)
    lateness = getattr(job.windowed.window, "lateness", 0) if job.windowed is not None else 0
    facts = _facts_of_last(lake.table(job.target), job) if there else {}
    return JobState(
        job=job.name,
        target=job.target,
        progress=progress,
        sources=tuple(_source(job, name, lake, progress) for name in _reads(job)),
        watermark=None if watermark is None else _EPOCH + timedelta(microseconds=watermark),
        closed_before=None if watermark is None else _EPOCH + timedelta(microseconds=watermark - lateness),
        kept=tuple(_kept(name, job, lake, commits) for name in tables_beside(job) if lake.exists(name)),
        commits=made[:LAST],
        code=code_of(job),
        code_of_last=facts.get(CODE),
        backfill=_backfill(job, lake, commits) if there else None,
        refresh=_refresh(lake.table(job.target), job) if there else None,
    )


def _reads(job: Job) -> Sequence[str]:
    return tuple(dict.fromkeys(source.table for source in job.inputs.values() if isinstance(source, Read)))


def _source(job: Job, name: str, lake: Lake, progress: str | None) -> SourceState:
    if not lake.exists(name):
        return SourceState(name, JobProgress.loads(progress, name).of(name), problem="not there")
    table = lake.table(name)
    position = JobProgress.loads(progress, _reads(job)[0]).of(name, str(table.metadata.table_uuid))
    try:
        one = JobProgress({} if position is None else {name: position}).dumps()
        batches = list(batches_of(job, name, table, one, Caps()))
    except LakeflowError as error:
        return SourceState(name, position, problem=error.message)
    splits = [split for batch in batches for split in (*batch.splits, *batch.removed)]
    return SourceState(name, position, len(splits), sum(split.rows for split in splits))


def _watermark(job: Job, progress: str | None) -> int | None:
    if job.windowed is None or progress is None:
        return None
    return Watermarks.of_state(JobProgress.loads(progress, _reads(job)[0]).state.get(WINDOWS)).value


def _kept(name: str, job: Job, lake: Lake, commits: CommitProtocol) -> KeptTable:
    table = lake.table(name)
    splits = splits_at(table, snapshot_at(table))
    kept = Kept.loads(commits.progress(name, f"state.{job.name}")) if is_keyed(job) else None
    rows, size = sum(split.rows for split in splits), sum(split.bytes for split in splits)
    return KeptTable(name, rows, len(splits), size, None if kept is None else kept.step)


def _commits(table: Table, job: Job) -> list[JobCommit]:
    found = []
    for snapshot in ancestors(table.metadata):
        facts = {} if snapshot.summary is None else snapshot.summary.additional_properties
        if PROGRESS + job.writer in facts:
            at = datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)
            read, written = (int(facts.get(f"lakeflow.rows-{what}", "0")) for what in ("read", "written"))
            found.append(JobCommit(snapshot.snapshot_id, at, read, written))
    return found


def _facts_of_last(table: Table, job: Job) -> Mapping[str, Any]:
    for snapshot in ancestors(table.metadata):
        facts = {} if snapshot.summary is None else snapshot.summary.additional_properties
        if PROGRESS + job.writer in facts and RESET not in facts:
            return facts
    return {}


def _backfill(job: Job, lake: Lake, commits: CommitProtocol) -> str | None:
    ledger = Ledger(job, lake, commits)
    claims, done = ledger.claims(), ledger.done()
    if not claims.number:
        return None
    count = done.count if done.number == claims.number else 0
    held = sorted({worker.split("/")[0] for worker, _ in claims.held.values()})
    by = f", chunks held by processes of {', '.join(held)}" if held and count < claims.of else ""
    return f"number {claims.number}, {claims.asked}: {count} of {claims.of} chunks are done{by}"


def _refresh(table: Table, job: Job) -> str | None:
    head = head_of(table, refresh_branch(job))
    if head is None or head.summary is None:
        return None
    progress = head.summary.additional_properties.get(PROGRESS + job.writer)
    return f"under way on branch {refresh_branch(job)!r}, at {progress}"


@dataclass(frozen=True, slots=True)
class ResetPlan:
    """What a reset would do. `before` is the job's progress now, `after` what it becomes, `means` what that comes to."""

    before: str
    after: str
    means: str


def plan_reset(job: Job, to: str, lake: Lake, commits: CommitProtocol) -> ResetPlan:
    """What setting a job's progress to a snapshot of the table that it reads, or to the BEGINNING, would do.

    Raises UsageError for a job whose state cannot be set back by its progress alone, UnknownName for a snapshot that is not
    there.
    """
    before = commits.progress(job.target, job.writer) if lake.exists(job.target) else None
    if before is None:
        raise UsageError(f"job {job.name!r} has no progress in {job.target} that could be set back")
    if is_keyed(job):
        raise UsageError(
            f"job {job.name!r} ({job.origin}) keeps groups or ranks in {state_table(job, job.target)}, beside its progress",
            next_step=f"lakeflow run {job.name} --full-refresh",
        )
    if to == BEGINNING:
        return ResetPlan(before, JobProgress().dumps(), _means(job, "everything"))
    progress = JobProgress.loads(before, _reads(job)[0])
    if len(_reads(job)) != 1 or progress.state:
        what = "reads several tables" if len(_reads(job)) != 1 else "keeps more than a position in its progress"
        raise UsageError(f"job {job.name!r} ({job.origin}) {what}; valid: --to {BEGINNING}")
    return _to_snapshot(job, to, lake.table(_reads(job)[0]), before)


def _to_snapshot(job: Job, to: str, table: Table, before: str) -> ResetPlan:
    name = ".".join(table.name())
    if not (to.isascii() and to.isdigit()):
        raise UsageError(
            f"--to is {to!r}; valid: the id of a snapshot of {name}, or {BEGINNING}", next_step=f"lakeflow tables show {name}"
        )
    snapshot = snapshot_at(table, snapshot_id=int(to))
    if snapshot is None or snapshot.snapshot_id not in {one.snapshot_id for one in ancestors(table.metadata)}:
        raise UsageError(f"snapshot {to} of {name} is not of its main branch", next_step=f"lakeflow tables show {name}")
    position = position_at(table, snapshot)
    now = JobProgress.loads(before, name).of(name, str(table.metadata.table_uuid))
    after = JobProgress({name: position}).dumps()
    if now is not None and position.sequence > now.sequence:
        return ResetPlan(before, after, f"rows of {name} between where it is and snapshot {to} will never be read by it")
    return ResetPlan(before, after, _means(job, f"rows of {name} that came after snapshot {to}"))


def _means(job: Job, what: str) -> str:
    if job.output is Output.APPEND:
        return (
            f"its next run reads {what} again and adds what it makes of that to {job.target}, where the same rows are already: "
            f"take them away first, or use lakeflow run {job.name} --full-refresh in its place"
        )
    return f"its next run reads {what} again, and puts what it makes of that in place of rows of the same keys or windows"


def reset(job: Job, plan: ResetPlan, lake: Lake, commits: CommitProtocol) -> int:
    """Set the job's progress; the snapshot that does. Raises Fenced where the job has run since it was planned."""
    table_uuid = str(lake.table(job.target).metadata.table_uuid)
    progress = Progress(job.writer, plan.before, plan.after)
    return commits.commit(
        Change(job.target, progress=progress, table_uuid=table_uuid, summary={RESET: plan.before})
    ).snapshot_id


def copy_state(old: str, job: Job, lake: Lake, commits: CommitProtocol) -> tuple[str, ...]:
    """Give `job` the progress that a job called `old` has in its target, and what that kept; what was done, in words.

    What was kept by key is handed over, so that the old job cannot go on. Where this dies in between, it is to be run again.
    Raises UnknownName where there is no such progress, UsageError where `job` has some already, Fenced where it just got some.
    """
    if not lake.exists(job.target):
        raise UnknownName("table", job.target, lake.names())
    before = commits.progress(job.target, f"job.{old}")
    if before is None:
        known = [one.removeprefix("job.") for one in writers_in(lake.table(job.target).metadata) if one.startswith("job.")]
        raise UnknownName(f"job with progress in {job.target}", old, known, next_step=f"lakeflow tables show {job.target}")
    if (there := commits.progress(job.target, job.writer)) is not None:
        raise UsageError(
            f"job {job.name!r} has progress in {job.target} already, {there}: copying that of {old!r} would lose it",
            next_step=f"lakeflow state reset {job.name}",
        )
    done = _hand_over(old, job, lake, commits) if is_keyed(job) else ()
    table_uuid = str(lake.table(job.target).metadata.table_uuid)
    commits.commit(Change(job.target, progress=Progress(job.writer, None, before), table_uuid=table_uuid))
    return (*done, f"{job.name} goes on in {job.target} where {old} was: {before}")


def _hand_over(old: str, job: Job, lake: Lake, commits: CommitProtocol) -> tuple[str, ...]:
    """What is kept by key gets the new name, first in its progress, then as a table."""
    source, target = state_table(replace(job, name=old), job.target), state_table(job, job.target)
    if not lake.exists(source):
        if lake.exists(target):
            return ()
        raise UnknownName("table", source, lake.names(), next_step=f"lakeflow run {job.name} --mode snapshot")
    kept = commits.progress(source, f"state.{old}")
    if kept is not None and commits.progress(source, f"state.{job.name}") is None:
        commits.commit(Change(source, progress=Progress(f"state.{job.name}", None, kept)))
    rename_table(lake, source, target)
    return (f"{source} is {target} now",)
