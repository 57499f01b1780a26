"""`lakeflow status`: how far each landing, job, index and sink has come, and how stale it is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project
from lakeflow.cli.output import show_rows
from lakeflow.cli.rows import shortened
from lakeflow.job import Job

ASK_SECONDS = 3.0
COLUMNS = (
    "kind",
    "name",
    "state",
    "behind",
    "files_behind",
    "records_per_second",
    "updated",
    "last_run",
    "last_ended",
    "due",
    "reason",
)
HELP = """Show how far each landing, job, index and sink has come, and how stale it is.

Behind counts records of the topic for a landing, where brokers answer, and rows of the table for jobs, indexes and sinks.
Due is when a job with a schedule or a freshness is to run next, or has been since.
Records per second are those of a landing's last ten commits. The reason is why the last run failed or is suspended.

Example:

  lakeflow status
"""


def register(app: typer.Typer) -> None:
    app.command("status", help=HELP)(status)


def status(project: ProjectOption = None, target: TargetOption = None, output: OutputOption = Format.TEXT) -> None:
    from lakeflow.observe.past import due_times, last_runs
    from lakeflow.observe.status import standings

    opened = open_project(project, target)
    as_json = output is Format.JSON
    timeout = min(ASK_SECONDS, opened.settings.run.connect_seconds)
    found = list(standings(opened, timeout=timeout))
    ran = last_runs(opened.lake, [one.name for one in found])
    due = due_times(opened.lake, [node.work for node in opened.nodes if isinstance(node.work, Job)])
    rows = [
        asdict(one)
        | {
            "state": one.state if as_json else shortened(one.state),
            "last_run": ran[one.name]["status"] if one.name in ran else None,
            "last_ended": ran[one.name]["ended_at"] if one.name in ran else None,
            "due": due[one.name].at if one.name in due else None,
            "reason": _reason(ran.get(one.name), as_json),
        }
        for one in found
    ]
    show_rows(rows, COLUMNS, as_json=as_json)


def _reason(run: dict[str, Any] | None, as_json: bool) -> str | None:
    """Why the last run did not end well."""
    error = run["error"] if run is not None else None
    return error if as_json or error is None else shortened(error.splitlines()[0])
