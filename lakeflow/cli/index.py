"""`lakeflow index`: build, update and look at vector indexes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, exit_code_of, open_project, verbs
from lakeflow.cli.output import note, show_error, show_rows, size_text
from lakeflow.cli.progress import Bar
from lakeflow.errors import LakeflowError, UnknownName

if TYPE_CHECKING:
    from lakeflow.declare import IndexSpec
    from lakeflow.index.vectors import IndexState
    from lakeflow.observe.runs import Run
    from lakeflow.runner.index_plan import IndexPlan
    from lakeflow.runner.project import Project

DONE = ("name", "status", "read", "written", "filtered", "rebuilt", "seconds", "rows_per_second")
STATUS = (
    *("name", "table", "rows", "unindexed", "kind", "columns", "size", "model", "files_behind", "rows_behind"),
    *("state", "updated"),
)
VERIFIED = ("name", "table", "rows", "missing", "differing", "extra", "ahead", "mended")
EVALUATED = (
    *("name", "kind", "rows", "k", "sample", "probes", "refine", "recall", "queries_per_second"),
    "exact_queries_per_second",
)
UPDATE_HELP = """Bring what became of the tables into their indexes.

Rows that were appended, changed or removed are brought in or taken out. An index that was never built, or most of whose rows
are others, is built anew.

Examples:

  lakeflow index update

  lakeflow index update docs_index
"""
BUILD_HELP = """Build indexes anew from their tables.

Searches see the old index until the new one takes its place.

Example:

  lakeflow index build docs_index
"""
STATUS_HELP = """Show how large the indexes are, what they are made of, and how far behind their tables.

Unindexed are rows that a search compares one by one; columns are those that are indexed beside the vectors.

Example:

  lakeflow index status
"""
VERIFY_HELP = """Compare indexes with their tables, key by key and row by row, as far as each has read its table.

Missing rows are in the table alone, extra ones in the index alone, differing ones not the same in both. Rows that an
update brought in before it recorded how far it was are ahead: the next update brings them again. With --repair the index
is mended; without it the exit code is 1 where something drifted.

Examples:

  lakeflow index verify

  lakeflow index verify docs_index --repair
"""
EVALUATE_HELP = """Measure how many of the exact nearest rows an index finds, and how fast.

A sample of the vectors that it holds is searched for twice: by the index as it stands, and by comparing every row. Recall
is the share of the nearest rows that the index found.

Examples:

  lakeflow index evaluate docs_index

  lakeflow index evaluate docs_index --k 100 --probes 40 --refine 4 --sample 1000
"""

NamesArgument = Annotated[list[str] | None, typer.Argument(help="Indexes; without any, all that are declared.")]


def register(app: typer.Typer) -> None:
    group = verbs("index", "Build, update, check and look at vector indexes.")
    group.command("build", help=BUILD_HELP)(build_verb)
    group.command("update", help=UPDATE_HELP)(update_verb)
    group.command("status", help=STATUS_HELP)(status_verb)
    group.command("verify", help=VERIFY_HELP)(verify_verb)
    group.command("evaluate", help=EVALUATE_HELP)(evaluate_verb)
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


def verify_verb(
    names: NamesArgument = None,
    repair: Annotated[bool, typer.Option("--repair", help="Bring in what is missing, take out what is extra.")] = False,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.runner.index_verify import verify_index

    opened = open_project(project, target)
    as_json = output is Format.JSON
    rows: list[dict[str, Any]] = []
    drifted = False
    for spec in chosen_indexes(opened, names or []):
        with Bar(f"verifying {spec.name}") as bar:
            drift = verify_index(spec, opened.index_room, repair=repair, on_rows=bar.advance)
        drifted |= drift.drifted > 0
        for key, what in () if as_json else drift.keys:
            note(f"index {spec.name}: {key!r} is {what}")
        row = {"name": spec.name, "table": spec.table, **{field: getattr(drift, field) for field in VERIFIED[2:]}}
        rows.append({**row, "keys": [{"key": key, "is": what} for key, what in drift.keys]} if as_json else row)
    show_rows(rows, VERIFIED, as_json=as_json)
    raise typer.Exit(1 if drifted and not repair else 0)


def evaluate_verb(
    names: NamesArgument = None,
    k: Annotated[int, typer.Option("--k", help="Rows to find for each.")] = 10,
    sample: Annotated[int, typer.Option("--sample", help="Vectors to search for.")] = 200,
    where: Annotated[str | None, typer.Option("--where", help="A condition that the searches have.")] = None,
    probes: Annotated[int | None, typer.Option("--probes", help="In place of the declared one.")] = None,
    refine: Annotated[int | None, typer.Option("--refine", help="In place of the declared one.")] = None,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.runner.index_evaluate import evaluate_index

    opened = open_project(project, target)
    rows = []
    for spec in chosen_indexes(opened, names or []):
        found = evaluate_index(spec, opened.index_room, k=k, sample=sample, where=where, probes=probes, refine=refine)
        measured = {field: getattr(found, field) for field in EVALUATED[1:-3]}
        speeds = {field: round(getattr(found, field), 1) for field in EVALUATED[-2:]}
        rows.append({"name": spec.name, **measured, "recall": round(found.recall, 4), **speeds})
    show_rows(rows, EVALUATED, as_json=output is Format.JSON)


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
    run.read, run.written = updated.read, updated.written
    run.filtered = run.read - run.written
    run.start_position = updated.start.dumps() if updated.start else None
    run.end_position = updated.end.dumps() if updated.end else None
    if updated.rebuilt and not rebuild:
        note(f"index {index.name} was built from the whole table: {updated.rebuilt}")
    return updated.rebuilt


def _each(project: Project, names: Sequence[str], output: Format, *, rebuild: bool) -> None:
    chosen = chosen_indexes(project, names)
    with project.models:
        ended = [_one(project, spec, rebuild) for spec in chosen]
    show_rows([row for row, _ in ended], DONE, as_json=output is Format.JSON)
    raise typer.Exit(exit_code_of([error for _, error in ended if error]))


def _one(project: Project, spec: IndexSpec, rebuild: bool) -> tuple[dict[str, Any], LakeflowError | None]:
    """One index, recorded as a run: the row to show, and what it failed with."""
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
        return {**_result(run, rebuilt), "error": str(error)}, error
    return _result(run, rebuilt), None


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
        "columns": [asdict(one) for one in state.columns] if as_json else _columns_text(state),
        "size": state.size_bytes if as_json else size_text(state.size_bytes),
        "model": state.identity.model,
        "metric": state.identity.metric,
        "width": state.identity.width,
        "position": state.position.dumps() if state.position else None,
        "updated": state.updated_at,
    }


def _columns_text(state: IndexState) -> str:
    """`body (text), pages (btree, 12 unindexed)`."""
    each = (
        f"{one.column} ({one.kind}{f', {one.unindexed_rows} unindexed' * (one.unindexed_rows > 0)})" for one in state.columns
    )
    return ", ".join(each)
