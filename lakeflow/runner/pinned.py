"""An index as of a snapshot of its table: the rows that the table had then, every one compared.

An index holds what its table holds now, and keeps no old versions. The table does, for as long as its snapshots are kept; so a
search as of one of them is exact, and its cost is that of the rows.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from lakeflow.declare import IndexSpec
from lakeflow.errors import UsageError
from lakeflow.index.exact import ExactSearch
from lakeflow.index.vectors import Identity, Vectors
from lakeflow.lake.catalog import Table
from lakeflow.lake.read import Snapshot, read, splits_at
from lakeflow.runner.index_follow import key_hashes
from lakeflow.runner.indexing import index_schema


class PinnedIndex:
    """The rows of `table` as of `snapshot`, searched as an index by `spec` would be that had read so far. See `Searchable`.

    Of rows of one key the last counts; to tell it, 8 bytes a row are held. Thread-safe.
    """

    def __init__(self, spec: IndexSpec, identity: Identity, table: Table, snapshot: Snapshot | None) -> None:
        self._spec, self._identity, self._table = spec, identity, table
        self._splits = splits_at(table, snapshot)
        self._schema = index_schema(spec, table)
        self._searches: dict[tuple[str | None, tuple[str, ...]], ExactSearch] = {}
        self._last: np.ndarray | None = None
        self._lock = threading.Lock()

    def schema(self) -> pa.Schema:
        """As `Searchable.schema`."""
        return self._schema

    def search(
        self,
        vectors: Vectors,
        k: int,
        *,
        where: str | None = None,
        columns: Sequence[str] | None = None,
        exact: bool = False,
        probes: int | None = None,
        refine: int | None = None,
    ) -> pa.Table:
        """As `Searchable.search`; every row is compared in any case."""
        asked = tuple(columns or (name for name in self._schema.names if name != self._spec.column))
        with self._lock:
            search = self._searches.get((where, asked))
            if search is None:
                search = self._searches[where, asked] = self._opened(where, asked)
        return search.search(np.atleast_2d(np.asarray(vectors, dtype=np.float32)), k)

    def match(
        self, texts: Sequence[str], k: int, *, where: str | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Raises UsageError: words are looked up in an index as it is now."""
        raise UsageError(f"index {self._spec.name!r} is searched as of a snapshot; valid: mode vector")

    def _opened(self, where: str | None, columns: Sequence[str]) -> ExactSearch:
        return ExactSearch(
            self._spec.name, self._schema, self._spec.column, self._identity.metric, self._rows, columns=columns, where=where
        )

    def _rows(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        last, start = self._last_of_keys(), 0
        for batch in read(self._table, self._splits, columns):
            yield batch.filter(pa.array(last[start : start + batch.num_rows]))
            start += batch.num_rows

    def _last_of_keys(self) -> np.ndarray:
        """For each row whether no later one has its key. Both reads give the rows in the order of the table."""
        if self._last is None:
            keys = [key_hashes(batch.column(0)) for batch in read(self._table, self._splits, [self._spec.key])]
            hashed = np.concatenate([np.zeros(0, dtype=np.uint64), *keys])
            _, from_the_end = np.unique(hashed[::-1], return_index=True)
            last = np.zeros(len(hashed), dtype=bool)
            last[len(hashed) - 1 - from_the_end] = True
            self._last = last
        return self._last
