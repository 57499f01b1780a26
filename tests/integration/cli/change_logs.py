"""Debezium's change log of one small table, written in each of its formats, and what the table is after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from lakeflow.topics.registered import SchemaKind
from tests.integration.cli.landings import Site, framed, in_json, record

TOPIC = "shop.public.people"
TABLE = "bronze.people"
Person = dict[str, Any]
"""id INT, name STRING NOT NULL, email STRING."""
Written = tuple[bytes | None, bytes | None]


@dataclass(frozen=True, slots=True)
class Event:
    """`op` and the rows before and after it; without an op, a tombstone of `before`."""

    op: str | None
    before: Person | None = None
    after: Person | None = None

    @property
    def place(self) -> int | None:
        row = self.after or self.before
        return None if row is None else row["id"]


def person(number: int, name: str, email: str | None = None) -> Person:
    return {"id": number, "name": name, "email": email}


def created(row: Person) -> list[Event]:
    return [Event("c", None, row)]


def read(row: Person) -> list[Event]:
    return [Event("r", None, row)]


def updated(row: Person, before: Person | None = None) -> list[Event]:
    return [Event("u", before, row)]


def deleted(row: Person, *, full: bool = True) -> list[Event]:
    """With the tombstone behind it. Without `full` the log knows of the old row its key alone: REPLICA IDENTITY DEFAULT."""
    before = row if full else {"id": row["id"]}
    return [Event("d", before), Event(None, before)]


def moved(old: Person, row: Person, *, full: bool = True) -> list[Event]:
    """A key that changes."""
    return [*deleted(old, full=full), *created(row)]


def truncated() -> list[Event]:
    return [Event("t")]


def table_after(events: Iterable[Event]) -> list[tuple[Any, ...]]:
    """The rows that the table ends with, by id."""
    rows: dict[int, Person] = {}
    for event in events:
        match event:
            case Event("c" | "r" | "u", _, dict() as after):
                rows[after["id"]] = after
            case Event("d", dict() as before):
                rows.pop(before["id"], None)
            case Event("t"):
                rows.clear()
            case _:
                pass
    return [(row["id"], row["name"], row["email"]) for _, row in sorted(rows.items())]


class Log(Protocol):
    """Writes events in one format. `options` are the WITH pairs that read it, `needs_columns` whether they must be declared."""

    options: str
    needs_columns: bool

    def value(self, site: Site, event: Event, lsn: int) -> bytes: ...


def written(log: Log, site: Site, events: Iterable[Event], start: int = 0) -> list[Written]:
    """The records of a topic, whose keys are JSON."""
    return [
        (
            None if event.place is None else in_json({"id": event.place}),
            None if event.op is None else log.value(site, event, lsn),
        )
        for lsn, event in enumerate(events, start)
    ]


def payload(event: Event, lsn: int) -> dict[str, Any]:
    source = {"table": "people", "lsn": lsn}
    return {"before": event.before, "after": event.after, "source": source, "op": event.op, "ts_ms": 1000 + lsn}


def whole(row: Person | None) -> Person | None:
    """As a writer with a schema has it: what is not known of a row is its type's default."""
    return None if row is None else {"name": "", "email": None} | row


class PlainJson:
    options = "'value.format' = 'debezium-json'"
    needs_columns = True

    def value(self, site: Site, event: Event, lsn: int) -> bytes:
        return in_json(payload(event, lsn))


CONNECT_ROW = [
    {"type": "int32", "optional": False, "field": "id"},
    {"type": "string", "optional": False, "field": "name"},
    {"type": "string", "optional": True, "field": "email"},
]
CONNECT_ENVELOPE = {
    "type": "struct",
    "optional": False,
    "name": "shop.people.Envelope",
    "fields": [
        {"type": "struct", "optional": True, "field": "before", "fields": CONNECT_ROW},
        {"type": "struct", "optional": True, "field": "after", "fields": CONNECT_ROW},
        {
            "type": "struct",
            "field": "source",
            "fields": [{"type": "string", "field": "table"}, {"type": "int64", "field": "lsn"}],
        },
        {"type": "string", "optional": False, "field": "op"},
        {"type": "int64", "optional": True, "field": "ts_ms"},
    ],
}


class JsonWithSchemas:
    options = "'value.format' = 'debezium-json', 'debezium.schema-include' = 'true'"
    needs_columns = True

    def value(self, site: Site, event: Event, lsn: int) -> bytes:
        inside = payload(event, lsn) | {"before": whole(event.before), "after": whole(event.after)}
        return in_json({"schema": CONNECT_ENVELOPE, "payload": inside})


JSON_ROW = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "connect.type": "int32", "connect.index": 0},
        "name": {"type": "string", "connect.index": 1},
        "email": {"oneOf": [{"type": "null"}, {"type": "string"}], "connect.index": 2},
    },
    "required": ["id", "name"],
}
JSON_ENVELOPE = {
    "type": "object",
    "properties": {
        "before": {"oneOf": [{"type": "null"}, JSON_ROW]},
        "after": {"oneOf": [{"type": "null"}, JSON_ROW]},
        "source": {"type": "object", "properties": {"table": {"type": "string"}, "lsn": {"type": "integer"}}},
        "op": {"type": "string"},
        "ts_ms": {"type": "integer"},
    },
}


class JsonSchema:
    options = "'value.format' = 'json-debezium-registry'"
    needs_columns = False

    def value(self, site: Site, event: Event, lsn: int) -> bytes:
        number = site.register(f"{TOPIC}-value", JSON_ENVELOPE, SchemaKind.JSON)
        inside = payload(event, lsn) | {"before": whole(event.before), "after": whole(event.after)}
        return framed(number, in_json(inside))


class Avro:
    options = "'value.format' = 'avro-debezium-registry'"
    needs_columns = False

    def __init__(self, *fields: tuple[str, Any]) -> None:
        """`fields` are those of the row."""
        row = record(*(fields or (("id", "int"), ("name", "string"), ("email", ["null", "string"]))), name="Value")
        source = record(("table", "string"), ("lsn", ["null", "long"]), name="Source")
        self.schema = record(
            ("before", ["null", row]),
            ("after", ["null", "Value"]),
            ("source", source),
            ("op", "string"),
            ("ts_ms", ["null", "long"]),
            name="Envelope",
        )

    def value(self, site: Site, event: Event, lsn: int) -> bytes:
        inside = payload(event, lsn) | {"before": whole(event.before), "after": whole(event.after)}
        return site.avro(f"{TOPIC}-value", self.schema, inside)


class Protobuf:
    options = "'value.format' = 'proto-debezium-registry'"
    needs_columns = False
    SCHEMA = """
    syntax = "proto3";
    message Envelope {
      Value before = 1; Value after = 2; Source source = 3; string op = 4; optional int64 ts_ms = 5;
      message Value { int32 id = 1; string name = 2; optional string email = 3; }
      message Source { string table = 1; optional int64 lsn = 2; }
    }
    """

    def value(self, site: Site, event: Event, lsn: int) -> bytes:
        inside = {name: found for name, found in payload(event, lsn).items() if found is not None}
        for name in ("before", "after"):
            if name in inside:
                inside[name] = {field: found for field, found in inside[name].items() if found is not None}
        return site.proto(f"{TOPIC}-value", self.SCHEMA, **inside)


LOGS: dict[str, Log] = {
    "json": PlainJson(),
    "json with schemas": JsonWithSchemas(),
    "json schema": JsonSchema(),
    "avro": Avro(),
    "protobuf": Protobuf(),
}
