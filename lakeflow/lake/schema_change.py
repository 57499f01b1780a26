"""Other columns for a table, planned before the files that need them are written and landed with their commit.

evolve (evolution.py) -> plan_schema -> DataWriter(planned.table) -> Change(.., schema=planned.change)
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata

from lakeflow.errors import SchemaMismatch
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.iceberg import Layout, relaid
from lakeflow.lake.schema import storable


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """The columns that a commit gives its table: schema `start` becomes schema `end`, by their ids.

    `last_field` is the highest field id that was taken: the files of the commit hold the ids after it.
    """

    start: int
    end: int
    last_field: int
    layout: Layout

    def moved(self, metadata: TableMetadata) -> str | None:
        """What keeps the change from landing for good: another one came first. None where it may land."""
        if (metadata.current_schema_id, metadata.last_column_id) == (self.start, self.last_field):
            return None
        return (
            f"its columns were changed by another writer: planned on schema {self.start}, the table is at schema "
            f"{metadata.current_schema_id}"
        )


@dataclass(frozen=True, slots=True)
class PlannedSchema:
    """A schema change, and the table as it will be, for DataWriter to write its files."""

    change: SchemaChange
    table: Table


def plan_schema(table: Table, target: pa.Schema) -> PlannedSchema:
    """The change that gives `table` the columns `target`, which is what `evolve` made of the table's own.

    Raises SchemaMismatch where the table's keys or partitions do not allow it.
    """
    name = ".".join(table.name())
    try:
        layout, relaid_table = relaid(table, target)
    except ValueError as error:
        raise SchemaMismatch(
            f"table {name} cannot get other columns: {error}",
            left_behind="the table, as it was",
            next_step="rename the column, or alter the table with the engine that made it",
        ) from error
    if (reached := storable(arrow_schema(relaid_table), name)) != storable(target, name):
        raise SchemaMismatch(f"table {name} would get the columns:\n{reached}\nand not the ones that were asked for:\n{target}")
    before = table.metadata
    change = SchemaChange(before.current_schema_id, relaid_table.metadata.current_schema_id, before.last_column_id, layout)
    return PlannedSchema(change, relaid_table)
