"""`lakeflow tables`: what there is in the catalog and in tables/."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project, verbs
from lakeflow.cli.output import note, show_facts, show_json, show_rows, show_table, show_text, size_text
from lakeflow.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from lakeflow.lake.catalog import Table
    from lakeflow.runner.project import Project

COLUMNS = ("table", "kind", "rows", "files", "size", "snapshots", "updated")
SNAPSHOTS = ("snapshot_id", "made", "operation", "added_rows", "deleted_rows", "total_rows")
SHOWN_SNAPSHOTS = 10
LIST_HELP = """List every table of the catalog, and those that are declared and not there yet.

Example:

  lakeflow tables
"""
SHOW_HELP = """Show a table: its columns, its newest snapshots, and how far its writers have come.

Example:

  lakeflow tables show bronze.flights
"""
DROP_HELP = """Take a table out of the catalog. Its files stay where they are.

The next landing or run makes the table anew and starts from the beginning.

Example:

  lakeflow tables drop bronze.flights --yes
"""
INFER_HELP = """Propose columns for a declared table with connector kafka, as the SQL of its declaration with them.

With a format of the Schema Registry they are those of the topic's latest schema; with json, what the newest
records show. Nothing is made or changed: read it, correct it, and put it in tables/.

Example:

  lakeflow tables infer bronze.flights > proposal.sql
"""


def register(app: typer.Typer) -> None:
    group = verbs("tables", "List, show, drop tables, and propose their columns.", listed=True)
    group.command("infer", help=INFER_HELP)(infer_verb)
    group.command("list", help=LIST_HELP)(list_verb)
    group.command("show", help=SHOW_HELP)(show_verb)
    group.command("drop", help=DROP_HELP)(drop_verb)
    app.add_typer(group)


def list_verb(project: ProjectOption = None, target: TargetOption = None, output: OutputOption = Format.TEXT) -> None:
    opened = open_project(project, target)
    as_json = output is Format.JSON
    there = opened.lake.names()
    missing = set(opened.declared_tables.tables).difference(there)
    rows = [_listed(opened, name, name in there, as_json) for name in sorted({*there, *missing})]
    show_rows(rows, COLUMNS, as_json=as_json)


def show_verb(
    name: Annotated[str, typer.Argument(help="The table, as namespace.table.")],
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    opened = open_project(project, target)
    declared = opened.declared_tables.tables
    if name in declared and not opened.lake.exists(name):
        raise UnknownName(
            "table", name, opened.lake.names(), next_step=f"it is declared and not there yet: lakeflow land {name}"
        )
    table = opened.lake.table(name)
    facts = _facts(opened, name, table)
    columns, snapshots, progress = _columns(table), _snapshots(table), _progress(table)
    if output is Format.JSON:
        show_json({**facts, "columns": columns, "snapshots": snapshots, "progress": progress})
        return
    show_facts({**facts, "size": size_text(facts["size"]) if facts["size"] is not None else None})
    show_text("")
    show_table(columns, ("column", "type", "required"))
    if snapshots:
        show_text("")
        show_table(snapshots[:SHOWN_SNAPSHOTS], SNAPSHOTS)
    if progress:
        show_text("")
        show_table([{"writer": writer, "progress": position} for writer, position in progress.items()], ("writer", "progress"))


def drop_verb(
    name: Annotated[str, typer.Argument(help="The table, as namespace.table.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    opened = open_project(project, target)
    location = opened.lake.table(name).location()
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"table {name} is not dropped without a word", next_step=f"lakeflow tables drop {name} --yes")
        typer.confirm(f"Drop table {name} from the catalog?", abort=True, err=True)
    opened.lake.drop(name)
    show_rows([{"table": name, "status": "dropped", "files": location}], ("table", "status"), as_json=output is Format.JSON)
    note(f"the files of {name} are left at {location}")


def _listed(project: Project, name: str, is_there: bool, as_json: bool) -> dict[str, Any]:
    if not is_there:
        return {"table": name, "kind": _kind(project, name), "state": "not there yet"}
    facts = _facts(project, name, project.lake.table(name))
    if not as_json and facts["size"] is not None:
        facts["size"] = size_text(facts["size"])
    return facts


def _facts(project: Project, name: str, table: Table) -> dict[str, Any]:
    from lakeflow.lake.read import snapshot_at

    head = snapshot_at(table)
    totals = head.summary.additional_properties if head and head.summary else {}
    declared = project.declared_tables.tables.get(name)
    return {
        "table": name,
        "kind": _kind(project, name),
        "rows": _number(totals.get("total-records")) if head else 0,
        "files": _number(totals.get("total-data-files")) if head else 0,
        "size": _number(totals.get("total-files-size")) if head else 0,
        "snapshots": len(table.snapshots()),
        "snapshot_id": str(head.snapshot_id) if head else None,
        "updated": datetime.fromtimestamp(head.timestamp_ms / 1000, UTC) if head else None,
        "location": table.location(),
        "declared": str(declared.origin) if declared else None,
    }


def infer_verb(
    name: Annotated[str, typer.Argument(help="A declared table with connector kafka, with columns or without.")],
    records: Annotated[int, typer.Option("--records", help="How many of the newest records to read.", min=1)] = 1000,
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.landing.infer import propose
    from lakeflow.landing.spec import is_landed
    from lakeflow.sql.describe import describe
    from lakeflow.sql.statements import CreateTable

    opened = open_project(project, target)
    landed = {table: spec for table, spec in opened.declared_tables.tables.items() if is_landed(spec)}
    if name not in landed:
        raise UnknownName("table with connector 'kafka'", name, landed, next_step="lakeflow tables")
    proposal = propose(landed[name], opened.settings, records=records)
    statement = describe(CreateTable(proposal.table, if_not_exists=False))
    if output is Format.JSON:
        show_json(
            {
                "table": name,
                "sql": statement,
                "notes": list(proposal.notes),
                "records": proposal.records,
                "broken": proposal.broken,
            }
        )
        return
    show_text(statement)
    if proposal.records:
        note(f"of {proposal.records} records, {proposal.broken} of them no JSON object")
    for line in proposal.notes:
        note(line)


def _kind(project: Project, name: str) -> str:
    """What fills the table, as far as tables/ tells; jobs are not loaded for it."""
    from lakeflow.lake.catalog import SYSTEM_NAMESPACE
    from lakeflow.landing.spec import is_landed, topics_declared

    if name.startswith(f"{SYSTEM_NAMESPACE}."):
        return "system"
    declared = project.declared_tables.tables.get(name)
    if declared is None:
        return "table"
    return f"topic {topics_declared(declared)}" if is_landed(declared) else "declared"


def _columns(table: Table) -> list[dict[str, Any]]:
    return [
        {"column": field.name, "type": str(field.field_type), "required": field.required} for field in table.schema().fields
    ]


def _snapshots(table: Table) -> list[dict[str, Any]]:
    """Main's snapshots, the newest first. Ids are texts: JSON's numbers are too short for them elsewhere."""
    from lakeflow.lake.history import ancestors

    rows: list[dict[str, Any]] = []
    for snapshot in ancestors(table.metadata):
        facts = snapshot.summary.additional_properties if snapshot.summary else {}
        rows.append(
            {
                "snapshot_id": str(snapshot.snapshot_id),
                "made": datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC),
                "operation": snapshot.summary.operation.value if snapshot.summary else None,
                "added_rows": _number(facts.get("added-records")),
                "deleted_rows": _number(facts.get("deleted-records")),
                "total_rows": _number(facts.get("total-records")),
            }
        )
    return rows


def _progress(table: Table) -> dict[str, str | None]:
    from lakeflow.lake.history import progress_in, writers_in

    return {writer: progress_in(table.metadata, writer) for writer in writers_in(table.metadata)}


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
