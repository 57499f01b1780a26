"""Rows that wait on local disk until the commit that takes them, and may be gone through several times."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

from lakeflow.lake.failures import lake_errors

_WHAT = "the spool of a merge"


class RowSpool:
    """A compressed local file of rows of one schema: written first, then read as often as asked; `close` deletes it.

    Memory holds one batch. Raises StorageFull where the folder takes no more.
    """

    def __init__(self, schema: pa.Schema, folder: Path | None = None) -> None:
        self._written = False
        with lake_errors(_WHAT):
            self._file = tempfile.NamedTemporaryFile(prefix="lakeflow-merge-", suffix=".arrow", dir=folder)  # noqa: SIM115
            self._sink = pa.ipc.new_stream(self._file, schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))

    def write(self, rows: pa.Table) -> None:
        """Take rows, which have the schema."""
        with lake_errors(_WHAT):
            self._sink.write_table(rows)

    def batches(self) -> Iterator[pa.Table]:
        """The rows in the order they came. No row is taken after the first call."""
        if not self._written:
            with lake_errors(_WHAT):
                self._sink.close()
                self._file.flush()
            self._written = True
        with pa.OSFile(self._file.name) as source, pa.ipc.open_stream(source) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])

    def close(self) -> None:
        """Delete the file."""
        self._file.close()
