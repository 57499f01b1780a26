"""A full refresh: a job is made anew from nothing, beside what it has made, and put in its place when it is done.

It runs as the incremental job that it is, on a branch of its target, and of the tables where it keeps what it must know between
its runs; its progress is that of the branch. So it can be stopped, goes on where it was, and holds no more than any run.
Readers see the target as it was until one commit puts the branch's files and progress in place of main's. The job's own runs
may go on meanwhile; what anybody else does to the target keeps the branch off it, until it is asked for again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from lakeflow.errors import Fenced, SourceChanged, UsageError
from lakeflow.job import Job, Mode, is_keyed
from lakeflow.lake.branch import KEPT, SwappingCommitter, begin, begun_at, drop_branches, head_of, is_in_place, on_branch
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committed, Committer, Progress
from lakeflow.lake.history import PROGRESS
from lakeflow.lake.letters import DEAD_LETTERS
from lakeflow.lake.read import Snapshot
from lakeflow.runner.execute import JobRun, RunCounts, Runtime, run_job
from lakeflow.runner.fingerprint import CODE, MODELS, code_of
from lakeflow.runner.history_step import idle_table
from lakeflow.runner.keyed import state_table
from lakeflow.runner.letters import Kept
from lakeflow.runner.plan import JobPlan, Request, backfill_writer, plan_again, plan_job
from lakeflow.sql.compiled import Names

logger = logging.getLogger("lakeflow.runner")

PASSES: Final = 3
"""How often what came meanwhile is read before the branch is put in place; what comes after that, the job's own runs read."""
REFRESH: Final = "lakeflow.refresh"
"""In the summary of the commit that put a branch in place: which one."""


def refresh_branch(job: Job) -> str:
    """The branch on which a job is made anew."""
    return f"lakeflow_refresh_{job.name}"


def require_refresh(job: Job) -> None:
    """Raises UsageError for a job that is made anew by each of its runs."""
    if job.mode is Mode.SNAPSHOT:
        raise UsageError(
            f"job {job.name!r} ({job.origin}) reads its whole table at each run, and replaces its target by it",
            next_step=f"lakeflow run {job.name}",
        )


class RefreshCommitter(Committer):
    """Commits to the branches. Dead letters land as ever, under a progress of their own."""

    def __init__(self, lake: Lake, job: Job) -> None:
        super().__init__(lake, keep_snapshots=KEPT)
        self._job = job

    def progress(self, table: str, writer: str) -> str | None:
        return super().progress(table, self._renamed(table, writer))

    def commit(self, change: Change) -> Committed:
        if change.table == DEAD_LETTERS and isinstance(change.progress, Progress):
            writer = self._renamed(change.table, change.progress.writer)
            change = replace(change, progress=replace(change.progress, writer=writer))
        return super().commit(change)

    def _renamed(self, table: str, writer: str) -> str:
        if table != DEAD_LETTERS or not writer.startswith(f"{self._job.writer}."):
            return writer
        return f"refresh.{self._job.name}.{writer.removeprefix(f'{self._job.writer}.')}"


@dataclass(frozen=True, slots=True)
class _Put:
    """The Advance of a commit that puts a branch in place: the progress becomes the branch's, whatever it was."""

    writer: str
    end: str

    def onto(self, found: str | None, table: str) -> str:
        return self.end


class Refresh:
    """A full refresh of a job. `commits` are those of the lake itself, `runtime` is what its runs are carried out with."""

    def __init__(self, job: Job, lake: Lake, commits: Committer, runtime: Runtime, names: Names | None = None) -> None:
        require_refresh(job)
        self._job = job
        self._lake = lake
        self._commits = commits
        self._names = names
        self._branch = refresh_branch(job)
        self._beside = tables_beside(job)
        branched = on_branch(lake, self._branch, (job.target, *self._beside))
        self._committer = RefreshCommitter(branched, job)
        self._runtime = replace(runtime, lake=branched, commits=self._committer)
        self._plain = runtime

    @property
    def is_begun(self) -> bool:
        """Whether there is a branch to go on with."""
        return self._lake.exists(self._job.target) and self._head() is not None

    def run(
        self,
        *,
        stop: Callable[[], bool] = lambda: False,
        on_plan: Callable[[JobPlan], None] = lambda plan: None,
        on_rows: Callable[[int], None] = lambda rows: None,
    ) -> Iterator[JobRun]:
        """Carry it out, and tell after each commit what has been done; the last one put the branch in place.

        `on_plan` is told what is about to be read. A target without rows is written to as it is. Raises Fenced where another
        writer changed the target meanwhile, UsageError where it holds rows of others, and what runs of the job raise.
        """
        job = self._job
        if not self._lake.exists(job.target) or self._lake.table(job.target).current_snapshot() is None:
            plan = plan_job(job, _INCREMENTAL, self._lake, self._commits, self._plain.caps, self._names)
            on_plan(plan)
            yield from run_job(plan, self._plain, stop=stop, on_rows=on_rows)
            return
        if (end := self._left_to_finish()) is not None:
            self._finish()
            yield JobRun(self._plan_of_main(), RunCounts(), (), end)
            return
        done: JobRun | None = None
        for plan in self._plans():
            on_plan(plan)
            before = done
            for ran in run_job(plan, self._runtime, stop=stop, on_rows=on_rows):
                done = ran if before is None else _after(before, ran)
                yield done
            if stop():
                return
        end = self._committer.progress(job.target, job.writer)
        if end is None:
            self.abandon()
            return
        snapshot = self._put_in_place(end)
        if done is None:
            done = JobRun(self._plan_of_main(), RunCounts(), (), end)
        yield replace(done, snapshots=(*done.snapshots, snapshot), end=end)

    def abandon(self) -> bool:
        """Take the branches away, whether there were any. Their files are orphans from then on, which maintenance deletes."""
        tables = [name for name in (self._job.target, *self._beside) if self._lake.exists(name)]
        dropped = [drop_branches(self._lake, name, self._branch) for name in tables]
        return any(dropped)

    def _left_to_finish(self) -> str | None:
        """The progress of a refresh that was put in place, but for what the job keeps beside; None where there is none.

        Where the job has run since, what it kept is not of its rows any more, so that the branch is of no use.
        """
        if not self._beside or not is_in_place(self._lake.table(self._job.target), self._branch, REFRESH):
            return None
        end = self._committer.progress(self._job.target, self._job.writer)
        return end if end == self._commits.progress(self._job.target, self._job.writer) else None

    def _plan_of_main(self) -> JobPlan:
        """The job as it stands, with nothing to do."""
        return plan_again(self._job, self._lake, self._commits, self._names)

    def _plans(self) -> Iterator[JobPlan]:
        """What there is to read, until nothing is. The branch is begun, or gone on with."""
        if (why := self._obsolete()) is not None:
            self._begin_again(why)
        for number in range(PASSES):
            try:
                plan = self._plan()
            except SourceChanged as error:
                if number or self._head() is None:
                    raise
                self._begin_again(error.message)
                plan = self._plan()
            if not plan.steps:
                return
            yield plan

    def _obsolete(self) -> str | None:
        """Why there is no branch that could be gone on with; None where there is."""
        head, table = self._head(), self._lake.table(self._job.target)
        if head is None or begun_at(table, self._branch) is None:
            return "it had not come to its first commit"
        if is_in_place(table, self._branch, REFRESH):
            return "it has been put in place already"
        made_by = _facts(head).get(CODE)
        return "the job has changed" if made_by not in (None, code_of(self._job)) else None

    def _begin_again(self, why: str) -> None:
        if self._head() is not None:
            logger.warning("job %s: what was made anew of it so far is dropped, and begun again: %s", self._job.name, why)
        self.abandon()
        begin(self._lake, self._job.target, self._branch)
        self._forget_letters()

    def _forget_letters(self) -> None:
        """Letters that an earlier refresh left are not those of a step that this one takes again."""
        job, commits = self._job, self._committer
        if not self._lake.exists(DEAD_LETTERS):
            return
        writer = f"{job.writer}.{self._lake.table(job.target).metadata.table_uuid}"
        text = commits.progress(DEAD_LETTERS, writer)
        kept = Kept.loads(text)
        if kept is not None and kept.start is None:
            over = replace(kept, start="over", end="over", first=kept.following)
            commits.commit(Change(DEAD_LETTERS, progress=Progress(writer, text, over.dumps())))

    def _plan(self) -> JobPlan:
        return plan_job(self._job, _INCREMENTAL, self._runtime.lake, self._committer, self._runtime.caps, self._names)

    def _head(self) -> Snapshot | None:
        return head_of(self._lake.table(self._job.target), self._branch)

    def _put_in_place(self, end: str) -> int:
        """The target first: as long as its branch is there, whoever runs the refresh again does what is left of this."""
        job, head = self._job, self._head()
        assert head is not None, "the branch has progress"
        facts = {key: value for key, value in _facts(head).items() if key in (CODE, MODELS) or key.startswith(_LOOKUPS)}
        swapping = SwappingCommitter(self._commits, self._branch, (job.writer, backfill_writer(job)))
        change = Change(job.target, progress=_Put(job.writer, end), summary={**facts, REFRESH: self._branch})
        try:
            snapshot = swapping.commit(change).snapshot_id
        except Fenced as error:
            begin(self._lake, job.target, self._branch)
            error.next_step = (
                f"see what it was (lakeflow tables show {job.target}), then run the same command again, which puts the "
                "rows in place all the same: what was changed is then in the table's history only"
            )
            raise
        self._finish()
        return snapshot

    def _finish(self) -> None:
        """Put what the job keeps in place, and take the branches away, that of the target last."""
        for table in self._beside:
            self._put_beside(table)
        for table in (*self._beside, self._job.target):
            if self._lake.exists(table):
                drop_branches(self._lake, table, self._branch)

    def _put_beside(self, name: str) -> None:
        """Put what the job keeps between its runs in place. What it kept before goes, even where it keeps nothing now."""
        if not self._lake.exists(name):
            return
        table = self._lake.table(name)
        head = head_of(table, self._branch)
        if head is None and table.current_snapshot() is None:
            return
        told = {key: value for key, value in ({} if head is None else _facts(head)).items() if key.startswith(PROGRESS)}
        writer, end = next(iter(told.items()), (None, None))
        progress = _Put(writer.removeprefix(PROGRESS), end) if writer is not None and end is not None else None
        SwappingCommitter(self._commits, self._branch, ()).commit(Change(name, progress=progress))


_INCREMENTAL: Final = Request(mode=Mode.INCREMENTAL)
_LOOKUPS: Final = "lakeflow.lookup."


def tables_beside(job: Job) -> tuple[str, ...]:
    """Where the job keeps what it must know between its runs, but for its progress."""
    kept = (state_table(job, job.target),) if is_keyed(job) else ()
    return (*kept, *((idle_table(job.target),) if job.history is not None else ()))


def _facts(snapshot: Snapshot) -> dict[str, str]:
    return {} if snapshot.summary is None else dict(snapshot.summary.additional_properties)


def _after(before: JobRun, ran: JobRun) -> JobRun:
    """A run that went on after another."""
    return replace(ran, counts=before.counts + ran.counts, snapshots=(*before.snapshots, *ran.snapshots))
