"""`lakeflow index`: build, update and look at vector indexes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project, verbs
from lakeflow.cli.output import note, show_error, show_rows, size_text
from lakeflow.cli.progress import Bar
from lakeflow.errors import LakeflowError, UnknownName

if TYPE_CHECKING:
    from lakeflow.declare import IndexSpec
    from lakeflow.observe.runs import Run
    from lakeflow.runner.index_plan import IndexPlan
    from lakeflow.runner.project import Project

DONE = ("name", "status", "read", "written", "filtered", "rebuilt", "seconds", "rows_per_second")
STATUS = ("name", "table", "rows", "unindexed", "kind", "size", "model", "files_behind", "rows_behind", "state", "updated")
UPDATE_HELP = """Bring what was appended to the tables into their indexes.

An index that was never built, or whose table changed by more than appends, is built anew.

Examples:

  lakeflow index update

  lakeflow index update docs_index
"""
BUILD_HELP = """Build indexes anew from their tables.

Searches see the old index until the new one takes its place.

Example:

  lakeflow index build docs_index
"""
STATUS_HELP = """Show how large the indexes are, and how far behind their tables.

Example:

  lakeflow index status
"""

NamesArgument = Annotated[list[str] | None, typer.Argument(help="Indexes; without any, all that are declared.")]


def register(app: typer.Typer) -> None:
    group = verbs("index", "Build, update and look at vector indexes.")
    group.command("build", help=BUILD_HELP)(build_verb)
    group.command("update", help=UPDATE_HELP)(update_verb)
    group.command("status", help=STATUS_HELP)(status_verb)
    app.add_typer(group)


def build_verb(
    names: NamesArgument = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    _each(open_project(project, target), names or [], output, rebuild=True)


def update_verb(
    names: NamesArgument = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    _each(open_project(project, target), names or [], output, rebuild=False)


def status_verb(
    names: NamesArgument = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.runner.index_plan import plan_index

    opened = open_project(project, target)
    chosen = chosen_indexes(opened, names or [])
    as_json = output is Format.JSON
    rows = [described(plan_index(spec, opened.index_room), as_json=as_json) for spec in chosen]
    show_rows(rows, STATUS, as_json=as_json)


def chosen_indexes(project: Project, names: Sequence[str]) -> list[IndexSpec]:
    """The declared indexes named, or all. Raises UnknownName."""
    declared = project.declared_tables.indexes
    for name in names:
        if name not in declared:
            raise UnknownName("index", name, declared, next_step="declare it with CREATE VECTOR INDEX in tables/")
    return [spec for name, spec in declared.items() if not names or name in names]


def update(project: Project, index: IndexSpec, run: Run, *, rebuild: bool = False) -> str | None:
    """Bring one index up to date, or build it anew; what was done stands in `run`. Why it was built anew, or None."""
    from lakeflow.runner.indexing import build_index, update_index

    with Bar(f"indexing {index.name}") as bar:
        bring = build_index if rebuild else update_index
        updated = bring(index, project.index_room, on_rows=bar.advance)
    run.read, run.written = updated.counts.read, updated.counts.inserted + updated.counts.updated
    run.filtered = run.read - run.written
    run.start_position = updated.start.dumps() if updated.start else None
    run.end_position = updated.end.dumps() if updated.end else None
    if updated.rebuilt and not rebuild:
        note(f"index {index.name} was built from the whole table: {updated.rebuilt}")
    return updated.rebuilt


def _each(project: Project, names: Sequence[str], output: Format, *, rebuild: bool) -> None:
    chosen = chosen_indexes(project, names)
    with project.models:
        results = [_one(project, spec, rebuild) for spec in chosen]
    show_rows(results, DONE, as_json=output is Format.JSON)
    if any("error" in result for result in results):
        raise typer.Exit(1)


def _one(project: Project, spec: IndexSpec, rebuild: bool) -> dict[str, Any]:
    """One index, recorded as a run."""
    from lakeflow.observe.runs import Run, RunLog, Status

    run = Run("index", spec.name, spec.table, "rebuild" if rebuild else "incremental")
    rebuilt: str | None = None
    try:
        with RunLog(project.lake, project.commits, project.settings).recorded(run):
            rebuilt = update(project, spec, run, rebuild=rebuild)
            if run.read == 0:
                run.status = Status.EMPTY
    except LakeflowError as error:
        show_error(error)
        return {**_result(run, rebuilt), "error": str(error)}
    return _result(run, rebuilt)


def _result(run: Run, rebuilt: str | None) -> dict[str, Any]:
    return {
        "name": run.name,
        "table": run.table,
        "status": str(run.status),
        "read": run.read,
        "written": run.written,
        "filtered": run.filtered,
        "rebuilt": rebuilt is not None,
        "seconds": round(run.seconds, 2),
        "rows_per_second": round(run.read / run.seconds) if run.seconds else 0,
    }


def described(plan: IndexPlan, *, as_json: bool) -> dict[str, Any]:
    """An index as it stands, as one row. Sizes are bytes in JSON."""
    state = plan.state
    row: dict[str, Any] = {
        "name": plan.spec.name,
        "table": plan.spec.table,
        "state": plan.standing,
        "files_behind": plan.files,
        "rows_behind": plan.rows,
    }
    if state is None:
        return row
    return row | {
        "rows": state.rows,
        "unindexed": state.unindexed_rows,
        "kind": state.kind,
        "size": state.size_bytes if as_json else size_text(state.size_bytes),
        "model": state.identity.model,
        "metric": state.identity.metric,
        "width": state.identity.width,
        "position": state.position.dumps() if state.position else None,
        "updated": state.updated_at,
    }
