"""`lakeflow maintain`: tables kept well."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, exit_code_of, open_project
from lakeflow.cli.output import note, show_error, show_json, show_rows, size_text
from lakeflow.cli.signals import StopSignals
from lakeflow.errors import LakeflowError, UsageError

if TYPE_CHECKING:
    from lakeflow.lake.maintain import Maintained, Upkeep
    from lakeflow.runner.project import Project

COLUMNS = ("table", "compacted", "into", "manifests", "expired", "freed", "orphans", "orphan_bytes", "left")
HELP = """Keep tables well: compact small files, merge manifests, drop old snapshots, delete files that nothing names.

Without tables: those of the project, its system tables too. Readers go on where they are, and no writer waits or fails: what
another commit takes first is left for the next time, and said. Sizes and ages are set under [maintain].

Examples:

  lakeflow maintain --dry-run

  lakeflow maintain bronze.flights --older-than 1d

  lakeflow maintain --follow
"""
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
LONGEST_WAIT = 1.0


def register(app: typer.Typer) -> None:
    app.command("maintain", help=HELP)(maintain)


def maintain(
    tables: Annotated[list[str] | None, typer.Argument(help="Tables to maintain; without any, the project's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and change nothing.")] = False,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", help="Delete files that nothing names once they are so old, such as 3d or 12h."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Take an age under 1h. Only where nothing writes to the tables.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Stay, and do it again at the interval that is set.")] = False,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.observe.maintain import tables_of

    opened = open_project(project, target)
    orphan_age = checked_age(older_than, force)
    if follow and (dry_run or not opened.settings.maintain.interval_seconds):
        raise UsageError("--follow goes with an interval_seconds under [maintain] that is not 0, and without --dry-run")
    tables_of(opened, tables or ())
    with StopSignals() as signals:
        if follow:
            _follow(opened, tables or (), orphan_age, signals)
            raise typer.Exit(signals.exit_code)
        results, errors = _once(opened, tables or (), orphan_age, dry_run, signals)
    if output is Format.JSON:
        show_json(results)
    else:
        show_rows([_shown(one) for one in results], COLUMNS, as_json=False)
    if errors:
        raise typer.Exit(exit_code_of(errors))
    if signals.requested():
        raise typer.Exit(signals.exit_code)


def checked_age(text: str | None, forced: bool) -> timedelta | None:
    """The age that `--older-than` names; None where it is not given. Raises UsageError."""
    from lakeflow.lake.orphans import check_age

    if text is None:
        return None
    if (found := _AGE.fullmatch(text.strip())) is None:
        raise UsageError(f"--older-than is {text!r}; valid: a number and s, m, h or d, such as 3d or 12h")
    age = timedelta(seconds=float(found[1]) * _UNITS[found[2]])
    check_age(age, forced=forced)
    return age


def _once(
    project: Project, names: Sequence[str], orphan_age: timedelta | None, dry_run: bool, signals: StopSignals
) -> tuple[list[dict[str, Any]], list[LakeflowError]]:
    """Each table once; one that fails is shown, and the others go on."""
    from lakeflow.observe.maintain import maintain as maintain_one
    from lakeflow.observe.maintain import plan, tables_of, upkeep_of

    results: list[dict[str, Any]] = []
    errors: list[LakeflowError] = []
    for table in tables_of(project, names):
        if signals.requested():
            break
        upkeep = _with_age(upkeep_of(project.settings, table), orphan_age)
        try:
            if dry_run:
                results.append(_result(plan(project, table, upkeep), dry_run))
            else:
                results.append(_result(maintain_one(project, table, upkeep, stop=signals.requested), dry_run))
        except LakeflowError as error:
            show_error(error)
            errors.append(error)
            results.append({"table": table, "error": str(error)})
    return results, errors


def _follow(project: Project, names: Sequence[str], orphan_age: timedelta | None, signals: StopSignals) -> None:
    """Rounds until a signal comes; what fails in one is logged, and tried again in the next."""
    from lakeflow.observe.maintain import Rounds, maintain_round

    rounds = Rounds(project.settings.maintain.interval_seconds, time.monotonic(), time.monotonic())
    while not signals.requested():
        if rounds.due(time.monotonic()):
            orphans = rounds.begin(time.monotonic())
            errors = maintain_round(project, names, orphans, signals.requested, orphan_age=orphan_age)
            note(f"maintained{f', {len(errors)} failed' if errors else ''}; next in {rounds.interval:g} s")
        signals.sleep(LONGEST_WAIT)


def _with_age(upkeep: Upkeep, orphan_age: timedelta | None) -> Upkeep:
    return upkeep if orphan_age is None else replace(upkeep, orphan_age=orphan_age)


def _result(done: Maintained, dry_run: bool) -> dict[str, Any]:
    return {
        "table": done.table,
        "dry_run": dry_run,
        "files_before": done.compacted.files_before,
        "files_after": done.compacted.files_after,
        "bytes_before": done.compacted.bytes_before,
        "bytes_after": done.compacted.bytes_after,
        "manifests_merged": bool(done.merged),
        "snapshots_made": list(done.snapshots),
        "snapshots_expired": done.expired.snapshots,
        "files_freed": done.expired.files,
        "orphans": [orphan.path for orphan in done.removed.orphans],
        "orphan_bytes": done.removed.bytes,
        "left": list(done.left),
    }


def _shown(result: dict[str, Any]) -> dict[str, Any]:
    """A result for people; a table that failed shows its error beside it."""
    if "error" in result:
        return {"table": result["table"], "left": "failed"}
    return {
        "table": result["table"],
        "compacted": result["files_before"],
        "into": result["files_after"],
        "manifests": "merged" if result["manifests_merged"] else None,
        "expired": result["snapshots_expired"],
        "freed": result["files_freed"],
        "orphans": len(result["orphans"]),
        "orphan_bytes": size_text(result["orphan_bytes"]),
        "left": "; ".join(result["left"]) or None,
    }
