"""The statements of a file in jobs/ as jobs. Pure.

Each statement that writes a table is a job; a statement set is a job a target, each with progress of its own, which
read what they have in common once (statement_sets.py). What SET says holds for the statements after it, up to RESET or
the end of the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, assert_never

from lakeflow.declare import Origin, TableSpec
from lakeflow.dimension import History, history_of
from lakeflow.errors import DeclarationError, UnknownName, UsageError
from lakeflow.job import Caps, Job, Lookup, Materialized, Mode, Output, Read, SqlQuery, check_on_change, schedule_of
from lakeflow.runner.sql_by import by_keys
from lakeflow.runner.sql_on_change import following
from lakeflow.runner.sql_windows import WINDOW_KEYS, windowed_of
from lakeflow.schedule import Cron
from lakeflow.sql.statements import (
    CreateMaterializedTable,
    CreateTableAs,
    Insert,
    JobStatement,
    Query,
    RefreshMode,
    ResetOption,
    SetOption,
    StatementSet,
)
from lakeflow.window import Emit, Windowed

if TYPE_CHECKING:  # it loads sqlglot
    from lakeflow.sql.incremental_intervals import JoinQuery
    from lakeflow.sql.incremental_windows import WindowQuery

NAME: Final = "pipeline.name"
RUNTIME_MODE: Final = "execution.runtime-mode"
RUNTIME_MODES: Final = ("streaming", "batch")
MAX_FILES, MAX_ROWS, MAX_BYTES = "lakeflow.max-files", "lakeflow.max-rows", "lakeflow.max-bytes"
SCHEDULE: Final = "lakeflow.schedule"
TIMEZONE: Final = "lakeflow.timezone"
FRESHNESS: Final = "lakeflow.freshness"
ON_CHANGE: Final = "lakeflow.on-change"
BY: Final = "lakeflow.by"
KEYS: Final = (NAME, RUNTIME_MODE, MAX_FILES, MAX_ROWS, MAX_BYTES, SCHEDULE, TIMEZONE, FRESHNESS, ON_CHANGE, BY, *WINDOW_KEYS)
"""What SET may say in a file of jobs/."""

Writing = Insert | CreateTableAs | CreateMaterializedTable


@dataclass(frozen=True, slots=True)
class _Written:
    """A statement that writes one table, and what was SET before it."""

    statement: Writing
    options: Mapping[str, str]
    statement_set: Origin | None = None

    @property
    def target(self) -> str:
        return self.statement.target if isinstance(self.statement, Insert) else self.statement.table.name

    @property
    def origin(self) -> Origin:
        return self.statement.origin if isinstance(self.statement, Insert) else self.statement.table.origin


def jobs_of(
    statements: Sequence[JobStatement | SetOption | ResetOption], path: Path, tables: Mapping[str, TableSpec]
) -> Iterator[Job]:
    """The jobs of a file, in its order. `tables` are those that tables/ declares.

    A job is called as `pipeline.name` says, or as its file; where several would be called the same, each bears the name of
    its table too. Raises DeclarationError, with file and line, for a query that cannot be read or that reads nothing, and for
    what SET cannot say.
    """
    written = list(_written(statements, path))
    names = Counter(_base_name(one, path) for one in written)
    for one in written:
        base = _base_name(one, path)
        name = base if names[base] == 1 else f"{base}.{one.target.rpartition('.')[2]}"
        yield replace(_job(name, one, tables), statement_set=one.statement_set)


def _written(statements: Sequence[JobStatement | SetOption | ResetOption], path: Path) -> Iterator[_Written]:
    options: dict[str, str] = {}
    for statement in statements:
        match statement:
            case SetOption(key, value):
                if key is None or value is None:
                    raise DeclarationError(f"{path}: SET alone shows what is set, and is no job; valid: SET 'key' = 'value'")
                _check_key(key, path)
                options[key] = value
            case ResetOption(None):
                options.clear()
            case ResetOption(key):
                _check_key(str(key), path)
                options.pop(str(key), None)
            case StatementSet(inserts, origin):
                yield from (_Written(insert, dict(options), origin) for insert in inserts)
            case Insert() | CreateTableAs() | CreateMaterializedTable():
                yield _Written(statement, dict(options))
            case _:
                assert_never(statement)


def _check_key(key: str, path: Path) -> None:
    if key not in KEYS:
        raise DeclarationError(f"{path}: {UnknownName('key of SET', key, KEYS).message}")


def _base_name(one: _Written, path: Path) -> str:
    return one.options.get(NAME, path.stem)


def _job(name: str, one: _Written, tables: Mapping[str, TableSpec]) -> Job:
    statement, target = one.statement, one.target
    creates = None if isinstance(statement, Insert) else statement.table
    if creates is not None and target in tables:
        raise DeclarationError(
            f"{one.origin}: table {target} is declared at {tables[target].origin} already",
            next_step=f"INSERT INTO {target} in its place, or take the declaration away",
        )
    columns = statement.columns if isinstance(statement, Insert) else ()
    query, inputs, ordered, windows, joined = _query(name, statement.query, columns, one.origin)
    declared = creates or tables.get(target)
    mode = _mode(one, query)
    windowed = windowed_of(None if mode is Mode.SNAPSHOT else windows, one.options, f"{one.origin}: job {name!r}")
    key = declared.primary_key if declared and windowed is None else ()
    if key and not ordered and query.obstacle is None and not query.is_keyed:
        message = (
            f"{target} has a PRIMARY KEY, of which the last row stands, and the query changes the order of rows: "
            "by UNION ALL, by a join of two tables that bring new rows, or by one whose first table is looked up"
        )
        query = replace(query, obstacle=message)
    mode = _mode(one, query)  # which the obstacle may change
    within = joined.within if joined is not None and mode is Mode.INCREMENTAL else None
    job = Job(
        name,
        target,
        inputs,
        query,
        mode,
        _output(mode, windowed, bool(key) or query.is_keyed or (within is not None and within.keeps)),
        key,
        _caps(one),
        (declared.comment if declared else None) or "",
        one.origin,
        creates,
        _materialized(statement),
        schedule=_schedule(name, one),
        windowed=windowed,
        history=_history(declared, f"{one.origin}: job {name!r}"),
        within=within,
    )
    job = by_keys(job, one.options.get(BY), one.statement_set)
    check_on_change(job)
    return following(job, one.options.get(ON_CHANGE), declared)


def _output(mode: Mode, windowed: Windowed | None, merges: bool) -> Output:
    if mode is Mode.SNAPSHOT:
        return Output.COMPLETE
    if windowed is not None:
        return Output.APPEND if windowed.emit is Emit.APPEND else Output.UPDATE
    return Output.UPDATE if merges else Output.APPEND


def _history(declared: TableSpec | None, label: str) -> History | None:
    return history_of(declared.options, declared.primary_key, label) if declared is not None else None


def _query(
    name: str, query: Query, columns: tuple[str, ...], origin: Origin
) -> tuple[SqlQuery, dict[str, Read | Lookup], bool, WindowQuery | None, JoinQuery | None]:
    """The body, the tables that it reads, whether it keeps their order, its windows where it goes on by them, and how it joins
    two tables that bring new rows.

    In a query over moments alone the first table stands for what is read.
    """
    from lakeflow.sql.incremental import shape_of
    from lakeflow.sql.searched import searched_in

    try:
        shape, searched = shape_of(query.padded), searched_in(query.padded)
    except UsageError as error:
        raise DeclarationError(f"{origin.path}: job {name!r}: {error.message}", next_step=error.next_step) from error
    texts = shape.texts | searched.texts
    body = SqlQuery(query.padded, columns, texts, shape.values, shape.obstacle, shape.is_keyed, searched.columns)
    moving = shape.moving
    if not moving:
        if not shape.still:
            raise DeclarationError(
                f"{origin}: job {name!r} reads no table", next_step="a statement that is to run once: lakeflow sql FILE"
            )
        moving = shape.still[:1]
        body = replace(body, obstacle=body.obstacle or f"all tables are read at moments: {moving[0]} brings no new rows")
    inputs: dict[str, Read | Lookup] = {table: Read(table) for table in moving}
    for table in shape.still:
        if table not in moving or shape.moving:
            inputs[table if table not in inputs else f"{table}, looked up"] = Lookup(table)
    return body, inputs, shape.is_ordered, shape.windows, shape.joined


def _materialized(statement: Writing) -> Materialized | None:
    if not isinstance(statement, CreateMaterializedTable):
        return None
    return Materialized(statement.freshness, statement.refresh_mode is None)


def _mode(one: _Written, query: SqlQuery) -> Mode:
    """Snapshot where the statement or SET says so, and for a materialized table that cannot be refreshed otherwise."""
    said = one.options.get(RUNTIME_MODE, RUNTIME_MODES[0])
    if said.lower() not in RUNTIME_MODES:
        raise DeclarationError(f"{one.origin}: {UnknownName(f'value of SET {RUNTIME_MODE!r}', said, RUNTIME_MODES).message}")
    batch = said.lower() == "batch"
    statement = one.statement
    if isinstance(statement, CreateMaterializedTable):
        match statement.refresh_mode:
            case RefreshMode.FULL:
                return Mode.SNAPSHOT
            case RefreshMode.CONTINUOUS:
                return Mode.INCREMENTAL
            case None:
                return Mode.SNAPSHOT if batch or query.obstacle is not None else Mode.INCREMENTAL
            case _:
                assert_never(statement.refresh_mode)
    overwrites = isinstance(statement, Insert) and statement.overwrite
    return Mode.SNAPSHOT if batch or overwrites else Mode.INCREMENTAL


def _schedule(name: str, one: _Written) -> Cron | timedelta | None:
    """When the job is due: as the statement or SET says."""
    said = [one.options.get(key) for key in (SCHEDULE, TIMEZONE, FRESHNESS)]
    if isinstance(one.statement, CreateMaterializedTable) and one.statement.freshness is not None:
        if said != [None, None, None]:
            raise DeclarationError(
                f"{one.origin}: job {name!r} has a FRESHNESS, and SET says when it is due too; valid: one of them"
            )
        return one.statement.freshness
    return schedule_of(said[0], said[1] or "UTC", said[2], name, one.origin)


def _caps(one: _Written) -> Caps | None:
    found: dict[str, int] = {}
    for key in (MAX_FILES, MAX_ROWS, MAX_BYTES):
        if key not in one.options:
            continue
        value = one.options[key].strip()
        if not value.isdecimal() or int(value) == 0:
            raise DeclarationError(f"{one.origin}: SET '{key}' = {value!r}; valid: a whole number from 1 on")
        found[key] = int(value)
    return Caps(found.get(MAX_FILES), found.get(MAX_ROWS), found.get(MAX_BYTES)) if found else None
