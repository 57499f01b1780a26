"""Carries out statements that define and show tables, indexes and models. Those that read or write rows run as jobs do.

What is a declaration becomes a file of tables/ (declaring.py), and what such a file declares is changed there: in the file
where it holds that statement alone; else the statement is refused with the file and the line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, assert_never

from lakeflow.declare import Origin, TableSpec
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
from lakeflow.runner.declaring import AlterDeclared, alter, altered, declare, is_alone, undeclare
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
            return _index(project, statement, confirm)
        case SuspendTable() | ResumeTable() | DropMaterializedTable():
            return _materialized(project, statement, confirm)
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
    declared = project.declared_tables.tables.get(name)
    if declared is not None and statement.if_not_exists:
        return _done("CREATE TABLE", name, f"there already, declared at {declared.origin}")
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
    if _is_declaration(table):
        landed = table.options.get("connector", ICEBERG) != ICEBERG
        made_by = f"lakeflow land {name}" if landed else "the first run of the job that writes it makes it"
        return _done("CREATE TABLE", name, f"declared in {declare(project, statement)}; next: {made_by}")
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


def _is_declaration(table: TableSpec) -> bool:
    """Whether it says what a catalog does not keep: a connector, a primary key, a watermark, an expectation. Raises
    DeclarationError for a connector that there is not."""
    connector = table.options.get("connector", ICEBERG)
    if connector not in (ICEBERG, "kafka"):
        raise DeclarationError(f"'connector' is {connector!r}{did_you_mean(connector, (ICEBERG, 'kafka'))}")
    return connector != ICEBERG or bool(table.primary_key or table.watermark or table.expectations)


def _alter(project: Project, statement: AlterTable) -> Outcome:
    name, lake = statement.name, project.lake
    if name in project.declared_tables.tables and isinstance(statement, AlterDeclared):
        origin = project.declared_tables.tables[name].origin
        path = alter(project, origin, lambda declared: altered(declared, statement))
        return _done("ALTER TABLE", name, f"changed in {path}; next: lakeflow plan")
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
    declared = project.declared_tables.tables.get(name)
    alone = declared is not None and is_alone(project, declared.origin)
    there = project.lake.exists(name)
    if if_exists and not (there or alone):
        return _done("DROP TABLE", name, "not there")
    location = project.lake.table(name).location() if there or not alone else None
    if not confirm(drop_question(project, DropTable(name))):
        return _done("DROP TABLE", name, "kept")
    done = []
    if location is not None:
        project.lake.drop(name)
        done.append(f"dropped; its files are left at {location}")
    if declared is not None and alone:
        done.append(f"{undeclare(project, declared.origin)} is deleted")
    elif declared is not None:
        done.append(f"{declared.origin} declares it: the next landing or run makes it anew")
    return _done("DROP TABLE", name, "; ".join(done))


def drop_question(project: Project, statement: DropTable | DropMaterializedTable | DropVectorIndex) -> str:
    """What is asked before something is dropped: with it goes the file that declares it alone."""
    name = statement.name
    match statement:
        case DropVectorIndex():
            index = project.declared_tables.indexes.get(name)
            origin, what = index.origin if index else None, f"Drop vector index {name}"
        case DropTable():
            table = project.declared_tables.tables.get(name)
            origin, what = table.origin if table else None, f"Drop table {name} from the catalog"
        case DropMaterializedTable():
            job = _materialized_jobs(project).get(name)
            origin, what = job.origin if job else None, f"Drop table {name} from the catalog"
        case _:
            assert_never(statement)
    alone = origin is not None and is_alone(project, origin)
    return f"{what}, and delete {origin.path}?" if alone and origin is not None else f"{what}?"


def _materialized(project: Project, statement: MaterializedStatement, confirm: Confirm) -> Outcome:
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
            origin = materialized_job(project, name).origin
            if not is_alone(project, origin):
                raise DeclarationError(
                    f"{origin}: materialized table {name} is made anew by each run as long as it stands there",
                    next_step=f"delete the statement, then: DROP TABLE {name}",
                )
            if not confirm(drop_question(project, statement)):
                return _done("DROP MATERIALIZED TABLE", name, "kept")
            gone = undeclare(project, origin)
            if project.lake.exists(name):
                project.lake.drop(name)
            return _done("DROP MATERIALIZED TABLE", name, f"dropped; {gone} is deleted")
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


def _index(project: Project, statement: CreateVectorIndex | AlterVectorIndex | DropVectorIndex, confirm: Confirm) -> Outcome:
    """Indexes are derived from their declarations, so each of these writes one, changes it or takes it away."""
    declared = project.declared_tables.indexes
    match statement:
        case CreateVectorIndex(index, if_not_exists):
            if index.name in declared:
                if if_not_exists:
                    return _done("CREATE VECTOR INDEX", index.name, "there already")
                raise DeclarationError(f"vector index {index.name!r} is declared at {declared[index.name].origin} already")
            path = declare(project, statement)
            return _done("CREATE VECTOR INDEX", index.name, f"declared in {path}; next: lakeflow index build {index.name}")
        case AlterVectorIndex(name=name, if_exists=if_exists):
            if name not in declared and if_exists:
                return _done("ALTER VECTOR INDEX", name, "not there")
            path = alter(project, _index_origin(project, name), lambda found: altered(found, statement))
            return _done("ALTER VECTOR INDEX", name, f"changed in {path}; next: lakeflow index update {name}")
        case DropVectorIndex(name, if_exists):
            if name not in declared and if_exists:
                return _done("DROP VECTOR INDEX", name, "not there")
            origin = _index_origin(project, name)
            if not is_alone(project, origin):
                raise DeclarationError(
                    f"vector index {name!r} is declared at {origin}, in a file that holds more",
                    next_step=f"{origin}: delete the statement there",
                )
            if not confirm(drop_question(project, statement)):
                return _done("DROP VECTOR INDEX", name, "kept")
            return _done("DROP VECTOR INDEX", name, f"{undeclare(project, origin)} is deleted")
        case _:
            assert_never(statement)


def _index_origin(project: Project, name: str) -> Origin:
    declared = project.declared_tables.indexes
    if name not in declared:
        raise UnknownName("vector index", name, declared, next_step="lakeflow index status")
    return declared[name].origin


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
