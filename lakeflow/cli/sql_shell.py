"""The SQL shell: statements and backslash commands, one after the other, until the user leaves."""

from __future__ import annotations

import io
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, assert_never

import typer

from lakeflow.cli.output import note, show_error
from lakeflow.cli.rows import RowFormat
from lakeflow.cli.signals import StopSignals
from lakeflow.cli.sql import script_text
from lakeflow.cli.sql_commands import (
    Help,
    Quit,
    RunFile,
    SetFormat,
    SetLimit,
    Statements,
    Switch,
    help_lines,
    read_command,
)
from lakeflow.cli.sql_names import ProjectWords
from lakeflow.cli.sql_pager import show
from lakeflow.cli.sql_session import Session, Style
from lakeflow.errors import LakeflowError
from lakeflow.sql.alterations import DropTable, DropVectorIndex
from lakeflow.sql.execute import interrupt_queries
from lakeflow.sql.script import parse_script
from lakeflow.sql.statements import DropMaterializedTable, ScriptStatement

if TYPE_CHECKING:
    from lakeflow.runner.project import Project

LOOKS_SECONDS = 0.05
"""How often a running statement is looked at, and interrupted once it is to be cancelled."""


ENDED_BY_SIGINT = 128 + signal.SIGINT


@dataclass(slots=True)
class Switches:
    """What \\timing and \\pager say."""

    timing: bool = True
    pager: bool = True


def shell(project: Project, form: RowFormat, *, asks: bool, target: str | None) -> int:
    """Ask for statements and run them until the user leaves; the exit code. Errors are shown, and end none but their own
    statement."""
    from lakeflow.cli.sql_prompt import prompt_of

    words = ProjectWords(project)
    prompt = prompt_of(words, target)
    Thread(target=words.look_up, name="names", daemon=True).start()
    note("Statements end with ; \\? lists commands, Tab completes, Ctrl-D leaves.")
    with ExitStack() as models:
        running = Shell(project, form, models, asks=asks)
        while True:
            try:
                typed = prompt.prompt()
            except KeyboardInterrupt:
                continue
            except EOFError:
                return 0
            if not running.take(typed):
                return 0
            words.forget()


class Shell:
    """What becomes of what is typed."""

    def __init__(self, project: Project, form: RowFormat, models: ExitStack, *, asks: bool) -> None:
        self._asks = asks
        self._style = Style(form)
        self._switches = Switches()
        self._notes: list[str] = []
        self._dropping = not asks
        hint = "\\limit ROWS shows more, \\format csv gives all"
        self._session = Session(project, self._style, lambda _: self._dropping, hint, models, self._notes.append)

    def take(self, typed: str) -> bool:
        """Run what was typed; False where the user leaves."""
        try:
            if typed.strip().startswith("\\"):
                return self._command(typed)
            self._statements(typed, None)
        except LakeflowError as error:
            show_error(error)
        return True

    def _command(self, typed: str) -> bool:
        match read_command(typed):
            case Statements(text):
                self._statements(text, None)
            case RunFile(file):
                self._statements(*script_text(None, file))
            case Switch(name, on):
                self._switch(name, on)
            case SetFormat(form):
                self._style.form = form or self._style.form
                note(f"rows are written as {self._style.form}")
            case SetLimit(rows):
                self._style.rows = rows or self._style.rows
                note(f"as text the first {self._style.rows:,} rows are shown")
            case Help():
                show("".join(f"{line}\n" for line in help_lines()), paged=self._switches.pager)
            case Quit():
                return False
            case never:
                assert_never(never)
        return True

    def _switch(self, name: str, on: bool | None) -> None:
        match name:
            case "\\x":
                on = self._style.expanded = not self._style.expanded if on is None else on
            case "\\timing":
                on = self._switches.timing = not self._switches.timing if on is None else on
            case _:
                on = self._switches.pager = not self._switches.pager if on is None else on
        note(f"{name} is {'on' if on else 'off'}")

    def _statements(self, text: str, path: Path | None) -> None:
        """All of a text, up to the first that fails or is cancelled."""
        for statement in parse_script(text, path):
            if not self._statement(statement):
                return

    def _statement(self, statement: ScriptStatement) -> bool:
        """Whether it ran to its end. Raises what it fails of."""
        if isinstance(statement, DropTable | DropMaterializedTable | DropVectorIndex) and self._asks:
            from lakeflow.runner.statements import drop_question

            self._dropping = _confirmed(drop_question(self._session.project, statement))
        begun = time.monotonic()
        text = io.StringIO()
        is_text = self._style.form is RowFormat.TEXT
        with ExitStack() as held, StopSignals() as signals:

            def work() -> None:
                with redirect_stdout(text if is_text else sys.stdout):
                    self._session.carry_out(statement, signals, held)

            ran = _run(work, signals, held)
        took = time.monotonic() - begun
        if signals.exit_code not in (0, ENDED_BY_SIGINT):
            raise SystemExit(signals.exit_code)
        show(text.getvalue(), paged=self._switches.pager)
        while self._notes:
            note(self._notes.pop(0))
        if self._switches.timing and ran:
            note(f"({took:.2f} s)")
        return ran


def _run(work: Callable[[], None], signals: StopSignals, held: ExitStack) -> bool:
    """Run it in a thread, so that a signal reaches this one; whether it ran to its end. Raises what it fails of.

    A signal stops queries, and lets a job finish its commit; a second one ends the process as it stands.
    """
    with ThreadPoolExecutor(1, "statement") as threads:
        running = threads.submit(work)
        told = False
        try:
            while wait([running], timeout=LOOKS_SECONDS).not_done:
                if not signals.requested():
                    continue
                if not told:
                    note("cancelling; Ctrl-C again leaves at once")
                    told = True
                interrupt_queries()
        except SystemExit as ended:
            held.close()
            sys.stdout.flush()
            os._exit(ended.code if isinstance(ended.code, int) else 1)
    failure = running.exception()
    if isinstance(failure, LakeflowError) and signals.requested():
        note("cancelled")
        return False
    if failure is not None:
        raise failure
    return not signals.requested()


def _confirmed(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        note("")
        return False
