"""What a CREATE TABLE .. WITH ('connector' = 'kafka') asks of its landing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError, UnknownName, did_you_mean
from lakeflow.landing.cut import Limits

KAFKA = "kafka"
CONNECTORS = (KAFKA, "iceberg")


class OnError(StrEnum):
    """What becomes of a record that gives no row: stop before it, drop it, or keep it in lakeflow.dead_letters."""

    SUSPEND = "suspend"
    SKIP = "skip"
    DEAD_LETTER = "dead_letter"


METADATA_COLUMNS: Mapping[str, pa.DataType] = {
    "topic": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "timestamp": pa.timestamp("us", "UTC"),
    "timestamp_type": pa.string(),
    "key": pa.binary(),
}
METADATA_PREFIX = "kafka_"

_OWN_OPTIONS = (
    "connector",
    "topic",
    "value.format",
    "on_error",
    "metadata.columns",
    "commit.rows",
    "commit.bytes",
    "commit.seconds",
)
_PASSED_ON = ("scan.startup.", "json.", "properties.")


@dataclass(frozen=True, slots=True)
class LandingSpec:
    """One topic into one table.

    `stored` is the table as it is kept: the declared columns, then the metadata columns. `properties` go to
    librdkafka beside [kafka]; `options` are the WITH pairs, of which the format and the start read their own.
    """

    declared: TableSpec
    stored: TableSpec
    topic: str
    value_format: str
    on_error: OnError
    metadata: tuple[str, ...]
    limits: Limits
    properties: Mapping[str, str] = field(repr=False)
    options: Mapping[str, str] = field(repr=False)

    @property
    def table(self) -> str:
        return self.declared.name


def is_landed(table: TableSpec) -> bool:
    """Whether the table is filled from a topic. Raises DeclarationError for a connector that is not there."""
    connector = table.options.get("connector", "iceberg")
    if connector not in CONNECTORS:
        raise DeclarationError(
            f"{table.origin}: table {table.name}: 'connector' is {connector!r}{did_you_mean(connector, CONNECTORS)}"
        )
    return connector == KAFKA


def landing_spec(table: TableSpec, options: Mapping[str, str], defaults: Limits) -> LandingSpec:
    """The landing that `table` declares. `options` are its WITH pairs with the environment and secrets filled in.

    Raises DeclarationError, naming file, table, option and valid values.
    """
    where = f"{table.origin}: table {table.name}"
    for name in options:
        if name not in _OWN_OPTIONS and not name.startswith(_PASSED_ON):
            raise UnknownName(f"option of {where}", name, [*_OWN_OPTIONS, *(f"{prefix}*" for prefix in _PASSED_ON)])
    topic = options.get("topic", "")
    if not topic:
        raise DeclarationError(f"{where} names no topic; add 'topic' = '..' to its WITH options")
    on_error = options.get("on_error", OnError.SUSPEND)
    if on_error not in list(OnError):
        raise DeclarationError(f"{where}: 'on_error' is {on_error!r}{did_you_mean(on_error, [str(kind) for kind in OnError])}")
    metadata = _metadata_columns(options.get("metadata.columns", ""), where)
    return LandingSpec(
        declared=table,
        stored=replace(table, schema=_stored_schema(table, metadata)),
        topic=topic,
        value_format=options.get("value.format", "json"),
        on_error=OnError(on_error),
        metadata=metadata,
        limits=Limits(
            rows=int(_number(options, "commit.rows", defaults.rows, where)),
            bytes=int(_number(options, "commit.bytes", defaults.bytes, where)),
            seconds=_number(options, "commit.seconds", defaults.seconds, where),
        ),
        properties={k.removeprefix("properties."): v for k, v in options.items() if k.startswith("properties.")},
        options=options,
    )


def _metadata_columns(text: str, where: str) -> tuple[str, ...]:
    names = tuple(METADATA_COLUMNS) if text == "all" else tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if name not in METADATA_COLUMNS:
            raise DeclarationError(
                f"{where}: 'metadata.columns' names {name!r}{did_you_mean(name, [*METADATA_COLUMNS, 'all'])}"
            )
    return tuple(dict.fromkeys(names))


def _stored_schema(table: TableSpec, metadata: tuple[str, ...]) -> pa.Schema:
    schema = table.schema
    for name in metadata:
        column = METADATA_PREFIX + name
        if column in schema.names:
            raise DeclarationError(f"{table.origin}: table {table.name} declares {column!r}, which 'metadata.columns' adds too")
        schema = schema.append(pa.field(column, METADATA_COLUMNS[name]))
    return schema


def _number(options: Mapping[str, str], name: str, default: float, where: str) -> float:
    text = options.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise DeclarationError(f"{where}: {name!r} is {text!r}; valid: a number above 0")
    return value
