"""`lakeflow state`: what a job knows between its runs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project, verbs
from lakeflow.cli.output import note, show_facts, show_json, show_table, show_text, size_text
from lakeflow.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from lakeflow.job import Job
    from lakeflow.runner.project import Project
    from lakeflow.runner.state import JobState

SOURCES = ("table", "snapshot", "sequence", "file", "files_waiting", "rows_waiting", "problem")
KEPT = ("table", "rows", "files", "size", "step")
COMMITS = ("snapshot", "at", "read", "written")
SHOW_HELP = """Show what a job knows between its runs.

How far it is in each table that it reads, and what waits there; its watermark; the tables in which it keeps groups or
statements; its last commits; whether its code is that of the last of them; a backfill or a full refresh under way.

Example:

  lakeflow state show score_flights
"""
RESET_HELP = """Set a job's progress back, or on: to a snapshot of the table that it reads, or to the beginning.

It says what that comes to, and asks. Nothing happens where the job has run in between. To make rows anew without any that
are there twice, use lakeflow run JOB --full-refresh, or --from and --to.

Examples:

  lakeflow state reset score_flights --to 5735460159761889536

  lakeflow state reset score_flights --to beginning --yes
"""
COPY_HELP = """Give a job the progress of another in the same target: of a job that got a new name.

What it keeps by key goes with it. The old job must no longer be declared: both would write the same rows.

Example:

  lakeflow state copy score_flights score_all_flights
"""
ABANDON_HELP = """Take away what a full refresh has made so far, which is then not gone on with. Readers have never seen it.

lakeflow maintain deletes its files.

Example:

  lakeflow state abandon score_flights
"""
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    group = verbs("state", "Show, reset and copy what a job knows between its runs.")
    group.command("show", help=SHOW_HELP)(show)
    group.command("reset", help=RESET_HELP)(reset)
    group.command("copy", help=COPY_HELP)(copy)
    group.command("abandon", help=ABANDON_HELP)(abandon)
    app.add_typer(group)


def show(
    job: Annotated[str, typer.Argument(help="The job.")],
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.runner.state import state_of

    opened = open_project(project, target)
    found = _job(opened, job)
    state = state_of(found, opened.lake, opened.commits)
    changed = list(opened.changes_of(found))
    if output is Format.JSON:
        show_json({**asdict(state), "changed": changed})
    else:
        _show(state, changed)


def reset(
    job: Annotated[str, typer.Argument(help="The job.")],
    to: Annotated[str, typer.Option("--to", help="A snapshot of the table that the job reads, or beginning.")] = "beginning",
    yes: YesOption = False,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.runner.state import plan_reset
    from lakeflow.runner.state import reset as carry_out

    opened = open_project(project, target)
    found = _job(opened, job)
    plan = plan_reset(found, to, opened.lake, opened.commits)
    note(f"{job} is at {plan.before}; set to {plan.after}, {plan.means}")
    if not yes and not _confirmed(f"Set the progress of {job}?", f"lakeflow state reset {job} --to {to} --yes"):
        raise typer.Exit(1)
    snapshot = carry_out(found, plan, opened.lake, opened.commits)
    if output is Format.JSON:
        show_json({"job": job, "before": plan.before, "after": plan.after, "snapshot": snapshot})
    else:
        note(f"the progress of {job} is {plan.after}, by snapshot {snapshot} of {found.target}")


def copy(
    job: Annotated[str, typer.Argument(help="The job as it was called.")],
    new: Annotated[str, typer.Argument(help="The job that is to go on, as it is declared now.")],
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.runner.state import copy_state

    opened = open_project(project, target)
    found = _job(opened, new)
    still = opened.declarations.jobs.get(job)
    if still is not None and still.target == found.target:
        raise UsageError(
            f"job {job!r} is declared too ({still.origin}), with the same target: both would write the same rows",
            next_step=f"take its declaration away, then: lakeflow state copy {job} {new}",
        )
    done = copy_state(job, found, opened.lake, opened.commits)
    if output is Format.JSON:
        show_json({"job": new, "from": job, "done": done})
        return
    for line in done:
        note(line)


def abandon(
    job: Annotated[str, typer.Argument(help="The job.")],
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.lake.commit import Committer
    from lakeflow.runner.refresh import Refresh

    opened = open_project(project, target)
    commits = opened.commits
    assert isinstance(commits, Committer), "a project commits to a catalog"
    gone = Refresh(_job(opened, job), opened.lake, commits, opened.runtime).abandon()
    if output is Format.JSON:
        show_json({"job": job, "abandoned": gone})
    else:
        note(f"the full refresh of {job} is abandoned" if gone else f"no full refresh of {job} is under way")


def _job(project: Project, name: str) -> Job:
    jobs = project.declarations.jobs
    if name not in jobs:
        raise UnknownName("job", name, jobs, next_step="lakeflow jobs")
    return jobs[name]


def _confirmed(question: str, next_step: str) -> bool:
    """Raises UsageError where there is no terminal to ask on."""
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is no terminal to ask on", next_step=next_step)
    return typer.confirm(question, err=True)


def _show(state: JobState, changed: list[str]) -> None:
    code = "as of its last commit" if state.code == state.code_of_last else "no commit to compare with"
    if changed:
        code = f"{' and '.join(changed)} changed since its last commit"
    facts: dict[str, Any] = {
        "job": state.job,
        "target": state.target,
        "progress": state.progress or "has not begun",
        "code": f"{state.code}, {code}",
        "watermark": state.watermark and f"{state.watermark}; windows that end by {state.closed_before} are closed",
        "backfill": state.backfill,
        "full refresh": state.refresh,
    }
    show_facts({name: value for name, value in facts.items() if value is not None})
    sources = [_source(one) for one in asdict(state)["sources"]]
    parts = (
        ("Reads", sources, SOURCES),
        ("Keeps", [{**asdict(one), "table": one.name, "size": size_text(one.bytes)} for one in state.kept], KEPT),
        ("Last commits", [{**asdict(one), "snapshot": str(one.snapshot_id)} for one in state.commits], COMMITS),
    )
    for heading, rows, columns in parts:
        if rows:
            show_text(f"\n{heading}")
            show_table(rows, columns)


def _source(source: dict[str, Any]) -> dict[str, Any]:
    position = source["position"] or {}
    snapshot = str(position["snapshot_id"]) if position else None
    place = {"snapshot": snapshot, "sequence": position.get("sequence"), "file": position.get("path")}
    return {**source, **place}
