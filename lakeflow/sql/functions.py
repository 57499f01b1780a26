"""What stands behind a call, as DuckDB knows it: a function of Arrow columns that gives a column."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from lakeflow.errors import LakeflowError, Terminal
from lakeflow.sql.binding import define, with_parameters
from lakeflow.sql.compiled import Function
from lakeflow.sql.relations import duckdb_type

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


class Behind:
    """A function within one query. `failures` keeps what it raised, which DuckDB turns into text on its way through."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self.failures: list[LakeflowError] = []

    def define(self, connection: DuckDBPyConnection) -> None:
        """Make the function known to the query's database."""
        function = self._function
        called = with_parameters(self._call, len(function.parameters))
        define(connection, function.name, called, list(map(duckdb_type, function.parameters)), duckdb_type(function.result))

    def _call(self, *columns: pa.Array | pa.ChunkedArray) -> pa.Array:
        try:
            return self._answer(columns)
        except LakeflowError as error:
            self.failures.append(error)
            raise
        except Exception as error:
            self.failures.append(Terminal(f"what stands behind {self._function.name!r} failed: {error!r}"))
            raise self.failures[-1] from error

    def _answer(self, columns: tuple[pa.Array | pa.ChunkedArray, ...]) -> pa.Array:
        function = self._function
        arrays = [_array(column).cast(kind) for column, kind in zip(columns, function.parameters, strict=True)]
        rows = pa.RecordBatch.from_arrays(arrays, names=[f"c{place}" for place in range(len(arrays))])
        answer = _array(function.call(rows))
        if len(answer) != rows.num_rows:
            raise Terminal(f"{function.name!r} gave {len(answer)} values for {rows.num_rows} rows")
        return answer if answer.type.equals(function.result) else answer.cast(function.result)


def _array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
