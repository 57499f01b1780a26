"""`lakeflow sql`: statements about models, and queries."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project
from lakeflow.cli.output import note, show_facts, show_json, show_table, show_text
from lakeflow.cli.query import TEXT_ROWS, answer
from lakeflow.cli.rows import RowFormat
from lakeflow.cli.signals import ended_at_once
from lakeflow.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakeflow.runner.model_statements import Outcome
    from lakeflow.runner.project import Project

HELP = """Run statements about models and read-only queries, with semicolons between them.

CREATE MODEL, ALTER MODEL, DROP MODEL, DESCRIBE MODEL, SHOW MODELS and SHOW CREATE MODEL change and show the registry of
models, which is kept in the table lakeflow.models; docs/models/registry.md has them all. SELECT and its like are run as
lakeflow query runs them. All statements are read before the first is run; the first that fails ends it, and what ran before
it stays. With --output json each row is an object of its own line.

Examples:

  lakeflow sql -e "SHOW MODELS; DESCRIBE MODEL EXTENDED delay_classifier"

  lakeflow sql -e "ALTER MODEL triage SET ('default_version' = '1')"

  lakeflow sql models.sql
"""


def register(app: typer.Typer) -> None:
    app.command("sql", help=HELP)(sql)


def sql(
    file: Annotated[str | None, typer.Argument(help="The file of statements; - reads them from standard input.")] = None,
    execute: Annotated[str | None, typer.Option("-e", "--execute", help="The statements.")] = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.sql.script import parse_script
    from lakeflow.sql.statements import ReadRows

    text, path = script_text(execute, file)
    statements = parse_script(text, path)
    if not statements:
        raise UsageError("there is no statement to run", next_step='lakeflow sql -e "SHOW MODELS"')
    opened = open_project(project, target)
    as_json = output is Format.JSON
    for number, statement in enumerate(statements):
        if number and not as_json:
            show_text("")
        if isinstance(statement, ReadRows):
            _read(opened, statement.text, as_json=as_json)
        else:
            from lakeflow.runner.model_statements import carry_out

            _show(carry_out(opened, statement), as_json=as_json)


def script_text(statements: str | None, file: str | None) -> tuple[str, Path | None]:
    """The text that the arguments name, and its file for messages. Raises UsageError."""
    if (statements is None) == (file is None):
        raise UsageError(
            "give a file, - for standard input, or -e with the statements" + ("" if file is None else ", and only one of them"),
            next_step='lakeflow sql -e "SHOW MODELS"',
        )
    if statements is not None:
        return statements, None
    if file == "-":
        return sys.stdin.read(), None
    assert file is not None
    path = Path(file)
    try:
        return path.read_text(encoding="utf-8"), path
    except OSError as error:
        raise UsageError(f"the file of statements {file!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the file of statements {file!r} is not UTF-8 text: byte {error.start}") from error


def _read(opened: Project, text: str, *, as_json: bool) -> None:
    with ExitStack() as held, ended_at_once(held.close):
        form = RowFormat.JSON if as_json else RowFormat.TEXT
        if answer(opened, text, None if as_json else TEXT_ROWS, form, held):
            note(f"the first {TEXT_ROWS:,} rows are shown; --output json gives all")


def _show(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        for row in outcome.rows:
            show_json(row)
        if outcome.facts is not None:
            show_json(outcome.facts)
        if outcome.sql is not None:
            show_json({"sql": outcome.sql})
        return
    if outcome.columns:
        show_table(outcome.rows, outcome.columns)
    if outcome.facts is not None:
        facts = dict(outcome.facts)
        options, artifacts = facts.pop("options"), facts.pop("artifacts")
        show_text("")
        show_facts({**facts, **{f"'{option}'": value for option, value in options.items()}, **_hashes(artifacts)})
    if outcome.sql is not None:
        show_text(outcome.sql)


def _hashes(artifacts: Mapping[str, str]) -> dict[str, str]:
    return {f"SHA-256 of {name}": found for name, found in artifacts.items()}
