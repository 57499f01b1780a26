"""What the threads of `lakeflow start` carry out: a landing until it is stopped, a run of a job or an index.

Each is recorded as a run. What it has to tell it puts into the inbox of the one thread that decides.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import assert_never

from lakeflow.declare import IndexSpec, TableSpec
from lakeflow.errors import Interrupted, LakeflowError, Terminal
from lakeflow.job import Job, Mode
from lakeflow.landing.counts import Counts, Landed
from lakeflow.landing.follow import land_once
from lakeflow.landing.open import open_landing
from lakeflow.landing.writer import Landing
from lakeflow.observe.runs import Run, RunLog, Status
from lakeflow.runner.execute import run_job
from lakeflow.runner.graph import Node
from lakeflow.runner.indexing import update_index
from lakeflow.runner.plan import JobPlan, Request
from lakeflow.runner.project import Project
from lakeflow.runner.suspension import is_suspended
from lakeflow.start.parts import Part
from lakeflow.start.pressure import rows_ahead

logger = logging.getLogger("lakeflow.start")


@dataclass(frozen=True, slots=True)
class Opened:
    """A landing has found its topic and its table, and reads."""

    part: Part


@dataclass(frozen=True, slots=True)
class Committed:
    """A landing made a snapshot; the counts are those of this commit."""

    part: Part
    counts: Counts
    landed: Landed


@dataclass(frozen=True, slots=True)
class Lag:
    """Records that wait in the topics of a landing, at the most."""

    part: Part
    records: int


@dataclass(frozen=True, slots=True)
class Held:
    """A landing waits, for its slowest reader is so many rows behind."""

    part: Part
    rows: int


@dataclass(frozen=True, slots=True)
class Ended:
    """A run ended. `waits` are tables and indexes that are still to be made; `run` is None where it was not come to."""

    part: Part
    run: Run | None
    error: LakeflowError | None = None
    waits: tuple[str, ...] = ()
    rebuilt: str | None = None


Looked = tuple[tuple[str, int | None], ...]
Message = Opened | Committed | Lag | Held | Ended
Tell = Callable[[Message], None]


@dataclass(slots=True)
class Stop:
    """When work ends: `requested` asks for the commit under way to be the last, `hurry` for it not to be made any more."""

    all: threading.Event
    late: threading.Event
    own: threading.Event = field(default_factory=threading.Event)

    def requested(self) -> bool:
        return self.all.is_set() or self.own.is_set()

    def hurry(self, rows: int) -> None:
        """For each batch of rows that a job reads. Raises Interrupted once the time for a graceful end is over."""
        if self.late.is_set():
            raise Interrupted("the step under way is given up: the time to end is over", left_behind="the steps before it")


def keep_landing(project: Project, part: Part, table: TableSpec, stop: Stop, tell: Tell, *, most_ahead: int) -> Ended:
    """Land a table until a stop is asked for. More than `most_ahead` rows (0: no bound) ahead of its slowest reader, it waits
    until half of them are read."""
    run = Run("land", table.name, table.name, "follow")
    landing = _Landing(project, part, table, stop, tell, most_ahead, run)
    try:
        with RunLog(project.lake, project.commits, project.settings).recorded(run, even_empty=False):
            landing.keep()
            run.status = Status.STOPPED if run.read else Status.EMPTY
    except LakeflowError as error:
        return Ended(part, run, error)
    return Ended(part, run)


@dataclass(slots=True)
class _Landing:
    project: Project
    part: Part
    table: TableSpec
    stop: Stop
    tell: Tell
    most_ahead: int
    run: Run
    ahead: int = 0
    told: Counts = field(default_factory=Counts)

    def keep(self) -> None:
        while not self.stop.requested():
            self._wait_for_readers()
            land_once(self._open, follow=True, stop=self._stops, told=self.run.add)

    def _stops(self) -> bool:
        return self.stop.requested() or self.ahead > 0

    def _open(self) -> tuple[Landing, Callable[[], None]]:
        opened = open_landing(
            self.table,
            self.project.settings,
            self.project.lake,
            self.project.commits,
            on_progress=lambda counts, left: self.tell(Lag(self.part, left)),
            on_commit=self._committed,
        )
        self.told = Counts()
        self.tell(Opened(self.part))
        return opened

    def _committed(self, landed: Landed) -> None:
        self.tell(Committed(self.part, _less(landed.counts, self.told), landed))
        self.told = landed.counts
        if self.most_ahead:
            self._look(self.most_ahead)

    def _look(self, bound: int) -> None:
        """Find out whether the landing is further ahead than the bound. What cannot be told holds nothing up."""
        try:
            ahead = rows_ahead(self.project, self.table.name)
        except LakeflowError as error:
            logger.warning("how far %s is ahead of its readers cannot be told: %s", self.table.name, error.message)
            return
        self.ahead = ahead if ahead > bound else 0

    def _wait_for_readers(self) -> None:
        if self.ahead:
            self.tell(Held(self.part, self.ahead))
        while self.ahead and not self.stop.requested():
            self.stop.own.wait(min(1.0, self.project.settings.run.follow_seconds))
            self._look(self.most_ahead // 2)


def _less(counts: Counts, before: Counts) -> Counts:
    return Counts(
        counts.read - before.read,
        counts.written - before.written,
        counts.dead_lettered - before.dead_lettered,
        counts.skipped - before.skipped,
        counts.filtered - before.filtered,
    )


def run_node(project: Project, part: Part, node: Node, stop: Stop, looked: dict[str, Looked]) -> Ended:
    """One run of a job or an index, to the end of what its tables hold now. Recorded where it did something or is scheduled."""
    mode = node.work.mode if isinstance(node.work, Job) else Mode.INCREMENTAL
    run = Run(str(part.kind), node.name, node.writes or node.reads[0], str(mode))
    rebuilt: str | None = None
    try:
        if missing := tuple(project.missing_of(node)):
            return Ended(part, None, waits=missing)
        if isinstance(node.work, Job) and is_suspended(node.work, project.lake):
            run.status = Status.SUSPENDED
            return Ended(part, run)
        scheduled = isinstance(node.work, Job) and node.work.schedule is not None
        with RunLog(project.lake, project.commits, project.settings).recorded(run, even_empty=scheduled):
            match node.work:
                case Job():
                    _run_job(project, node.work, run, stop, looked)
                case IndexSpec():
                    rebuilt = _update(project, node.work, run)
                case _:
                    assert_never(node.work)
            if run.status is Status.DONE and run.read == 0 and not run.snapshot_ids:
                run.status = Status.EMPTY
    except LakeflowError as error:
        return Ended(part, run, error)
    return Ended(part, run, rebuilt=rebuilt)


def _run_job(project: Project, job: Job, run: Run, stop: Stop, looked: dict[str, Looked]) -> None:
    plan = project.plan(job, Request())
    run.mode, run.start_position = str(plan.mode), plan.start
    if plan.mode is Mode.SNAPSHOT and job.schedule is None and looked.get(job.name) == _looks_at(plan):
        return
    project.models.stop_when(stop.requested)
    try:
        for ran in run_job(plan, project.runtime, stop=stop.requested, on_rows=stop.hurry):
            run.read, run.written, run.filtered = ran.counts.read, ran.counts.written, ran.counts.filtered
            run.dead_lettered, run.skipped = ran.counts.dead_lettered, ran.counts.skipped
            run.end_position, run.snapshot_ids, run.findings = ran.end, ran.snapshots, ran.findings
    except Interrupted as stopped:
        logger.info("job %s: %s", job.name, stopped.message)
    finally:
        run.usage = project.models.usage.of_run()
        run.models = project.models.used
    if len(run.snapshot_ids) < len(plan.steps):
        run.status = Status.STOPPED
    else:
        looked[job.name] = _looks_at(plan)


def _looks_at(plan: JobPlan) -> Looked:
    """The tables that a run reads, and at which snapshots: a snapshot run over the same ones would write the same again."""
    sources = (*(source for step in plan.steps for source in step.reads), *plan.lookups)
    return tuple((source.name, source.snapshot_id) for source in sources)


def _update(project: Project, index: IndexSpec, run: Run) -> str | None:
    """Bring an index up to date; why it was built anew, None where it was not."""
    updated = update_index(index, project.index_room)
    run.read, run.written = updated.read, updated.written
    run.filtered = run.read - run.written
    run.start_position = updated.start.dumps() if updated.start else None
    run.end_position = updated.end.dumps() if updated.end else None
    return updated.rebuilt


def guarded(part: Part, work: Callable[[], Ended], tell: Tell) -> None:
    """Carry work out and tell how it ended, whatever it ends with: a thread that dies unheard would leave its part running."""
    try:
        ended = work()
    except BaseException as error:
        logger.exception("%s ended in an unforeseen way", part.label)
        fault = Terminal(
            f"{part.label} ended with {type(error).__name__}: {error}; this is a fault of lakeflow: please report it"
        )
        fault.__cause__ = error
        ended = Ended(part, None, fault)
    tell(ended)
