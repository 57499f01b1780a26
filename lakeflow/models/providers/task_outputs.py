"""Which OUTPUT columns a task cannot do without, for models that run in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

import pyarrow as pa

from lakeflow.errors import ModelError
from lakeflow.models.spec import ModelSpec, Task

LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def check_task(spec: ModelSpec) -> None:
    """Raises ModelError where no OUTPUT column can hold what the task gives."""
    kinds = [column.type for column in spec.output]
    needed = _needed(spec.task, kinds)
    if needed is not None:
        raise ModelError(f"{spec.label}: task '{spec.task}' needs {needed} as OUTPUT; declared: {_declared(spec.output)}")


def _needed(task: Task, kinds: Sequence[pa.DataType]) -> str | None:
    """The columns that the task cannot do without; None where they are there."""
    match task:
        case Task.EMBEDDING:
            return None if len(kinds) == 1 and is_float_list(kinds[0]) else "exactly one column, ARRAY<FLOAT>"
        case Task.REGRESSION:
            return None if any(map(is_real, kinds)) else "a column of FLOAT, DOUBLE or DECIMAL"
        case Task.CLUSTERING:
            return None if any(map(_is_label, kinds)) else "a column of INT, BIGINT or STRING for the cluster"
        case Task.CLASSIFICATION | Task.TEXT_GENERATION:
            return None
        case _ as never:
            assert_never(never)


def require_answers(spec: ModelSpec, rows: pa.RecordBatch) -> pa.RecordBatch:
    """The rows. Raises ModelError where a row has no answer in a column that OUTPUT declares NOT NULL."""
    for column, declared in zip(rows.columns, spec.output, strict=True):
        if column.null_count and not declared.nullable:
            raise ModelError(
                f"{spec.label}: OUTPUT {declared.name!r} is NOT NULL, and {column.null_count} rows have no answer",
                next_step="take NOT NULL away, or say 'null_policy' = 'error'",
            )
    return rows


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds a vector in each row."""
    return any(check(kind) for check in LISTS)


def is_float_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds a vector of floats in each row."""
    return is_list(kind) and pa.types.is_floating(kind.value_type)


def is_real(kind: pa.DataType) -> bool:
    """Whether a column of this type holds fractions."""
    return bool(pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_label(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _declared(schema: pa.Schema) -> str:
    return ", ".join(f"{column.name} {column.type}" for column in schema)
