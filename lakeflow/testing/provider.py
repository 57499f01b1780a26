"""A provider that answers from the row alone, for tests of whatever asks models."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from lakeflow.errors import ModelError
from lakeflow.models.spec import ModelSpec

VECTOR_WIDTH = 4


class EchoProvider:
    """Keeps the contract of `Provider` for any INPUT and OUTPUT: equal rows get equal answers, others most likely not.

    An OUTPUT column is answered out of SHA-256 over its name and the row; a list holds four values, or as many as its
    type says. A null in a row is a value like any other. `fail_at` makes `predict` raise `error` when it comes to that
    row, counted from 0 over all calls. `calls` holds the number of rows of each call.
    """

    def __init__(self, spec: ModelSpec, *, fail_at: int | None = None, error: Exception | None = None) -> None:
        self._spec = spec
        self._fail_at = fail_at
        self._error = error or ModelError(f"{spec.label}: the fake provider was told to fail at row {fail_at}")
        self._lock = threading.Lock()
        self._seen = 0
        self.calls: list[int] = []
        self.checked = False
        self.closed = False

    def identity(self) -> Mapping[str, str | Path]:
        return dict(self._spec.options)

    def check(self) -> None:
        self.checked, self.closed = True, False

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if not self.checked or self.closed:
            raise ModelError(f"{self._spec.label} is asked before it was checked, or after it was closed")
        with self._lock:
            first, self._seen = self._seen, self._seen + rows.num_rows
            self.calls.append(rows.num_rows)
        if self._fail_at is not None and first <= self._fail_at < first + rows.num_rows:
            raise self._error
        keys = [repr(tuple(row.values())).encode() for row in rows.to_pylist()]
        columns = [pa.array([_answer(column, key) for key in keys], column.type) for column in self._spec.output]
        return pa.RecordBatch.from_arrays(columns, schema=self._spec.output)

    def close(self) -> None:
        self.closed = True


def _answer(column: pa.Field, key: bytes) -> object:
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        width = kind.list_size if pa.types.is_fixed_size_list(kind) else VECTOR_WIDTH
        item = pa.field(column.name, kind.value_type)
        return [_answer(item, key + bytes([place % 256])) for place in range(width)]
    if pa.types.is_struct(kind):
        return {field.name: _answer(field, key) for field in kind}
    number = int.from_bytes(hashlib.sha256(column.name.encode() + b"\0" + key).digest()[:4], "big")
    if pa.types.is_boolean(kind):
        return number % 2 == 0
    if pa.types.is_integer(kind):
        return number % 100
    if pa.types.is_floating(kind):
        return number % 1024 / 1024
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return f"{number:08x}"
    raise ModelError(f"the fake provider has no answer of the type {kind} for OUTPUT column {column.name!r}")
