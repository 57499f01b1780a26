"""INSERT and CREATE TABLE AS as `lakeflow sql` runs them: once, over the tables as of now, in one commit.

What stands in a file of jobs/ is run again and again, and goes on from its progress. A statement that is run once reads its
tables whole: INSERT INTO appends (or merges by the target's key), INSERT OVERWRITE and CREATE TABLE AS replace. A table that a
landing or a job writes has its writer, and a statement is refused there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, assert_never

import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.dimension import HISTORY
from lakeflow.errors import DeclarationError, UnknownName, UsageError
from lakeflow.job import Job, Mode, Output, SqlQuery
from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.commit import Change
from lakeflow.lake.history import writers_in
from lakeflow.lake.merge import KeyedMerge
from lakeflow.lake.on_base import land
from lakeflow.lake.schema import fit
from lakeflow.lake.write import DataWriter
from lakeflow.runner.declaring import declare_jobs, stem_of
from lakeflow.runner.sql_body import assigned, placed
from lakeflow.runner.sql_jobs import KEYS, RUNTIME_MODE, RUNTIME_MODES, jobs_of
from lakeflow.runner.sql_jobs import NAME as NAME_KEY
from lakeflow.runner.sql_names import ProjectNames
from lakeflow.runner.sql_query import query_project
from lakeflow.sql.compile import compile_query
from lakeflow.sql.compiled import Compiled, PredictCall
from lakeflow.sql.execute import Limits
from lakeflow.sql.explain import Step, explain
from lakeflow.sql.statements import (
    CreateMaterializedTable,
    CreateTableAs,
    Explain,
    Insert,
    JobStatement,
    Query,
    ReadRows,
    StatementSet,
)

if TYPE_CHECKING:
    from lakeflow.runner.project import Project

STREAMING: Final = "streaming"
NAME: Final = "lakeflow sql"
"""What a statement is called among the jobs that write a table, and in lakeflow.runs."""

Once = Insert | CreateTableAs


@dataclass(frozen=True, slots=True)
class Explained:
    """A query as it would be carried out, and the table that takes its rows."""

    step: Step
    compiled: Compiled


def parts_of(statement: Once | StatementSet) -> tuple[Once, ...]:
    """What a statement runs, one commit each."""
    return statement.inserts if isinstance(statement, StatementSet) else (statement,)


def stands(statement: JobStatement, said: Mapping[str, str]) -> bool:
    """Whether a statement is to run again and again, as a job: a materialized table, and all where SET says streaming."""
    return isinstance(statement, CreateMaterializedTable) or said.get(RUNTIME_MODE, "").lower() == STREAMING


def declared_as_job(statement: JobStatement, said: Mapping[str, str], project: Project) -> list[Standing]:
    """Write the statement to a file of jobs/, from where `lakeflow run` runs it; an outcome a table. Raises as `declare_jobs`
    does."""
    head, target, is_there = _standing(statement, project)
    if is_there:
        return [Standing(head, target, "there already")]
    targets = [one.target for one in statement.inserts] if isinstance(statement, StatementSet) else [target]
    kept = {key: value for key, value in said.items() if key not in (RUNTIME_MODE, NAME_KEY)}
    path, jobs = declare_jobs(project, statement, stem_of(targets, said.get(NAME_KEY)), kept)
    return [Standing(head, job.target, f"declared in {path}; next: lakeflow run {job.name}") for job in jobs]


@dataclass(frozen=True, slots=True)
class Standing:
    """What became of a statement that stands."""

    statement: str
    table: str
    status: str


def _standing(statement: JobStatement, project: Project) -> tuple[str, str, bool]:
    """The statement's head, its first target, and whether IF NOT EXISTS finds it."""
    match statement:
        case Insert(target):
            return f"INSERT {'OVERWRITE' if statement.overwrite else 'INTO'}", target, False
        case StatementSet(inserts):
            return "INSERT", inserts[0].target, False
        case CreateTableAs(table):
            return "CREATE TABLE AS", table.name, statement.if_not_exists and _is_job(table.name, project)
        case CreateMaterializedTable(table):
            return "CREATE MATERIALIZED TABLE", table.name, statement.if_not_exists and _is_job(table.name, project)
        case _:
            assert_never(statement)


def _is_job(table: str, project: Project) -> bool:
    return any(job.target == table for job in project.declarations.jobs.values())


def job_once(statement: Once, tables: Mapping[str, TableSpec]) -> Job | None:
    """The statement as a job that reads its tables whole; None where it reads none. Raises as `jobs_of` does."""
    if not _tables_of(statement.query):
        return None
    [job] = jobs_of([statement], Path(NAME), tables)
    if job.target in job.reads:
        raise UsageError(
            f"the statement reads {job.target}, which it writes",
            next_step=f"CREATE TABLE {job.target}_next AS SELECT .., then read that one",
        )
    output = job.output if isinstance(statement, Insert) and not statement.overwrite else Output.COMPLETE
    return replace(job, mode=Mode.SNAPSHOT, output=output)


def check_target(statement: Once, project: Project) -> None:
    """Raises UsageError for a table that a landing or a job writes."""
    name = _target_name(statement)
    declared = project.declared_tables.tables.get(name)
    writers = ["landing"] if declared is not None and declared.options.get("connector") == "kafka" else []
    if project.lake.exists(name):
        writers += [writer for writer in writers_in(project.lake.table(name).metadata) if writer != f"job.{NAME}"]
    if writers:
        raise UsageError(
            f"table {name} has its writer, {', '.join(dict.fromkeys(writers))}, whose rows are not mixed with others",
            next_step=f"write to a table of its own: CREATE TABLE {name}_by_hand AS SELECT ..",
        )


def _target_name(statement: Once) -> str:
    return statement.target if isinstance(statement, Insert) else statement.table.name


def is_made(statement: Once, project: Project) -> bool:
    """Whether CREATE TABLE IF NOT EXISTS finds its table. Raises DeclarationError where it is there and must not be."""
    if not isinstance(statement, CreateTableAs) or statement.or_replace or not project.lake.exists(statement.table.name):
        return False
    if not statement.if_not_exists:
        name = statement.table.name
        raise DeclarationError(f"table {name} is there already", next_step=f"CREATE OR REPLACE TABLE {name} AS ..")
    return True


@contextmanager
def whole_or_not_made(statement: Once, project: Project) -> Iterator[None]:
    """Where the block fails, a table that it made for the statement's rows goes again, unless somebody has written to it."""
    name = _target_name(statement)
    was_there = project.lake.exists(name)
    try:
        yield
    except BaseException:
        if not was_there and project.lake.exists(name) and project.lake.table(name).current_snapshot() is None:
            project.lake.drop(name)
        raise


def insert_rows(statement: Once, project: Project, limits: Limits, held: ExitStack) -> int:
    """Carry out a statement that reads no table, such as INSERT INTO t VALUES (..): how many rows were written. They are merged
    by the PRIMARY KEY that the table declares. Models that it asks are open until `held` is closed.

    Raises as `query_project` does, SchemaMismatch where the rows do not fit, UsageError for a target that has its writer.
    """
    job = _job_of_values(statement)
    compiled = compile_query(statement.query.padded, ProjectNames(project))
    _refuse_losses(compiled)
    with whole_or_not_made(statement, project):
        table = _target(statement, project, compiled.columns)
        into = arrow_schema(table)
        names = placed(compiled.columns.names, _columns(statement), into.names, job)
        fit(assigned(compiled.columns.empty_table().rename_columns(names), into), into, job.target)

        def rows() -> Iterator[pa.Table]:
            with query_project(statement.query.padded, project, limits, held) as reader:
                for batch in reader:
                    yield assigned(pa.Table.from_batches([batch]).rename_columns(names), into)

        replaces = isinstance(statement, CreateTableAs) or statement.overwrite
        key = _key_of(statement, project)
        return _merged(rows(), table, key, replaces, project) if key else _written(rows(), table, replaces, project)


def _written(rows: Iterator[pa.Table], table: Table, replaces: bool, project: Project) -> int:
    """Add the rows to a table, or put them in place of all that it has, in one commit; how many."""
    writer = DataWriter(table, buffer_bytes=project.settings.run.buffer_bytes)
    try:
        for part in rows:
            writer.write(part)
        written, files = writer.rows, writer.finish()
    except BaseException:
        writer.abort()
        raise
    change = Change(".".join(table.name()), files, replace_all=replaces, table_uuid=str(table.metadata.table_uuid))
    project.commits.commit(change)
    return written


def _merged(rows: Iterator[pa.Table], table: Table, key: tuple[str, ...], replaces: bool, project: Project) -> int:
    """Merge the rows into a table by its key, the last of each key wins, or put those in place of all; how many came."""
    with closing(KeyedMerge(table, key, project.settings.spool())) as merge:
        if replaces:
            merge.clear()
        for part in rows:
            merge.write(part)
        buffer_bytes = project.settings.run.buffer_bytes
        land(merge, table, lambda: DataWriter(table, buffer_bytes=buffer_bytes), project.commits.commit)
        return merge.rows


def explained(statement: Explain, project: Project) -> tuple[Explained, ...]:
    """The queries of a statement as they would be carried out; no row is read and nothing is asked. Raises as they would."""
    return tuple(_explained(target, query, project) for target, query in _queries(statement))


def _explained(target: str | None, query: Query, project: Project) -> Explained:
    names = ProjectNames(project)
    compiled = compile_query(query.padded, names)
    step = explain(compiled, names.relations(compiled))
    return Explained(step if target is None else Step(target, rows=step.rows, children=(step,)), compiled)


def _queries(statement: Explain) -> list[tuple[str | None, Query]]:
    match statement.statement:
        case ReadRows(query):
            return [(None, query)]
        case Insert() as insert:
            return [_inserted(insert)]
        case StatementSet(inserts):
            return [_inserted(insert) for insert in inserts]
        case CreateTableAs(table, query):
            return [(f"create table {table.name}", query)]
        case CreateMaterializedTable(table, query):
            return [(f"create materialized table {table.name}", query)]
        case _:
            assert_never(statement.statement)


def _inserted(insert: Insert) -> tuple[str, Query]:
    return f"insert {'overwrite' if insert.overwrite else 'into'} {insert.target}", insert.query


def _tables_of(query: Query) -> tuple[str, ...]:
    from lakeflow.sql.incremental import shape_of

    shape = shape_of(query.padded)
    return (*shape.moving, *shape.still)


def _job_of_values(statement: Once) -> Job:
    """What messages speak of. It is never planned."""
    return Job(
        NAME, _target_name(statement), {}, SqlQuery(statement.query.text, _columns(statement)), origin=statement.query.origin
    )


def _columns(statement: Once) -> tuple[str, ...]:
    return statement.columns if isinstance(statement, Insert) else ()


def _target(statement: Once, project: Project, columns: pa.Schema) -> Table:
    """The table, made where it is not there yet. Raises UsageError where it keeps a history, or has a CONSTRAINT."""
    if isinstance(statement, CreateTableAs):
        return project.lake.ensure(replace(statement.table, schema=columns))
    name = statement.target
    declared = project.declared_tables.tables.get(name)
    if declared is not None and HISTORY in declared.options:
        raise UsageError(
            f"table {name} keeps every version of a row, which rows of a table make, and values do not",
            next_step=f"INSERT INTO {name} SELECT .. FROM a table",
        )
    if declared is not None and declared.expectations:
        raise UsageError(
            f"table {name} has a CONSTRAINT, against which rows of a table are held, and values are not",
            next_step=f"INSERT INTO {name} SELECT .. FROM a table",
        )
    if project.lake.exists(name):
        return project.lake.table(name)
    return project.lake.ensure(declared or TableSpec(name, columns))


def _key_of(statement: Once, project: Project) -> tuple[str, ...]:
    """The columns by which rows of the target are merged; none where it declares no PRIMARY KEY."""
    if isinstance(statement, CreateTableAs):
        return statement.table.primary_key
    declared = project.declared_tables.tables.get(statement.target)
    return declared.primary_key if declared is not None else ()


def _refuse_losses(compiled: Compiled) -> None:
    """Rows that a model leaves out go to the dead letters of a job, which reads a table."""
    for call in compiled.calls:
        if isinstance(call, PredictCall) and call.model.loses_rows:
            raise UsageError(
                f"model {call.model.name} leaves rows out by its on_error, which a statement without a table does not record",
                next_step="read the rows from a table",
            )


def check_set(key: str, value: str, said: Mapping[str, str]) -> None:
    """What SET may say where `said` was SET before: how statements run, and of those that stand what a file of jobs/ may say.
    Raises UnknownName, UsageError."""
    check_key(key)
    if key == RUNTIME_MODE:
        if value.lower() not in RUNTIME_MODES:
            raise UnknownName(f"value of SET {RUNTIME_MODE!r}", value, RUNTIME_MODES)
    elif said.get(RUNTIME_MODE, "").lower() != STREAMING:
        raise UsageError(
            f"SET '{key}' = '{value}' is for what is run again and again; a statement is run once, as 'batch'",
            next_step=f"first: SET '{RUNTIME_MODE}' = '{STREAMING}', which makes jobs of the statements behind it, in jobs/",
        )


def check_key(key: str) -> None:
    """Raises UnknownName for a key that SET and RESET do not know."""
    if key not in KEYS:
        raise UnknownName("key of SET", key, KEYS)
