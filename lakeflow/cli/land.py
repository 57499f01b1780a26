"""`lakeflow land`: topics to tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, exit_code_of, open_project
from lakeflow.cli.ending import Ending, side_by_side
from lakeflow.cli.output import note, show_rows
from lakeflow.cli.progress import Bar
from lakeflow.cli.signals import StopSignals
from lakeflow.errors import LakeflowError, RegistryUnavailable, SourceUnavailable, Suspended, UnknownName, UsageError

if TYPE_CHECKING:
    from lakeflow.declare import TableSpec
    from lakeflow.landing.counts import Landed
    from lakeflow.observe.metrics import LandingMetrics
    from lakeflow.observe.runs import Run
    from lakeflow.runner.project import Project

COLUMNS = (
    "table",
    "status",
    "read",
    "written",
    "dead_lettered",
    "skipped",
    "filtered",
    "commits",
    "seconds",
    "rows_per_second",
)
UNREACHABLE = "unreachable"
HELP = """Land Kafka topics in their Iceberg tables, exactly once.

Stops when it has read what the topics held at the start; --follow stays until a signal comes, or one of its
landings fails for good: the others commit what is in hand then, and the process ends with 1.

With --follow the project's tables are maintained beside, at the interval that [maintain] sets: see lakeflow maintain.

With --share several processes land the same tables together: a consumer group deals the partitions out among them.

Examples:

  lakeflow land

  lakeflow land bronze.flights --follow
"""


def register(app: typer.Typer) -> None:
    app.command("land", help=HELP)(land)


def land(
    tables: Annotated[list[str] | None, typer.Argument(help="Tables to land; without any, all that have a topic.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and land records as they come.")] = False,
    share: Annotated[
        bool, typer.Option("--share", help="Share the topics with other processes that land with --share, by a consumer group.")
    ] = False,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", help="Serve metrics for Prometheus at this host:port.", metavar="ADDRESS"),
    ] = None,
    exit_on_empty: Annotated[int, typer.Option("--exit-on-empty", help="Exit code for nothing to land.", min=0, max=255)] = 0,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    opened = open_project(project, target)
    chosen = _chosen(opened, tables or [])
    with StopSignals() as signals, ExitStack() as held:
        ending = Ending(signals)
        how = How(follow, share, _metrics(metrics, held))
        if follow:
            held.enter_context(_maintained(opened, ending))
        if follow and len(chosen) > 1:
            results = side_by_side(chosen, lambda table: _land_one(opened, table, how, ending), ending)
        else:
            results = _one_after_another(opened, chosen, how, ending)
    show_rows(results, COLUMNS, as_json=output is Format.JSON)
    if ending.errors:
        raise typer.Exit(exit_code_of(ending.errors))
    if signals.requested():
        raise typer.Exit(signals.exit_code)
    if not any(result["read"] for result in results):
        raise typer.Exit(exit_on_empty)


@dataclass(frozen=True, slots=True)
class How:
    """Whether a landing stays, whether it shares its topics with other processes, and where it shows what it does."""

    follow: bool
    share: bool
    metrics: LandingMetrics | None = None


def _maintained(project: Project, ending: Ending) -> AbstractContextManager[None]:
    """Maintenance of the project's tables in a thread beside the landings; what fails there ends none of them."""
    from lakeflow.observe.maintain import maintained_beside

    return maintained_beside(project, ending.requested)


def _metrics(address_text: str | None, held: ExitStack) -> LandingMetrics | None:
    if address_text is None:
        return None
    try:
        from lakeflow.observe.metrics import LandingMetrics, address
    except ImportError as error:
        raise UsageError(
            f"--metrics needs a package that is not installed: {error}", next_step='pip install "lakeflow[metrics]"'
        ) from error
    return held.enter_context(LandingMetrics(*address(address_text)))


def _chosen(project: Project, names: Sequence[str]) -> list[TableSpec]:
    from lakeflow.landing.spec import is_landed

    landed = {name: spec for name, spec in project.declared_tables.tables.items() if is_landed(spec)}
    for name in names:
        if name not in landed:
            raise UnknownName("table with connector 'kafka'", name, landed, next_step="lakeflow tables")
    return [spec for name, spec in landed.items() if not names or name in names]


def _one_after_another(project: Project, tables: Sequence[TableSpec], how: How, ending: Ending) -> list[dict[str, Any]]:
    """Each table once. Where no broker answers for one, the others are not waited for."""
    results: list[dict[str, Any]] = []
    for table in tables:
        if ending.requested():
            break
        if any(result["status"] == UNREACHABLE for result in results):
            note(f"{table.name} is left out: the brokers do not answer")
            results.append({"table": table.name, "status": "left out", "read": 0, "commits": 0})
            continue
        results.append(_land_one(project, table, how, ending))
    return results


def _land_one(project: Project, table: TableSpec, how: How, ending: Ending) -> dict[str, Any]:
    from lakeflow.observe.runs import Run, RunLog, Status

    run = Run("land", table.name, table.name, "follow" if how.follow else "available-now")
    with Bar(f"landing {table.name}") as bar:
        try:
            with RunLog(project.lake, project.commits, project.settings).recorded(run):
                _land(project, table, run, bar, how, ending)
                if ending.requested():
                    run.status = Status.STOPPED
                elif run.read == 0:
                    run.status = Status.EMPTY
        except LakeflowError as error:
            if error not in ending.errors:  # the landing was not come to
                ending.show(error)
                run.status = Status.FAILED
            no_broker = isinstance(error, SourceUnavailable) and not isinstance(error, RegistryUnavailable)
            status = UNREACHABLE if no_broker and run.read == 0 else str(run.status)
            return {**_result(run), "status": status, "error": str(error)}
    return _result(run)


def _land(project: Project, table: TableSpec, run: Run, bar: Bar, how: How, ending: Ending) -> None:
    """The landing itself; a failure is shown before it is recorded, which may take long."""
    from lakeflow.landing.counts import Counts
    from lakeflow.landing.follow import keep_landing
    from lakeflow.landing.open import open_landing
    from lakeflow.landing.writer import Landing

    def reach(counts: Counts, left: int) -> None:
        bar.reach(run.read + counts.read, None if how.follow else counts.read + left)
        if how.metrics is not None:
            how.metrics.waits(table.name, left)

    def opened() -> tuple[Landing, Callable[[], None]]:
        if how.metrics is not None:
            how.metrics.opened(table.name)
        return open_landing(
            table,
            project.settings,
            project.lake,
            project.commits,
            shared=how.share,
            on_progress=reach,
            on_commit=(lambda landed: None) if how.metrics is None else how.metrics.committed,
        )

    def told(landed: Landed) -> None:
        run.add(landed)

    try:
        keep_landing(
            table.name,
            opened,
            follow=how.follow,
            shared=how.share,
            stop=ending.requested,
            told=told,
            sleep=ending.sleep,
        )
    except LakeflowError as error:
        ending.show(error)
        if how.follow:
            ending.fail()
        if how.metrics is not None:
            how.metrics.ended(table.name, suspended=isinstance(error, Suspended))
        raise


def _result(run: Run) -> dict[str, Any]:
    return {
        "table": run.table,
        "status": str(run.status),
        "read": run.read,
        "written": run.written,
        "dead_lettered": run.dead_lettered,
        "skipped": run.skipped,
        "filtered": run.filtered,
        "commits": len(run.snapshot_ids),
        "seconds": round(run.seconds, 2),
        "rows_per_second": round(run.read / run.seconds) if run.seconds else 0,
    }
