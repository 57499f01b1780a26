"""`lakeflow sql`: statements and queries, from a file, from the command line, or typed into a shell."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lakeflow.cli.common import ProjectOption, TargetOption, open_project
from lakeflow.cli.output import show_text
from lakeflow.cli.rows import RowFormat
from lakeflow.cli.signals import StopSignals, ended_at_once
from lakeflow.errors import LakeflowError, UsageError

if TYPE_CHECKING:
    from lakeflow.cli.sql_session import Session
    from lakeflow.sql.statements import ScriptStatement

LOOKS_SECONDS: Final = 0.05
"""How often a statement that writes is looked at, and its queries interrupted once a signal came."""

HELP = """Run statements, with semicolons between them; without any, on a terminal, a shell.

CREATE, ALTER, DROP, DESCRIBE, SHOW and SHOW CREATE define and show tables, models and vector indexes; SELECT and its
like are run as lakeflow query runs them; INSERT and CREATE TABLE AS are run once, over the tables as of now; what is a
declaration, or is to run again and again, becomes a file of tables/ or jobs/; EXPLAIN shows the steps of a query and
what they ask of models. All statements are read before the first is run; the first that fails ends it, and what ran
before it stays. With --output json each row is an object of its own line. In the shell, \\? lists its commands.

Examples:

  lakeflow sql

  lakeflow sql -e "SHOW MODELS; DESCRIBE MODEL EXTENDED delay_classifier"

  lakeflow sql -e "ALTER MODEL triage SET ('default_version' = '1')"

  lakeflow sql report.sql --output csv
"""


def register(app: typer.Typer) -> None:
    app.command("sql", help=HELP)(sql)


def sql(
    file: Annotated[str | None, typer.Argument(help="The file of statements; - reads them from standard input.")] = None,
    execute: Annotated[str | None, typer.Option("-e", "--execute", help="The statements.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before something is dropped.")] = False,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: Annotated[
        RowFormat, typer.Option("--output", help="text for people, json (one object a line) or csv for programs.")
    ] = RowFormat.TEXT,
) -> None:
    if file is None and execute is None and sys.stdin.isatty() and sys.stdout.isatty():
        from lakeflow.cli.sql_shell import shell

        raise typer.Exit(shell(open_project(project, target), output, asks=not yes, target=target))

    from lakeflow.sql.script import parse_script

    text, path = script_text(execute, file)
    statements = parse_script(text, path)
    if not statements:
        raise UsageError("there is no statement to run", next_step='lakeflow sql -e "SHOW MODELS"')

    from lakeflow.cli.sql_session import Session, Style

    hint = "--output json or csv gives all"
    with ExitStack() as models:
        session = Session(open_project(project, target), Style(output), (lambda _: True) if yes else _asked, hint, models)
        for number, statement in enumerate(statements):
            if number and output is RowFormat.TEXT:
                show_text("")
            _carry_out(session, statement)


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


def _carry_out(session: Session, statement: ScriptStatement) -> None:
    """One statement of a script. A signal ends one that only reads at once, and lets another finish its commit."""
    from lakeflow.sql.statements import ReadRows

    with ExitStack() as held, StopSignals() as signals:
        if isinstance(statement, ReadRows):
            with ended_at_once(held.close):
                session.carry_out(statement, signals, held)
        else:
            try:
                with _interrupting(signals):
                    session.carry_out(statement, signals, held)
            except LakeflowError:
                if not signals.requested():
                    raise
    if signals.requested():
        raise typer.Exit(signals.exit_code)


@contextmanager
def _interrupting(signals: StopSignals) -> Iterator[None]:
    """Within it, a signal stops the queries that run: the main thread, which waits for them, would hear of it at their end."""
    from lakeflow.sql.execute import interrupt_queries

    over = Event()

    def watch() -> None:
        while not over.wait(LOOKS_SECONDS):
            if signals.requested():
                interrupt_queries()

    watcher = Thread(target=watch, name="lakeflow-interrupts", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _asked(question: str) -> bool:
    """Asks on the terminal. Raises UsageError where there is none."""
    if not sys.stdin.isatty():
        raise UsageError(f"{question} There is no terminal to ask on", next_step="lakeflow sql --yes ..")
    return typer.confirm(question, err=True)
