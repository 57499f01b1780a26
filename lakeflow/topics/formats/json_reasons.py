"""Why a JSON record gives no row, in words: the field's path, the value, what is wanted.

The decoder has already decided; this reads the record once more, slowly, to name the first thing that does not fit.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import pyarrow as pa

from lakeflow.topics.formats.format import RejectKind
from lakeflow.topics.formats.scalars import is_number, reading_of
from lakeflow.topics.formats.shape import FLOAT_MOST, INTEGER_BITS, JSON_TEXT

SHOWN = 60
"""How many characters of a value a reason shows."""

SQL_NAMES: dict[pa.DataType, str] = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "STRING",
    pa.binary(): "BINARY in base64",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME(6)",
    pa.timestamp("us"): "TIMESTAMP(6), which has no zone",
    pa.timestamp("us", "UTC"): "TIMESTAMP_LTZ(6), which needs a zone",
}

Explained = tuple[RejectKind, str]


class Number(str):
    """A JSON number as it is written."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, those of a key that stands twice included."""

    __slots__ = ()

    def places(self) -> Iterable[tuple[str, int]]:
        """Each key with its place."""
        return ((name, place) for place, (name, _) in enumerate(self))


class Reasons:
    """Explains rejects of one schema."""

    def __init__(self, fields: Sequence[pa.Field], *, refuse_unknown: bool) -> None:
        self._fields = fields
        self._refuse_unknown = refuse_unknown

    def of(self, value: bytes | None, complaint: str) -> Explained:
        """The kind and the reason. `complaint` is the decoder's own, which stands where nothing better is found."""
        if value is None:
            return RejectKind.TOMBSTONE, "the record has no value (a tombstone)"
        if not value.strip():
            return RejectKind.MALFORMED, "the value is blank"
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            broken = value[error.start : error.start + 4]
            return RejectKind.MALFORMED, f"broken UTF-8 at byte {error.start}: {broken!r}"
        try:
            return self._explained(text, complaint)
        except RecursionError:
            return RejectKind.MALFORMED, f"nested too deeply: {_shown(text)}"

    def _explained(self, text: str, complaint: str) -> Explained:
        try:
            tree = _parsed(text)
        except ValueError as error:
            return RejectKind.MALFORMED, f"not one JSON object: {complaint or error}: {_shown(text)}"
        if not isinstance(tree, Pairs):
            return RejectKind.MALFORMED, f"the top level is {_kind(tree)}, not an object: {_shown(text)}"
        surrogate = _surrogate(tree)
        if surrogate:
            return RejectKind.MALFORMED, surrogate
        found = self._object(tree, self._fields, "$")
        return RejectKind.MISFIT, found or complaint or f"the value does not fit the schema: {_shown(text)}"

    def _object(self, pairs: Pairs, fields: Sequence[pa.Field], path: str, *, counts: bool = True) -> str | None:
        """The first misfit of an object. `counts` is false under a key that stands again later on."""
        known = {field.name: field for field in fields}
        last = dict(pairs.places())
        for place, (name, value) in enumerate(pairs):
            if name in known:
                found = self._field(value, known[name], f"{path}.{name}", counts=counts and last[name] == place)
            else:
                found = f"unknown field {path}.{name}" if self._refuse_unknown else None
            if found:
                return found
        missing = [field for field in fields if not field.nullable and field.name not in last]
        return f"{path}.{missing[0].name} is missing, and it is NOT NULL" if missing else None

    def _field(self, value: Any, field: pa.Field, path: str, *, counts: bool) -> str | None:
        type_ = field.type
        if not counts and (
            pa.types.is_decimal(type_) or type_ == JSON_TEXT or (pa.types.is_temporal(type_) and type(value) is str)
        ):
            return None
        if value is None:
            return None if field.nullable else f"{path} is null, and it is NOT NULL"
        if pa.types.is_struct(type_):
            if isinstance(value, Pairs):
                return self._object(value, list(type_), path, counts=counts)
            return _wanted(path, value, "an object (a ROW)")
        if pa.types.is_map(type_):
            if isinstance(value, Pairs):
                return self._map(value, type_.item_field, path, counts)
            return _wanted(path, value, "an object (a MAP)")
        if pa.types.is_list(type_):
            if type(value) is not list:
                return _wanted(path, value, "an array")
            element = type_.value_field
            return _first(self._field(item, element, f"{path}[{place}]", counts=counts) for place, item in enumerate(value))
        return None if _fits(value, type_) else _wanted(path, value, _sql_name(type_))

    def _map(self, pairs: Pairs, item: pa.Field, path: str, counts: bool) -> str | None:
        last = dict(pairs.places())
        return _first(
            self._field(value, item, f"{path}[{_shown(name)}]", counts=counts and last[name] == place)
            for place, (name, value) in enumerate(pairs)
        )


def _first(found: Iterable[str | None]) -> str | None:
    return next(filter(None, found), None)


def _parsed(text: str) -> Any:
    return json.loads(text, object_pairs_hook=Pairs, parse_int=Number, parse_float=Number, parse_constant=_refused)


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _fits(value: Any, type_: pa.DataType) -> bool:
    if type_ == JSON_TEXT:
        return True
    if type_ == pa.bool_():
        return isinstance(value, bool)
    if type_ in INTEGER_BITS:
        half = 2 ** (INTEGER_BITS[type_] - 1)
        whole = isinstance(value, Number) and len(value) <= 20 and not set(value) & set(".eE")
        return whole and -half <= int(value) < half
    if type_ in (pa.float32(), pa.float64()):
        most = FLOAT_MOST if type_ == pa.float32() else float("inf")
        return isinstance(value, Number) and (abs(float(value)) <= most and abs(float(value)) != float("inf"))
    if pa.types.is_decimal(type_):
        return isinstance(value, str) and is_number(value) is not None and reading_of(type_).fits(str(value))
    if not isinstance(value, str) or isinstance(value, Number):
        return False
    if type_ == pa.string():
        return True
    if pa.types.is_fixed_size_binary(type_):
        width: int = type_.byte_width
        return _length(value) == width
    return _length(value) is not None if type_ == pa.binary() else reading_of(type_).fits(str(value))


def _length(text: str) -> int | None:
    """How many bytes base64 text holds; None where it is none."""
    try:
        return len(b64decode(text, validate=True))
    except ValueError:
        return None


def _surrogate(tree: Pairs) -> str | None:
    try:
        json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return f"half of a surrogate pair: {json.dumps(error.object[error.start])}"
    return None


def _wanted(path: str, value: Any, wanted: str) -> str:
    return f"{path} is {_kind(value)} {_shown(_written(value))}; wanted {wanted}"


def _sql_name(type_: pa.DataType) -> str:
    if pa.types.is_decimal(type_):
        return f"DECIMAL({type_.precision}, {type_.scale})"
    if pa.types.is_fixed_size_binary(type_):
        return f"BINARY({type_.byte_width}) in base64"
    return SQL_NAMES[type_]


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "the truth value"
        case Number():
            return "the number"
        case str():
            return "the string"
        case Pairs():
            return "the object"
        case _:
            return "the array"


def _written(value: Any) -> str:
    match value:
        case Number():
            return str(value)
        case Pairs():
            return "{" + ", ".join(f"{json.dumps(name)}: {_written(item)}" for name, item in value[:SHOWN]) + "}"
        case list():
            return "[" + ", ".join(_written(item) for item in value[:SHOWN]) + "]"
        case _:
            return json.dumps(value)


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}.. ({len(text)} characters)"
