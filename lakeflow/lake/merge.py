"""Merges rows into a table by key: copy on write of the touched files only, as one snapshot.

The new rows are spooled to a local file while their keys are kept in memory. Of several changes of one key, rows and
deletes alike, the last wins. Then each data file that may hold one of the changed keys (prune.py) is read: its key columns
first, and only if a key is replaced the whole file is rewritten without the replaced rows (touch.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.latest import require_keys
from lakeflow.lake.read import snapshot_at, splits_at
from lakeflow.lake.schema import fit, require_columns
from lakeflow.lake.spool import RowSpool
from lakeflow.lake.touch import Touching, frame
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

    def summary(self) -> Mapping[str, str]:
        """As facts of a commit's summary."""
        return {
            "lakeflow.rows-inserted": str(self.inserted),
            "lakeflow.rows-updated": str(self.updated),
            "lakeflow.rows-superseded": str(self.superseded),
        }


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
        self._spool = RowSpool(self._schema, spool_dir)
        self._keys: list[pl.DataFrame] = []
        self._rows = 0
        self._changes = 0
        self._replaces_all = False

    @property
    def rows(self) -> int:
        """New rows taken so far."""
        return self._rows

    def write(self, rows: pa.Table, ordering: Ordering | None = None) -> None:
        """Take new rows, as they come or ordered. Raises SchemaMismatch for rows that do not fit, or whose key holds a null."""
        rows = fit(rows, self._schema, self._name)
        self._take(rows.select(self._key), pl.int_range(self._rows, self._rows + rows.num_rows, eager=True), ordering)
        self._spool.write(rows)
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
        self._keys.append(frame(keys).with_columns(columns))
        self._changes += keys.num_rows

    def merge(self, writer: DataWriter) -> Merged:
        """Write the files of the merge against the table's current head, as `self` was given it or refreshed since."""
        head = snapshot_at(self._table)
        base = head.snapshot_id if head else None
        if not self._keys:
            return Merged((), (), base, 0, 0, 0, replaces_all=self._replaces_all)
        keys = _last_changes(pl.concat(self._keys), self._key)
        remove: list[DataFile] = []
        present = pl.repeat(False, keys.height, eager=True)
        if head is not None and not self._replaces_all:
            touching = Touching(self._table, self._key, keys, nulls_equal=False)
            for touched in touching.among(splits_at(self._table, head)):
                for survivors, _ in touching.survivors(touched):
                    writer.write(survivors)
                remove.append(touched.split.task.file)
                present[touched.places] = True
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

    def _last_rows(self, keys: pl.DataFrame) -> Iterator[pa.Table]:
        """The spooled rows whose key no later row has, in the order they came."""
        places = keys[_ROW].drop_nulls().sort()
        start = 0
        for rows in self._spool.batches():
            first, last = places.search_sorted(start), places.search_sorted(start + rows.num_rows)
            yield rows.take((places.slice(first, last - first) - start).to_arrow())
            start += rows.num_rows


def _last_changes(changes: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    """The last change of each key."""
    latest = changes.sort(_ORDINAL).unique([*key, _SOURCE], keep="last", maintain_order=True)
    if changes[_SOURCE].n_unique() > 1:
        latest = latest.sort(_RANK, maintain_order=True).unique(key, keep="last", maintain_order=True)
    return latest
