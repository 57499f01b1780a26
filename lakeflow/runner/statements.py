"""Carries out statements that define and show tables, indexes and models. Those that read or write rows run as jobs do.

What a file of tables/ declares is changed there: a statement that would change it is refused, with the file and the line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, assert_never

from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError, UnknownName, did_you_mean
from lakeflow.job import Job
from lakeflow.lake.alter import (
    Placed,
    add_columns,
    drop_columns,
    modify_columns,
    rename_column,
    rename_table,
    reset_properties,
    set_properties,
)
from lakeflow.lake.declared import OWN_PROPERTIES, as_declared
from lakeflow.runner.load import check_table_name
from lakeflow.runner.model_statements import Outcome
from lakeflow.runner.model_statements import carry_out as carry_out_model
from lakeflow.runner.project import Project
from lakeflow.runner.showing import described_index, described_table, index_text, listed, table_text
from lakeflow.runner.suspension import resume, suspend
from lakeflow.sql.alterations import (
    AddColumns,
    AlterTable,
    AlterVectorIndex,
    DescribeTable,
    DescribeVectorIndex,
    DropColumns,
    DropTable,
    DropVectorIndex,
    ModifyColumns,
    PlacedColumn,
    RenameColumn,
    RenameTable,
    ResetTableOptions,
    SetTableOptions,
    Show,
    ShowCreateTable,
    ShowCreateVectorIndex,
)
from lakeflow.sql.parse_like import liken
from lakeflow.sql.statements import (
    CreateTable,
    CreateVectorIndex,
    DataStatement,
    DropMaterializedTable,
    MaterializedStatement,
    ModelStatement,
    ResumeTable,
    SuspendTable,
)

Carried = DataStatement | MaterializedStatement | ModelStatement
"""Every statement that is carried out here: those that read and write no row."""

Confirm = Callable[[str], bool]
"""Asks whether a question is answered with yes."""

DONE: Final = ("statement", "table", "status")
ICEBERG: Final = "iceberg"


def carry_out(project: Project, statement: Carried, confirm: Confirm) -> Outcome:
    """Carry out one statement; `confirm` is asked before a table is dropped.

    Raises UnknownName for what is not there, DeclarationError for what tables/ or jobs/ declares and what a statement cannot
    mean, SchemaMismatch for a change that no table can follow, and what the catalog and the registry of models raise.
    """
    match statement:
        case CreateTable():
            return _create(project, statement)
        case DropTable(name, if_exists):
            return _drop(project, name, if_exists, confirm)
        case DescribeTable(name, extended):
            return described_table(project, name, extended=extended)
        case ShowCreateTable(name):
            return Outcome((), (), table_text(project, name))
        case Show():
            return listed(project, statement)
        case DescribeVectorIndex(name):
            return described_index(project, name)
        case ShowCreateVectorIndex(name):
            return Outcome((), (), index_text(project, name))
        case CreateVectorIndex() | AlterVectorIndex() | DropVectorIndex():
            return _index(project, statement)
        case SuspendTable() | ResumeTable() | DropMaterializedTable():
            return _materialized(project, statement)
        case (
            AddColumns()
            | ModifyColumns()
            | DropColumns()
            | RenameColumn()
            | RenameTable()
            | SetTableOptions()
            | ResetTableOptions()
        ):
            return _alter(project, statement)
        case _:
            return carry_out_model(project, statement)


def _create(project: Project, statement: CreateTable) -> Outcome:
    name = statement.table.name
    _require_free(project, name, "to create it, land it or run the job that writes it")
    if project.lake.exists(name):
        if statement.if_not_exists:
            return _done("CREATE TABLE", name, "there already")
        raise DeclarationError(
            f"table {name} is there already", next_step=f"CREATE TABLE IF NOT EXISTS .., or: lakeflow tables show {name}"
        )
    if statement.like is not None:
        statement = liken(statement, _likeness(project, statement.like.table))
    table = statement.table
    _require_plain(table)
    properties = {key: value for key, value in table.options.items() if key != "connector"}
    for key in properties:
        if key.startswith(OWN_PROPERTIES):
            raise DeclarationError(f"option {key!r}: properties that begin with {OWN_PROPERTIES!r} are lakeflow's own")
    project.lake.ensure(table, properties)
    return _done("CREATE TABLE", name, "created")


def _likeness(project: Project, name: str) -> TableSpec:
    """A table as LIKE sees it: as it is declared, else as the catalog has it."""
    declared = project.declared_tables.tables.get(name)
    return declared if declared is not None else as_declared(name, project.lake.table(name))


def _require_plain(table: TableSpec) -> None:
    """Raises DeclarationError for what only a declaration keeps: a connector, a primary key, a watermark."""
    connector = table.options.get("connector", ICEBERG)
    if connector not in (ICEBERG, "kafka"):
        raise DeclarationError(f"'connector' is {connector!r}{did_you_mean(connector, (ICEBERG, 'kafka'))}")
    kept = [
        f"'connector' = {connector!r}" if connector != ICEBERG else "",
        "PRIMARY KEY" if table.primary_key else "",
        "WATERMARK" if table.watermark else "",
    ]
    if said := [what for what in kept if what]:
        made_by = f"lakeflow land {table.name}" if connector != ICEBERG else "the first run of the job that writes it"
        raise DeclarationError(
            f"table {table.name}: {' and '.join(said)} of a table stands in its declaration, and a catalog keeps none",
            next_step=f"write the statement to tables/{table.name}.sql, then: {made_by}",
        )


def _alter(project: Project, statement: AlterTable) -> Outcome:
    name, lake = statement.name, project.lake
    _require_free(project, name, "change it there, then: lakeflow plan")
    if statement.if_exists and not lake.exists(name):
        return _done("ALTER TABLE", name, "not there")
    match statement:
        case AddColumns(columns=columns):
            add_columns(lake, name, _placed(columns))
        case ModifyColumns(columns=columns):
            modify_columns(lake, name, _placed(columns))
        case DropColumns(columns=dropped):
            drop_columns(lake, name, dropped)
        case RenameColumn(column=column, to=to):
            rename_column(lake, name, column, to)
        case RenameTable(to=to):
            _require_free(project, to, "choose another name")
            rename_table(lake, name, to)
            return _done("ALTER TABLE", to, f"renamed from {name}")
        case SetTableOptions(options=options):
            set_properties(lake, name, options)
        case ResetTableOptions(options=keys):
            reset_properties(lake, name, keys)
        case _:
            assert_never(statement)
    return _done("ALTER TABLE", name, "changed")


def _placed(columns: Sequence[PlacedColumn]) -> list[Placed]:
    return [
        Placed(
            one.column, first=one.place is not None and one.place.after is None, after=one.place.after if one.place else None
        )
        for one in columns
    ]


def _drop(project: Project, name: str, if_exists: bool, confirm: Confirm) -> Outcome:
    """Take a table out of the catalog; its files stay, and a declaration makes it anew."""
    check_table_name(name, "the name of a table", "DROP TABLE")
    if if_exists and not project.lake.exists(name):
        return _done("DROP TABLE", name, "not there")
    location = project.lake.table(name).location()
    if not confirm(f"Drop table {name} from the catalog?"):
        return _done("DROP TABLE", name, "kept")
    project.lake.drop(name)
    status = f"dropped; its files are left at {location}"
    declared = project.declared_tables.tables.get(name)
    if declared is not None:
        status += f"; {declared.origin} declares it: the next landing or run makes it anew"
    return _done("DROP TABLE", name, status)


def _materialized(project: Project, statement: MaterializedStatement) -> Outcome:
    match statement:
        case SuspendTable(name):
            materialized_job(project, name)
            suspend(project.lake, name)
            return _done("ALTER MATERIALIZED TABLE", name, "suspended")
        case ResumeTable(name):
            materialized_job(project, name)
            resume(project.lake, name)
            return _done("ALTER MATERIALIZED TABLE", name, "resumed")
        case DropMaterializedTable(name, if_exists):
            if if_exists and name not in _materialized_jobs(project):
                return _done("DROP MATERIALIZED TABLE", name, "not there")
            raise DeclarationError(
                f"{materialized_job(project, name).origin}: materialized table {name} is made anew by each run as long as it "
                "stands there",
                next_step=f"delete the statement, then: DROP TABLE {name}",
            )
        case _:
            assert_never(statement)


def materialized_job(project: Project, name: str) -> Job:
    """The job that makes a materialized table. Raises UnknownName."""
    found = _materialized_jobs(project)
    if name not in found:
        raise UnknownName(
            "materialized table", name, found, next_step="write CREATE MATERIALIZED TABLE .. AS SELECT .. to a file in jobs/"
        )
    return found[name]


def _materialized_jobs(project: Project) -> dict[str, Job]:
    return {job.target: job for job in project.declarations.jobs.values() if job.materialized is not None}


def _index(project: Project, statement: CreateVectorIndex | AlterVectorIndex | DropVectorIndex) -> Outcome:
    """Indexes are derived from their declarations, so that each of these says where to write."""
    declared = project.declared_tables.indexes
    match statement:
        case CreateVectorIndex(index, if_not_exists):
            if index.name in declared:
                if if_not_exists:
                    return _done("CREATE VECTOR INDEX", index.name, "there already")
                raise DeclarationError(f"vector index {index.name!r} is declared at {declared[index.name].origin} already")
            raise DeclarationError(
                f"vector index {index.name!r}: indexes stand in tables/, from where they are built anew at will",
                next_step=f"write the statement to tables/{index.name}.sql, then: lakeflow index build {index.name}",
            )
        case AlterVectorIndex(name=name, if_exists=if_exists):
            if name not in declared and if_exists:
                return _done("ALTER VECTOR INDEX", name, "not there")
            raise _has_one_place(project, name, f"change its WITH there, then: lakeflow index update {name}")
        case DropVectorIndex(name, if_exists):
            if name not in declared and if_exists:
                return _done("DROP VECTOR INDEX", name, "not there")
            raise _has_one_place(project, name, "delete the declaration")
        case _:
            assert_never(statement)


def _has_one_place(project: Project, name: str, how: str) -> DeclarationError | UnknownName:
    declared = project.declared_tables.indexes
    if name not in declared:
        return UnknownName("vector index", name, declared, next_step="lakeflow index status")
    origin = declared[name].origin
    return DeclarationError(
        f"vector index {name!r} is declared at {origin}, and an index has one place", next_step=f"{origin}: {how}"
    )


def _require_free(project: Project, name: str, how: str) -> None:
    """Raises DeclarationError for a name that no table may have, and for a table that tables/ declares."""
    check_table_name(name, "the name of a table", "the statement")
    declared = project.declared_tables.tables.get(name)
    if declared is not None:
        raise DeclarationError(
            f"table {name} is declared at {declared.origin}, and a table has one place", next_step=f"{declared.origin}: {how}"
        )


def _done(statement: str, table: str, status: str) -> Outcome:
    return Outcome(DONE, ({"statement": statement, "table": table, "status": status},))
