"""Carries out DELETE, UPDATE and TRUNCATE: copy on write of the files that hold a row of the condition, as one snapshot.

The condition is worked out by DuckDB, as that of a query is. Files are counted by halves first, reading no more columns than
the condition names, so that many files without such a row cost few queries; a file whose every row goes is not read again.
In the others each row has its number, DuckDB says which ones meet the condition, and the rest is written as it was read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

import numpy as np
import pyarrow as pa

from lakeflow.declare import SYSTEM_NAMESPACE
from lakeflow.errors import UnknownName, UsageError
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.commit import Change
from lakeflow.lake.iceberg import FileReader
from lakeflow.lake.on_base import land
from lakeflow.lake.read import Split, read, snapshot_at, splits_at
from lakeflow.lake.write import DataFile, DataWriter
from lakeflow.runner.querying import relation, relation_over
from lakeflow.runner.sql_body import assigned
from lakeflow.runner.sql_names import ProjectNames
from lakeflow.sql.compile import compile_query
from lakeflow.sql.compiled import Compiled, Moment, PureCall
from lakeflow.sql.execute import Limits, run_compiled
from lakeflow.sql.flink import read_query
from lakeflow.sql.moments import read_tables
from lakeflow.sql.relations import ArrowRelation, Relation, name_text
from lakeflow.sql.row_changes import Assignment, DeleteRows, RowChange, TruncateTable, UpdateRows, Written

if TYPE_CHECKING:
    from lakeflow.runner.project import Project

ROW: Final = "lakeflow row number"
"""The column that numbers the rows of a file while the condition is worked out."""


@dataclass(frozen=True, slots=True)
class Changed:
    """What a statement came to: files to add, files to remove, the snapshot it was computed against, and the rows changed."""

    add: tuple[DataFile, ...]
    remove: tuple[DataFile, ...]
    base: int | None
    rows: int
    updates: bool
    replaces_all: bool = False

    def summary(self) -> Mapping[str, str]:
        """As facts of a commit's summary."""
        return {f"lakeflow.rows-{'updated' if self.updates else 'removed'}": str(self.rows)}


@dataclass(frozen=True, slots=True)
class Done:
    """What a statement has to tell."""

    statement: str
    table: str
    rows: int


def change_rows(project: Project, statement: RowChange, limits: Limits) -> Done:
    """Carry out one statement; `limits` are those of the queries.

    Raises UnknownName for a table or a column that is not there, UsageError for a condition that is none, that reads the table
    itself or asks a model, and for tables of lakeflow's own; SchemaMismatch for values that the table cannot hold,
    CommitConflict where other writers came first each time.
    """
    if statement.name.partition(".")[0] == SYSTEM_NAMESPACE:
        raise UsageError(f"table {statement.name} is lakeflow's own, and its rows are what lakeflow knows of its work")
    match statement:
        case DeleteRows(condition=condition):
            said, assignments = "DELETE FROM", ()
        case TruncateTable():
            said, condition, assignments = "TRUNCATE TABLE", None, ()
        case UpdateRows(assignments=assignments, condition=condition):
            said = "UPDATE"
        case _:
            assert_never(statement)
    work = RowChanges(project, statement.name, condition, assignments, limits)
    buffer_bytes = project.settings.run.buffer_bytes

    def commit(change: Change) -> None:
        if change.remove:
            project.commits.commit(change)

    _, changed = land(work, work.table, lambda: DataWriter(work.table, buffer_bytes=buffer_bytes), commit)
    return Done(said, statement.name, changed.rows)


class _Numbering(ProjectNames):
    """The names of a project, where the rows of one table are numbered."""

    def __init__(self, project: Project, numbered: str) -> None:
        super().__init__(project)
        self._numbered = numbered

    def table(self, name: str, at: Moment | None) -> pa.Schema:
        columns = super().table(name, at)
        return columns.append(pa.field(ROW, pa.int64())) if (name, at) == (self._numbered, None) else columns


class RowChanges:
    """The rows of a table that meet a condition (None: all) go, or take the values of `assignments`."""

    def __init__(
        self, project: Project, name: str, condition: Written | None, assignments: Sequence[Assignment], limits: Limits
    ) -> None:
        names = _Numbering(project, name)
        self.table = names.opened(name)[0]
        self._name = name
        self._limits = limits
        self._updates = bool(assignments)
        self._into = arrow_schema(self.table)
        for one in assignments:
            if one.column not in self._into.names:
                raise UnknownName(f"column of table {self._name}", one.column, self._into.names)
        for written in (condition, *(one.value for one in assignments)):
            self._check(written, ProjectNames(project))
        source = f"{'.'.join(map(name_text, self.table.name()))} WHERE ({condition.text if condition else 'TRUE'}\n)"
        self._counting = compile_query(f"SELECT count(*) FROM {source}", names)
        self._choosing = compile_query(f"SELECT {', '.join(self._columns(assignments))} FROM {source}", names)

        others = {read.view: read for read in (*self._counting.reads, *self._choosing.reads) if read.view != self._name}
        self._others = {view: relation(*names.opened(read.name, read.at)) for view, read in others.items()}

    def _check(self, written: Written | None, names: ProjectNames) -> None:
        """Judged as it is written, so that a message points into the statement."""
        if written is None:
            return
        tables = [one.read for one in read_tables(written.query, read_query(written.query))]
        if [(one.name, one.at) for one in tables].count((self._name, None)) > 1:
            raise UsageError(
                f"the statement changes {self._name}, and a subquery of it reads the table too, which is changed file by file",
                next_step=f"name the moment to read: {self._name} FOR SYSTEM_TIME AS OF .., or work it out with lakeflow query",
            )
        if any(not isinstance(call, PureCall) for call in compile_query(written.query, names).calls):
            raise UsageError(
                "the statement asks a model or an index for every row that it looks at, before it is known which rows change",
                next_step="write the answers to a table with INSERT INTO .. SELECT, and name that in a subquery",
            )

    def _columns(self, assignments: Sequence[Assignment]) -> list[str]:
        """What is asked of the rows that meet the condition: their numbers, and what they become."""
        values = {one.column: f"({one.value.text}\n) AS {name_text(one.column)}" for one in assignments}
        columns = [values.get(name, name_text(name)) for name in self._into.names] if assignments else []
        return [name_text(ROW), *columns]

    def merge(self, writer: DataWriter) -> Changed:
        """Write the files of the change against the table's current head."""
        head = snapshot_at(self.table)
        remove: list[DataFile] = []
        rows = 0
        for split, count in self._touched(splits_at(self.table, head)):
            remove.append(split.task.file)
            rows += count
            if self._updates or count != split.rows or split.task.delete_files:
                self._rewrite(split, writer)
        return Changed(writer.finish(), tuple(remove), head.snapshot_id if head else None, rows, self._updates)

    def _touched(self, splits: Sequence[Split]) -> Iterator[tuple[Split, int]]:
        """The files that hold a row of the condition, and how many each."""
        if not splits:
            return
        [[count]] = [batch.column(0).to_pylist() for batch in self._run(self._counting, relation_over(self.table, splits))]
        plain = not any(split.task.delete_files for split in splits)
        if len(splits) == 1 and count:
            yield splits[0], count
        elif plain and count == sum(split.rows for split in splits):
            yield from ((split, split.rows) for split in splits)
        elif count:
            middle = len(splits) // 2
            yield from self._touched(splits[:middle])
            yield from self._touched(splits[middle:])

    def _rewrite(self, split: Split, writer: DataWriter) -> None:
        changed = np.zeros(split.rows, np.bool_)
        for batch in self._run(self._choosing, self._numbered(split)):
            changed[batch.column(0).to_numpy()] = True
            if self._updates:
                writer.write(assigned(pa.Table.from_batches([batch]).remove_column(0), self._into))
        start = 0
        for batch in read(self.table, [split]):
            writer.write(batch.filter(pa.array(~changed[start : start + batch.num_rows])))
            start += batch.num_rows

    def _numbered(self, split: Split) -> ArrowRelation:
        schema = FileReader(self.table).schema.append(pa.field(ROW, pa.int64()))

        def batches() -> Iterator[pa.RecordBatch]:
            start = 0
            for batch in read(self.table, [split]):
                numbers = pa.array(np.arange(start, start + batch.num_rows))
                yield pa.RecordBatch.from_arrays([*batch.columns, numbers], schema=schema)
                start += batch.num_rows

        return ArrowRelation(schema, lambda: pa.RecordBatchReader.from_batches(schema, batches()))

    def _run(self, compiled: Compiled, rows: Relation) -> Iterator[pa.RecordBatch]:
        with run_compiled(compiled, {**self._others, self._name: rows}, (), self._limits) as reader:
            yield from reader
