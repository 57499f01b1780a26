"""Well-known Protobuf messages to the columns that they mean.

https://protobuf.dev/reference/protobuf/google.protobuf/ and https://github.com/googleapis/googleapis/tree/master/google/type

Each takes the struct of the message as it is read. Nothing is rounded: what a column cannot hold exactly is a misfit.
"""

from __future__ import annotations

import decimal
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import json_format, struct_pb2
from google.protobuf.message import DecodeError, Message

from lakeflow.errors import SchemaMismatch
from lakeflow.topics.formats.format import RejectKind
from lakeflow.topics.formats.protobuf_columns import Convert, Flags, Mapped, Spot, flags, numbers

SECOND = 1_000_000
DAY_SECONDS = 86_400
FIRST_SECOND = -62_135_596_800
"""0001-01-01T00:00:00Z, and the last second of 9999: the years that SQL has."""
LAST_SECOND = 253_402_300_799
DURATION_SECONDS = 315_576_000_000
"""The most seconds of a Duration, by its definition."""
DECIMAL_BYTES = 16
DECIMAL_DIGITS = 38

Params = Mapping[str, str]
"""What `confluent.field_meta` says of a field."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What a field or the table's options say of a well-known message; `floors` as in Mapper."""

    params: Params
    floors: bool


Known = Callable[[str, Choices], Mapped]
"""`(path, choices)` to the Mapped."""

Exact = decimal.Context(prec=decimal.MAX_PREC, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX, traps=[decimal.InvalidOperation])


def _masked(values: Any, type_: pa.DataType, like: pa.Array, wrong: Flags) -> pa.Array:
    """`values` (64-bit) as `type_`, null where `like` is or where they are wrong."""
    absent = flags(like.is_null()) | wrong
    return pa.array(np.where(absent, 0, values), pa.int64(), mask=absent).cast(type_)


def _seconds_and_nanos(path: str, name: str, kind: pa.DataType, fits: Callable[[Any, Any], Flags], *, floors: bool) -> Mapped:
    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        seconds, nanos = numbers(array.field("seconds")), numbers(array.field("nanos"))
        wrong = ~fits(seconds, nanos)
        if not floors:
            wrong |= nanos % 1000 != 0
        if wrong.any():
            wrong &= flags(array.is_valid())

            def reason(place: int) -> str:
                return f"{path} is {seconds[place]} s and {nanos[place]} ns; wanted {name} of whole microseconds"

            spot.reject(wrong, reason)
        safe = np.where(wrong, 0, seconds)
        return _masked(safe * SECOND + nanos // 1000, kind, array, wrong)

    return Mapped(kind, convert)


def _timestamp(path: str, choices: Choices) -> Mapped:
    def fits(seconds: Any, nanos: Any) -> Flags:
        inside: Flags = (seconds >= FIRST_SECOND) & (seconds <= LAST_SECOND) & (nanos >= 0) & (nanos < 1_000_000_000)
        return inside

    name = "a Timestamp in the years 0001 to 9999"
    return _seconds_and_nanos(path, name, pa.timestamp("us", "UTC"), fits, floors=choices.floors)


def _duration(path: str, choices: Choices) -> Mapped:
    def fits(seconds: Any, nanos: Any) -> Flags:
        one_sign = ~(((seconds > 0) & (nanos < 0)) | ((seconds < 0) & (nanos > 0)))
        inside: Flags = (np.abs(np.maximum(seconds, -DURATION_SECONDS - 1)) <= DURATION_SECONDS) & one_sign
        inside &= np.abs(nanos.astype(np.int64)) < 1_000_000_000
        return inside

    return _seconds_and_nanos(path, "a Duration of up to 10000 years", pa.int64(), fits, floors=choices.floors)


def _date(path: str, _: Choices) -> Mapped:
    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        year, month, day = (numbers(array.field(name)).astype(np.int64) for name in ("year", "month", "day"))
        sound = (year >= 1) & (year <= 9999) & (month >= 1) & (month <= 12)
        months = np.where(sound, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
        first = months.astype("datetime64[D]").astype(np.int64)
        after = (months + 1).astype("datetime64[D]").astype(np.int64)
        wrong = ~(sound & (day >= 1) & (day <= after - first)) & flags(array.is_valid())
        spot.reject(wrong, lambda place: f"{path} is year {year[place]}, month {month[place]}, day {day[place]}; wanted a DATE")
        absent = wrong | flags(array.is_null())
        return pa.array(np.where(absent, 0, first + day - 1).astype(np.int32), pa.int32(), mask=absent).cast(pa.date32())

    return Mapped(pa.date32(), convert)


def _time_of_day(path: str, choices: Choices) -> Mapped:
    parts = {"hours": 24, "minutes": 60, "seconds": 60, "nanos": 1_000_000_000}

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        read = {name: numbers(array.field(name)).astype(np.int64) for name in parts}
        wrong = (read["nanos"] % 1000 != 0) & (not choices.floors)
        for name, end in parts.items():
            wrong |= (read[name] < 0) | (read[name] >= end)
        wrong &= flags(array.is_valid())

        def reason(place: int) -> str:
            shown = ", ".join(f"{name} {read[name][place]}" for name in parts)
            return f"{path} is {shown}; wanted a time of whole microseconds before 24:00"

        spot.reject(wrong, reason)
        seconds = read["hours"] * 3600 + read["minutes"] * 60 + read["seconds"]
        return _masked(seconds * SECOND + read["nanos"] // 1000, pa.time64("us"), array, wrong)

    return Mapped(pa.time64("us"), convert)


def _field_mask(_: str, __: Choices) -> Mapped:
    kind = pa.list_(pa.field("element", pa.string(), nullable=False))

    def convert(array: pa.Array, _: Spot) -> pa.Array:
        paths = array.field("paths")
        mask = array.is_null() if array.null_count else None
        return pa.ListArray.from_arrays(paths.offsets, paths.values, type=kind, mask=mask)

    return Mapped(kind, convert)


def _google_decimal(path: str, choices: Choices) -> Mapped:
    """A number in text, as a DECIMAL where the field's params say which, else as it is written."""
    kind = _declared_decimal(path, choices.params)

    def number(place: int, array: pa.Array) -> decimal.Decimal:
        text = array.field("value")[place].as_py()
        found = decimal.Decimal(text)
        if not found.is_finite():
            raise ValueError(text)
        return found

    if kind is None:
        return Mapped(pa.string(), lambda array, _: where_valid(array.field("value"), array))
    return Mapped(kind, _each_number(path, kind, number))


def _confluent_decimal(path: str, choices: Choices) -> Mapped:
    """An unscaled number in big-endian bytes, and its scale."""
    kind = _declared_decimal(path, choices.params)

    def number(place: int, array: pa.Array) -> decimal.Decimal:
        raw, scale = array.field("value")[place].as_py(), array.field("scale")[place].as_py()
        if not raw or abs(scale) > 10_000:
            raise ValueError("no digits, or a scale out of reason")
        return decimal.Decimal(int.from_bytes(raw, "big", signed=True)).scaleb(-scale, Exact)

    slow = _each_number(path, kind or pa.string(), number)
    if kind is None:
        return Mapped(pa.string(), slow)

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        lengths = np.diff(_ends(array.field("value")))
        plain = (numbers(array.field("scale")) == kind.scale) & (lengths > 0) & (lengths <= DECIMAL_BYTES)
        if not (plain | flags(array.is_null())).all():
            return slow(array, spot)
        whole = _unscaled(array, lengths, kind.scale)
        try:
            return whole.cast(kind)
        except pa.ArrowInvalid:
            return slow(array, spot)

    return Mapped(kind, convert)


def _unscaled(array: pa.Array, lengths: Any, scale: int) -> pa.Array:
    """The numbers of `array` with all digits that 16 bytes hold: a byte of each at a time, from the end."""
    values = array.field("value")
    ends = _ends(values)[1:]
    data = np.frombuffer(values.buffers()[2] or b"\0", np.uint8)
    held = lengths > 0
    first = np.where(held, data[np.minimum(ends - lengths, len(data) - 1)], 0)
    out = np.repeat(np.where(first >= 0x80, 0xFF, 0).astype(np.uint8)[:, None], DECIMAL_BYTES, axis=1)
    for place in range(int(lengths.max(initial=0))):
        has = lengths > place
        out[has, place] = data[ends[has] - 1 - place]
    absent = pa.array(flags(array.is_valid())).buffers()[1]
    return pa.Array.from_buffers(pa.decimal128(DECIMAL_DIGITS, scale), len(array), [absent, pa.py_buffer(out)])


def _ends(values: pa.BinaryArray) -> Any:
    """Where each byte string begins, and where the last one ends."""
    return np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values) + 1]


def _each_number(path: str, kind: pa.DataType, number: Callable[[int, pa.Array], decimal.Decimal]) -> Convert:
    """Converts numbers one by one, where they are not all alike."""

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        valid = flags(array.is_valid())
        wrong = np.zeros(len(array), np.bool_)
        found: list[Any] = [None] * len(array)
        for place in np.flatnonzero(valid).tolist():
            try:
                read = number(place, array)
                found[place] = f"{read:f}" if kind == pa.string() else _fitted(read, kind)
            except (ValueError, ArithmeticError):
                wrong[place] = True
        wanted = "a number" if kind == pa.string() else f"a DECIMAL({kind.precision}, {kind.scale})"
        spot.reject(wrong, lambda place: f"{path} is {_cut(array[place].as_py())}; wanted {wanted}")
        return pa.array(found, kind)

    return convert


def _fitted(number: decimal.Decimal, kind: pa.DataType) -> decimal.Decimal:
    """`number` at the scale of `kind`. Raises ArithmeticError where digits would be lost."""
    scaled = number.scaleb(kind.scale, Exact)
    if scaled != scaled.to_integral_value(context=Exact) or (scaled and scaled.adjusted() >= kind.precision):
        raise ArithmeticError("lost digits")
    return decimal.Decimal(int(scaled)).scaleb(-kind.scale, Exact)


def _declared_decimal(path: str, params: Params) -> pa.DataType | None:
    if "precision" not in params:
        return None
    try:
        precision, scale = int(params["precision"]), int(params.get("scale", "0"))
    except ValueError:
        precision, scale = 0, 0
    if not (1 <= precision <= DECIMAL_DIGITS and 0 <= scale <= precision):
        raise SchemaMismatch(f"{path} has the params {dict(params)}; precision goes up to 38, scale from 0 up to precision")
    return pa.decimal128(precision, scale)


def where_valid(values: pa.Array, parent: pa.Array) -> pa.Array:
    """`values`, a scalar field of `parent`, null where `parent` is."""
    if not parent.null_count:
        return values
    absent = pa.scalar(None, values.type)
    return pc.if_else(parent.is_valid(), values, absent)


def json_text(path: str, full_name: str) -> Mapped:
    """Byte strings that hold a Struct, Value or ListValue, as JSON: keys sorted, no blanks. One by one."""
    read = {"Struct": struct_pb2.Struct, "Value": struct_pb2.Value, "ListValue": struct_pb2.ListValue}
    message = read[full_name.rpartition(".")[2]]

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        texts = [None if raw is None else _text(message, raw) for raw in array.to_pylist()]
        wrong = np.fromiter((isinstance(text, Exception) for text in texts), np.bool_, len(texts))
        if wrong.any():
            broken = np.fromiter((isinstance(text, DecodeError) for text in texts), np.bool_, len(texts))
            spot.reject(broken, lambda place: f"{path} is no {full_name}: {texts[place]}", RejectKind.MALFORMED)
            spot.reject(wrong & ~broken, lambda place: f"{path} is nothing that JSON has: {texts[place]}")
        return pa.array([None if isinstance(text, Exception) else text for text in texts], pa.string())

    return Mapped(pa.string(), convert)


def _text(message: Callable[[], Message], raw: bytes) -> str | Exception:
    read = message()
    try:
        read.ParseFromString(raw)
        return json.dumps(
            json_format.MessageToDict(read), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (DecodeError, json_format.SerializeToJsonError, ValueError) as error:
        return error


def _cut(value: Any) -> str:
    shown = str(value)
    return shown if len(shown) <= 60 else f"{shown[:60]}.."


WRAPPERS = tuple(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)

KNOWN: Mapping[str, tuple[tuple[str, ...], Known]] = {
    "google.protobuf.Timestamp": (("seconds", "nanos"), _timestamp),
    "google.protobuf.Duration": (("seconds", "nanos"), _duration),
    "google.protobuf.FieldMask": (("paths",), _field_mask),
    "google.type.Date": (("year", "month", "day"), _date),
    "google.type.TimeOfDay": (("hours", "minutes", "seconds", "nanos"), _time_of_day),
    "google.type.Decimal": (("value",), _google_decimal),
    "confluent.type.Decimal": (("value", "precision", "scale"), _confluent_decimal),
}
"""By full name: the fields of the message, and what makes a column of it."""
