"""OUTPUT columns as a JSON schema, and values of JSON as OUTPUT columns: strictly, no kind becomes another.

Dates, times and timestamps are strings in ISO 8601, a DECIMAL is a string or a number, an ARRAY an array, a ROW an object.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from lakeflow.errors import DeclarationError, ModelError
from lakeflow.models.remote.dialect import Answer

MOST_SHOWN = 80


def json_schema(columns: Iterable[pa.Field], label: str, enum: Sequence[str] = ()) -> dict[str, Any]:
    """An object of the columns, all of them required and no others; `enum` are the values that strings at the top may have.

    Raises DeclarationError for a type that no JSON schema of a fixed shape has: MAP and BYTES.
    """
    properties = {}
    for column in columns:
        schema = _schema_of(column, f"{label}: OUTPUT {column.name!r}")
        if enum and pa.types.is_string(column.type):
            schema["enum"] = [*enum, None] if column.nullable else list(enum)
        properties[column.name] = schema
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def answer_of(value: object, columns: Sequence[pa.Field], labels: Sequence[str] = ()) -> Answer:
    """The values of an object of JSON, by column. Raises ModelError, saying where it is of another shape."""
    if not isinstance(value, dict):
        raise ModelError(f"the answer is {_shown(value)}, not an object of {', '.join(one.name for one in columns)}")
    unknown = sorted(set(value) - {one.name for one in columns})
    if unknown:
        raise ModelError(f"the answer has {unknown[0]!r}, which OUTPUT does not declare")
    missing = [one.name for one in columns if one.name not in value]
    if missing:
        raise ModelError(f"the answer has no {missing[0]!r}")
    answer = tuple(value[one.name] for one in columns)
    check_answer(answer, columns, labels)
    return answer


def check_answer(answer: Answer, columns: Sequence[pa.Field], labels: Sequence[str] = ()) -> None:
    """Raises ModelError where a value does not fit its column, or a string is none of `labels`."""
    for one, column in zip(answer, columns, strict=True):
        fitted = fit_value(one, column)
        if labels and isinstance(fitted, str) and fitted not in labels:
            raise ModelError(f"{column.name!r} is {_shown(fitted)}; valid: {', '.join(labels)}")
        try:
            pa.array([fitted], column.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError) as error:
            raise ModelError(f"{column.name!r} is {_shown(one)}, which is no {column.type}") from error


def column_of(values: Iterable[object], column: pa.Field) -> pa.Array:
    """Values of JSON as an Arrow array; None is null. Raises ModelError where one does not fit."""
    try:
        return pa.array([None if one is None else fit_value(one, column) for one in values], column.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise ModelError(f"an answer does not fit OUTPUT {column.name!r}, {column.type}: {error}") from error


def parsed(text: str | bytes) -> object:
    """JSON, NaN and infinities refused. Raises ModelError."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the answer is no JSON ({error}): {_shown(text)}") from error


def fit_value(value: object, column: pa.Field) -> object:
    """A value of JSON as Arrow takes it for the column. Raises ModelError."""
    if value is None:
        if not column.nullable:
            raise ModelError(f"{column.name!r} is null, and declared NOT NULL")
        return None
    try:
        return _fitter(column.type)(value, column)
    except OverflowError:  # a number of hundreds of digits, a moment before the year 1
        return _wrong(value, column)


def _fitter(kind: pa.DataType) -> Callable[[Any, pa.Field], object]:
    for test, fitter in _FITTERS:
        if test(kind):
            return fitter
    raise ModelError(f"no answer of JSON becomes {kind}")


def _text(value: Any, column: pa.Field) -> object:
    return value if isinstance(value, str) else _wrong(value, column)


def _truth(value: Any, column: pa.Field) -> object:
    return value if isinstance(value, bool) else _wrong(value, column)


def _whole(value: Any, column: pa.Field) -> object:
    return value if isinstance(value, int) and not isinstance(value, bool) else _wrong(value, column)


def _real(value: Any, column: pa.Field) -> object:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fits else _wrong(value, column)


def _decimal(value: Any, column: pa.Field) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return _wrong(value, column)
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return _wrong(value, column)
    return number if number.is_finite() else _wrong(value, column)


def _date(value: Any, column: pa.Field) -> object:
    return _iso(value, column, date.fromisoformat)


def _time(value: Any, column: pa.Field) -> object:
    moment = _iso(value, column, time.fromisoformat)
    return moment if isinstance(moment, time) and moment.tzinfo is None else _wrong(value, column)


def _timestamp(value: Any, column: pa.Field) -> object:
    moment = _iso(value, column, datetime.fromisoformat)
    assert isinstance(moment, datetime), "fromisoformat makes one"
    if (moment.tzinfo is None) != (column.type.tz is None):
        return _wrong(value, column)
    return moment.astimezone(UTC) if moment.tzinfo else moment


def _iso(value: Any, column: pa.Field, read: Callable[[str], object]) -> object:
    if not isinstance(value, str):
        return _wrong(value, column)
    try:
        return read(value)
    except ValueError:
        return _wrong(value, column)


def _list(value: Any, column: pa.Field) -> object:
    kind = column.type
    if not isinstance(value, list):
        return _wrong(value, column)
    if pa.types.is_fixed_size_list(kind) and len(value) != kind.list_size:
        raise ModelError(f"{column.name!r} has {len(value)} values, declared are {kind.list_size}")
    element = kind.value_field
    if pa.types.is_floating(element.type) and all(type(one) is float for one in value) and all(map(math.isfinite, value)):
        return value
    return [fit_value(one, element.with_name(column.name)) for one in value]


def _struct(value: Any, column: pa.Field) -> object:
    fields = list(column.type)
    if not isinstance(value, dict) or set(value) != {one.name for one in fields}:
        return _wrong(value, column)
    return {
        one.name: fit_value(value[one.name], one.with_name(f"{column.name}.{one.name}").with_nullable(one.nullable))
        for one in fields
    }


def _wrong(value: object, column: pa.Field) -> object:
    raise ModelError(f"{column.name!r} is {_shown(value)}, which is no {column.type}")


_FITTERS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any, pa.Field], object]], ...] = (
    (pa.types.is_string, _text),
    (pa.types.is_large_string, _text),
    (pa.types.is_boolean, _truth),
    (pa.types.is_integer, _whole),
    (pa.types.is_floating, _real),
    (pa.types.is_decimal, _decimal),
    (pa.types.is_date, _date),
    (pa.types.is_time, _time),
    (pa.types.is_timestamp, _timestamp),
    (pa.types.is_list, _list),
    (pa.types.is_large_list, _list),
    (pa.types.is_fixed_size_list, _list),
    (pa.types.is_struct, _struct),
)


def _schema_of(column: pa.Field, where: str) -> dict[str, Any]:
    schema = _bare_schema(column.type, where)
    if column.nullable:
        schema["type"] = [schema["type"], "null"]
    return schema


def _bare_schema(kind: pa.DataType, where: str) -> dict[str, Any]:
    if pa.types.is_struct(kind):
        inner = {one.name: _schema_of(one, f"{where}.{one.name}") for one in kind}
        return {"type": "object", "properties": inner, "required": list(inner), "additionalProperties": False}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return {"type": "array", "items": _schema_of(kind.value_field, f"{where}[]")}
    for test, schema in _SCALARS:
        if test(kind):
            return dict(schema)
    raise DeclarationError(
        f"{where} is {kind}, which an answer of JSON cannot hold; valid: numbers, strings, dates, ARRAY, ROW",
        next_step="declare an ARRAY<ROW<key STRING, value ..>> in place of a MAP, and a STRING in place of BYTES",
    )


_SCALARS: tuple[tuple[Callable[[pa.DataType], bool], dict[str, Any]], ...] = (
    (pa.types.is_string, {"type": "string"}),
    (pa.types.is_large_string, {"type": "string"}),
    (pa.types.is_boolean, {"type": "boolean"}),
    (pa.types.is_integer, {"type": "integer"}),
    (pa.types.is_floating, {"type": "number"}),
    (pa.types.is_decimal, {"type": "number"}),
    (pa.types.is_date, {"type": "string", "format": "date"}),
    (pa.types.is_time, {"type": "string", "format": "time"}),
    (pa.types.is_timestamp, {"type": "string", "format": "date-time"}),
)


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")


def _shown(value: object) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else repr(value)
    return (
        repr(text[:MOST_SHOWN]) + (".." if len(text) > MOST_SHOWN else "")
        if isinstance(value, str | bytes)
        else text[:MOST_SHOWN]
    )
