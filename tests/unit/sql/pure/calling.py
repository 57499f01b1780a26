"""Pure functions as a query calls them: bound to the types of their arguments, then asked for the values of some rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lakeflow.sql.pure.registry import pure_functions


def call(name: str, *columns: pa.Array) -> pa.Array:
    """The column that the function gives for columns of arguments."""
    function = pure_functions()[name]
    bound = function.bind(tuple(column.type for column in columns))
    given = [column.cast(kind) for column, kind in zip(columns, bound.parameters, strict=True)]
    rows = pa.RecordBatch.from_arrays(given, names=[f"c{place}" for place in range(len(given))])
    found = function.call(rows)
    assert found.type == bound.result, "the result is of the type that was promised"
    assert len(found) == rows.num_rows
    return found


def value(name: str, *arguments: Any) -> Any:
    """The value for a single row."""
    return call(name, *(pa.array([argument]) for argument in arguments))[0].as_py()


def values(name: str, first: Sequence[Any], *settings: Any) -> list[Any]:
    """The values for several rows, whose arguments are the same but for the first."""
    found: list[Any] = call(name, pa.array(first), *(pa.array([one] * len(first)) for one in settings)).to_pylist()
    return found
