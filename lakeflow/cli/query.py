"""`lakeflow query`: read-only SQL over any table."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakeflow.cli.common import ProjectOption, TargetOption, open_project
from lakeflow.cli.output import note
from lakeflow.cli.progress import Bar
from lakeflow.cli.rows import Head, RowFormat, write_rows
from lakeflow.cli.signals import ended_at_once
from lakeflow.errors import UsageError

if TYPE_CHECKING:
    from lakeflow.runner.project import Project

TEXT_ROWS = 1000
HELP = """Run read-only SQL over any table, in DuckDB's dialect.

Tables are named namespace.table. ML_PREDICT, ML_EMBED and VECTOR_SEARCH ask the project's models and indexes.

As text, the first rows are shown; json (one object a line) and csv give every row as
it comes.

Examples:

  lakeflow query "SELECT carrier, count(*) FROM bronze.flights GROUP BY ALL"

  lakeflow query "SELECT * FROM ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour)) LIMIT 5"

  lakeflow query -f report.sql --output csv > report.csv

  echo "FROM lakeflow.runs" | lakeflow query -
"""


def register(app: typer.Typer) -> None:
    app.command("query", help=HELP)(query)


def query(
    sql: Annotated[str | None, typer.Argument(help="The query; - reads it from standard input.")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Read the query from this file.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help=f"Rows to show; as text {TEXT_ROWS:,} without it, else all.", min=1)
    ] = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: Annotated[
        RowFormat, typer.Option("--output", help="text for people, json (one object a line) or csv for programs.")
    ] = RowFormat.TEXT,
) -> None:
    text = query_text(sql, file)
    most = limit or (TEXT_ROWS if output is RowFormat.TEXT else None)
    with ExitStack() as held, ended_at_once(held.close):
        cut = answer(open_project(project, target), text, most, output, held)
    if cut and limit is None:
        note(f"the first {most:,} rows are shown; --limit N shows more, --output csv gives all")


def answer(opened: Project, text: str, most: int | None, output: RowFormat, held: ExitStack) -> bool:
    """Write the rows of the query; whether there were more than `most`. What it spills is gone once `held` is closed."""
    from lakeflow.runner.querying import spilling
    from lakeflow.runner.sql_query import query_project

    settings = opened.settings
    limits = held.enter_context(spilling(settings.root / ".lakeflow" / "tmp", settings.run.memory_bytes))
    wanted = output is RowFormat.TEXT or not sys.stdout.isatty()
    with query_project(text, opened, limits, held) as reader, Bar("query", wanted=wanted) as bar:
        head = Head(reader, most)
        write_rows(head, reader.schema.names, output, bar.advance)
    return head.cut


def query_text(sql: str | None, file: Path | None) -> str:
    """The query that the arguments name. Raises UsageError."""
    if (sql is None) == (file is None):
        raise UsageError(
            "give the query as an argument, - for standard input, or -f FILE"
            + ("" if sql is None else ", and only one of them"),
            next_step='lakeflow query "SELECT .."',
        )
    if sql == "-":
        return sys.stdin.read()
    if file is None:
        assert sql is not None
        return sql
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"the query's file {str(file)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the query's file {str(file)!r} is not UTF-8 text: byte {error.start}") from error
