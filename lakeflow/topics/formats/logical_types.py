"""The named types of Kafka Connect and Debezium: what their values mean, and the column types that can hold them.

https://debezium.io/documentation/reference/stable/connectors/postgresql.html#postgresql-data-types
https://kafka.apache.org/documentation/#connect (org.apache.kafka.connect.data)

A name that is not here (Uuid, Json, Enum, EnumSet, Xml, Bits, Year, geometries, ..) is kept as it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from lakeflow.errors import SchemaMismatch
from lakeflow.topics.formats import logical_reads as reads
from lakeflow.topics.formats.logical import Logical, Read, Spot, leaf, plain
from lakeflow.topics.formats.shape import JSON_TEXT

CONNECT = "org.apache.kafka.connect.data."
DEBEZIUM_TIME = "io.debezium.time."
DECIMAL = f"{CONNECT}Decimal"
VARIABLE_SCALE = "io.debezium.data.VariableScaleDecimal"
PRECISION = "connect.decimal.precision"

DATE = pa.date32()
TIME = pa.time64("us")
LOCAL = pa.timestamp("us")
MOMENT = pa.timestamp("us", "UTC")

MOST_DIGITS = reads.MOST_DIGITS
VARIABLE_SCALE_WRITTEN = pa.struct([pa.field("scale", pa.int32(), False), pa.field("value", pa.binary(), False)])


@dataclass(frozen=True, slots=True)
class Meaning:
    """How values are read, for each column type that can hold them, the default first; and what fits, in words."""

    reads: Mapping[pa.DataType, Read]
    wanted: str
    text: bool = False


def _moments(microseconds: int, wanted: str) -> Meaning:
    return Meaning({kind: reads.moments(microseconds, kind) for kind in (LOCAL, MOMENT)}, wanted)


YEARS = "of the years 0001 to 9999"
_DAYS = Meaning({DATE: reads.days}, f"days since 1970-01-01, {YEARS}")
_MILLIS_OF_DAY = Meaning({TIME: reads.times(1000)}, "milliseconds of a day")
_MILLIS = _moments(1000, f"milliseconds since 1970-01-01, {YEARS}")

MEANINGS: Mapping[str, Meaning] = {
    f"{CONNECT}Date": _DAYS,
    f"{CONNECT}Time": _MILLIS_OF_DAY,
    f"{CONNECT}Timestamp": _MILLIS,
    f"{DEBEZIUM_TIME}Date": _DAYS,
    f"{DEBEZIUM_TIME}Time": _MILLIS_OF_DAY,
    f"{DEBEZIUM_TIME}MicroTime": Meaning({TIME: reads.times(1)}, "microseconds of a day"),
    f"{DEBEZIUM_TIME}NanoTime": Meaning({TIME: reads.times(reads.NANOSECONDS)}, "nanoseconds of a day, in whole microseconds"),
    f"{DEBEZIUM_TIME}Timestamp": _MILLIS,
    f"{DEBEZIUM_TIME}MicroTimestamp": _moments(1, f"microseconds since 1970-01-01, {YEARS}"),
    f"{DEBEZIUM_TIME}NanoTimestamp": _moments(
        reads.NANOSECONDS, f"nanoseconds since 1970-01-01, in whole microseconds, {YEARS}"
    ),
    f"{DEBEZIUM_TIME}ZonedTimestamp": Meaning({MOMENT: reads.texts(MOMENT)}, "TIMESTAMP_LTZ(6) with its zone", text=True),
    f"{DEBEZIUM_TIME}ZonedTime": Meaning(
        {pa.string(): reads.casting(pa.string()), TIME: reads.texts(TIME, utc=True)}, "TIME(6) in UTC", text=True
    ),
    f"{DEBEZIUM_TIME}IsoDate": Meaning({DATE: reads.texts(DATE, utc=True)}, "DATE in UTC", text=True),
    f"{DEBEZIUM_TIME}IsoTime": Meaning({TIME: reads.texts(TIME, utc=True)}, "TIME(6) in UTC", text=True),
    f"{DEBEZIUM_TIME}IsoTimestamp": Meaning(
        {LOCAL: reads.texts(LOCAL, utc=True), MOMENT: reads.texts(MOMENT)}, "TIMESTAMP(6) in UTC", text=True
    ),
}


def named_type(
    name: str, parameters: Mapping[str, object], written: pa.DataType, column: pa.DataType | None = None, *, zoned: bool = False
) -> Logical:
    """A nullable field `value` of the named type, which is written as `written`, for a column of type `column` or the default.

    `zoned` makes Connect's Timestamp an instant, as Connect itself has it; Debezium uses it for times without a zone.
    Raises SchemaMismatch where no column, or not that one, can hold such values.
    """
    if name == DECIMAL:
        return _decimal(parameters, written, column)
    if name == VARIABLE_SCALE and pa.types.is_struct(written):
        return _variable_scale(written, column)
    if name == f"{CONNECT}Timestamp" and pa.types.is_timestamp(written):
        return widened(written, column or (MOMENT if zoned else LOCAL))
    meaning = MEANINGS.get(name)
    if meaning is None or _is_text(written) != meaning.text or not (meaning.text or pa.types.is_integer(written)):
        return widened(written, column)
    default = MOMENT if zoned and name == f"{CONNECT}Timestamp" else next(iter(meaning.reads))
    kept = column or default
    if kept in meaning.reads:
        return leaf("value", written, kept, meaning.reads[kept], meaning.wanted)
    if kept == written:
        return plain("value", written)
    raise SchemaMismatch(f"is written as {name}, and the column is of {kept}; valid: {_listed([*meaning.reads, written])}")


def _is_text(type_: pa.DataType) -> bool:
    return bool(type_ == pa.string())


def decimal_type(parameters: Mapping[str, object]) -> tuple[int, pa.DataType]:
    """The scale that values are written with, and the type that holds them. Raises SchemaMismatch where none does."""
    try:
        scale = int(str(parameters.get("scale", 0)))
        digits = int(str(parameters.get(PRECISION, MOST_DIGITS)))
    except ValueError as error:
        raise SchemaMismatch(f"has a decimal's parameters {dict(parameters)!r}; wanted whole numbers") from error
    most = max(digits, scale, 1) - min(scale, 0)
    if PRECISION not in parameters:
        most = MOST_DIGITS
    if most > MOST_DIGITS or abs(scale) > MOST_DIGITS:
        raise SchemaMismatch(f"is a decimal of {digits} digits, {scale} after the point; a table holds {MOST_DIGITS} at most")
    return scale, pa.decimal128(most, max(scale, 0))


def _decimal(parameters: Mapping[str, object], written: pa.DataType, column: pa.DataType | None) -> Logical:
    scale, default = decimal_type(parameters)
    kept = column or default
    if not pa.types.is_decimal128(kept):
        raise SchemaMismatch(f"is written as {DECIMAL}, and the column is of {kept}; valid: {default}, or another decimal")
    wanted = f"a decimal of {kept.precision} digits, {kept.scale} after the point"
    if written == JSON_TEXT:
        return leaf("value", written, kept, reads.decimal_tokens(scale, kept), wanted)
    if pa.types.is_decimal(written):
        return leaf("value", written, kept, reads.casting(kept), wanted)
    return leaf("value", written, kept, reads.unscaled(scale, kept), f"{wanted}, as unscaled bytes")


def _variable_scale(written: pa.DataType, column: pa.DataType | None) -> Logical:
    kept = column or pa.string()
    if kept != pa.string() and not pa.types.is_decimal128(kept):
        raise SchemaMismatch(f"is written as {VARIABLE_SCALE}, and the column is of {kept}; valid: string, or a decimal")
    if "scale" not in written.names or "value" not in written.names:
        raise SchemaMismatch(f"is named {VARIABLE_SCALE}, and has the fields {', '.join(written.names)}; wanted scale, value")
    return leaf("value", written, kept, reads.variable_scale(kept), f"a decimal that fits {kept}")


def widened(written: pa.DataType, column: pa.DataType | None) -> Logical:
    """A nullable field `value` kept as it is written, or in a wider type. Raises SchemaMismatch for any other column."""
    if column is None or column == written:
        return plain("value", written)
    if _may_hold(written, column):
        return leaf("value", written, column, reads.casting(column), f"a value that fits {column}")
    raise SchemaMismatch(f"is written as {written}, and the column is of {column}")


def retyped(field: Logical, column: pa.DataType) -> Logical:
    """`field`, kept as `column`. Raises SchemaMismatch where that cannot hold it."""
    if field.kept.type == column:
        return field
    if field.written.type == column and not pa.types.is_nested(column):
        return Logical(field.written, field.written)
    try:
        widening = widened(field.kept.type, column)
    except SchemaMismatch as error:
        raise SchemaMismatch(f"{field.kept.name} {error.message}") from error

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        return widening.of(field.of(array, spot), spot)

    return Logical(field.written, field.kept.with_type(column), convert)


def _may_hold(written: pa.DataType, column: pa.DataType) -> bool:
    is_ = pa.types
    if is_.is_integer(written):
        wider = is_.is_integer(column) and column.bit_width >= written.bit_width
        return bool(wider or is_.is_decimal(column) or (column == pa.float64() and written.bit_width <= 32))
    if is_.is_decimal(written):
        return bool(is_.is_decimal(column))
    if is_.is_timestamp(written):
        return bool(is_.is_timestamp(column))
    return bool(
        (written == pa.float32() and column == pa.float64()) or (is_.is_fixed_size_binary(written) and column == pa.binary())
    )


def _listed(types: list[pa.DataType]) -> str:
    return ", ".join(str(kind) for kind in dict.fromkeys(types))
