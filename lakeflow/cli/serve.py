"""`lakeflow serve`: search over HTTP."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project
from lakeflow.cli.output import note, show_json, show_text, without_secrets
from lakeflow.cli.signals import StopSignals
from lakeflow.errors import UsageError

LOOK = 0.2
"""Seconds between two looks whether a signal came."""
HELP = """Answer searches of the project's indexes over HTTP, for reading alone.

POST /v1/indexes/NAME/search takes a search as JSON; GET /v1/indexes and /v1/indexes/NAME tell what there is, /healthz and
/readyz how the process stands. docs/serve.md has fields and answers. [serve] has the token and the bounds; without a token
this machine alone is answered. A line on stderr tells of each request, without what was asked. SIGTERM lets the searches
under way end.

Examples:

  lakeflow serve

  lakeflow serve --listen 0.0.0.0:8480
"""


def register(app: typer.Typer) -> None:
    app.command("serve", help=HELP)(serve)


def serve(
    listen: Annotated[
        str | None, typer.Option("--listen", help="Answer at this host:port, in place of [serve] listen.", metavar="ADDRESS")
    ] = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.serve.answering import Answering
    from lakeflow.serve.server import Server, place_of

    opened = open_project(project, target)
    bounds = opened.settings.serve
    host, port = place_of(listen if listen is not None else bounds.listen, bounds)
    if not opened.declared_tables.indexes:
        raise UsageError("the project declares no index to search", next_step="declare one with CREATE VECTOR INDEX in tables/")
    logging.getLogger("lakeflow.serve").setLevel(logging.INFO)
    with StopSignals() as signals, opened.models, Server(host, port, Answering(opened, without_secrets), bounds) as server:
        if output is Format.JSON:
            show_json({"address": server.place})
        else:
            show_text(f"listening at {server.place}")
        sys.stdout.flush()
        if bounds.token is None:
            note("without a token of [serve] this machine alone is answered")
        while not signals.requested():
            signals.sleep(LOOK)
    raise typer.Exit(signals.exit_code)
