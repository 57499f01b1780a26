"""Backfills: a part of what a job has read is made anew, a chunk a commit; several processes may share one, and go on with it.

A chunk is computed from rows that the job has read, and lands if the job has not read on since. The job's own progress stays.
backfill_range.py says which rows, backfill_landing.py how what is made of them meets the target, backfill_ledger.py who has
which chunk and which are done, backfill_step.py carries one out, and backfill_commits.py commits it.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.errors import CommitConflict, Fenced, LakeflowError, UsageError
from lakeflow.expect import Finding
from lakeflow.job import Job, Read
from lakeflow.lake.catalog import Lake, Table, arrow_schema
from lakeflow.lake.commit import CommitProtocol
from lakeflow.lake.ranges import ValueRange
from lakeflow.lake.read import Split
from lakeflow.progress import JobProgress, SnapshotPosition
from lakeflow.runner.backfill_commits import ChunkCommits, ChunkLetters, ChunkOf, JobMoved
from lakeflow.runner.backfill_landing import Landing, landing_of, require_parts
from lakeflow.runner.backfill_ledger import BEAT, Backfill, Claims, Done, Ledger, Worker
from lakeflow.runner.backfill_range import Asked, CommitRange, Range, chunks_of, range_of
from lakeflow.runner.backfill_step import backfill_step, read_so_far, rows_of
from lakeflow.runner.expecting import Expecting
from lakeflow.runner.fingerprint import code_of
from lakeflow.runner.lookups import as_of_now, facts_of
from lakeflow.runner.plan import JobPlan, Source, Step, backfill_writer, plan_again
from lakeflow.sql.compiled import Names

if TYPE_CHECKING:
    from lakeflow.runner.execute import RunCounts, Runtime

logger = logging.getLogger("lakeflow.runner")

ATTEMPTS = 5
"""How often a chunk is computed where the job reads on each time."""


@dataclass(frozen=True, slots=True)
class ChunkPlan:
    """A chunk: its rows' files, as many at the most, with their rows and bytes, and whether it is done."""

    within: Range
    files: int
    rows: int
    bytes: int
    is_done: bool


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """A backfill as it would be carried out now. `goes_on` is the one that it goes on with; None: it begins.

    `what` is a fingerprint of what is asked for, of which job.
    """

    plan: JobPlan
    asked: Asked
    what: str
    parameter: str
    source: str
    landing: Landing
    chunks: tuple[ChunkPlan, ...]
    kind: pa.DataType | None
    before: Claims
    goes_on: int | None = None


@dataclass(frozen=True, slots=True)
class BackfillRun:
    """What this process has carried out so far: chunks and their snapshots. `done` of `of` chunks are, by whomever."""

    number: int
    of: int
    done: int
    counts: RunCounts
    snapshots: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()


def plan_backfill(
    job: Job, asked: Asked, lake: Lake, commits: CommitProtocol, declared: TableSpec | None, names: Names | None = None
) -> BackfillPlan:
    """What a backfill would do. `declared` is how the table that the job reads is declared. Reads metadata only.

    Raises UsageError for a job that has none, a range that means nothing and a target that does not tell its rows, UnknownName
    for a column or snapshot that is not there, SourceChanged where what the job has read can no longer be told.
    """
    require_parts(job)
    [(parameter, source)] = [(name, one.table) for name, one in job.inputs.items() if isinstance(one, Read)]
    if not lake.exists(job.target) or commits.progress(job.target, job.writer) is None:
        raise UsageError(
            f"job {job.name!r} has not written {job.target} yet, so that there is nothing to make anew",
            next_step=f"lakeflow run {job.name}, which reads everything",
        )
    plan = plan_again(job, lake, commits, names)
    table, target = lake.table(source), lake.table(job.target)
    position = _position(plan.start, source, table)
    within = range_of(asked, plan.job, table, declared, position.snapshot_id)
    _require_read(within, position, job)
    landing = landing_of(plan.job, within, table, target)
    known = read_so_far(table, position)
    kind = arrow_schema(table).field(within.column).type if isinstance(within, ValueRange) else None
    before = Ledger(job, lake, commits).claims()
    done = Done.loads(commits.progress(job.target, backfill_writer(job)))
    what = _fingerprint(job, within, asked)
    if before.number and before.what == what and not (done.number == before.number and done.is_whole):
        chunks, goes_on = Ledger(job, lake, commits).join(before, kind).chunks, before.number
    else:
        chunks, goes_on = chunks_of(within, asked.chunk, table, rows_of(table, known, within).splits), None
    planned = tuple(_chunk(table, known, one, goes_on == done.number and place in done) for place, one in enumerate(chunks))
    return BackfillPlan(plan, asked, what, parameter, source, landing, planned, kind, before, goes_on)


def _position(start: str | None, source: str, table: Table) -> SnapshotPosition:
    position = JobProgress.loads(start, source).of(source, str(table.metadata.table_uuid))
    if position is None:
        raise UsageError(f"nothing of {source} has been read yet, so that there is nothing to make anew")
    return position


def _require_read(within: Range, position: SnapshotPosition, job: Job) -> None:
    """Rows that the job has not read yet come by its own runs."""
    if isinstance(within, CommitRange) and not position.covers(within.upto, "\U0010ffff"):
        raise UsageError(
            f"job {job.name!r} has not read snapshot {within.snapshot_id} whole yet", next_step=f"lakeflow run {job.name}"
        )


def _fingerprint(job: Job, within: Range, asked: Asked) -> str:
    return hashlib.sha256(f"{job.name} {job.target} {within} {asked.chunk} {code_of(job)}".encode()).hexdigest()[:16]


def _chunk(table: Table, known: tuple[Split, ...], within: Range, is_done: bool) -> ChunkPlan:
    splits = rows_of(table, known, within).splits
    return ChunkPlan(within, len(splits), sum(one.rows for one in splits), sum(one.bytes for one in splits), is_done)


def run_backfill(
    plan: BackfillPlan,
    runtime: Runtime,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_rows: Callable[[int], None] = lambda rows: None,
    worker: Worker | None = None,
    sleep: Callable[[float], None] = time.sleep,
    began: float | None = None,
) -> Iterator[BackfillRun]:
    """Carry out the chunks that are not done and that no other process has, one after the other, and tell after each.

    It ends when all are done, by whomever, or `stop()`. `began` is when this was asked for, in seconds since the epoch: where
    another process has finished the same backfill since, there is nothing to do.

    Raises Fenced where another backfill of the job begins, JobFailed for what the job raises and for rows of another range,
    CommitConflict where the job reads on again and again. The chunks before stay; what runs next goes on with the others.
    """
    from lakeflow.runner.execute import RunCounts

    runtime.models.begin_run()
    ledger = Ledger(plan.plan.job, runtime.lake, runtime.commits, worker=worker, sleep=sleep)
    backfill = _begun(plan, ledger, began)
    expecting = Expecting.of(plan.plan, runtime)
    run = BackfillRun(0 if backfill is None else backfill.number, len(plan.chunks), 0, RunCounts())
    try:
        while backfill is not None and (chunk := ledger.next_chunk(backfill, stop)) is not None:
            carried = _Chunk(plan, backfill, chunk, runtime, expecting, _beating(ledger, chunk, on_rows))
            try:
                snapshot, counts = carried.out()
            except Fenced:
                if ledger.claims().number != backfill.number or chunk not in ledger.done():
                    raise
                logger.info("chunk %d of backfill %d was done by another process", chunk, backfill.number)
                continue
            except LakeflowError:
                ledger.release(chunk)
                raise
            done = ledger.done()
            run = replace(run, of=len(backfill.chunks), done=done.count, counts=run.counts + counts)
            run = replace(run, snapshots=(*run.snapshots, snapshot), findings=expecting.findings())
            yield run
    finally:
        expecting.tell()


def _begun(plan: BackfillPlan, ledger: Ledger, began: float | None) -> Backfill | None:
    """The backfill, begun or joined; None where another process has carried all of it out since `began`."""
    while True:
        claims, done = ledger.claims(), ledger.done()
        if claims.number and claims.what == plan.what:
            if done.number != claims.number or not done.is_whole:
                return ledger.join(claims, plan.kind)
            if began is not None and ledger.finished_since(began):
                return None
        try:
            chunks = tuple(one.within for one in plan.chunks)
            return ledger.begin(claims, plan.what, str(plan.asked), chunks, plan.kind)
        except Fenced:
            logger.info("another process began a backfill of job %s just now", plan.plan.job.name)


def _beating(ledger: Ledger, chunk: int, on_rows: Callable[[int], None]) -> Callable[[int], None]:
    """`on_rows`, with which the process shows now and then that it is alive."""
    lock, last = threading.Lock(), [time.monotonic()]

    def told(rows: int) -> None:
        on_rows(rows)
        if time.monotonic() - last[0] < BEAT or not lock.acquire(blocking=False):
            return
        try:
            last[0] = time.monotonic()
            ledger.beat(chunk)
        except LakeflowError as error:
            logger.warning("that chunk %d is under way could not be told: %s", chunk, error.message)
        finally:
            lock.release()

    return told


@dataclass(frozen=True, slots=True)
class _Chunk:
    """One chunk as it is carried out."""

    plan: BackfillPlan
    backfill: Backfill
    chunk: int
    runtime: Runtime
    expecting: Expecting
    on_rows: Callable[[int], None]

    def out(self) -> tuple[int, RunCounts]:
        """Compute and land it; again where the job has read on meanwhile. Raises CommitConflict where it always has."""
        for _ in range(ATTEMPTS):
            try:
                return self._once()
            except JobMoved as moved:
                logger.info("chunk %d: %s", self.chunk, moved.message)
        raise CommitConflict(
            f"job {self.plan.plan.job.name!r} read on {ATTEMPTS} times while a chunk of its backfill was computed",
            left_behind="the chunks that are done; nothing of this one",
            next_step="run the same command again, with smaller chunks (--chunk) or while the job does not run",
        )

    def _once(self) -> tuple[int, RunCounts]:
        from lakeflow.runner.execute import _target, _Work, body_of

        runtime, lake = self.runtime, self.runtime.lake
        plan = as_of_now(self.plan.plan, lake)
        job, body = plan.job, body_of(plan, runtime)
        seen = runtime.commits.progress(plan.target, job.writer)
        if seen is None:
            raise UsageError(f"{plan.target} was made anew or rolled back to before job {job.name!r} wrote it")
        table = lake.table(self.plan.source)
        known = read_so_far(table, _position(seen, self.plan.source, table))
        facts = facts_of(plan, runtime.surroundings.root)
        reads = (Source(self.plan.parameter, table, None, ()),)
        target = _target(plan, reads, body, runtime, self.expecting)
        of = ChunkOf(self.backfill.number, len(self.backfill.chunks), self.chunk, seen)
        commits = ChunkCommits(self.expecting.commits(runtime.commits), lake, job, of)
        letters = ChunkLetters(job, target, of, lake, commits, runtime.buffer_bytes)
        self.expecting.begin()
        chunked = replace(runtime, commits=commits)
        step, progress = Step(reads, of.end), of.progress(job)
        work = _Work(plan, step, target, progress, body, chunked, self.on_rows, letters, self.expecting, facts)
        return backfill_step(work, known, self.backfill.chunks[self.chunk], self.plan.landing)
