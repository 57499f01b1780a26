"""`lakeflow run`: jobs, and the indexes that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    open_project,
    request_of,
)
from lakeflow.cli.index import update
from lakeflow.cli.output import note, show_error, show_rows
from lakeflow.cli.progress import Bar
from lakeflow.cli.signals import StopSignals
from lakeflow.errors import LakeflowError, UsageError
from lakeflow.job import Job

if TYPE_CHECKING:
    from lakeflow.observe.runs import Run
    from lakeflow.runner.graph import Node
    from lakeflow.runner.plan import Request
    from lakeflow.runner.project import Project

COLUMNS = ("name", "kind", "mode", "status", "read", "written", "filtered", "commits", "seconds", "rows_per_second")
HELP = """Run jobs and bring the indexes up to date, in the order of the graph.

Incremental jobs read what was appended since their last run; --mode snapshot reads the whole table as of now, or as of
--snapshot-id or --as-of, and replaces the target atomically. Stops when all is read; --follow stays until a signal comes.

Examples:

  lakeflow run

  lakeflow run score_flights --mode snapshot --into audit.scored_flights
"""


def register(app: typer.Typer) -> None:
    app.command("run", help=HELP)(run)


def run(
    jobs: Annotated[list[str] | None, typer.Argument(help="Jobs and indexes to run; without any, all.")] = None,
    mode: ModeOption = None,
    snapshot_id: SnapshotOption = None,
    as_of: AsOfOption = None,
    into: IntoOption = None,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and run again at an interval.")] = False,
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
    _check_request(request, chosen, follow)
    check_tables(chosen, opened.lake.names(), opened.declarations.tables)
    as_json = output is Format.JSON
    with StopSignals() as signals, opened.models:
        results = _round(opened, chosen, request, signals)
        while follow and not signals.requested():
            _show_round(results, as_json)
            signals.sleep(every or opened.settings.run.follow_seconds)
            results = _round(opened, chosen, request, signals)
    show_rows(results, COLUMNS, as_json=as_json)
    if signals.requested():
        raise typer.Exit(signals.exit_code)
    if any("error" in result for result in results):
        raise typer.Exit(1)
    if not any(result["commits"] or result["read"] for result in results):
        raise typer.Exit(exit_on_empty)


def _check_request(request: Request, chosen: Sequence[Node], follow: bool) -> None:
    check_into(request.into, chosen)
    if follow and (request.snapshot_id is not None or request.as_of is not None):
        raise UsageError("--follow reads what comes; --snapshot-id and --as-of read one moment")


def _show_round(results: Sequence[dict[str, Any]], as_json: bool) -> None:
    done = [result for result in results if result["commits"] or result["read"] or "error" in result]
    if done:
        show_rows(done, COLUMNS, as_json=as_json)


def _round(project: Project, nodes: Sequence[Node], request: Request, signals: StopSignals) -> list[dict[str, Any]]:
    """Each node once. What reads a table that a failed job should have written is left out, the rest goes on."""
    results: list[dict[str, Any]] = []
    stale: set[str] = set()
    for node in nodes:
        if signals.requested():
            break
        if missing := stale.intersection(node.reads):
            note(f"{node.name} is left out: {', '.join(sorted(missing))} was not brought up to date")
            result = _left_out(node)
        else:
            result = _run_node(project, node, request, signals)
        if "error" in result and node.writes:
            stale.add(node.writes)
        results.append(result)
    return results


def _run_node(project: Project, node: Node, request: Request, signals: StopSignals) -> dict[str, Any]:
    from lakeflow.observe.runs import Run, RunLog, Status

    work = node.work
    run = Run(
        "job" if isinstance(work, Job) else "index", node.name, request.into or node.writes or node.reads[0], "incremental"
    )
    try:
        with RunLog(project.lake, project.commits, project.settings).recorded(run):
            if isinstance(work, Job):
                _run_job(project, work, request, run, signals)
            else:
                update(project, work, run)
            if run.status is Status.DONE and run.read == 0 and not run.snapshot_ids:
                run.status = Status.EMPTY
    except LakeflowError as error:
        show_error(error)
        return {**_result(run), "error": str(error)}
    return _result(run)


def _run_job(project: Project, job: Job, request: Request, run: Run, signals: StopSignals) -> None:
    from lakeflow.observe.runs import Status
    from lakeflow.runner.execute import run_job
    from lakeflow.runner.plan import plan_job

    plan = plan_job(job, request, project.lake, project.commits, project.runtime.caps)
    run.mode, run.start_position = str(plan.mode), plan.start
    with Bar(f"running {job.name}", plan.rows) as bar:
        for ran in run_job(plan, project.runtime, stop=signals.requested, on_rows=bar.advance):
            run.read, run.written, run.filtered = ran.counts.read, ran.counts.written, ran.counts.filtered
            run.end_position, run.snapshot_ids = ran.end, ran.snapshots
    if len(run.snapshot_ids) < len(plan.steps):
        run.status = Status.STOPPED


def _result(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "kind": run.kind,
        "table": run.table,
        "mode": run.mode,
        "status": str(run.status),
        "read": run.read,
        "written": run.written,
        "filtered": run.filtered,
        "commits": len(run.snapshot_ids),
        "seconds": round(run.seconds, 2),
        "rows_per_second": round(run.read / run.seconds) if run.seconds else 0,
    }


def _left_out(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "kind": "job" if isinstance(node.work, Job) else "index",
        "status": "left out",
        "read": 0,
        "commits": 0,
    }
