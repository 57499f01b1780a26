"""What is changed of a table by name: its columns, its properties, its name. No row is read or written.

Columns of a table go by ids, so that files which are there are read under the new names, and a column that is dropped is
gone from them too (specification, "Schema Evolution"). Which types may follow each other is what evolution.py says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.table import Table
from pyiceberg.table.update import RemovePropertiesUpdate, SetPropertiesUpdate
from pyiceberg.table.update.schema import UpdateSchema

from lakeflow.errors import CommitConflict, DeclarationError, LakeflowError, SchemaMismatch, UnknownName
from lakeflow.lake.catalog import ALTER_BACKOFF, Lake, arrow_schema
from lakeflow.lake.declared import DOC, OWN_PROPERTIES
from lakeflow.lake.evolution import evolve
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.iceberg import Layout, forget_old_metadata, relaid
from lakeflow.lake.schema import storable
from lakeflow.retry import retrying


@dataclass(frozen=True, slots=True)
class Placed:
    """A column, and where it goes: `first`, behind `after`, or where it is (last, for a new one)."""

    column: pa.Field
    first: bool = False
    after: str | None = None


def add_columns(lake: Lake, name: str, columns: Sequence[Placed]) -> None:
    """Add columns, which read as null in the rows that are there.

    Raises DeclarationError for one that is there or NOT NULL, UnknownName for a place that is not, SchemaMismatch for a type
    that a table cannot hold.
    """

    def plan(table: Table) -> Layout:
        present = arrow_schema(table)
        for placed in columns:
            column = placed.column
            if (twin := _found(column.name, present.names)) is not None:
                raise DeclarationError(f"table {name} has the column {twin!r} already", next_step=f"{_alter(name)} MODIFY ..")
            if not column.nullable:
                raise DeclarationError(
                    f"column {column.name!r} would be NOT NULL, and the rows of {name} that are there have no value of it",
                    next_step="leave NOT NULL out",
                )
        wanted = pa.schema([*present, *(placed.column for placed in columns)])
        return _laid(table, name, present, wanted, columns)

    _commit(lake, name, plan)


def modify_columns(lake: Lake, name: str, columns: Sequence[Placed]) -> None:
    """Give columns a wider type, another comment or another place, or take their NOT NULL away.

    Raises UnknownName for a column that is not there, SchemaMismatch for a type that does not follow from the one it has,
    DeclarationError for a NOT NULL that rows may not have kept.
    """

    def plan(table: Table) -> Layout:
        present = arrow_schema(table)
        wanted = {column.name: column for column in present}
        for placed in columns:
            column = placed.column
            if column.name not in wanted:
                raise UnknownName(f"column of {name}", column.name, present.names)
            if wanted[column.name].nullable and not column.nullable:
                raise DeclarationError(
                    f"column {column.name!r} of {name} may hold nulls, and nobody knows whether it does",
                    next_step="leave NOT NULL out",
                )
            wanted[column.name] = column
        return _laid(table, name, present, pa.schema(list(wanted.values())), columns)

    _commit(lake, name, plan)


def drop_columns(lake: Lake, name: str, columns: Sequence[str]) -> None:
    """Take columns out of a table. Raises UnknownName, DeclarationError where none would be left or files are split by one."""

    def plan(table: Table) -> Layout:
        schema = table.schema()
        present = [field.name for field in schema.fields]
        for column in columns:
            if column not in present:
                raise UnknownName(f"column of {name}", column, present)
            source = schema.find_field(column).field_id
            if any(field.source_id == source for spec in table.specs().values() for field in spec.fields):
                raise DeclarationError(
                    f"column {column!r} of {name} tells in which partition a row lies, or once did; it stays"
                )
        if set(columns) == set(present):
            raise DeclarationError(f"table {name} would have no column left", next_step=f"DROP TABLE {name}")

        def drop(update: UpdateSchema) -> None:
            for column in columns:
                update.delete_column((column,))

        return _relaid(table, name, None, drop)

    _commit(lake, name, plan)


def rename_column(lake: Lake, name: str, column: str, to: str) -> None:
    """Give a column another name. Raises UnknownName, DeclarationError where another column has it."""

    def plan(table: Table) -> Layout:
        present = arrow_schema(table).names
        if column not in present:
            raise UnknownName(f"column of {name}", column, present)
        if (twin := _found(to, [other for other in present if other != column])) is not None:
            raise DeclarationError(f"table {name} has the column {twin!r} already, so that {column!r} cannot take its name")

        def rename(update: UpdateSchema) -> None:
            update.rename_column((column,), to)

        return _relaid(table, name, None, rename)

    _commit(lake, name, plan)


def set_properties(lake: Lake, name: str, properties: Mapping[str, str]) -> None:
    """Set properties of a table. Raises DeclarationError for those that lakeflow keeps."""
    _refuse_own(properties)
    _commit(lake, name, lambda table: Layout((SetPropertiesUpdate(updates=dict(properties)),), ()))


def reset_properties(lake: Lake, name: str, keys: Sequence[str]) -> None:
    """Take properties of a table away. Raises DeclarationError for those that lakeflow keeps, UnknownName for one not set."""
    _refuse_own(keys)

    def plan(table: Table) -> Layout:
        for key in keys:
            if key not in table.properties:
                raise UnknownName(f"property of {name}", key, [known for known in table.properties if not is_own(known)])
        return Layout((RemovePropertiesUpdate(removals=list(keys)),), ())

    _commit(lake, name, plan)


def keep(lake: Lake, name: str, key: str, value: str | None) -> None:
    """Set a property of lakeflow's own, or take it away: None. Raises UnknownName for a table that is not there."""

    def plan(table: Table) -> Layout:
        if table.properties.get(key) == value:
            return Layout((), ())
        if value is None:
            return Layout((RemovePropertiesUpdate(removals=[key]),), ())
        return Layout((SetPropertiesUpdate(updates={key: value}),), ())

    _commit(lake, name, plan)


def rename_table(lake: Lake, name: str, to: str) -> None:
    """Give a table another name in the catalog; its rows, progress and history stay as they are.

    Raises UnknownName, DeclarationError where a table of that name is there.
    """
    lake.table(name)
    with lake_errors(f"table {name}"):
        lake.ensure_namespace(to.rpartition(".")[0])
        try:
            lake.catalog.rename_table(name, to)
        except TableAlreadyExistsError as error:
            raise DeclarationError(f"table {to} is there already, so that {name} cannot take its name") from error
        except NoSuchTableError as error:
            raise UnknownName("table", name, lake.names(), next_step="lakeflow tables") from error


def is_own(key: str) -> bool:
    """Whether a table's property is one that lakeflow keeps for itself."""
    return key.startswith(OWN_PROPERTIES)


def _refuse_own(keys: Mapping[str, str] | Sequence[str]) -> None:
    for key in keys:
        if is_own(key):
            raise DeclarationError(f"property {key!r}: those that begin with {OWN_PROPERTIES!r} are lakeflow's own")


def _found(name: str, present: Sequence[str]) -> str | None:
    """The column that SQL does not tell from one of this name."""
    return next((other for other in present if other.lower() == name.lower()), None)


def _alter(name: str) -> str:
    return f"ALTER TABLE {name}"


def _laid(table: Table, name: str, present: pa.Schema, wanted: pa.Schema, columns: Sequence[Placed]) -> Layout:
    """The layout of `wanted`, with comments and places."""
    where = f"table {name}"
    evolved = evolve(present, wanted, where)
    after = storable(present, where) if evolved is None else evolved.schema
    asked = {placed.column.name: placed.column for placed in columns}
    for column in storable(wanted, where):
        kind = after.field(column.name).type
        if column.name in asked and kind != column.type:
            raise SchemaMismatch(
                f"column {column.name!r} of {name} is of type {kind}, which does not become {column.type}",
                left_behind="the table, as it was",
                next_step="write the rows anew with that type, to another column or table",
            )
    documented = pa.schema([_with_comment(column, asked.get(column.name)) for column in after])
    names = set(documented.names)

    def place(update: UpdateSchema) -> None:
        for placed in columns:
            if placed.after is not None and placed.after not in names - {placed.column.name}:
                raise UnknownName(f"column of {name} behind AFTER", placed.after, names - {placed.column.name})
            if placed.first:
                update.move_first((placed.column.name,))
            elif placed.after is not None:
                update.move_after((placed.column.name,), (placed.after,))

    return _relaid(table, name, documented, place)


def _with_comment(column: pa.Field, asked: pa.Field | None) -> pa.Field:
    comment = (asked.metadata or {}).get(DOC) if asked is not None else None
    return column if comment is None else column.with_metadata({DOC: comment})


def _relaid(table: Table, name: str, columns: pa.Schema | None, restructure: Callable[[UpdateSchema], None]) -> Layout:
    try:
        return relaid(table, columns, restructure=restructure)[0]
    except LakeflowError:
        raise
    except ValueError as error:
        raise SchemaMismatch(f"table {name} cannot be altered: {error}", left_behind="the table, as it was") from error


def _commit(lake: Lake, name: str, plan: Callable[[Table], Layout]) -> None:
    """Plan on the table as it is and send it, anew where another commit came first. Raises CommitConflict after some tries."""

    def attempt() -> None:
        table = lake.table(name)
        layout = plan(table)
        if not layout.updates:
            return
        with lake_errors(f"table {name}"):
            try:
                answer = lake.catalog.commit_table(table, layout.requirements, layout.updates)
            except CommitFailedException as error:
                raise CommitConflict(f"another commit to {name} came first: {error}") from error
        forget_old_metadata(table, table.metadata, answer.metadata)

    retrying(attempt, ALTER_BACKOFF)
