"""Merges rows into a table by key: copy on write of the touched files only, as one snapshot.

The new rows are spooled to a local file while their keys are kept in memory. Of several changes of one key, rows and
deletes alike, the last wins. Then each data file whose key statistics overlap the changed keys is read: its key columns
first, and only if a key is replaced the whole file is rewritten without the replaced rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.ipc
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.types import NestedField, PrimitiveType

from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.latest import require_keys
from lakeflow.lake.read import Split, read, snapshot_at, splits_at
from lakeflow.lake.schema import fit, require_columns
from lakeflow.lake.write import DataWriter

_ORDINAL = "__ordinal"
_ROW = "__row"
"""The place of a change's row in the spool, null for a delete."""
_SOURCE = "__source"
_RANK = "__rank"


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge came to: files to add, files to remove, the snapshot it was computed against, and counts.

    `inserted` and `updated` count the new keys that the table lacked and held, `deleted` the rows' keys that it held and
    lost. `superseded` counts changes that a later change of the same key replaced within the batch. `replaces_all` says
    that every row from before goes, whatever main holds.
    """

    add: tuple[DataFile, ...]
    remove: tuple[DataFile, ...]
    base: int | None
    inserted: int
    updated: int
    superseded: int
    deleted: int = 0
    replaces_all: bool = False


@dataclass(frozen=True, slots=True)
class Ordering:
    """Where changes come from: arrays of the length of the rows.

    `ordinals` (int64) order all changes of a merge as they came. Changes of one key from several `sources` (int32) are
    ordered by `ranks` (int64) first: within a source the last to come is the last, between sources the last of greater rank.
    """

    ordinals: pa.Array
    sources: pa.Array
    ranks: pa.Array


class KeyedMerge:
    """Collects the new rows of one commit, then merges them into whatever the table holds.

    `merge` may be called again after `table.refresh()`, where another commit came first: the new rows stay spooled.
    Memory holds the new keys and one row group; the spool is deleted by `close`.
    """

    def __init__(self, table: Table, key: Sequence[str], spool_dir: Path | None = None) -> None:
        self._table = table
        self._name = ".".join(table.name())
        self._schema = arrow_schema(table)
        self._key = list(key)
        require_columns(self._key, self._schema, self._name)
        with lake_errors("the spool of a merge"):
            self._spool = tempfile.NamedTemporaryFile(prefix="lakeflow-merge-", suffix=".arrow", dir=spool_dir)  # noqa: SIM115
            self._sink = pa.ipc.new_stream(self._spool, self._schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))
        self._keys: list[pl.DataFrame] = []
        self._rows = 0
        self._changes = 0
        self._replaces_all = False
        self._spooled = False

    @property
    def rows(self) -> int:
        """New rows taken so far."""
        return self._rows

    def write(self, rows: pa.Table, ordering: Ordering | None = None) -> None:
        """Take new rows, as they come or ordered. Raises SchemaMismatch for rows that do not fit, or whose key holds a null."""
        rows = fit(rows, self._schema, self._name)
        self._take(rows.select(self._key), pl.int_range(self._rows, self._rows + rows.num_rows, eager=True), ordering)
        with lake_errors("the spool of a merge"):
            self._sink.write_table(rows)
        self._rows += rows.num_rows

    def delete(self, keys: pa.Table, ordering: Ordering | None = None) -> None:
        """Take keys whose rows go. Raises SchemaMismatch for keys that do not fit the table, or that hold a null."""
        schema = pa.schema([self._schema.field(column) for column in self._key])
        self._take(
            fit(keys.select(self._key), schema, self._name),
            pl.repeat(None, keys.num_rows, dtype=pl.Int64, eager=True),
            ordering,
        )

    def clear(self) -> None:
        """All rows go, those of the table and those taken so far."""
        self._keys.clear()
        self._replaces_all = True

    def _take(self, keys: pa.Table, rows: pl.Series, ordering: Ordering | None) -> None:
        require_keys(keys, self._key, self._name)
        came = pl.int_range(self._changes, self._changes + keys.num_rows, eager=True)
        columns = [rows.alias(_ROW)]
        if ordering is None:
            columns += [came.alias(_ORDINAL), pl.lit(0, pl.Int32).alias(_SOURCE), pl.lit(0, pl.Int64).alias(_RANK)]  # type: ignore[list-item]
        else:
            given = ((_ORDINAL, ordering.ordinals), (_SOURCE, ordering.sources), (_RANK, ordering.ranks))
            columns += [pl.Series(name, values) for name, values in given]
        self._keys.append(_frame(keys).with_columns(columns))
        self._changes += keys.num_rows

    def merge(self, writer: DataWriter) -> Merged:
        """Write the files of the merge against the table's current head, as `self` was given it or refreshed since."""
        if not self._spooled:
            with lake_errors("the spool of a merge"):
                self._sink.close()
                self._spool.flush()
            self._spooled = True
        head = snapshot_at(self._table)
        base = head.snapshot_id if head else None
        if not self._keys:
            return Merged((), (), base, 0, 0, 0, replaces_all=self._replaces_all)
        keys = _last_changes(pl.concat(self._keys), self._key)
        remove: list[DataFile] = []
        present = pl.repeat(False, keys.height, eager=True)
        for split in () if self._replaces_all else splits_at(self._table, head):
            in_split = self._present_keys(split, keys)
            if not in_split.any():
                continue
            for survivors in self._survivors(split, keys):
                writer.write(survivors)
            remove.append(split.task.file)
            present = present | in_split
        for rows in self._last_rows(keys):
            writer.write(rows)
        kept = keys[_ROW].is_not_null()
        updated, deleted = int((present & kept).sum()), int((present & ~kept).sum())
        return Merged(
            writer.finish(),
            tuple(remove),
            base,
            inserted=int(kept.sum()) - updated,
            updated=updated,
            superseded=sum(map(len, self._keys)) - keys.height,
            deleted=deleted,
            replaces_all=self._replaces_all,
        )

    def close(self) -> None:
        """Delete the spool."""
        self._spool.close()

    def _present_keys(self, split: Split, keys: pl.DataFrame) -> pl.Series:
        """For each of the new keys, whether the file holds it."""
        present = pl.repeat(False, keys.height, eager=True)
        if self._may_hold(split.task.file, keys):
            for batch in read(self._table, [split], self._key):
                found = keys.join(_frame(pa.Table.from_batches([batch])), on=self._key, how="semi")[_ORDINAL]
                present = present | keys[_ORDINAL].is_in(found.implode())
        return present

    def _survivors(self, split: Split, keys: pl.DataFrame) -> Iterator[pa.Table]:
        for batch in read(self._table, [split]):
            rows = pa.Table.from_batches([batch])
            present = _frame(rows.select(self._key)).with_row_index(_ORDINAL)
            yield rows.take(present.join(keys, on=self._key, how="anti")[_ORDINAL].to_arrow())

    def _last_rows(self, keys: pl.DataFrame) -> Iterator[pa.Table]:
        """The spooled rows whose key no later row has, in the order they came."""
        places = keys[_ROW].drop_nulls().sort()
        start = 0
        with pa.OSFile(self._spool.name) as source, pa.ipc.open_stream(source) as reader:
            for batch in reader:
                rows = pa.Table.from_batches([batch])
                first, last = places.search_sorted(start), places.search_sorted(start + rows.num_rows)
                yield rows.take((places.slice(first, last - first) - start).to_arrow())
                start += rows.num_rows

    def _may_hold(self, data_file: DataFile, keys: pl.DataFrame) -> bool:
        """Whether the file's statistics leave room for one of the keys."""
        for column in self._key:
            field = self._table.schema().find_field(column)
            low, high = _bounds(data_file, field)
            if low is not None and high is not None and not _overlaps(keys[column], low, high):
                return False
        return True


def _last_changes(changes: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """The last change of each key."""
    latest = changes.sort(_ORDINAL).unique([*key, _SOURCE], keep="last", maintain_order=True)
    if changes[_SOURCE].n_unique() > 1:
        latest = latest.sort(_RANK, maintain_order=True).unique(key, keep="last", maintain_order=True)
    return latest


def _bounds(data_file: DataFile, field: NestedField) -> tuple[Any, Any]:
    """The smallest and greatest value of a column in a file; None where they are not known.

    A string's bounds are prefixes, the upper one counted up by one where it was cut, so both still bound the values.
    """
    kind = field.field_type
    low = (data_file.lower_bounds or {}).get(field.field_id)
    high = (data_file.upper_bounds or {}).get(field.field_id)
    if low is None or high is None or not isinstance(kind, PrimitiveType) or str(kind) not in _COMPARABLE:
        return None, None
    return from_bytes(kind, low), from_bytes(kind, high)


# No floats: NaN is a key, yet lies in no bounds.
_COMPARABLE = {"int", "long", "string"}


def _overlaps(keys: pl.Series, low: Any, high: Any) -> bool:
    smallest, greatest = keys.min(), keys.max()
    return not (smallest > high or greatest < low)


def _frame(rows: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(rows)
    assert isinstance(frame, pl.DataFrame)
    return frame
