"""Rows that wait until the commit that takes them, and may be gone through several times: few in memory, many on local disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import pyarrow as pa
import pyarrow.ipc

from lakeflow.lake.failures import lake_errors

HELD_BYTES: Final = 8 << 20
"""Rows that take no more wait in memory: to write and read them takes longer than what becomes of them."""
COLUMN_BYTES: Final = 512
"""What a column of a table takes beside its values."""
_WHAT = "the spool of a merge"


class RowSpool:
    """Rows of one schema: written first, then read as often as asked. Where they take more than `held_bytes`, all are in a
    compressed file, which `close` deletes.

    Memory holds those, or one batch. Raises StorageFull where the folder takes no more.
    """

    def __init__(self, schema: pa.Schema, folder: Path | None = None, *, held_bytes: int = HELD_BYTES) -> None:
        self._schema = schema
        self._folder = folder
        self._most = held_bytes
        self._held: list[pa.Table] = []
        self._held_bytes = 0
        self._file: IO[bytes] | None = None
        self._sink: pa.ipc.RecordBatchStreamWriter | None = None

    def write(self, rows: pa.Table) -> None:
        """Take rows, which have the schema."""
        size = rows.get_total_buffer_size() + COLUMN_BYTES * rows.num_columns
        if self._file is None and self._held_bytes + size <= self._most:
            self._held.append(rows)
            self._held_bytes += size
            return
        with lake_errors(_WHAT):
            sink = self._opened()
            for waiting in self._held:
                sink.write_table(waiting)
            self._held = []
            sink.write_table(rows)

    def batches(self) -> Iterator[pa.Table]:
        """The rows in the order they came. No row is taken after the first call."""
        if self._file is None:
            for rows in self._held:
                yield from (pa.Table.from_batches([batch]) for batch in rows.to_batches())
            return
        if self._sink is not None:
            with lake_errors(_WHAT):
                self._sink.close()
                self._file.flush()
            self._sink = None
        with pa.OSFile(self._file.name) as source, pa.ipc.open_stream(source) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])

    def close(self) -> None:
        """Forget the rows."""
        self._held = []
        if self._file is not None:
            self._file.close()

    def _opened(self) -> pa.ipc.RecordBatchStreamWriter:
        if self._file is None:
            self._file = tempfile.NamedTemporaryFile(prefix="lakeflow-merge-", suffix=".arrow", dir=self._folder)  # noqa: SIM115
            self._sink = pa.ipc.new_stream(self._file, self._schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))
        assert self._sink is not None, "no row is taken after the first that is read"
        return self._sink
