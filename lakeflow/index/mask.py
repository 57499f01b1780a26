"""The conditions of a search over rows at hand: which of them meet one. Pure; `condition.py` has the values.

Nulls as in SQL, and NaN above every number, as the storage of indexes compares them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import assert_never

import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.index.condition import Compare, Condition, Every, Holds, IsNull, Like, Not, Operand, Some, Truth, Value


def mask(condition: Condition, rows: pa.RecordBatch) -> pa.BooleanArray:
    """For each row true, false, or null where SQL says neither."""
    match condition:
        case Compare(operator, operand, values):
            return _compared(operator, _values(operand, rows), operand, values)
        case Like(operand, pattern):
            return pc.match_substring_regex(_values(operand, rows), _expression(pattern))
        case Holds():
            return _holds(condition, rows)
        case IsNull(operand):
            return pc.is_null(_values(operand, rows))
        case Truth(value):
            return _values(value, rows) if isinstance(value, Operand) else pa.array([value] * rows.num_rows, pa.bool_())
        case Not(inner):
            return pc.invert(mask(inner, rows))
        case Every(conditions):
            return _joined(pc.and_kleene, [mask(one, rows) for one in conditions])
        case Some(conditions):
            return _joined(pc.or_kleene, [mask(one, rows) for one in conditions])
        case _:
            assert_never(condition)


def columns_of(condition: Condition) -> Iterator[str]:
    """The columns that a condition looks at."""
    match condition:
        case Compare(operand=operand) | Like(operand=operand) | Holds(operand=operand) | IsNull(operand=operand):
            yield operand.column
        case Truth(value):
            if isinstance(value, Operand):
                yield value.column
        case Not(inner):
            yield from columns_of(inner)
        case Every(conditions) | Some(conditions):
            for one in conditions:
                yield from columns_of(one)
        case _:
            assert_never(condition)


def _joined(join: object, parts: list[pa.BooleanArray]) -> pa.BooleanArray:
    found = parts[0]
    for part in parts[1:]:
        found = join(found, part)  # type: ignore[operator]
    return found


def _values(operand: Operand, rows: pa.RecordBatch) -> pa.Array:
    column = rows.column(operand.column)
    match operand.function:
        case "lower":
            return pc.utf8_lower(column)
        case "upper":
            return pc.utf8_upper(column)
        case "length":
            return pc.utf8_length(column)
        case _:
            return column


def _scalar(kind: pa.DataType, value: Value) -> pa.Scalar:
    """A literal at the precision of its column: a 32-bit float compares with one, a zoned time with an instant in UTC."""
    if pa.types.is_floating(kind) and isinstance(value, int | Decimal):
        return pa.scalar(float(value), kind)
    if pa.types.is_timestamp(kind):
        return pa.scalar(value, pa.timestamp(kind.unit)).cast(kind)
    return pa.scalar(value)


def _compared(operator: str, left: pa.Array, operand: Operand, values: tuple[Value, ...]) -> pa.BooleanArray:
    scalars = [_scalar(operand.result, value) for value in values]
    match operator:
        case "in" | "=":
            return _joined(pc.or_kleene, [pc.equal(left, one) for one in scalars])
        case "<":
            return pc.less(left, scalars[0])
        case "<=":
            return pc.less_equal(left, scalars[0])
        case ">" | ">=":
            found = pc.greater(left, scalars[0]) if operator == ">" else pc.greater_equal(left, scalars[0])
            return pc.or_kleene(found, pc.is_nan(left)) if pa.types.is_floating(left.type) else found
        case _:
            raise AssertionError(f"where.py makes no {operator!r}")


def _holds(condition: Holds, rows: pa.RecordBatch) -> pa.BooleanArray:
    column = _values(condition.operand, rows)
    match condition.function:
        case "starts_with":
            return pc.starts_with(column, condition.value)
        case "ends_with":
            return pc.ends_with(column, condition.value)
        case "contains":
            return pc.match_substring(column, condition.value)
        case _:
            return _array_has(column, condition.value)


def _array_has(column: pa.Array, value: Value) -> pa.BooleanArray:
    """Whether a list holds the value; null for a null list."""
    found = pc.equal(pc.list_flatten(column), _scalar(column.type.value_type, value)).fill_null(False)
    having = pc.list_parent_indices(column).filter(found)
    has = pc.is_in(pa.array(range(len(column)), having.type), having)
    return pc.if_else(column.is_valid(), has, pa.scalar(None, pa.bool_()))


def _expression(pattern: str) -> str:
    """A LIKE pattern as a regular expression of the whole text."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    inside = "".join({"%": ".*", "_": "."}.get(part, re.escape(part[-1])) for part in parts)
    return f"(?s)^{inside}$"
