"""`lakeflow run`: jobs, and the indexes that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.again import ChunkOption, FromOption, FullRefreshOption, ToOption, again_of, made_again
from lakeflow.cli.common import (
    AsOfOption,
    Format,
    IntoOption,
    ModeOption,
    OutputOption,
    ProjectOption,
    SnapshotOption,
    TargetOption,
    check_into,
    exit_code_of,
    open_project,
    request_of,
)
from lakeflow.cli.index import update
from lakeflow.cli.output import aside, note, show_error, show_rows
from lakeflow.cli.progress import Bar
from lakeflow.cli.rounds import Patience, left_out
from lakeflow.cli.signals import StopSignals
from lakeflow.errors import Interrupted, LakeflowError, UsageError
from lakeflow.job import Job, Mode
from lakeflow.schedule import Cron

if TYPE_CHECKING:
    from lakeflow.observe.runs import Run
    from lakeflow.runner.due import Timetable
    from lakeflow.runner.graph import Node
    from lakeflow.runner.plan import Request
    from lakeflow.runner.project import Project

COLUMNS = ("name", "kind", "mode", "status", "read", "written", "filtered", "commits", "seconds", "rows_per_second")
LOST = ("dead_lettered", "skipped")
"""Rows that models left without an answer; shown where there are some."""
ASKED = ("calls", "cached", "tokens", "cost")
"""Of remote models; shown where one was asked."""
HELP = """Run jobs and bring the indexes up to date, in the order of the graph.

Incremental jobs read what was appended since their last run; --mode snapshot reads the whole table as of now, or as of
--snapshot-id or --as-of, and replaces the target atomically. Stops when all is read; --follow stays until a signal comes.

What reads the table of a job that failed, or searches an index that failed, is left out. --follow gives a job or index up
whose failure a retry does not mend, or that failed in ten rounds in a row, goes on with the rest, and exits with 1 at its
end, which comes where none is left.
A materialized table that is suspended is not run.

--from and --to make a part of one job's rows anew, a chunk a commit; the job's own progress stays. Run again, it goes on with
what is not done, and several processes may share it. --full-refresh makes all of them anew, beside what readers see, and puts
them in place in one commit. docs/backfill.md says how rows land, and for which jobs.

--due is for cron: it leaves out jobs that are not due, by schedule or freshness and their last runs in lakeflow.runs. Those
that have neither, and indexes, always are. --follow heeds schedules too; without either, all that is named runs now.

Examples:

  lakeflow run

  lakeflow run score_flights --mode snapshot --into audit.scored_flights

  lakeflow run --due --exit-on-empty 3

  lakeflow run score_flights --from 2013-01-01 --to 2013-02-01 --chunk 1d

  lakeflow run score_flights --full-refresh
"""


def register(app: typer.Typer) -> None:
    app.command("run", help=HELP)(run)


def run(
    jobs: Annotated[list[str] | None, typer.Argument(help="Jobs and indexes to run; without any, all.")] = None,
    mode: ModeOption = None,
    snapshot_id: SnapshotOption = None,
    as_of: AsOfOption = None,
    into: IntoOption = None,
    start: FromOption = None,
    end: ToOption = None,
    chunk: ChunkOption = None,
    full_refresh: FullRefreshOption = False,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and run again at an interval.")] = False,
    due: Annotated[bool, typer.Option("--due", help="Leave out what is not due by its schedule.")] = False,
    every: Annotated[float | None, typer.Option("--every", help="Seconds between runs with --follow.", min=0.1)] = None,
    exit_on_empty: Annotated[int, typer.Option("--exit-on-empty", help="Exit code for nothing to do.", min=0, max=255)] = 0,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.runner.graph import check_tables

    opened = open_project(project, target)
    chosen = opened.choose(jobs or [])
    request = request_of(mode, snapshot_id, as_of, into)
    _check_request(request, chosen, follow, due)
    check_tables(chosen, opened.lake.names(), opened.declarations.tables)
    as_json = output is Format.JSON
    anew = again_of(start, end, chunk, full_refresh, chosen, jobs or [], request, follow or due)
    with StopSignals() as signals, opened.models:
        if anew is not None:
            ended = [Ended(_result(made_again(opened, anew, signals)))]
            code = signals.exit_code or (0 if ended[0].did_something else exit_on_empty)
        elif follow:
            ended, code = _follow(opened, chosen, request, signals, every or opened.settings.run.follow_seconds, as_json)
        else:
            timetable = timetable_of(opened, chosen) if due else None
            ended, code = _once(opened, chosen, request, signals, exit_on_empty, timetable)
    _show([one.row for one in ended], as_json)
    raise typer.Exit(code)


def _check_request(request: Request, chosen: Sequence[Node], follow: bool, due: bool) -> None:
    check_into(request.into, chosen)
    if due and (follow or request != type(request)()):
        raise UsageError("--due runs jobs as they are declared, once: it goes without --follow, --mode, --into and moments")
    if follow and (request.snapshot_id is not None or request.as_of is not None):
        raise UsageError("--follow reads what comes; --snapshot-id and --as-of read one moment")


@dataclass(frozen=True, slots=True)
class Ended:
    """How a node ended in a round, as a row to show. `ran` is False where it was left out or had to wait."""

    row: dict[str, Any]
    error: LakeflowError | None = None
    ran: bool = True

    @property
    def did_something(self) -> bool:
        return bool(self.row["commits"] or self.row["read"] or self.error)


def timetable_of(project: Project, nodes: Sequence[Node], *, since_start: bool = False) -> Timetable:
    """When jobs are due, as of their last runs; `since_start`: what is to be fresh is refreshed in the first round."""
    from lakeflow.observe.past import last_begun
    from lakeflow.runner.due import Timetable

    jobs = [node.work for node in nodes if isinstance(node.work, Job)]
    asked = [job for job in jobs if isinstance(job.schedule, Cron) or (job.schedule is not None and not since_start)]
    return Timetable(lambda: datetime.now(UTC), last_begun(project.lake, asked))


def _once(
    project: Project,
    nodes: Sequence[Node],
    request: Request,
    signals: StopSignals,
    exit_on_empty: int,
    timetable: Timetable | None = None,
) -> tuple[list[Ended], int]:
    """One round, and the exit code."""
    ended = _round(project, nodes, request, signals, timetable)
    if signals.requested():
        return ended, signals.exit_code
    if code := exit_code_of([one.error for one in ended if one.error]):
        return ended, code
    return ended, 0 if any(one.did_something for one in ended) else exit_on_empty


def _follow(
    project: Project, nodes: Sequence[Node], request: Request, signals: StopSignals, every: float, as_json: bool
) -> tuple[list[Ended], int]:
    """Rounds until a signal comes or no node is left to run. The last round, which is not shown yet, and the exit code."""
    patience, timetable = Patience(nodes), timetable_of(project, nodes, since_start=True)
    while True:
        left = patience.left()
        ended = _round(project, left, request, signals, timetable, following=True)
        for one in ended:
            if one.ran and patience.tell(one.row["name"], one.error):
                _tell_given_up(one.row["name"], left)
            if one.error:
                timetable.failed(one.row["name"])
        none_is_left = patience.given_up and not patience.left()
        if signals.requested() or none_is_left:
            return ended, 1 if patience.given_up else signals.exit_code
        if done := [one.row for one in ended if one.did_something]:
            _show(done, as_json)
        signals.sleep(every)


def _tell_given_up(name: str, nodes: Sequence[Node]) -> None:
    with_it = sorted(left_out(nodes, {name}) - {name})
    note(
        f"{name} IS GIVEN UP until this command is started again"
        + (f", and with it what reads its table: {', '.join(with_it)}" if with_it else "")
    )


def _round(
    project: Project,
    nodes: Sequence[Node],
    request: Request,
    signals: StopSignals,
    timetable: Timetable | None = None,
    *,
    following: bool = False,
) -> list[Ended]:
    """Each node once; jobs of a statement set side by side. What reads a table that was not brought up to date is left out, the
    rest goes on.

    A table is not, where the job that writes it failed or was left out itself. `timetable` is that of --due and --follow.
    """
    from lakeflow.runner.statement_sets import together

    results: list[Ended] = []
    failed: set[str] = set()
    with_another: dict[str, Ended] = {}
    for node in nodes:
        if signals.requested() and node.name not in with_another:
            break
        if node.name in with_another:
            result = with_another.pop(node.name)
            if timetable is not None and isinstance(node.work, Job):
                timetable.take(node.work)
        elif node.name in left_out(nodes, failed):
            stale = {other.makes for other in nodes if other.name in failed}.intersection(node.needs)
            note(f"{node.name} is left out: {', '.join(sorted(filter(None, stale)))} was not brought up to date")
            result = _not_run(node, "left out")
            failed.add(node.name)
        elif _is_suspended(project, node):
            result = _not_run(node, "suspended")
        elif following and (missing := _missing(project, node)):
            result = _not_run(node, f"waits for {', '.join(missing)}, not there yet")
        elif timetable is not None and isinstance(node.work, Job) and not timetable.take(node.work):
            result = _not_run(node, "fresh")
        else:
            with aside():
                ready = together(node, nodes, request, {*failed, *with_another})
                ready = tuple(one for one in ready if one is node or not _missing(project, one))
                if len(ready) > 1:
                    with_another |= _run_set(project, ready, request, signals, following=following)
                    result = with_another.pop(node.name)
                else:
                    result = _run_node(project, node, request, signals, following=following)
        if result.error:
            failed.add(node.name)
        results.append(result)
    return results


def _run_set(
    project: Project, nodes: Sequence[Node], request: Request, signals: StopSignals, *, following: bool
) -> dict[str, Ended]:
    """Jobs of a statement set, side by side, by name."""
    from lakeflow.cli.run_set import run_set

    ended: dict[str, Ended] = {}
    for run, error in run_set(project, nodes, request, signals, lambda node: not following or _is_scheduled(node)):
        if error is not None:
            show_error(error)
        ended[run.name] = Ended(_result(run) if error is None else {**_result(run), "error": str(error)}, error)
    return ended


def _missing(project: Project, node: Node) -> list[str]:
    """What the node waits for, that is still to be made. Where it cannot be asked for, the run will tell."""
    try:
        return project.missing_of(node)
    except LakeflowError:
        return []


def _is_suspended(project: Project, node: Node) -> bool:
    """Whether it is a materialized table that is suspended. Where that cannot be asked for, the run will tell."""
    from lakeflow.runner.suspension import is_suspended

    try:
        return isinstance(node.work, Job) and is_suspended(node.work, project.lake)
    except LakeflowError:
        return False


def _run_node(project: Project, node: Node, request: Request, signals: StopSignals, *, following: bool) -> Ended:
    """One node, recorded as a run; but a round of --follow that found nothing to do is no run."""
    from lakeflow.observe.runs import Run, RunLog, Status

    work = node.work
    mode = request.mode_of(work) if isinstance(work, Job) else Mode.INCREMENTAL
    run = Run(_kind(node), node.name, request.into or node.writes or node.reads[0], str(mode))
    try:
        with RunLog(project.lake, project.commits, project.settings).recorded(
            run, even_empty=not following or _is_scheduled(node)
        ):
            if isinstance(work, Job):
                _run_job(project, work, request, run, signals)
            else:
                update(project, work, run)
            if run.status is Status.DONE and run.read == 0 and not run.snapshot_ids:
                run.status = Status.EMPTY
    except LakeflowError as error:
        show_error(error)
        return Ended({**_result(run), "error": str(error)}, error)
    return Ended(_result(run))


def _is_scheduled(node: Node) -> bool:
    """Whether its runs that find nothing count too: by the last one it is known when it is due."""
    return isinstance(node.work, Job) and node.work.schedule is not None


def _run_job(project: Project, job: Job, request: Request, run: Run, signals: StopSignals) -> None:
    from lakeflow.observe.runs import Status
    from lakeflow.runner.execute import run_job
    from lakeflow.runner.fingerprint import told

    plan = project.plan(job, request)
    run.mode, run.start_position = str(plan.mode), plan.start
    if plan.mode is Mode.INCREMENTAL and plan.steps and request.into is None and (changes := project.changes_of(job)):
        note(told(job, changes))
    project.models.stop_when(signals.requested)
    try:
        with Bar(f"running {job.name}", plan.rows) as bar:
            for ran in run_job(plan, project.runtime, stop=signals.requested, on_rows=bar.advance):
                run.read, run.written, run.filtered = ran.counts.read, ran.counts.written, ran.counts.filtered
                run.dead_lettered, run.skipped = ran.counts.dead_lettered, ran.counts.skipped
                run.end_position, run.snapshot_ids, run.findings = ran.end, ran.snapshots, ran.findings
    except Interrupted as stopped:
        note(str(stopped))
    finally:
        run.usage = project.models.usage.of_run()
        run.models = project.models.used
    if len(run.snapshot_ids) < len(plan.steps):
        run.status = Status.STOPPED


def run_recorded(project: Project, job: Job, request: Request, signals: StopSignals) -> dict[str, Any]:
    """One run of a job that may stand in no file, recorded as every run: its row, as `lakeflow run` shows it. Raises what it
    fails of."""
    from lakeflow.observe.runs import Run, RunLog

    run = Run("job", job.name, request.into or job.target, str(request.mode_of(job)))
    with RunLog(project.lake, project.commits, project.settings).recorded(run, even_empty=True):
        _run_job(project, job, request, run, signals)
    return _result(run)


def _show(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    more = [name for name in LOST if any(row.get(name) for row in rows)]
    more += ASKED if any(row.get("calls") or row.get("cached") for row in rows) else ()
    more += ["reused"] if any(row.get("reused") for row in rows) else []
    show_rows(rows, (*COLUMNS, *more), as_json=as_json)


def _result(run: Run) -> dict[str, Any]:
    from lakeflow.observe.expectations import summary_of

    asked = run.asked
    return {
        "name": run.name,
        "kind": run.kind,
        "table": run.table,
        "mode": run.mode,
        "status": str(run.status),
        "read": run.read,
        "written": run.written,
        "filtered": run.filtered,
        "dead_lettered": run.dead_lettered,
        "skipped": run.skipped,
        "commits": len(run.snapshot_ids),
        "seconds": round(run.seconds, 2),
        "rows_per_second": round(run.read / run.seconds) if run.seconds else 0,
        "calls": asked.requests,
        "cached": asked.cached,
        "reused": asked.reused,
        "tokens": asked.input_tokens + asked.output_tokens,
        "cost": asked.cost,
        "models": {model: asdict(one) for model, one in run.usage.items()},
        "model_versions": list(run.models),
        "expectations": summary_of(run.findings),
    }


def _not_run(node: Node, status: str) -> Ended:
    return Ended({"name": node.name, "kind": _kind(node), "status": status, "read": 0, "commits": 0}, ran=False)


def _kind(node: Node) -> str:
    return "job" if isinstance(node.work, Job) else "index"
