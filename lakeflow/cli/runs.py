"""`lakeflow runs`: what ran, out of the system table lakeflow.runs."""

from __future__ import annotations

from typing import Annotated

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project
from lakeflow.cli.output import show_rows
from lakeflow.cli.rows import shortened

COLUMNS = ("ended", "kind", "name", "mode", "status", "read", "written", "rejected", "filtered", "seconds", "error")
ASKED = ("model_calls", "model_tokens", "model_cost")
"""Of remote models; shown where one was asked."""
MOST = 10_000
HELP = """Show the last runs of landings, jobs and indexes, the last one first.

Examples:

  lakeflow runs

  lakeflow runs --name score_flights --last 5

  lakeflow runs --failed --output json
"""


def register(app: typer.Typer) -> None:
    app.command("runs", help=HELP)(runs)


def runs(
    last: Annotated[int, typer.Option("--last", help="How many.", min=1, max=MOST)] = 20,
    name: Annotated[str | None, typer.Option("--name", help="Only of this landing, job or index.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only runs that failed or were suspended.")] = False,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.observe.past import recent_runs

    opened = open_project(project, target)
    as_json = output is Format.JSON
    rows = [
        {
            **row,
            "ended": row["ended_at"],
            "seconds": round((row["ended_at"] - row["started_at"]).total_seconds(), 2),
            "rejected": (row["dead_lettered"] or 0) + (row["skipped"] or 0),
            "error": row["error"] if as_json or row["error"] is None else shortened(row["error"]),
        }
        for row in recent_runs(opened.lake, last=last, name=name, failed=failed)
    ]
    asked = any(row["model_calls"] for row in rows)
    show_rows(rows, (*COLUMNS[:-1], *ASKED, "error") if asked else COLUMNS, as_json=as_json)
