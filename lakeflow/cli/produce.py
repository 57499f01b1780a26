"""`lakeflow produce`: tables to topics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, exit_code_of, open_project
from lakeflow.cli.ending import Ending, side_by_side
from lakeflow.cli.output import show_rows
from lakeflow.cli.progress import Bar
from lakeflow.cli.signals import StopSignals
from lakeflow.errors import LakeflowError, UnknownName, UsageError

if TYPE_CHECKING:
    from lakeflow.landing.produce import Produced, Producing
    from lakeflow.landing.produce_open import SinkPlan
    from lakeflow.landing.produce_spec import SinkSpec
    from lakeflow.observe.runs import Run
    from lakeflow.runner.project import Project

COLUMNS = (
    *("table", "topic", "status", "delivery", "read", "written", "tombstones", "unchanged", "commits"),
    *("seconds", "rows_per_second"),
)
PLANNED = ("table", "topic", "delivery", "rows", "files", "files_removed", "transactions", "note")
ASK_SECONDS = 10.0
HELP = """Send the rows that came into tables to their Kafka topics, exactly once.

A table names its topic in its declaration: WITH ('sink.topic' = 'answers', ..), see docs/produce.md. What was sent is kept by
the brokers, in the same transaction as the records. Stops when all that the tables held at the start is sent; --follow stays
until a signal comes, or until one of the tables fails for good.

Of a table with a key, changed rows are sent again under it, and removed ones as tombstones.

Examples:

  lakeflow produce

  lakeflow produce gold.answers --follow

  lakeflow produce gold.answers --from now
"""


def register(app: typer.Typer) -> None:
    app.command("produce", help=HELP)(produce)


def produce(
    tables: Annotated[list[str] | None, typer.Argument(help="Tables to send; without any, all that name a topic.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and send rows as they come.")] = False,
    again: Annotated[
        str | None,
        typer.Option(
            "--from", help="Go on from there, in place of the position: beginning, now, or a snapshot's id.", metavar="PLACE"
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing.")] = False,
    exit_on_empty: Annotated[int, typer.Option("--exit-on-empty", help="Exit code for nothing to send.", min=0, max=255)] = 0,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    opened = open_project(project, target)
    chosen = chosen_sinks(opened, tables or [])
    if again is not None and len(chosen) != 1:
        raise UsageError(
            f"--from {again} is for one table, and {len(chosen)} would be sent: {', '.join(one.table for one in chosen)}",
            next_step="lakeflow produce TABLE --from ..",
        )
    if dry_run:
        _show_plans(opened, chosen, again, output)
        return
    with StopSignals() as signals:
        ending = Ending(signals)
        if follow and len(chosen) > 1:
            results = side_by_side(chosen, lambda sink: _produce_one(opened, sink, How(True), ending), ending)
        else:
            how = How(follow, again)
            results = [_produce_one(opened, sink, how, ending) for sink in chosen if not ending.requested()]
    show_rows(results, COLUMNS, as_json=output is Format.JSON)
    if ending.errors:
        raise typer.Exit(exit_code_of(ending.errors))
    if signals.requested():
        raise typer.Exit(signals.exit_code)
    if not any(result["read"] for result in results):
        raise typer.Exit(exit_on_empty)


@dataclass(slots=True)
class How:
    """Whether a sink stays, and from where it goes on when it is first opened, in place of its position."""

    follow: bool
    again: str | None = None


def chosen_sinks(project: Project, names: Sequence[str]) -> list[SinkSpec]:
    """The declared tables with a sink that are named, or all. Raises UnknownName, and DeclarationError for any of them."""
    from lakeflow.landing.produce_open import declared_sink
    from lakeflow.landing.produce_spec import has_sink

    sinks = {name: spec for name, spec in project.declared_tables.tables.items() if has_sink(spec)}
    for name in names:
        if name not in sinks:
            raise UnknownName("table with 'sink.topic'", name, sinks, next_step="lakeflow tables")
    chosen = [spec for name, spec in sinks.items() if not names or name in names]
    return [declared_sink(spec, project.settings) for spec in chosen]


def _produce_one(project: Project, sink: SinkSpec, how: How, ending: Ending) -> dict[str, Any]:
    from lakeflow.landing.produce_open import run_name, warn_of_delivery
    from lakeflow.observe.runs import Run, RunLog, Status

    warn_of_delivery(sink)
    run = Run("produce", run_name(sink.table), sink.table, "follow" if how.follow else "available-now")
    sent = Sent(run)
    try:
        with Bar(f"sending {sink.table}") as bar, RunLog(project.lake, project.commits, project.settings).recorded(run):
            _produce(project, sink, how, ending, sent, bar)
            if ending.requested():
                run.status = Status.STOPPED
            elif run.read == 0:
                run.status = Status.EMPTY
    except LakeflowError as error:
        if error not in ending.errors:
            ending.show(error)
        if how.follow:
            ending.fail()
        return {**_result(sink, sent), "error": str(error)}
    return _result(sink, sent)


@dataclass(slots=True)
class Sent:
    """What was sent over all times that a sink was opened; `run` has the counts that runs have."""

    run: Run
    tombstones: int = 0
    commits: int = 0

    def add(self, produced: Produced) -> None:
        """Count what one opened sink sent."""
        run = self.run
        run.read, run.written = run.read + produced.read, run.written + produced.written
        run.filtered += produced.unchanged
        run.start_position, run.end_position = run.start_position or produced.start, produced.end
        self.tombstones, self.commits = self.tombstones + produced.tombstones, self.commits + produced.commits


def _produce(project: Project, sink: SinkSpec, how: How, ending: Ending, sent: Sent, bar: Bar) -> None:
    from lakeflow.landing.produce_open import keep_producing, open_producing, produce_once

    settings = project.settings

    def opened() -> tuple[Producing, Callable[[], None]]:
        reach = sent.run.read
        found = open_producing(
            sink, settings, project.lake, again=how.again, told=lambda produced: bar.reach(reach + produced.read, None)
        )
        how.again = None  # the position is there now
        return found

    if how.follow:
        every = settings.run.follow_seconds
        keep_producing(opened, every=every, stop=ending.requested, told=sent.add, sleep=ending.sleep)
    else:
        produce_once(opened, stop=ending.requested, told=sent.add)


def _result(sink: SinkSpec, sent: Sent) -> dict[str, Any]:
    run = sent.run
    return {
        "table": sink.table,
        "topic": sink.topic,
        "status": str(run.status),
        "delivery": str(sink.delivery),
        "read": run.read,
        "written": run.written,
        "tombstones": sent.tombstones,
        "unchanged": run.filtered,
        "commits": sent.commits,
        "position": run.end_position,
        "seconds": round(run.seconds, 2),
        "rows_per_second": round(run.read / run.seconds) if run.seconds else 0,
    }


def _show_plans(project: Project, sinks: Sequence[SinkSpec], again: str | None, output: Format) -> None:
    from lakeflow.landing.produce_open import plan_sink

    timeout = min(ASK_SECONDS, project.settings.run.connect_seconds)
    plans = [plan_sink(sink, project.settings, project.lake, timeout=timeout, again=again) for sink in sinks]
    show_rows([planned(plan) for plan in plans], PLANNED, as_json=output is Format.JSON)
    if any(plan.would_fail for plan in plans):
        raise typer.Exit(1)


def planned(plan: SinkPlan) -> dict[str, Any]:
    """A sink's plan as one row."""
    return {
        "table": plan.spec.table,
        "topic": plan.spec.topic,
        "delivery": str(plan.spec.delivery),
        "rows": plan.rows,
        "files": plan.files,
        "files_removed": plan.removed,
        "transactions": plan.transactions,
        "position": plan.position.dumps() if plan.position else None,
        "note": plan.problem or ("begins" if plan.is_new else ""),
        "would_fail": plan.would_fail,
    }
