"""What a search may filter on, as plain values, and the same in the storage's dialect of SQL.

`where.py` makes these values out of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import assert_never

import pyarrow as pa

Value = str | bool | int | Decimal | date | datetime


class Family(StrEnum):
    """What may be compared with what."""

    TEXT = "text"
    NUMBER = "number"
    TRUTH = "truth"
    DATE = "date"
    TIMESTAMP = "timestamp"
    LIST = "list"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Operand:
    """A column, or one of lower, upper and length of it."""

    column: str
    type: pa.DataType
    function: str | None = None

    @property
    def result(self) -> pa.DataType:
        """The type of its values."""
        return pa.int32() if self.function == "length" else self.type


@dataclass(frozen=True, slots=True)
class Compare:
    """`operand` against each of `values`: one value for =, <, <=, > and >=, any number for in."""

    operator: str
    operand: Operand
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Like:
    """`operand` LIKE `pattern`."""

    operand: Operand
    pattern: str


@dataclass(frozen=True, slots=True)
class Holds:
    """starts_with, ends_with, contains or array_has of a column and a value."""

    function: str
    operand: Operand
    value: Value


@dataclass(frozen=True, slots=True)
class IsNull:
    """A column that is null."""

    operand: Operand


@dataclass(frozen=True, slots=True)
class Truth:
    """A column of true and false, or one of the two."""

    value: Operand | bool


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite; of neither true nor false, neither."""

    condition: Condition


@dataclass(frozen=True, slots=True)
class Every:
    """AND."""

    conditions: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """OR."""

    conditions: tuple[Condition, ...]


Condition = Compare | Like | Holds | IsNull | Truth | Not | Every | Some


def family(declared: pa.DataType) -> Family:
    """The family of an Arrow type."""
    if pa.types.is_string(declared) or pa.types.is_large_string(declared):
        return Family.TEXT
    if pa.types.is_integer(declared) or pa.types.is_floating(declared) or pa.types.is_decimal(declared):
        return Family.NUMBER
    if pa.types.is_boolean(declared):
        return Family.TRUTH
    if pa.types.is_date(declared):
        return Family.DATE
    if pa.types.is_timestamp(declared):
        return Family.TIMESTAMP
    if pa.types.is_list(declared) or pa.types.is_large_list(declared) or pa.types.is_fixed_size_list(declared):
        return Family.LIST
    return Family.OTHER


def family_of(value: Value) -> Family:
    """The family of a literal."""
    match value:
        case bool():
            return Family.TRUTH
        case str():
            return Family.TEXT
        case int() | Decimal():
            return Family.NUMBER
        case datetime():
            return Family.TIMESTAMP
        case date():
            return Family.DATE
        case _:
            assert_never(value)


def sql(condition: Condition) -> str:
    """The condition in the storage's dialect: every name in backticks, every literal of its column's type."""
    match condition:
        case Compare(operator, operand, values):
            return _comparison(operator, operand, values)
        case Like(operand, pattern):
            return f"({_column(operand)} LIKE {_quoted(pattern)})"
        case Holds(function, operand, value):
            inside = Operand(operand.column, operand.type.value_type if function == "array_has" else operand.type)
            return f"{function}({_column(operand)}, {_literals(inside, (value,))[0]})"
        case IsNull(operand):
            return f"({_column(operand)} IS NULL)"
        case Truth(value):
            return _column(value) if isinstance(value, Operand) else str(value).upper()
        case Not(inner):
            return f"(NOT {sql(inner)})"
        case Every(conditions):
            return "(" + " AND ".join(sql(each) for each in conditions) + ")"
        case Some(conditions):
            return "(" + " OR ".join(sql(each) for each in conditions) + ")"
        case _:
            assert_never(condition)


def _comparison(operator: str, operand: Operand, values: tuple[Value, ...]) -> str:
    left = _column(operand)
    if pa.types.is_integer(operand.result) and not all(_fits(value, operand.result) for value in values):
        left, literals = f"CAST({left} AS DOUBLE)", [f"CAST({_quoted(str(value))} AS DOUBLE)" for value in values]
    else:
        literals = _literals(operand, values)
    return f"({left} IN ({', '.join(literals)}))" if operator == "in" else f"({left} {operator} {literals[0]})"


def _fits(value: Value, declared: pa.DataType) -> bool:
    if not isinstance(value, int):
        return False
    signed = pa.types.is_signed_integer(declared)
    bits = declared.bit_width - (1 if signed else 0)
    lowest = -(2**bits) if signed else 0
    return bool(lowest <= value < 2**bits)


def _literals(operand: Operand, values: Sequence[Value]) -> list[str]:
    return [_literal(operand, value) for value in values]


def _literal(operand: Operand, value: Value) -> str:
    match value:
        case bool():
            return str(value).upper()
        case str():
            return _quoted(value)
        case Decimal() if pa.types.is_decimal(operand.result):
            places = max(0, -int(value.as_tuple().exponent))
            return f"CAST({_quoted(format(value, 'f'))} AS DECIMAL(38, {places}))"
        case Decimal():
            return repr(float(value))
        case int():
            return str(value)
        case datetime():
            return f"TIMESTAMP {_quoted(value.isoformat(sep=' '))}"
        case date():
            return f"DATE {_quoted(value.isoformat())}"
        case _:
            assert_never(value)


def _column(operand: Operand) -> str:
    column = f"`{operand.column}`"
    return f"{operand.function}({column})" if operand.function else column


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
