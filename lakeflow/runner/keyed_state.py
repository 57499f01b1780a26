"""What a step puts into a state table: files that may hold one of its groups are read once, and written anew with those."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.prune import Pruner
from lakeflow.lake.read import Split, read, snapshot_at, splits_at
from lakeflow.lake.schema import fit
from lakeflow.lake.spool import RowSpool
from lakeflow.lake.touch import frame
from lakeflow.lake.write import DataFile, DataWriter
from lakeflow.runner.querying import relation_over
from lakeflow.sql.incremental_keys import STEP
from lakeflow.sql.relations import ArrowRelation, Relation

FEW_BYTES: Final = 32 << 20
"""Rows of a step that take no more are held until the target has been made of them; others are read again."""

Merged = Callable[[Relation, Relation], Iterator[pa.Table]]
"""Puts what is new and what was kept together."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """Files to add and to remove, and the snapshot against which they were computed."""

    add: tuple[DataFile, ...]
    remove: tuple[DataFile, ...]
    base: int | None
    replaces_all: bool

    def summary(self) -> Mapping[str, str]:
        """Nothing that the commit would not tell by itself."""
        return {}


class StateMerge:
    """The rows of a step in the spool `new`, of these `groups`; `anew`: nothing from before counts.

    After `merge`, `rows` are those that the step touched, as they are kept; None where they are many.
    """

    def __init__(self, table: Table, new: RowSpool, groups: pa.Table, step: int, merged: Merged, *, anew: bool) -> None:
        self._table = table
        self._new = new
        self._groups = groups
        self._step = step
        self._merged = merged
        self._anew = anew
        self.rows: list[pa.Table] | None = []

    def merge(self, writer: DataWriter) -> Rewritten:
        """Write the files against the table's current head."""
        schema, name = arrow_schema(self._table), ".".join(self._table.name())
        head = snapshot_at(self._table)
        splits = () if self._anew else self._touched()
        self.rows, held = [], 0
        for found in self._merged(streamed(schema, self._new.batches), relation_over(self._table, splits)):
            rows = fit(found, schema, name)
            writer.write(rows)
            mine = rows.filter(pc.equal(rows.column(STEP), self._step))
            held += mine.nbytes
            self.rows = [*self.rows, mine] if self.rows is not None and held <= FEW_BYTES else None
        files = tuple(split.task.file for split in splits)
        return Rewritten(writer.finish(), files, head.snapshot_id if head else None, self._anew)

    def _touched(self) -> tuple[Split, ...]:
        """The files that may hold a row of one of the groups; all where there are no keys."""
        splits = splits_at(self._table, snapshot_at(self._table))
        if not self._groups.num_columns:
            return splits
        pruner = Pruner(self._table, frame(self._groups).unique())
        return tuple(split for split in splits if len(pruner.in_file(split.task.file)))


def files_of_step(table: Table, step: int) -> tuple[Split, ...]:
    """The files that may hold rows which the step wrote."""
    pruner = Pruner(table, pl.DataFrame({STEP: [step]}))
    return tuple(split for split in splits_at(table, snapshot_at(table)) if len(pruner.in_file(split.task.file)))


def rows_of_step(table: Table, splits: Sequence[Split], step: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows that the step wrote."""
    for batch in read(table, splits, columns):
        yield pa.Table.from_batches([batch.filter(pc.equal(batch.column(STEP), step))])


def streamed(schema: pa.Schema, tables: Callable[[], Iterator[pa.Table]]) -> Relation:
    """Rows of a schema as a query reads them, each time from the first."""

    def batches() -> Iterator[pa.RecordBatch]:
        for rows in tables():
            yield from rows.cast(schema).to_batches()

    return ArrowRelation(schema, lambda: pa.RecordBatchReader.from_batches(schema, batches()))
