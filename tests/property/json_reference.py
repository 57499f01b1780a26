"""What a strict JSON format must give, written a second time with nothing but the standard library, record by record."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import re
import struct
from base64 import b64decode
from typing import Any, NoReturn

import pyarrow as pa

ZONE = r"(Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)"
TIME = r"([01]\d|2[0-3])(?::([0-5]\d)(?::([0-5]\d)(?:\.(\d{1,6}))?)?)?"
DATE = r"(\d{4})-(\d\d)-(\d\d)"
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
INTEGERS = {pa.int8(): 7, pa.int16(): 15, pa.int32(): 31, pa.int64(): 63}


class Refused(Exception):
    """The record gives no row."""


class Token(str):
    """A number as it is written."""


class Pairs(list[Any]):
    """An object as its pairs."""


def row_of(value: bytes | None, schema: pa.Schema, *, refuse_unknown: bool) -> dict[str, Any]:
    """The row as `RecordBatch.to_pylist` would give it. Raises Refused."""
    if value is None:
        raise Refused("tombstone")
    try:
        text = value.decode()
        tree = json.loads(text, object_pairs_hook=Pairs, parse_int=Token, parse_float=Token, parse_constant=_refuse)
    except ValueError as error:
        raise Refused(str(error)) from error
    _refuse_surrogates(tree)
    if not isinstance(tree, Pairs):
        raise Refused("no object")
    return _object(tree, list(schema), refuse_unknown)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def _refuse_surrogates(tree: Any) -> None:
    if isinstance(tree, Pairs):
        for key, value in tree:
            _refuse_surrogates(key)
            _refuse_surrogates(value)
    elif isinstance(tree, list):
        for value in tree:
            _refuse_surrogates(value)
    elif isinstance(tree, str) and any(0xD800 <= ord(character) < 0xE000 for character in tree):
        raise Refused("surrogate")


def _object(pairs: Pairs, fields: list[pa.Field], refuse_unknown: bool, counts: bool = True) -> dict[str, Any]:
    row: dict[str, Any] = {field.name: None for field in fields}
    types = {field.name: field for field in fields}
    for (key, value), is_last in zip(pairs, _last(pairs), strict=True):
        if key in types:
            row[key] = _field(value, types[key], refuse_unknown, counts and is_last)
        elif refuse_unknown:
            raise Refused(f"unknown {key}")
    for field in fields:
        if not field.nullable and field.name not in {key for key, _ in pairs}:
            raise Refused(f"missing {field.name}")
    return row


def _last(pairs: Pairs) -> list[bool]:
    keys = [key for key, _ in pairs]
    return [key not in keys[place + 1 :] for place, key in enumerate(keys)]


def _field(value: Any, field: pa.Field, refuse_unknown: bool, counts: bool) -> Any:
    type_ = field.type
    if pa.types.is_decimal(type_) and not counts:
        return None
    if value is None:
        if not field.nullable:
            raise Refused(f"null {field.name}")
        return None
    if pa.types.is_struct(type_):
        return _object(_of(value, Pairs), list(type_), refuse_unknown, counts)
    if pa.types.is_map(type_):
        pairs = _of(value, Pairs)
        entries = {
            key: _field(item, type_.item_field, refuse_unknown, counts and is_last)
            for (key, item), is_last in zip(pairs, _last(pairs), strict=True)
        }
        return list(entries.items())
    if pa.types.is_list(type_):
        return [_field(item, type_.value_field, refuse_unknown, counts) for item in _of(value, list)]
    if pa.types.is_temporal(type_) and not counts:
        return _of(value, str)
    if pa.types.is_decimal(type_):
        return _decimal(_of(value, Token, str), type_)
    if type_ == pa.bool_():
        return _of(value, bool)
    if type_ in INTEGERS or type_ in (pa.float32(), pa.float64()):
        return _number(_of(value, Token), type_)
    return _text(_of(value, str), type_)


def _of(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise Refused(f"kind of {value!r}")
    return value


def _number(token: str, type_: pa.DataType) -> int | float:
    if type_ in INTEGERS:
        if not re.fullmatch(r"-?[0-9]+", token) or not -(1 << INTEGERS[type_]) <= int(token) < 1 << INTEGERS[type_]:
            raise Refused(token)
        return int(token)
    number = float(token)
    if abs(number) == float("inf"):
        raise Refused(token)
    if type_ == pa.float64():
        return number
    try:
        return float(struct.unpack("f", struct.pack("f", number))[0])
    except OverflowError as error:
        raise Refused(token) from error


def _decimal(token: str, type_: pa.DataType) -> decimal.Decimal:
    if not NUMBER.fullmatch(token):
        raise Refused(token)
    with decimal.localcontext(decimal.Context(prec=10_000, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)):
        number = decimal.Decimal(token)
        if number and number.adjusted() >= type_.precision - type_.scale:
            raise Refused(token)
        fitted = (number or decimal.Decimal(0)).quantize(decimal.Decimal(1).scaleb(-type_.scale))
        if fitted != number:
            raise Refused(token)
        return fitted + 0


def _text(text: str, type_: pa.DataType) -> Any:
    if type_ == pa.string():
        return text
    if type_ == pa.binary() or pa.types.is_fixed_size_binary(type_):
        if not BASE64.fullmatch(text):
            raise Refused(text)
        found = b64decode(text)
        if type_ != pa.binary() and len(found) != type_.byte_width:
            raise Refused(text)
        return found
    try:
        return _moment(text, type_)
    except (ValueError, OverflowError) as error:
        raise Refused(text) from error


def _moment(text: str, type_: pa.DataType) -> Any:
    if type_ == pa.date32():
        return dt.date(*map(int, _groups(DATE, text)))
    if type_ == pa.time64("us"):
        return dt.time(*_clock(_groups(TIME, text)))
    zone = ZONE if type_.tz else "()"
    *date_and_clock, offset = _groups(f"{DATE}[T ]{TIME}{zone}", text)
    moment = dt.datetime.combine(dt.date(*map(int, date_and_clock[:3])), dt.time(*_clock(date_and_clock[3:])))
    if not type_.tz:
        return moment
    digits = offset[1:].replace(":", "").ljust(4, "0") if offset != "Z" else "0000"
    away = dt.timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return (moment + away if offset[0] == "-" else moment - away).replace(tzinfo=dt.UTC)


def _groups(pattern: str, text: str) -> list[str]:
    found = re.fullmatch(pattern, text, re.ASCII)
    if not found:
        raise ValueError(text)
    return [group or "0" for group in found.groups()]


def _clock(groups: list[str]) -> tuple[int, int, int, int]:
    return int(groups[0]), int(groups[1]), int(groups[2]), int(groups[3].ljust(6, "0"))
