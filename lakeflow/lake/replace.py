"""Replaces groups of rows: in one snapshot, the rows of the table whose group is among the given ones go, new rows come.

A group is what rows have in some columns, such as a window's bounds or a key that is not unique; null and NaN are values
like others here. Files that hold no row of a group stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.read import snapshot_at, splits_at
from lakeflow.lake.schema import fit, require_columns
from lakeflow.lake.spool import RowSpool
from lakeflow.lake.touch import Touching, frame
from lakeflow.lake.write import DataWriter


@dataclass(frozen=True, slots=True)
class Replaced:
    """What a replacement came to: files to add, files to remove, the snapshot it was computed against, and counts of rows."""

    add: tuple[DataFile, ...]
    remove: tuple[DataFile, ...]
    base: int | None
    removed: int
    written: int
    replaces_all: bool = False

    def summary(self) -> Mapping[str, str]:
        """As facts of a commit's summary."""
        return {"lakeflow.rows-removed": str(self.removed), "lakeflow.rows-inserted": str(self.written)}


class GroupReplacement:
    """Collects the groups of one commit and the rows that come in their place, then replaces what the table holds of them.

    `merge` may be called again after `table.refresh()`, where another commit came first: groups and rows are kept.
    Memory holds the groups and one row group; the rows wait in a file of `spool_dir` that `close` deletes.
    Raises UnknownName for a column that the table lacks.
    """

    def __init__(self, table: Table, columns: Sequence[str], spool_dir: Path | None = None) -> None:
        self._table = table
        self._name = ".".join(table.name())
        self._schema = arrow_schema(table)
        self._columns = list(columns)
        require_columns(self._columns, self._schema, self._name)
        self._spool = RowSpool(self._schema, spool_dir)
        self._groups: list[pl.DataFrame] = []
        self.rows = 0

    def replace(self, groups: pa.Table) -> None:
        """Take groups, by the columns of that name. Raises SchemaMismatch where they do not fit the table's types."""
        schema = pa.schema([self._schema.field(column).with_nullable(True) for column in self._columns])
        self._groups.append(frame(fit(groups.select(self._columns), schema, self._name)).unique())

    def write(self, rows: pa.Table) -> None:
        """Take new rows. Raises SchemaMismatch for rows that do not fit the table."""
        self._spool.write(fit(rows, self._schema, self._name))
        self.rows += rows.num_rows

    def merge(self, writer: DataWriter) -> Replaced:
        """Write the files of the replacement against the table's current head, as `self` was given it or refreshed since."""
        head = snapshot_at(self._table)
        base = head.snapshot_id if head else None
        remove: list[DataFile] = []
        removed = 0
        if self._groups:
            groups = pl.concat(self._groups).unique()
            touching = Touching(self._table, self._columns, groups, nulls_equal=True)
            for touched in touching.among(splits_at(self._table, head)):
                for survivors, gone in touching.survivors(touched):
                    writer.write(survivors)
                    removed += gone
                remove.append(touched.split.task.file)
        for rows in self._spool.batches():
            writer.write(rows)
        return Replaced(writer.finish(), tuple(remove), base, removed, self.rows)

    def close(self) -> None:
        """Delete the spool."""
        self._spool.close()
