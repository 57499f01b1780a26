"""`lakeflow plan`: what `land` and `run` would do, with nothing done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.again import ChunkOption, FromOption, ToOption, asked_of, only_job, show_backfill
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
from lakeflow.cli.output import aside, show_json, show_table, show_text, size_text
from lakeflow.errors import Terminal
from lakeflow.job import Job

if TYPE_CHECKING:
    from lakeflow.landing.plan import LandingPlan
    from lakeflow.models.estimate import Estimate
    from lakeflow.runner.estimating import Estimating
    from lakeflow.runner.graph import Node
    from lakeflow.runner.index_plan import IndexPlan
    from lakeflow.runner.plan import JobPlan, Request
    from lakeflow.runner.project import Project

ASK_SECONDS = 3.0
LANDINGS = ("table", "topic", "partition", "from", "to", "waiting", "note")
JOBS = ("name", "mode", "output", "target", "files", "rows", "size", "commits", "models", "note")
MODELS = ("job", "model", "rows", "asked", "calls", "input_tokens", "output_tokens", "cost", "most", "rests on")
INDEXES = ("name", "table", "files", "rows", "note")
HELP = """Show what land and run would do, with nothing done.

For landings the offsets, the records that wait, and how a changed declaration alters the table; for jobs the files, rows,
snapshots and commits, and for those in SQL the steps of the query, with the models that they ask; for indexes the rows to
add or why they would be built anew. Exits with 1 where a step would fail.

For remote models what they will be asked and what that will cost, with none of them asked: the job is carried out over a
sample of its rows, and what the cache holds and what earlier runs took is looked up. docs/models/cost.md says how.

Examples:

  lakeflow plan

  lakeflow plan score_flights --mode snapshot --output json

  lakeflow plan score_flights --from 2013-01-01 --to 2013-02-01
"""

Row = dict[str, Any]


def register(app: typer.Typer) -> None:
    app.command("plan", help=HELP)(plan)


def plan(
    jobs: Annotated[
        list[str] | None, typer.Argument(help="Jobs and indexes to plan; without any, all of them and the landings.")
    ] = None,
    mode: ModeOption = None,
    snapshot_id: SnapshotOption = None,
    as_of: AsOfOption = None,
    into: IntoOption = None,
    start: FromOption = None,
    end: ToOption = None,
    chunk: ChunkOption = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.runner.graph import check_tables

    opened = open_project(project, target)
    chosen = opened.choose(jobs or [])
    request = request_of(mode, snapshot_id, as_of, into)
    check_into(into, chosen)
    check_tables(chosen, opened.lake.names(), opened.declarations.tables)
    if (asked := asked_of(start, end, chunk)).given:
        show_backfill(opened, only_job(chosen, jobs or [], "--from", request, False), asked, output is Format.JSON)
        return
    landings = [] if jobs else [_landing_row(one) for one in _landings(opened)]
    with opened.models, aside():
        estimating = _estimating(opened, chosen)
        work = [_job_row(opened, node, request, estimating) for node in chosen if isinstance(node.work, Job)]
        indexes = [_index_row(one) for one in _index_plans(opened, chosen)]
    if output is Format.JSON:
        show_json({"landings": landings, "jobs": work, "indexes": indexes})
    else:
        _show(landings, work, indexes)
    if any(row["would_fail"] for row in [*landings, *work, *indexes]):
        raise typer.Exit(1)


def _landings(project: Project) -> list[LandingPlan]:
    from lakeflow.landing.plan import plan_landings
    from lakeflow.landing.spec import is_landed

    landed = [spec for spec in project.declared_tables.tables.values() if is_landed(spec)]
    timeout = min(ASK_SECONDS, project.settings.run.connect_seconds)
    return list(plan_landings(landed, project.settings, project.lake, project.commits, timeout=timeout))


def _landing_row(plan: LandingPlan) -> Row:
    return {
        "table": plan.table,
        "topic": plan.topic,
        "makes_table": plan.is_new,
        "alters_table": list(plan.changes),
        "waiting": plan.waiting,
        "partitions": [
            {"topic": part.topic, "partition": part.partition, "from": part.start, "to": part.end, "waiting": part.waiting}
            for part in plan.parts
        ],
        "skipped": plan.problem,
        "would_fail": plan.would_fail,
    }


def _estimating(project: Project, nodes: Sequence[Node]) -> Estimating | None:
    """What estimates the remote models of jobs; None where no job names one."""
    from lakeflow.models.remote.rehearsal import is_remote
    from lakeflow.models.versions import reference
    from lakeflow.observe.recorded import recorded_of
    from lakeflow.runner.estimating import Estimating

    jobs = [node.work for node in nodes if isinstance(node.work, Job)]
    named = {reference(name).name for job in jobs for name in project.models_of(job)}
    remote = [name for name in named if is_remote(project.models.specs[name])]
    return Estimating(project.models, recorded_of(project.lake, remote), project.runtime) if remote else None


def _job_row(project: Project, node: Node, request: Request, estimating: Estimating | None) -> Row:
    """A job's plan as one row; where it cannot be made yet, why."""
    from lakeflow.runner.searched import positions

    job = node.work
    assert isinstance(job, Job)
    row: Row = {
        "name": job.name,
        "mode": str(request.mode or job.mode),
        "target": request.into or job.target,
        "makes_table": not project.lake.exists(request.into or job.target),
        "models": list(project.models_of(job)),
        "searches": {},
        "versions_due": [],
        "changed": [],
        "estimates": [],
        "steps": None,
        "problem": None,
        "would_fail": False,
    }
    try:
        row["versions_due"] = _versions_due(project, row["models"])
        row["changed"] = list(project.changes_of(job)) if request.into is None else []
    except Terminal as error:
        return row | {"problem": error.message, "would_fail": True}
    if missing := project.missing_of(node):
        return row | {"problem": f"waits for {', '.join(missing)}, not there yet"}
    try:
        planned = project.plan(job, request)
    except Terminal as error:
        return row | {"problem": error.message, "would_fail": True}
    row |= _planned(planned)
    try:
        row["searches"] = positions(job, project.declared_tables.indexes, project.index_room)
        row |= _windows(planned) | _met(planned)
        row |= _steps(project, planned, ())
        estimates = estimating.of(planned, row["models"]) if estimating else []
        row |= _steps(project, planned, estimates) if estimates else {}
    except Terminal as error:
        return row | {"problem": error.message, "would_fail": True}
    return row | {"estimates": [asdict(one) for one in estimates]}


def _steps(project: Project, planned: JobPlan, estimates: Sequence[Estimate]) -> Row:
    """The steps of a job in SQL, as a tree and as lines of it."""
    if planned.compiled is None:
        return {}
    from lakeflow.runner.sql_steps import steps_of

    found = steps_of(planned, project, estimates)
    return {"steps": asdict(found[0]), "tree": found[1]} if found else {}


def _versions_due(project: Project, models: Sequence[str]) -> list[str]:
    """Of the models that a job names, those of which a run would make a new version. Raises as opening them would."""
    from lakeflow.models.versions import reference, version_of

    lines = []
    for asked in map(reference, models):
        if asked.version is not None:
            version_of(asked.name, asked.version, project.model_registry.history(asked.name))
        elif due := project.models.standing(asked.name).due:
            lines.append(f"model {asked.name}: {due}")
    return lines


def _planned(plan: JobPlan) -> Row:
    return {
        "mode": str(plan.mode),
        "output": str(plan.output),
        "files": plan.files,
        "files_removed": plan.files_removed,
        "rows": plan.rows,
        "bytes": sum(source.bytes for step in plan.steps for source in step.reads),
        "commits": len(plan.steps),
        "state": plan.keyed.table if plan.keyed else None,
        "start": plan.start,
        "reads": _snapshots(plan),
        "lookups": {source.name: source.snapshot_id for source in plan.lookups},
    }


def _windows(plan: JobPlan) -> Row:
    """Of a job by windows, those that a run touches and the files that it reads for them, as many at the most."""
    from lakeflow.runner.window_plan import windows_touched

    touched = windows_touched(plan)
    return {} if touched is None else {"windows": asdict(touched)}


def _met(plan: JobPlan) -> Row:
    """Of a join within a bound, that and the known files that a run reads beside the new ones, as many at the most."""
    from lakeflow.runner.interval_plan import met

    found = met(plan)
    return {} if found is None else {"join": asdict(found)}


def _met_note(join: Row) -> str:
    return f"joins {join['bound']}: at most {join['files']} known files read for new rows ({size_text(join['bytes'])})"


def _windows_note(windows: Row) -> str:
    if windows["files"] is None:
        return "windows and files: known as it runs"
    counted = "" if windows["windows"] is None else f"{windows['windows']} windows, "
    return f"at most {counted}{windows['files']} files read for them ({size_text(windows['bytes'])})"


def _snapshots(plan: JobPlan) -> dict[str, int | None]:
    """The snapshot that each table is read up to, or at."""
    return {source.name: source.snapshot_id for step in plan.steps for source in step.reads}


def _index_plans(project: Project, nodes: Sequence[Node]) -> list[IndexPlan]:
    from lakeflow.runner.index_plan import plan_index

    return [plan_index(node.work, project.index_room) for node in nodes if not isinstance(node.work, Job)]


def _index_row(plan: IndexPlan) -> Row:
    return {
        "name": plan.spec.name,
        "table": plan.spec.table,
        "files": plan.files,
        "rows": plan.rows,
        "rebuild": plan.rebuild,
        "problem": plan.standing if plan.refused or not plan.table_exists else None,
        "would_fail": plan.refused is not None,
    }


def _show(landings: Sequence[Row], jobs: Sequence[Row], indexes: Sequence[Row]) -> None:
    """The parts of a plan, each under its heading."""
    parts = (
        ("Landings", [line for row in landings for line in _landing_lines(row)], LANDINGS),
        ("Jobs", [_job_line(row) for row in jobs], JOBS),
        ("Models", [_model_line(job["name"], one) for job in jobs for one in job["estimates"]], MODELS),
        ("Indexes", [{**row, "note": row["problem"] or _anew(row["rebuild"])} for row in indexes], INDEXES),
    )
    shown = [part for part in parts if part[1]]
    for number, (heading, lines, columns) in enumerate(shown):
        show_text(f"{'' if number == 0 else chr(10)}{heading}")
        show_table(lines, columns)
    for row in jobs:
        if tree := row.get("tree"):
            show_text(f"\nSteps of {row['name']}")
            for line in tree:
                show_text(line)
    if not shown:
        show_text("Nothing is declared in tables/ and jobs/.")


def _landing_lines(row: Row) -> list[Row]:
    """A line a partition; one alone where the topic could not be asked."""
    notes = ["makes the table"] if row["makes_table"] else [f"alters the table: {line}" for line in row["alters_table"]]
    if row["skipped"]:
        notes.append(f"skipped: {row['skipped']}")
    head = {"table": row["table"], "topic": row["topic"], "note": "; ".join(notes)}
    return [head] if row["skipped"] else [{**head, **part} for part in row["partitions"]]


def _job_line(row: Row) -> Row:
    notes = ["makes the table"] if row["makes_table"] else []
    if row.get("files_removed"):
        notes.append(f"{row['files']} files changed, {row['files_removed']} removed")
    notes += [f"keeps earlier rows by key in {row['state']}"] if row.get("state") else []
    notes += [_windows_note(row["windows"])] if row.get("windows") else []
    notes += [_met_note(row["join"])] if row.get("join") else []
    notes += [f"searches {name}, {_as_of(snapshot)}" for name, snapshot in row["searches"].items()]
    changed = [f"changed since it ran last: {', '.join(row['changed'])}"] if row["changed"] else []
    note = row["problem"] or "; ".join([*notes, *changed, *row["versions_due"]])
    return {**row, "size": size_text(row["bytes"]) if "bytes" in row else None, "note": note}


def _as_of(snapshot: int | None) -> str:
    return "empty now" if snapshot is None else f"as of snapshot {snapshot} now"


def _model_line(job: str, estimate: Row) -> Row:
    """A line a job and model: what is expected, and the cost at the most."""
    expected, most = estimate["expected"], estimate["most"]
    said = "; ".join([*estimate["limits"], *estimate["rests_on"]])
    figures = {name: value if value is not None else "unknown" for name, value in expected.items()}
    cost = most["cost"] if most["cost"] is not None else "unknown"
    return {"job": job, "model": estimate["model"], "rows": estimate["rows"], **figures, "most": cost, "rests on": said}


def _anew(reason: str | None) -> str:
    return f"built from the whole table: {reason}" if reason else ""
