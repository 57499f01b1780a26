"""`lakeflow land`: topics to tables."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project
from lakeflow.cli.output import note, show_error, show_rows
from lakeflow.cli.progress import Bar
from lakeflow.cli.signals import StopSignals
from lakeflow.errors import LakeflowError, SourceUnavailable, UnknownName

if TYPE_CHECKING:
    from lakeflow.declare import TableSpec
    from lakeflow.landing.writer import Landed
    from lakeflow.observe.runs import Run
    from lakeflow.runner.project import Project

COLUMNS = ("table", "status", "read", "written", "dead_lettered", "skipped", "commits", "seconds", "rows_per_second")
UNREACHABLE = "unreachable"
HELP = """Land Kafka topics in their Iceberg tables, exactly once.

Stops when it has read what the topics held at the start; --follow stays until a signal comes.

Examples:

  lakeflow land

  lakeflow land bronze.flights --follow
"""


def register(app: typer.Typer) -> None:
    app.command("land", help=HELP)(land)


def land(
    tables: Annotated[list[str] | None, typer.Argument(help="Tables to land; without any, all that have a topic.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and land records as they come.")] = False,
    exit_on_empty: Annotated[int, typer.Option("--exit-on-empty", help="Exit code for nothing to land.", min=0, max=255)] = 0,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    opened = open_project(project, target)
    chosen = _chosen(opened, tables or [])
    with StopSignals() as signals:
        if follow and len(chosen) > 1:
            results = _side_by_side(opened, chosen, signals)
        else:
            results = _one_after_another(opened, chosen, follow, signals)
    show_rows(results, COLUMNS, as_json=output is Format.JSON)
    if signals.requested():
        raise typer.Exit(signals.exit_code)
    if any("error" in result for result in results):
        raise typer.Exit(1)
    if not any(result["read"] for result in results):
        raise typer.Exit(exit_on_empty)


def _chosen(project: Project, names: Sequence[str]) -> list[TableSpec]:
    from lakeflow.landing.spec import is_landed

    landed = {name: spec for name, spec in project.declared_tables.tables.items() if is_landed(spec)}
    for name in names:
        if name not in landed:
            raise UnknownName("table with connector 'kafka'", name, landed, next_step="lakeflow tables")
    return [spec for name, spec in landed.items() if not names or name in names]


def _one_after_another(
    project: Project, tables: Sequence[TableSpec], follow: bool, signals: StopSignals
) -> list[dict[str, Any]]:
    """Each table once. Where no broker answers for one, the others are not waited for."""
    results: list[dict[str, Any]] = []
    for table in tables:
        if signals.requested():
            break
        if any(result["status"] == UNREACHABLE for result in results):
            note(f"{table.name} is left out: the brokers do not answer")
            results.append({"table": table.name, "status": "left out", "read": 0, "commits": 0})
            continue
        results.append(_land_one(project, table, follow, signals))
    return results


def _side_by_side(project: Project, tables: Sequence[TableSpec], signals: StopSignals) -> list[dict[str, Any]]:
    """One thread a table. When one fails the others go on; the failure is printed at once and told again at the end."""
    with ThreadPoolExecutor(len(tables), thread_name_prefix="lakeflow-land") as pool:
        return signals.results([pool.submit(_land_one, project, table, True, signals) for table in tables])


def _land_one(project: Project, table: TableSpec, follow: bool, signals: StopSignals) -> dict[str, Any]:
    from lakeflow.landing.open import open_landing
    from lakeflow.observe.runs import Run, RunLog, Status

    run = Run("land", table.name, table.name, "follow" if follow else "available-now")
    with Bar(f"landing {table.name}") as bar:
        try:
            with RunLog(project.lake, project.commits, project.settings).recorded(run):
                landing, source = open_landing(
                    table,
                    project.settings,
                    project.lake,
                    project.commits,
                    on_progress=lambda counts, left: bar.reach(counts.read, None if follow else counts.read + left),
                )
                try:
                    landing.run(follow=follow, stop=signals.requested)
                finally:
                    source.close()
                    _fill_in(run, landing.landed)
                if signals.requested():
                    run.status = Status.STOPPED
                elif run.read == 0:
                    run.status = Status.EMPTY
        except LakeflowError as error:
            show_error(error)
            status = UNREACHABLE if isinstance(error, SourceUnavailable) and run.read == 0 else str(run.status)
            return {**_result(run), "status": status, "error": str(error)}
    return _result(run)


def _fill_in(run: Run, landed: Landed) -> None:
    counts = landed.counts
    run.read, run.written = counts.read, counts.written
    run.dead_lettered, run.skipped = counts.dead_lettered, counts.skipped
    run.start_position, run.end_position = landed.start.dumps(), landed.end.dumps()
    run.snapshot_ids = landed.snapshots


def _result(run: Run) -> dict[str, Any]:
    return {
        "table": run.table,
        "status": str(run.status),
        "read": run.read,
        "written": run.written,
        "dead_lettered": run.dead_lettered,
        "skipped": run.skipped,
        "commits": len(run.snapshot_ids),
        "seconds": round(run.seconds, 2),
        "rows_per_second": round(run.read / run.seconds) if run.seconds else 0,
    }
