"""`lakeflow run JOB --from --to` and `--full-refresh`: what a job has made is made anew. Shared with `lakeflow plan`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.output import aside, note, show_json, show_table, show_text, size_text
from lakeflow.cli.progress import Bar
from lakeflow.errors import Interrupted, UsageError
from lakeflow.job import Job

if TYPE_CHECKING:
    from lakeflow.cli.signals import StopSignals
    from lakeflow.expect import Finding
    from lakeflow.observe.runs import Run
    from lakeflow.runner.backfill import BackfillPlan
    from lakeflow.runner.backfill_range import Asked
    from lakeflow.runner.execute import RunCounts
    from lakeflow.runner.graph import Node
    from lakeflow.runner.plan import Request
    from lakeflow.runner.project import Project

FromOption = Annotated[
    str | None,
    typer.Option(
        "--from", help="Make anew what came of rows from here on: a time, COLUMN=VALUE or snapshot=ID.", metavar="PLACE"
    ),
]
ToOption = Annotated[
    str | None,
    typer.Option("--to", help="Make anew what came of rows before this place (of snapshots: up to it).", metavar="PLACE"),
]
ChunkOption = Annotated[
    str | None,
    typer.Option(
        "--chunk", help="What one commit of --from and --to is about: 1d or 6h, or a number of files.", metavar="SIZE"
    ),
]

FullRefreshOption = Annotated[
    bool, typer.Option("--full-refresh", help="Make all of one job's rows anew on a branch, then put them in place at once.")
]

BACKFILL = "backfill"
FULL_REFRESH = "full-refresh"
CHUNKS = ("chunk", "from", "to", "files", "rows", "size", "status")


@dataclass(frozen=True, slots=True)
class Again:
    """The job that is made anew: the part that is asked for, or all of it (None)."""

    job: Job
    asked: Asked | None


def again_of(
    start: str | None,
    end: str | None,
    chunk: str | None,
    full: bool,
    chosen: Sequence[Node],
    named: Sequence[str],
    request: Request,
    others: bool,
) -> Again | None:
    """What the options ask for; None where they ask for nothing. `others`: options are given that do not go with them.

    Raises UsageError where they contradict each other.
    """
    asked = asked_of(start, end, chunk)
    if full and asked.given:
        raise UsageError("--full-refresh makes all of a job anew, --from and --to a part; valid: one of them")
    if not full and not asked.given:
        return None
    option = "--full-refresh" if full else "--from"
    return Again(only_job(chosen, named, option, request, others), None if full else asked)


def made_again(project: Project, again: Again, signals: StopSignals) -> Run:
    """Carry it out; the run, which is recorded. Raises what it fails of."""
    from lakeflow.observe.runs import Run, RunLog, Status

    run = Run("job", again.job.name, again.job.target, BACKFILL if again.asked else FULL_REFRESH)
    with RunLog(project.lake, project.commits, project.settings).recorded(run), aside():
        project.models.stop_when(signals.requested)
        try:
            if again.asked is not None:
                _backfill(project, again.job, again.asked, run, signals)
            else:
                _refresh(project, again.job, run, signals)
        except Interrupted as stopped:
            note(str(stopped))
        finally:
            run.usage = project.models.usage.of_run()
            run.models = project.models.used
        if run.status is Status.DONE and not run.snapshot_ids:
            run.status = Status.EMPTY
    return run


def asked_of(start: str | None, end: str | None, chunk: str | None) -> Asked:
    """What the options ask for. Raises UsageError for a chunk of nothing."""
    from lakeflow.runner.backfill_range import Asked

    asked = Asked(start, end, chunk)
    if chunk is not None and not asked.given:
        raise UsageError("--chunk cuts what --from and --to name; name one of them")
    return asked


def only_job(chosen: Sequence[Node], named: Sequence[str], option: str, request: Request, others: bool) -> Job:
    """The one job that an option is about. Raises UsageError where another number is named, and for options that clash."""
    jobs = [node.work for node in chosen if isinstance(node.work, Job)]
    if len(named) != 1 or len(jobs) != 1:
        raise UsageError(f"{option} makes the rows of one job anew; name it: lakeflow run JOB {option} ..")
    if others or request != type(request)():
        raise UsageError(
            f"{option} goes without --mode, --into, --follow, --due and moments: it makes anew what the job's own runs made"
        )
    return jobs[0]


def planned(project: Project, job: Job, asked: Asked) -> BackfillPlan:
    """The backfill that is asked for. Raises as `plan_backfill` does."""
    from lakeflow.job import Read
    from lakeflow.runner.backfill import plan_backfill
    from lakeflow.runner.sql_names import ProjectNames

    reads = [source.table for source in job.inputs.values() if isinstance(source, Read)]
    declared = project.declared_tables.tables.get(reads[0]) if reads else None
    return plan_backfill(job, asked, project.lake, project.commits, declared, ProjectNames(project))


def _backfill(project: Project, job: Job, asked: Asked, run: Run, signals: StopSignals) -> None:
    from lakeflow.observe.runs import Status
    from lakeflow.runner.backfill import run_backfill

    began = time.time()
    plan = planned(project, job, asked)
    run.start_position = str(asked)
    if plan.goes_on is not None:
        done = sum(one.is_done for one in plan.chunks)
        note(f"backfill {plan.goes_on} of {job.name} goes on: {done} of {len(plan.chunks)} chunks are done")
    rows, finished = sum(one.rows for one in plan.chunks if not one.is_done), False
    with Bar(f"making {job.name} anew", rows) as bar:
        for ran in run_backfill(
            plan, project.runtime, stop=signals.requested, on_rows=bar.advance, sleep=signals.sleep, began=began
        ):
            _count(run, ran.counts, ran.snapshots, ran.findings)
            run.end_position = f"backfill {ran.number}: {ran.done} of {ran.of} chunks"
            finished = ran.done == ran.of
    if signals.requested() and not finished:
        run.status = Status.STOPPED


def _refresh(project: Project, job: Job, run: Run, signals: StopSignals) -> None:
    from lakeflow.lake.commit import Committer
    from lakeflow.observe.runs import Status
    from lakeflow.runner.plan import JobPlan
    from lakeflow.runner.refresh import Refresh
    from lakeflow.runner.sql_names import ProjectNames

    commits = project.commits
    assert isinstance(commits, Committer), "a project commits to a catalog"
    refresh = Refresh(job, project.lake, commits, project.runtime, ProjectNames(project))
    if refresh.is_begun:
        note(f"the full refresh of {job.name} goes on")
    run.status = Status.STOPPED
    with Bar(f"making {job.name} anew") as bar:

        def begun(plan: JobPlan) -> None:
            run.start_position = plan.start
            bar.reach(run.read, run.read + plan.rows)

        for ran in refresh.run(stop=signals.requested, on_plan=begun, on_rows=bar.advance):
            _count(run, ran.counts, ran.snapshots, ran.findings)
            run.end_position = ran.end
    if not refresh.is_begun:
        run.status = Status.DONE


def _count(run: Run, counts: RunCounts, snapshots: tuple[int, ...], findings: tuple[Finding, ...]) -> None:
    run.read, run.written, run.filtered = counts.read, counts.written, counts.filtered
    run.dead_lettered, run.skipped = counts.dead_lettered, counts.skipped
    run.snapshot_ids, run.findings = snapshots, findings


def show_plan(plan: BackfillPlan, as_json: bool) -> None:
    """The chunks of a backfill."""
    rows = [_row(plan, place) for place in range(len(plan.chunks))]
    job = plan.plan.job
    if as_json:
        told = {"job": job.name, "target": job.target, "reads": plan.source, "goes_on": plan.goes_on, "chunks": rows}
        show_json({BACKFILL: told})
        return
    which = "begins" if plan.goes_on is None else f"goes on with number {plan.goes_on}"
    show_text(f"Backfill of {job.name} into {job.target}, {_lands(plan)}; it {which}")
    show_table([{**row, "size": size_text(row["bytes"])} for row in rows], CHUNKS)


def _row(plan: BackfillPlan, place: int) -> dict[str, Any]:
    from lakeflow.runner.backfill_range import CommitRange, text_of

    one = plan.chunks[place]
    if isinstance(one.within, CommitRange):
        low, high = f"after commit {one.within.after}", f"commit {one.within.upto}"
    else:
        assert plan.kind is not None, "a column has a type"
        low, high = ("" if end is None else text_of(end, plan.kind) for end in (one.within.low, one.within.high))
    status = "done" if one.is_done else "to do"
    return {
        "chunk": place + 1,
        "from": low,
        "to": high,
        "files": one.files,
        "rows": one.rows,
        "bytes": one.bytes,
        "status": status,
    }


def _lands(plan: BackfillPlan) -> str:
    from lakeflow.runner.backfill_landing import ByKey, InRange

    match plan.landing:
        case InRange(column):
            return f"in place of its rows of the same range of {column}"
        case ByKey():
            return f"in place of the rows of whole keys ({', '.join(plan.plan.job.key or plan.plan.job.by)})"
        case _:
            return "in place of whole windows"


def show_backfill(project: Project, job: Job, asked: Asked, as_json: bool) -> None:
    """`lakeflow plan JOB --from --to`."""
    with project.models, aside():
        plan = planned(project, job, asked)
    show_plan(plan, as_json)
