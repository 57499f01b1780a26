"""Rows that were changed or removed in the table that a job reads: what becomes of the target's rows of their keys.

The rows of files that came go through the job and are merged by key, as any others. Of the files that went only the key
columns are read. A key that is there, and that no new row has, may have lost its last row: the files that are still there
and hold the key are read, and their last row of it is merged again; where none is left, the target's row goes. So the target
becomes what a snapshot run would make of the table as it then is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import polars as pl
import pyarrow as pa

from lakeflow.errors import JobFailed, SchemaMismatch
from lakeflow.job import Job
from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.changes import read_removed
from lakeflow.lake.merge import KeyedMerge
from lakeflow.lake.read import Split, read, splits_at
from lakeflow.lake.schema import fit
from lakeflow.lake.touch import Touching, frame
from lakeflow.runner.on_change import key_columns
from lakeflow.runner.plan import Source

RowsOver = Callable[[Source], Iterator[pa.Table]]
"""The job's rows over a source."""


class NothingGone:
    """Of a step whose table lost no file."""

    def took(self, rows: pa.Table) -> None:
        """Nothing is to be known of them."""

    def retire(self, merge: KeyedMerge, rows_over: RowsOver) -> None:
        """No key lost rows."""


def recompute_of(job: Job, reads: Sequence[Source], target: Table) -> Recompute | NothingGone:
    """What follows the files that the tables of a step lost. An incremental step reads one table."""
    gone = [source for source in reads if source.removed]
    return Recompute(job, gone[0], target) if gone else NothingGone()


class Recompute:
    """The keys of one step over files that came and files that went. Memory holds keys, as a merge does."""

    def __init__(self, job: Job, source: Source, target: Table) -> None:
        self._job = job
        self._source = source
        self._from = key_columns(job, source.name, source.table)
        into = arrow_schema(target)
        self._schema = pa.schema([into.field(column).with_nullable(True) for column in job.key])
        self._name = ".".join(target.name())
        try:
            self._as_target(arrow_schema(source.table).empty_table())
        except SchemaMismatch as error:
            raise JobFailed(
                f"job {job.name!r} ({job.origin}) cannot follow rows that changed: its key is of another type than the columns "
                f"{', '.join(self._from)} of {source.name}: {error.message}",
                next_step=f"pass {', '.join(self._from)} on unchanged, or run the job with --mode snapshot after such changes",
            ) from error
        self._given: list[pl.DataFrame] = []

    def took(self, rows: pa.Table) -> None:
        """Take note of rows that the job gave for files that came."""
        self._given.append(frame(fit(rows.select(self._job.key), self._schema, self._name)).unique())

    def retire(self, merge: KeyedMerge, rows_over: RowsOver) -> None:
        """Give the merge what becomes of keys that lost rows. Raises JobFailed where the job's keys are not its source's."""
        table, source = self._source.table, self._source
        given = pl.concat(self._given).unique() if self._given else self._no_keys()
        self._check_passed(given, self._keys_in(read(table, source.splits, self._from)))
        lost = (
            self._keys_in(read_removed(table, source.removed, self._from))
            .join(given, on=list(self._job.key), how="anti")
            .drop_nulls()
        )
        if lost.is_empty():
            return
        merge.delete(lost.to_arrow().cast(self._schema))
        left = self._files_with(lost)
        if not left:
            return
        for rows in rows_over(replace(self._source, splits=left, removed=())):
            keys = frame(fit(rows.select(self._job.key), self._schema, self._name)).with_row_index("__row")
            merge.write(
                rows.take(keys.join(lost, on=list(self._job.key), how="semi", maintain_order="left")["__row"].to_arrow())
            )

    def _no_keys(self) -> pl.DataFrame:
        return frame(self._schema.empty_table())

    def _keys_in(self, batches: Iterator[pa.RecordBatch]) -> pl.DataFrame:
        """The distinct keys of rows of files, from their own columns, as the target has them."""
        found = [self._no_keys()]
        for batch in batches:
            found.append(frame(self._as_target(pa.Table.from_batches([batch]))).unique())
        return pl.concat(found).unique()

    def _as_target(self, rows: pa.Table) -> pa.Table:
        """The keys of rows of the source."""
        return fit(rows.select(self._from).rename_columns(list(self._job.key)), self._schema, self._name)

    def _check_passed(self, given: pl.DataFrame, read_keys: pl.DataFrame) -> None:
        strange = given.join(read_keys, on=list(self._job.key), how="anti", nulls_equal=True)
        if not strange.is_empty():
            raise JobFailed(
                f"job {self._job.name!r} ({self._job.origin}) gave {strange.height} keys that no row has which it read, "
                f"one is {strange.row(0, named=True)}: rows that were changed or removed cannot be followed by such a key",
                left_behind=f"{self._name}, as of the last step that was committed",
                next_step=f"pass {', '.join(self._from)} on unchanged, or run the job with --mode snapshot after such changes",
            )

    def _files_with(self, keys: pl.DataFrame) -> tuple[Split, ...]:
        """The files that the step leaves in place, as of its end, and that hold one of the keys."""
        table = self._source.table
        end = table.snapshot_by_id(self._source.snapshot_id) if self._source.snapshot_id is not None else None
        came = {split.path for split in self._source.splits}
        left = [split for split in splits_at(table, end) if split.path not in came]
        of_source = arrow_schema(table)
        schema = pa.schema([of_source.field(column).with_nullable(True) for column in self._from])
        values = frame(keys.to_arrow().rename_columns(list(self._from)).cast(schema))
        touching = Touching(table, self._from, values, nulls_equal=False)
        return tuple(touched.split for touched in touching.among(left))
