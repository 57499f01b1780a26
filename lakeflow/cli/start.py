"""`lakeflow start`: everything that a project declares, in one process that stays."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption
from lakeflow.cli.output import STDOUT, aside, cell_text, json_text, keep_secret, show_error, without_secrets
from lakeflow.cli.signals import StopSignals
from lakeflow.config import Settings, find_project
from lakeflow.errors import LakeflowError, Terminal

if TYPE_CHECKING:
    from lakeflow.start.events import Event
    from lakeflow.start.listen import Board
    from lakeflow.start.meters import Meters
    from lakeflow.start.service import Over

OFF = "off"
HELP = """Keep everything going: land all topics, run jobs, bring indexes up to date, send tables to topics, maintain tables.

Jobs run in the order of the graph: as soon as what they read was written, by their schedule or freshness where they have one.
A change of lakeflow.toml, tables/ or jobs/ is taken up; one that cannot be loaded is told of, and what ran before goes on.

What fails for something that passes is tried again, later each time. What fails for good, or too often, is given up until the
files change; the others go on, what reads its table waits, readiness is false, and the exit code at the end is 1.

Health, readiness and metrics are served at [start] listen: /healthz, /readyz, /metrics. A line on stdout tells of each thing
done. SIGTERM finishes the commits under way, within [start] stop_seconds.

Examples:

  lakeflow start

  lakeflow start --listen 0.0.0.0:8470 --output json
"""


def register(app: typer.Typer) -> None:
    app.command("start", help=HELP)(start)


def start(
    listen: Annotated[
        str | None,
        typer.Option("--listen", help="Serve health at this host:port, or off; else [start] listen.", metavar="ADDRESS"),
    ] = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.start.memory import keep_memory_flat

    keep_memory_flat()  # before the modules that import pyarrow
    from lakeflow.start.generation import load
    from lakeflow.start.listen import Board
    from lakeflow.start.service import Service

    # A module that is loaded again within a second of its change would else come from the cache of its bytecode.
    sys.dont_write_bytecode = True
    folder = project or find_project(Path.cwd())
    with StopSignals() as signals, ExitStack() as held:
        stream = held.enter_context(os.fdopen(os.dup(STDOUT), "w", encoding="utf-8"))
        held.enter_context(aside())
        teller = Teller(stream, output is Format.JSON)
        first = load(folder, target, on_settings=keep_secret)
        meters = _meters()
        board = Board(without_secrets, meters)
        service = Service(folder, target, first, teller.tell, board, meters, keep_secret)
        _listen(first.project.settings, listen, board, held, teller)
        over = service.run(lambda: signals.requested() or teller.is_unheard)
    _exit(over, signals.exit_code or int(teller.is_unheard))


def _exit(over: Over, code: int) -> None:
    """The end. After a signal it comes at once: everything is committed and closed, and to take its memory apart may take
    Python seconds. Threads of what is still under way are not waited for either: that is done anew."""
    signalled, code = code != 0, 1 if over.gave_up else code
    if over.left or signalled:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    raise typer.Exit(code)


def _listen(settings: Settings, listen: str | None, board: Board, held: ExitStack, teller: Teller) -> None:
    from lakeflow.start.events import PROCESS, Event
    from lakeflow.start.listen import Listener, address

    place = listen if listen is not None else settings.start.listen
    if place == OFF:
        return
    name = "--listen" if listen is not None else "listen of [start]"
    listener = held.enter_context(Listener(*address(place, name), board))
    teller.tell(Event(PROCESS, settings.project.name, "listening", {"address": listener.address}))


def _meters() -> Meters | None:
    """Counts for Prometheus, where its client is installed."""
    try:
        from lakeflow.start.meters import Meters
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        return None  # /metrics names the extra
    return Meters()


@dataclass(slots=True)
class Teller:
    """Writes a line for each event to where stdout was before jobs could print to it; errors go to stderr too.

    `is_unheard` once the reader of stdout went away.
    """

    stream: TextIO
    as_json: bool
    is_unheard: bool = False

    def tell(self, event: Event) -> None:
        row = event.row
        line = json_text(row) if self.as_json else _line(row)
        try:
            self.stream.write(without_secrets(line) + "\n")
            self.stream.flush()
        except BrokenPipeError:
            self.is_unheard = True
        if event.error is not None:
            show_error(_error_of(event))


def _error_of(event: Event) -> LakeflowError:
    error: LakeflowError = Terminal(
        f"{event.kind} {event.name}, {event.status.upper() if event.status == 'given up' else event.status}: {event.error}",
        left_behind=event.facts.get("left_behind"),
        next_step=event.facts.get("next"),
    )
    return error


def _line(row: Mapping[str, Any]) -> str:
    """An event as one line: when, what, how it went, and its figures."""
    known = ("at", "kind", "name", "status")
    head = f"{cell_text(row['at'])}  {row['kind']} {row['name']}: {row['status']}"
    facts = [f"{name} {cell_text(value)}" for name, value in row.items() if name not in known and value not in (0, [])]
    return f"{head}  {', '.join(facts)}" if facts else head
