"""What a CREATE TABLE .. WITH ('connector' = 'kafka') asks of its landing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError, UnknownName, did_you_mean
from lakeflow.landing.cut import Limits
from lakeflow.landing.options import choice, count, listed, seconds, size
from lakeflow.landing.route import Route, route_of
from lakeflow.topics.formats.debezium_options import extra_columns
from lakeflow.topics.formats.registry import OPTIONS as FORMAT_OPTIONS
from lakeflow.topics.names import PATTERN, TOPIC, Topics, topics_of

KAFKA = "kafka"
CONNECTORS = (KAFKA, "iceberg")


class OnError(StrEnum):
    """What becomes of a record that gives no row: stop before it, drop it, or keep it among the dead letters."""

    SUSPEND = "suspend"
    SKIP = "skip"
    DEAD_LETTER = "dead_letter"


class ChangelogMode(StrEnum):
    """What a record does to the table: adds a row, or replaces the row of its key (a tombstone or a delete takes it away)."""

    APPEND = "append"
    UPSERT = "upsert"


_HEADER = pa.struct([pa.field("key", pa.string(), nullable=False), pa.field("value", pa.binary())])
METADATA_COLUMNS: Mapping[str, pa.DataType] = {
    "topic": pa.string(),
    "partition": pa.int32(),
    "offset": pa.int64(),
    "timestamp": pa.timestamp("us", "UTC"),
    "timestamp_type": pa.string(),
    "leader_epoch": pa.int32(),
    "headers": pa.list_(pa.field("element", _HEADER, nullable=False)),
    "key": pa.binary(),
    "value": pa.binary(),
}
METADATA_PREFIX = "kafka_"

_OWN_OPTIONS = (
    "connector",
    "topic",
    "topic-pattern",
    "value.format",
    "value.fields-include",
    "key.format",
    "key.fields",
    "key.fields-prefix",
    "changelog.mode",
    "schema.evolution",
    "route.by",
    "route.values",
    "on_error",
    "dead_letter.topic",
    "metadata.columns",
    "commit.max-rows",
    "commit.max-bytes",
    "commit.interval",
    "target-file-size",
    "valid_from",  # this and the next are for those who join the table as of their rows' times
    "valid_until",
)
_PASSED_ON = ("scan.startup.", "properties.", "sink.")
DEBEZIUM_AS = "debezium.as"


@dataclass(frozen=True, slots=True)
class KeySpec:
    """How the records' keys are read. `fields` are the columns that they give, in the table's names.

    With `in_value` the value holds these columns too, and the key is looked at for records without a value only.
    """

    format: str
    fields: tuple[str, ...]
    prefix: str
    in_value: bool
    options: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LandingSpec:
    """One or several topics into one table.

    `columns` are those declared, None where they come from the registry. `metadata` are keys of METADATA_COLUMNS,
    `metadata_names` what their columns are called. `properties` go to librdkafka beside [kafka]; `options` are the WITH
    pairs, of which the formats and the start read their own.
    """

    declared: TableSpec
    topics: Topics
    value_format: str
    key: KeySpec | None
    mode: ChangelogMode
    evolves: bool
    route: Route | None
    on_error: OnError
    letter_topic: str | None
    metadata: tuple[str, ...]
    metadata_names: Mapping[str, str]
    limits: Limits
    target_file_bytes: int | None
    properties: Mapping[str, str] = field(repr=False)
    options: Mapping[str, str] = field(repr=False)

    @property
    def table(self) -> str:
        return self.declared.name

    @property
    def columns(self) -> pa.Schema | None:
        return self.declared.schema if self.declared.schema.names else None

    @property
    def metadata_columns(self) -> tuple[str, ...]:
        """The names of the metadata columns, in the order of `metadata`."""
        return tuple(self.metadata_names[key] for key in self.metadata)

    @property
    def value_columns(self) -> pa.Schema | None:
        """The declared columns that values give."""
        columns = self.columns
        if columns is None or self.key is None or self.key.in_value:
            return columns
        return pa.schema([column for column in columns if column.name not in self.key.fields])

    @property
    def key_columns(self) -> pa.Schema | None:
        """The declared columns that keys give, by their names in the key."""
        columns = self.columns
        if columns is None or self.key is None:
            return None
        named = [columns.field(name) for name in self.key.fields]
        return pa.schema([column.with_name(column.name.removeprefix(self.key.prefix)) for column in named])

    def stored(self, columns: pa.Schema) -> TableSpec:
        """The table as it is kept: `columns`, those of the primary key NOT NULL, those of 'debezium.columns' where they are
        not among them, then the metadata columns and the computed ones.

        Raises DeclarationError where the primary key names a column that is not there or two columns clash.
        """
        where = f"{self.declared.origin}: table {self.table}"
        for name in self.declared.primary_key:
            if name not in columns.names:
                raise UnknownName(f"column in PRIMARY KEY of {where}", name, columns.names)
        key = self.declared.primary_key
        schema = pa.schema([column.with_nullable(column.nullable and column.name not in key) for column in columns])
        for extra in extra_columns(self.options) if is_change_log(self.value_format) else ():
            if extra.name not in schema.names:
                schema = schema.append(extra)
        for name, column in zip(self.metadata, self.metadata_columns, strict=True):
            if column in schema.names:
                raise DeclarationError(f"{where} declares {column!r}, which 'metadata.columns' adds too")
            schema = schema.append(pa.field(column, METADATA_COLUMNS[name]))
        for column in self.declared.computed.columns if self.declared.computed else ():
            if column.name in schema.names:
                raise DeclarationError(f"{where} computes {column.name!r}, which the topic or 'metadata.columns' has too")
            schema = schema.append(column)
        return replace(self.declared, schema=schema)


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
    value_format = options.get("value.format", "json")
    _refuse_unknown(options, value_format, where)
    key = _key_of(table, options, where)
    mode = _mode_of(table, options, value_format, where)
    on_error = OnError(choice(options, "on_error", OnError, OnError.SUSPEND, where))
    letter_topic = options.get("dead_letter.topic") or None
    if letter_topic and on_error is not OnError.DEAD_LETTER:
        raise DeclarationError(
            f"{where}: 'dead_letter.topic' has no effect with 'on_error' = {str(on_error)!r}; it goes with 'dead_letter'"
        )
    metadata = _metadata_columns(table, options, where)
    spec = LandingSpec(
        declared=table,
        topics=_topics_of(options, where),
        value_format=value_format,
        key=key,
        mode=mode,
        evolves=choice(options, "schema.evolution", ("on", "off"), "off" if table.schema.names else "on", where) == "on",
        route=route_of(options, value_format, where),
        on_error=on_error,
        letter_topic=letter_topic,
        metadata=tuple(metadata),
        metadata_names=metadata,
        limits=Limits(
            rows=count(options, "commit.max-rows", defaults.rows, where),
            bytes=size(options, "commit.max-bytes", defaults.bytes, where),
            seconds=seconds(options, "commit.interval", defaults.seconds, where),
        ),
        target_file_bytes=size(options, "target-file-size", 0, where) if "target-file-size" in options else None,
        properties={k.removeprefix("properties."): v for k, v in options.items() if k.startswith("properties.")},
        options={**options, DEBEZIUM_AS: "rows" if mode is ChangelogMode.UPSERT else "changes"},
    )
    if spec.columns is not None:
        spec.stored(spec.columns)
    _refuse_idle_evolution(spec, where)
    return spec


def topics_declared(table: TableSpec) -> str | None:
    """The topics, or their pattern, as the declaration of a landed table has them."""
    return table.options.get(TOPIC) or table.options.get(PATTERN)


def is_change_log(value_format: str) -> bool:
    """Whether the values of a format are Debezium's envelopes."""
    return "debezium" in value_format


def _refuse_unknown(options: Mapping[str, str], value_format: str, where: str) -> None:
    """Raises UnknownName for an option that neither the landing nor one of its formats reads, and for an unknown format."""
    passed_on = [*_PASSED_ON]
    for side, name in (("", value_format), ("key.", options.get("key.format"))):
        if name is not None and name not in FORMAT_OPTIONS:
            raise UnknownName(f"format of {where}", name, FORMAT_OPTIONS)
        passed_on += [side + prefix for prefix in FORMAT_OPTIONS.get(name or "", ())]
    for option in options:
        if option not in _OWN_OPTIONS and not option.startswith(tuple(passed_on)):
            raise UnknownName(f"option of {where}", option, [*_OWN_OPTIONS, *(f"{prefix}*" for prefix in passed_on)])


KNOW_NO_MORE = ("json", "raw")
"""Formats that read the declared columns and know of no others."""


def _refuse_idle_evolution(spec: LandingSpec, where: str) -> None:
    if spec.evolves and spec.columns is not None and spec.value_format in KNOW_NO_MORE:
        raise DeclarationError(
            f"{where}: 'schema.evolution' = 'on' has no effect with 'value.format' = {spec.value_format!r}, which reads the "
            "declared columns alone",
            next_step=f"declare the columns (lakeflow tables infer {spec.table}), or write the topic with a schema registry",
        )


def _topics_of(options: Mapping[str, str], where: str) -> Topics:
    try:
        return topics_of(options)
    except DeclarationError as error:
        raise DeclarationError(f"{where}: {error.message}") from error


def _mode_of(table: TableSpec, options: Mapping[str, str], value_format: str, where: str) -> ChangelogMode:
    """Upsert where it is said, and for a change log with a primary key."""
    is_keyed_log = is_change_log(value_format) and bool(table.primary_key)
    default = ChangelogMode.UPSERT if is_keyed_log else ChangelogMode.APPEND
    if is_change_log(value_format) and not table.primary_key and "changelog.mode" not in options:
        raise DeclarationError(
            f"{where}: 'value.format' = {value_format!r} is a change log, and the table has no PRIMARY KEY; declare one, or "
            "say 'changelog.mode' = 'append' to keep every change as a row"
        )
    mode = ChangelogMode(choice(options, "changelog.mode", ChangelogMode, default, where))
    if mode is ChangelogMode.UPSERT and not table.primary_key:
        raise DeclarationError(f"{where}: 'changelog.mode' = 'upsert' needs a key; add PRIMARY KEY (column, ..) NOT ENFORCED")
    return mode


def _key_of(table: TableSpec, options: Mapping[str, str], where: str) -> KeySpec | None:
    name = options.get("key.format")
    if name is None:
        for other in ("key.fields", "key.fields-prefix", "value.fields-include"):
            if other in options:
                raise DeclarationError(f"{where}: {other!r} goes with 'key.format'")
        return None
    prefix = options.get("key.fields-prefix", "")
    fields = listed(options, "key.fields") or table.primary_key
    if not fields:
        raise DeclarationError(
            f"{where}: 'key.format' gives no column; name them, as in 'key.fields' = 'id;region', or declare a PRIMARY KEY"
        )
    for one in fields:
        if table.schema.names and one not in table.schema.names:
            raise UnknownName(f"column in 'key.fields' of {where}", one, table.schema.names)
        if not one.startswith(prefix):
            raise DeclarationError(
                f"{where}: 'key.fields' names {one!r}, which does not begin with 'key.fields-prefix' = {prefix!r}"
            )
    in_value = choice(options, "value.fields-include", ("ALL", "EXCEPT_KEY"), "ALL", where) == "ALL"
    if in_value and prefix:
        raise DeclarationError(
            f"{where}: 'key.fields-prefix' needs 'value.fields-include' = 'EXCEPT_KEY': prefixed columns are in no value"
        )
    if not in_value and table.schema.names and set(table.schema.names) <= set(fields):
        raise DeclarationError(
            f"{where}: every column is one of 'key.fields', and with 'value.fields-include' = 'EXCEPT_KEY' values give none"
        )
    return KeySpec(
        name, fields, prefix, in_value, {k.removeprefix("key."): v for k, v in options.items() if k.startswith("key.")}
    )


def _metadata_columns(table: TableSpec, options: Mapping[str, str], where: str) -> dict[str, str]:
    """The metadata that is kept, by key: what its column is called."""
    names = tuple(METADATA_COLUMNS) if options.get("metadata.columns") == "all" else listed(options, "metadata.columns", ",")
    for name in names:
        if name not in METADATA_COLUMNS:
            raise DeclarationError(
                f"{where}: 'metadata.columns' names {name!r}{did_you_mean(name, [*METADATA_COLUMNS, 'all'])}"
            )
    return {name: METADATA_PREFIX + name for name in names} | _declared_metadata(table, where)


def _declared_metadata(table: TableSpec, where: str) -> dict[str, str]:
    """The same of columns METADATA FROM 'key'; Flink writes '-' within a key."""
    found: dict[str, str] = {}
    for each in table.metadata:
        key, column = each.key.replace("-", "_"), each.column
        if key not in METADATA_COLUMNS:
            raise DeclarationError(
                f"{where}: column {column.name!r} is METADATA FROM {each.key!r}{did_you_mean(key, METADATA_COLUMNS)}"
            )
        if key in found:
            raise DeclarationError(f"{where}: columns {found[key]!r} and {column.name!r} are both METADATA FROM {each.key!r}")
        if column.type != METADATA_COLUMNS[key]:
            raise DeclarationError(
                f"{where}: column {column.name!r} is METADATA FROM {each.key!r} and of type {column.type}; "
                f"valid: {METADATA_COLUMNS[key]}"
            )
        found[key] = column.name
    return found
