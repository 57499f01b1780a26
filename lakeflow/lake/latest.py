"""The last row of each key out of a stream of rows, in bounded memory.

Rows are spooled to local files, split by a hash of their key, so that all rows of a key are in one file. Each file is
then gone through twice: for its keys, which tells the last row of each, and for those rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.ipc

from lakeflow.errors import SchemaMismatch
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.schema import fit, require_columns

FILES = 32
"""Memory holds the keys of one file: about a thirty-second of all."""


def require_keys(rows: pa.Table, key: Sequence[str], table: str) -> None:
    """Raises SchemaMismatch where a key column holds a null."""
    for column in key:
        if nulls := rows.column(column).null_count:
            raise SchemaMismatch(
                f"key column {column!r} of table {table} holds {nulls} nulls in the rows to merge; a null is equal to no key",
                left_behind="the table, as of the last run",
                next_step="filter the nulls out in the job, or choose another key",
            )


class LatestRows:
    """Takes rows of `schema`, gives the last of each key. The spool is in `folder`, and gone after `close`."""

    def __init__(self, schema: pa.Schema, key: Sequence[str], table: str, folder: Path | None = None) -> None:
        require_columns(key, schema, table)
        self._schema = schema
        self._key = list(key)
        self._table = table
        self._held = ExitStack()
        self.rows = 0
        with lake_errors("the spool of a merge"):
            self._folder = Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix="lakeflow-", dir=folder)))
            self._sinks = [self._held.enter_context(self._sink(number)) for number in range(FILES)]

    def _sink(self, number: int) -> pa.ipc.RecordBatchStreamWriter:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        return pa.ipc.new_stream(str(self._folder / f"{number}.arrow"), self._schema, options=options)

    def write(self, rows: pa.Table) -> None:
        """Take rows. Raises SchemaMismatch for rows that do not fit, or whose key holds a null."""
        rows = fit(rows, self._schema, self._table)
        require_keys(rows, self._key, self._table)
        places = _frame(rows.select(self._key)).hash_rows().rename("place") % FILES
        with lake_errors("the spool of a merge"):
            for place, chosen in places.to_frame().with_row_index("row").group_by("place", maintain_order=True):
                self._sinks[place[0]].write_table(rows.take(chosen["row"].to_arrow()))
        self.rows += rows.num_rows

    def last_rows(self) -> Iterator[pa.Table]:
        """The last row of each key. To be gone through once, after the last `write`."""
        for number, sink in enumerate(self._sinks):
            with lake_errors("the spool of a merge"):
                sink.close()
                yield from self._last_rows_of(self._folder / f"{number}.arrow")

    def _last_rows_of(self, path: Path) -> Iterator[pa.Table]:
        keys = [_frame(batch.select(self._key)) for batch in _batches(path)]
        if not keys:
            return
        ordinals = pl.concat(keys).with_row_index("ordinal").unique(self._key, keep="last")["ordinal"].sort()
        start = 0
        for rows in _batches(path):
            first, last = ordinals.search_sorted(start), ordinals.search_sorted(start + rows.num_rows)
            yield rows.take((ordinals.slice(first, last - first) - start).to_arrow())
            start += rows.num_rows

    def close(self) -> None:
        """Delete the spool."""
        self._held.close()


def _batches(path: Path) -> Iterator[pa.Table]:
    with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as reader:
        for batch in reader:
            yield pa.Table.from_batches([batch])


def _frame(rows: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame
