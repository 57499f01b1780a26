"""Vectors that a target holds already, found by the hashes beside them: what stands behind `Recall` in a job.

Hashes are in memory, 24 bytes a row and within a bound; vectors wait in a file, from which those that are asked for are read.
"""

from __future__ import annotations

import logging
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.lake.touch import Touching
from lakeflow.models.embeddings import HASH_BYTES

logger = logging.getLogger("lakeflow.runner")

BYTES_A_ROW: Final = HASH_BYTES + 8
HALVES: Final = np.dtype([("first", "<u8"), ("second", "<u8")])
"""A hash, as two numbers."""

Mask = NDArray[np.bool_]
_HASH: Final = re.compile(rf"[0-9a-f]{{{2 * HASH_BYTES}}}")


class Recalled:
    """The vectors of a table, of rows with the values that `groups` gives in columns of these names; None: of all rows.

    What is there is read when it is first asked for, as the table then is. No more than `most_bytes` of hashes are held, so
    that of a larger table some vectors are not known. To be closed.
    """

    def __init__(self, table: Table, groups: Callable[[], pl.DataFrame] | None, spool: Path | None, most_bytes: int) -> None:
        self._table, self._groups = table, groups
        self._spool, self._most_rows = spool, max(1, most_bytes // BYTES_A_ROW)
        self._found: dict[tuple[str, str], _Vectors | None] = {}
        self._lock = threading.Lock()

    def vectors(self, hashed: str, column: str, hashes: Sequence[str | None]) -> tuple[Mask, pa.Array]:
        """See `Recall`."""
        with self._lock:
            if (hashed, column) not in self._found:
                self._found[hashed, column] = self._read(hashed, column)
            found = self._found[hashed, column]
            if found is None:
                return np.zeros(len(hashes), dtype=bool), pa.nulls(0)
            return found.of(hashes)

    def close(self) -> None:
        """Delete the files."""
        with self._lock:
            for found in self._found.values():
                if found is not None:
                    found.close()
            self._found.clear()

    def __enter__(self) -> Recalled:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _read(self, hashed: str, column: str) -> _Vectors | None:
        """None where the table has no such columns."""
        schema = arrow_schema(self._table)
        if hashed not in schema.names or column not in schema.names or not _is_text(schema.field(hashed).type):
            return None
        kind = schema.field(column).type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or kind.value_type not in (pa.float32(), pa.float64()):
            return None
        found = _Vectors(kind.value_type, self._spool, self._most_rows)
        try:
            for rows in self._rows(hashed, column):
                found.add(rows.column(hashed).combine_chunks(), rows.column(column).combine_chunks())
            found.sort()
        except BaseException:
            found.close()
            raise
        return found

    def _rows(self, hashed: str, column: str) -> Iterator[pa.Table]:
        splits = splits_at(self._table, snapshot_at(self._table))
        if self._groups is None:
            for batch in read(self._table, splits, [hashed, column]):
                yield pa.Table.from_batches([batch])
            return
        groups = self._groups()
        touching = Touching(self._table, groups.columns, groups, nulls_equal=True)
        for touched in touching.among(splits):
            yield from touching.rows(touched, [hashed, column])


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


class _Vectors:
    """Vectors of one width in a file, by their hashes."""

    def __init__(self, element: pa.DataType, spool: Path | None, most_rows: int) -> None:
        if spool is not None:
            spool.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="vectors-", dir=spool)  # noqa: SIM115  # close() does
        self._element = element
        self._type = np.dtype(element.to_pandas_dtype())
        self._most_rows = most_rows
        self._width: int | None = None
        self._parts: list[np.ndarray] = []
        self._hashes = np.zeros(0, dtype=HALVES)
        self._places = np.zeros(0, dtype=np.int64)
        self._rows = 0

    def add(self, hashes: pa.Array, vectors: pa.Array) -> None:
        """Take rows. Those without a hash or a vector, and those of another width than the first, are left out."""
        given = _halves(hashes.to_pylist())
        lengths = np.asarray(vectors.value_lengths().fill_null(0))
        if self._width is None and (lengths > 0).any():
            self._width = int(lengths[lengths > 0][0])
        kept = given.is_hash & (lengths == (self._width or -1))
        kept &= np.cumsum(kept) <= self._most_rows - self._rows
        count = int(kept.sum())
        if not count:
            return
        flat = vectors.filter(pa.array(kept)).flatten()
        self._file.write(np.ascontiguousarray(flat.to_numpy(zero_copy_only=False), dtype=self._type).tobytes())
        self._parts.append(given.hashes[kept])
        self._rows += count
        if self._rows == self._most_rows:
            logger.info("vectors of more than %d rows are not held: of those beyond, texts are embedded again", self._most_rows)

    def sort(self) -> None:
        """No more rows come."""
        self._file.flush()
        every = np.concatenate(self._parts) if self._parts else self._hashes
        self._parts.clear()
        self._places = np.argsort(every["first"], kind="stable")
        self._hashes = every[self._places]

    def of(self, hashes: Sequence[str | None]) -> tuple[Mask, pa.Array]:
        """As `Recalled.vectors`."""
        given = _halves(hashes)
        at = np.searchsorted(self._hashes["first"], given.hashes["first"])
        known = given.is_hash & (at < len(self._hashes))
        known[known] = self._hashes[at[known]] == given.hashes[known]
        width = self._width or 0
        matrix = np.empty((int(known.sum()), width), dtype=self._type)
        for row, place in enumerate(self._places[at[known]]):
            self._file.seek(int(place) * width * self._type.itemsize)
            matrix[row] = np.frombuffer(self._file.read(width * self._type.itemsize), dtype=self._type)
        offsets = pa.array(np.arange(len(matrix) + 1) * width, pa.int32())
        return known, pa.ListArray.from_arrays(offsets, pa.array(matrix.ravel(), self._element))

    def close(self) -> None:
        self._file.close()


class _Halves:
    """Hashes as numbers, and which are hashes at all."""

    def __init__(self, hashes: np.ndarray, is_hash: Mask) -> None:
        self.hashes, self.is_hash = hashes, is_hash


def _halves(hashes: Sequence[str | None]) -> _Halves:
    is_hash = np.array([one is not None and _HASH.fullmatch(one) is not None for one in hashes], dtype=bool)
    nothing = bytes(HASH_BYTES)
    pairs = zip(hashes, is_hash, strict=True)
    content = b"".join(bytes.fromhex(one) if one is not None and mine else nothing for one, mine in pairs)
    return _Halves(np.frombuffer(content, dtype=HALVES), is_hash)
