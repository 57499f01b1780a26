"""What the options 'sink.*' in WITH ask of a table: which topic its rows go to, and as what. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError, UnknownName, did_you_mean
from lakeflow.job import OnChange
from lakeflow.landing.options import choice, count, listed
from lakeflow.landing.spec import is_landed, topics_declared
from lakeflow.topics.formats.registry import OPTIONS as READ_FORMATS

PREFIX = "sink."
TOPIC = "sink.topic"
FORMATS = ("json", "raw")
PROPERTIES = "sink.properties."
OPTIONS = (
    *("sink.topic", "sink.format", "sink.columns", "sink.key", "sink.key.format", "sink.headers", "sink.timestamp"),
    *("sink.on_change", "sink.delivery", "sink.commit.max-rows", "sink.json.decimals", "sink.json.non-finite"),
)
MOST_ROWS = 100_000


class Delivery(StrEnum):
    """Whether a record may come twice after a failure."""

    EXACTLY_ONCE = "exactly-once"
    AT_LEAST_ONCE = "at-least-once"


class OnRemoval(StrEnum):
    """What becomes of rows that were changed or removed in the table: as a job's `on_change`; `follow` needs a key."""

    FAIL = "fail"
    IGNORE_DELETES = "ignore_deletes"
    FOLLOW = "follow"

    @property
    def reading(self) -> OnChange:
        """How the table is read for it."""
        return OnChange.RECOMPUTE if self is OnRemoval.FOLLOW else OnChange(self.value)


@dataclass(frozen=True, slots=True)
class SinkSpec:
    """The rows of a table into a topic.

    `columns` are sent, None: all; `key` columns make the record's key, `headers` are columns whose values go into headers
    of their names, `timestamp` is the column of the record's time. `rows` bounds a transaction, which holds one data file
    at the least. `json` are options of the format; `properties` go to librdkafka beside [kafka].
    """

    declared: TableSpec
    topic: str
    format: str
    columns: tuple[str, ...] | None
    key: tuple[str, ...]
    key_format: str
    headers: tuple[str, ...]
    timestamp: str | None
    on_change: OnRemoval
    delivery: Delivery
    rows: int
    json: Mapping[str, str]
    properties: Mapping[str, str] = field(repr=False)

    @property
    def table(self) -> str:
        return self.declared.name

    @property
    def where(self) -> str:
        """What messages call the declaration."""
        return f"{self.declared.origin}: table {self.table}"

    @property
    def is_keyed(self) -> bool:
        """Whether changed and removed rows are followed by their key."""
        return self.on_change is OnRemoval.FOLLOW


def has_sink(table: TableSpec) -> bool:
    """Whether the rows of a table go to a topic. Raises UnknownName for options of a sink without its topic."""
    given = [name for name in table.options if name.startswith(PREFIX)]
    if given and TOPIC not in given:
        raise DeclarationError(f"{table.origin}: table {table.name}: {given[0]!r} goes with {TOPIC!r}, which is missing")
    return bool(given)


def sink_spec(table: TableSpec, options: Mapping[str, str]) -> SinkSpec:
    """The sink that `table` declares. `options` are its WITH pairs with the environment and secrets filled in.

    Raises DeclarationError and UnknownName, naming file, table, option and valid values.
    """
    where = f"{table.origin}: table {table.name}"
    for name in options:
        if name.startswith(PREFIX) and name not in OPTIONS and not name.startswith(PROPERTIES):
            raise UnknownName(f"option of {where}", name, [*OPTIONS, f"{PROPERTIES}*"])
    key = listed(options, "sink.key") or table.primary_key
    if not key and "sink.key.format" in options:
        raise DeclarationError(f"{where}: 'sink.key.format' goes with 'sink.key', or a PRIMARY KEY")
    default = OnRemoval.FOLLOW if key else OnRemoval.FAIL
    on_change = OnRemoval(choice(options, "sink.on_change", OnRemoval, default, where))
    if on_change is OnRemoval.FOLLOW and not key:
        raise DeclarationError(f"{where}: 'sink.on_change' = 'follow' needs 'sink.key', or a PRIMARY KEY: by it rows are found")
    return SinkSpec(
        declared=table,
        topic=_topic(table, options, where),
        format=_format(options, "sink.format", where),
        columns=listed(options, "sink.columns") or None,
        key=key,
        key_format=_format(options, "sink.key.format", where),
        headers=listed(options, "sink.headers"),
        timestamp=options.get("sink.timestamp") or None,
        on_change=on_change,
        delivery=Delivery(choice(options, "sink.delivery", Delivery, Delivery.EXACTLY_ONCE, where)),
        rows=count(options, "sink.commit.max-rows", MOST_ROWS, where),
        json={name.removeprefix(PREFIX): text for name, text in options.items() if name.startswith("sink.json.")},
        properties={name.removeprefix(PROPERTIES): text for name, text in options.items() if name.startswith(PROPERTIES)},
    )


def _topic(table: TableSpec, options: Mapping[str, str], where: str) -> str:
    topic = options.get(TOPIC, "").strip()
    if not topic:
        raise DeclarationError(f"{where}: {TOPIC!r} is empty; valid: the name of a topic")
    if is_landed(table) and topic in (topics_declared(table) or "").split(";"):
        raise DeclarationError(f"{where}: {TOPIC!r} is {topic!r}, which the table is landed from: it would go round for ever")
    return topic


def _format(options: Mapping[str, str], name: str, where: str) -> str:
    found = options.get(name, FORMATS[0])
    if found in READ_FORMATS and found not in FORMATS:
        raise DeclarationError(
            f"{where}: {name!r} is {found!r}, in which topics are read and not written; valid: {', '.join(FORMATS)}"
        )
    if found not in FORMATS:
        raise DeclarationError(f"{where}: {name!r} is {found!r}{did_you_mean(found, FORMATS)}")
    return found


TIMES = (pa.timestamp("us"), pa.timestamp("us", "UTC"))
BARE = (pa.string(), pa.binary())


def checked_columns(spec: SinkSpec, columns: pa.Schema) -> pa.Schema:
    """The columns of the table that make values, as `columns` has them. Raises UnknownName for one that is not there, and
    DeclarationError for one that cannot be what it is to be."""
    headers, time = spec.headers, (spec.timestamp,) if spec.timestamp else ()
    for option, names in (("columns", spec.columns or ()), ("key", spec.key), ("headers", headers), ("timestamp", time)):
        for name in names:
            if name not in columns.names:
                raise UnknownName(f"column in 'sink.{option}' of {spec.where}", name, columns.names)
    values = pa.schema([columns.field(name) for name in spec.columns or columns.names])
    _check_raw("sink.format", spec.format, values, spec.where)
    if spec.key:
        _check_raw("sink.key.format", spec.key_format, pa.schema([columns.field(name) for name in spec.key]), spec.where)
    for name in spec.headers:
        if columns.field(name).type not in BARE:
            raise DeclarationError(
                f"{spec.where}: 'sink.headers' names {name!r}, {columns.field(name).type}; valid: STRING, BYTES"
            )
    if spec.timestamp and columns.field(spec.timestamp).type not in TIMES:
        kind = columns.field(spec.timestamp).type
        raise DeclarationError(
            f"{spec.where}: 'sink.timestamp' names {spec.timestamp!r}, {kind}; valid: TIMESTAMP, TIMESTAMP_LTZ"
        )
    return values


def _check_raw(option: str, format: str, columns: pa.Schema, where: str) -> None:
    if format == "raw" and (len(columns) != 1 or columns.field(0).type not in BARE):
        given = ", ".join(f"{column.name} {column.type}" for column in columns)
        raise DeclarationError(f"{where}: {option!r} = 'raw' takes one column of STRING or BYTES; given: {given}")
