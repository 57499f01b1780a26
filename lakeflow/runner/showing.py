"""What SHOW, SHOW CREATE and DESCRIBE tell of tables, jobs and indexes. Reads metadata alone, and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, assert_never

import pyarrow as pa

from lakeflow.declare import IndexSpec, TableSpec
from lakeflow.errors import UnknownName
from lakeflow.fill import has_password, looks_secret
from lakeflow.job import Job, Lookup, Mode, SqlQuery
from lakeflow.lake.declared import as_declared
from lakeflow.lake.read import snapshot_at
from lakeflow.runner.index_plan import plan_index
from lakeflow.runner.model_statements import Outcome, Row, is_like
from lakeflow.runner.project import Project
from lakeflow.runner.suspension import is_suspended
from lakeflow.sql.alterations import Show, Shown
from lakeflow.sql.clauses import COMMENT_KEY
from lakeflow.sql.describe import describe, partitioning_text, watermark_text
from lakeflow.sql.statements import (
    CreateMaterializedTable,
    CreateTable,
    CreateVectorIndex,
    Query,
    RefreshMode,
)
from lakeflow.sql.types import sql_type

COLUMNS: Final[Mapping[Shown, tuple[str, ...]]] = {
    Shown.TABLES: ("table", "state"),
    Shown.MATERIALIZED_TABLES: ("table", "refresh_mode", "freshness", "state", "declared"),
    Shown.NAMESPACES: ("namespace",),
    Shown.JOBS: ("job", "mode", "output", "reads", "target", "declared"),
    Shown.VECTOR_INDEXES: ("index", "table", "column", "key", "metric", "model", "declared"),
}
HIDDEN: Final = "******"
NOT_YET: Final = "not there yet"


def listed(project: Project, show: Show) -> Outcome:
    """What SHOW lists, by name. A table that is declared and not there yet is among them."""
    columns = COLUMNS[show.what]
    rows = [row for row in _rows(project, show.what) if _is_meant(row, columns[0], show)]
    return Outcome(columns, tuple(sorted(rows, key=lambda row: str(row[columns[0]]))))


def _is_meant(row: Row, name: str, show: Show) -> bool:
    """Whether a row is of the namespace that is asked for, and its name like the pattern."""
    table = str(row.get("target") or row.get("table") or "")
    if show.namespace is not None and table.partition(".")[0] != show.namespace:
        return False
    return show.like is None or is_like(str(row[name]), show.like) is not show.negated


def _rows(project: Project, what: Shown) -> Sequence[Row]:
    match what:
        case Shown.TABLES:
            there = set(project.lake.names())
            names = there.union(project.declared_tables.tables)
            return [{"table": name, "state": None if name in there else NOT_YET} for name in names]
        case Shown.MATERIALIZED_TABLES:
            return [_materialized(project, job) for job in project.declarations.jobs.values() if job.materialized is not None]
        case Shown.NAMESPACES:
            return [{"namespace": name} for name in {name.partition(".")[0] for name in project.lake.names()}]
        case Shown.JOBS:
            return [_job(job) for job in project.declarations.jobs.values()]
        case Shown.VECTOR_INDEXES:
            return [_index(index) for index in project.declared_tables.indexes.values()]
        case _:
            assert_never(what)


def _materialized(project: Project, job: Job) -> Row:
    assert job.materialized is not None
    freshness = job.materialized.freshness
    there = project.lake.exists(job.target)
    return {
        "table": job.target,
        "refresh_mode": str(_refresh_mode(job)),
        "freshness": None if freshness is None else str(freshness),
        "state": NOT_YET if not there else "suspended" if is_suspended(job, project.lake) else None,
        "declared": str(job.origin),
    }


def _refresh_mode(job: Job) -> RefreshMode:
    return RefreshMode.FULL if job.mode is Mode.SNAPSHOT else RefreshMode.CONTINUOUS


def _job(job: Job) -> Row:
    return {
        "job": job.name,
        "mode": str(job.mode),
        "output": str(job.output),
        "reads": [source.table for source in job.inputs.values() if not isinstance(source, Lookup)],
        "lookups": [source.table for source in job.inputs.values() if isinstance(source, Lookup)],
        "target": job.target,
        "declared": str(job.origin),
    }


def _index(index: IndexSpec) -> Row:
    return {
        "index": index.name,
        "table": index.table,
        "column": index.column,
        "key": index.key,
        "metric": index.metric,
        "model": index.model,
        "declared": str(index.origin),
    }


def described_table(project: Project, name: str, *, extended: bool) -> Outcome:
    """The columns of a table, and with `extended` what else is known of it. Raises UnknownName."""
    declared, found = _known(project, name)
    key = declared.primary_key if declared is not None else ()
    rows = tuple(
        {
            "name": column.name,
            "type": sql_type(column.type),
            "null": column.nullable,
            "key": column.name in key,
            "extras": _extras(declared, column.name),
            "comment": ((column.metadata or {}).get(COMMENT_KEY) or b"").decode() or None,
        }
        for column in found.schema
    )
    facts = _facts(project, name, declared, found) if extended else None
    return Outcome(("name", "type", "null", "key", "extras", "comment"), rows, facts=facts)


def _known(project: Project, name: str) -> tuple[TableSpec | None, TableSpec]:
    """A table as it is declared, if it is, and as it stands: in the catalog, or where nothing has made it yet declared."""
    declared = project.declared_tables.tables.get(name)
    if not project.lake.exists(name):
        if declared is None:
            known = {*project.lake.names(), *project.declared_tables.tables}
            raise UnknownName("table", name, known, next_step='lakeflow sql -e "SHOW TABLES"')
        computed = declared.computed.columns if declared.computed else ()
        columns = [*declared.schema, *(one.column for one in declared.metadata), *computed]
        return declared, replace(declared, schema=pa.schema(columns))
    return declared, as_declared(name, project.lake.table(name))


def _extras(declared: TableSpec | None, column: str) -> str | None:
    """What a declaration says of a column beside its type: where it comes from, and its watermark."""
    if declared is None:
        return None
    key = next((one.key for one in declared.metadata if one.column.name == column), None)
    said = [f"METADATA FROM '{key}'"] if key is not None else []
    if declared.computed is not None and column in declared.computed.columns.names:
        said.append(f"AS {declared.computed.texts[declared.computed.columns.names.index(column)]}")
    if declared.watermark is not None and declared.watermark.column == column:
        said.append(watermark_text(declared.watermark))
    return ", ".join(said) or None


def _facts(project: Project, name: str, declared: TableSpec | None, found: TableSpec) -> Row:
    is_there = project.lake.exists(name)
    facts: Row = {
        "table": name,
        "state": None if is_there else NOT_YET,
        "comment": found.comment,
        "partitioned_by": partitioning_text(found.partitioning) or None,
        "declared": str(declared.origin) if declared is not None else None,
        "options": _shown((declared if declared is not None else found).options),
    }
    if is_there:
        table = project.lake.table(name)
        head = snapshot_at(table)
        totals = head.summary.additional_properties if head and head.summary else {}
        facts |= {
            "rows": int(totals.get("total-records", 0)) if head else 0,
            "files": int(totals.get("total-data-files", 0)) if head else 0,
            "snapshot_id": str(head.snapshot_id) if head else None,
            "location": table.location(),
        }
    return facts


def table_text(project: Project, name: str) -> str:
    """The statement that makes a table: as tables/ or jobs/ declare it, else as the catalog has it. Raises UnknownName."""
    declared = project.declared_tables.tables.get(name)
    if declared is not None:
        return describe(CreateTable(replace(declared, options=_shown(declared.options))))
    for job in project.declarations.jobs.values():
        if job.target == name and job.materialized is not None and isinstance(job.body, SqlQuery):
            return describe(_statement_of(job, job.body))
    found = _known(project, name)[1]
    return describe(CreateTable(replace(found, options=_shown(found.options))))


def _statement_of(job: Job, body: SqlQuery) -> CreateMaterializedTable:
    assert job.creates is not None, "a materialized table says how it is made"
    freshness = job.materialized.freshness if job.materialized is not None else None
    table = replace(job.creates, options=_shown(job.creates.options))
    return CreateMaterializedTable(table, Query(body.text.strip()), freshness, _refresh_mode(job))


def _shown(options: Mapping[str, str]) -> dict[str, str]:
    """Options as they may be seen: a secret that does not stand there by reference is starred."""
    return {
        key: HIDDEN if "{{" not in value and (looks_secret(key) or has_password(value)) else value
        for key, value in options.items()
    }


def described_index(project: Project, name: str) -> Outcome:
    """What an index is declared as, and how it stands. Raises UnknownName."""
    index = _declared_index(project, name)
    plan = plan_index(index, project.index_room)
    facts = {
        **_index(index),
        "columns": list(index.columns) or "all",
        **index.options,
        "rows": plan.state.rows if plan.state is not None else None,
        "state": plan.standing,
    }
    rows = tuple({"property": key, "value": value} for key, value in facts.items())
    return Outcome(("property", "value"), rows)


def index_text(project: Project, name: str) -> str:
    """The statement that declares an index. Raises UnknownName."""
    return describe(CreateVectorIndex(_declared_index(project, name)))


def _declared_index(project: Project, name: str) -> IndexSpec:
    declared = project.declared_tables.indexes
    if name not in declared:
        raise UnknownName("vector index", name, declared, next_step='lakeflow sql -e "SHOW VECTOR INDEXES"')
    return declared[name]
