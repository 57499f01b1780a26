"""The readings of weather stations as JSON, Avro and Protobuf records of about 200 bytes and 1 KB."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

import fastavro
import msgspec
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from benchmarks.readings import BEGIN, KINDS, Stations
from lakeflow.topics.formats.protobuf_compile import compile_text
from lakeflow.topics.registered import SchemaKind

TEXT_BYTES = 1 << 20
RECORDS = 20_000
"""Different readings, but for their number and their time: those are of each record alone."""

DECLARATION = """
CREATE TABLE {table} (
  reading_id BIGINT, station STRING, kind STRING, value DOUBLE, quality INT, valid BOOLEAN, {time}, note STRING,
  place ROW<latitude DOUBLE, longitude DOUBLE, airport STRING>
)
WITH ('connector' = 'kafka', 'topic' = '{topic}', 'value.format' = '{format}', 'on_error' = 'dead_letter');
"""

AVRO = """
{"type": "record", "name": "Reading", "fields": [
  {"name": "reading_id", "type": "long"}, {"name": "station", "type": "string"}, {"name": "kind", "type": "string"},
  {"name": "value", "type": ["null", "double"]}, {"name": "quality", "type": "int"}, {"name": "valid", "type": "boolean"},
  {"name": "measured_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
  {"name": "note", "type": ["null", "string"]},
  {"name": "place", "type": {"type": "record", "name": "Place", "fields": [
    {"name": "latitude", "type": "double"}, {"name": "longitude", "type": "double"}, {"name": "airport", "type": "string"}]}}]}
"""
PROTOBUF = """
syntax = "proto3";
message Reading {
  int64 reading_id = 1;
  string station = 2;
  string kind = 3;
  optional double value = 4;
  int32 quality = 5;
  bool valid = 6;
  int64 measured_at = 7;
  optional string note = 8;
  Place place = 9;
}
message Place {
  double latitude = 1;
  double longitude = 2;
  string airport = 3;
}
"""

Encode = Callable[[dict[str, Any]], bytes]


@dataclass(frozen=True, slots=True)
class Encoding:
    """A format as it is declared, its schema in the registry, and the bytes of the note that make a record 200 bytes."""

    name: str
    format: str
    kind: SchemaKind | None
    schema: str
    note: int
    time: str = "measured_at TIMESTAMP_LTZ(6)"


JSON = Encoding("JSON", "json", None, "", 0)
ENCODINGS = (
    JSON,
    Encoding("Avro", "avro-registry", SchemaKind.AVRO, AVRO, 130),
    Encoding("Protobuf", "proto-registry", SchemaKind.PROTOBUF, PROTOBUF, 120, "measured_at BIGINT"),
)
LARGER = 800
"""Bytes more of note for a record of 1 KB."""


def registered(encoding: Encoding) -> str:
    """The schema's text for the registry: of Protobuf a descriptor, so that nobody compiles it while a path is measured."""
    if encoding.kind is not SchemaKind.PROTOBUF:
        return encoding.schema
    (file,) = compile_text("reading.proto", PROTOBUF, {}, {}).values()
    return base64.b64encode(file.SerializeToString()).decode()


def declaration(encoding: Encoding, table: str, topic: str) -> str:
    return DECLARATION.format(table=table, topic=topic, format=encoding.format, time=encoding.time)


def values(encoding: Encoding, schema_id: int, count: int, note: int, poison: float) -> Iterator[bytes]:
    """`count` records with `note` bytes of note more than they need, of which the share `poison` is broken."""
    encode = _encode(encoding, schema_id)
    readings = _readings(encoding.note + note)
    every = round(1 / poison) if poison else 0
    for number in range(count):
        reading = readings[number % RECORDS]
        reading["reading_id"] = 1_000_000_000 + number
        reading["measured_at"] = BEGIN + timedelta(seconds=number)
        value = encode(reading)
        if every and number % every == every // 2:
            value = value[:-7] if number // every % 2 else value[: len(value) // 2] + b"\xff" * 4
        yield value


def _readings(note: int) -> list[dict[str, Any]]:
    stations, random = Stations(), Random(1)
    text = " ".join(f"{random.choice(KINDS)} {random.randrange(10_000)}" for _ in range(TEXT_BYTES // 12))
    made = []
    for number in range(RECORDS):
        reading: dict[str, Any] = msgspec.json.decode(stations.value(number))
        start = random.randrange(len(text) - note)
        made.append({**reading, "note": text[start : start + note] or None})
    return made


def _encode(encoding: Encoding, schema_id: int) -> Encode:
    head = b"\0" + schema_id.to_bytes(4, "big")
    match encoding.kind:
        case SchemaKind.AVRO:
            return _avro(head)
        case SchemaKind.PROTOBUF:
            return _protobuf(head)
        case _:
            return _json


def _json(reading: dict[str, Any]) -> bytes:
    """Without a note where there is none, and the time in its usual form."""
    told = {**reading, "measured_at": f"{reading['measured_at']:%Y-%m-%dT%H:%M:%S}Z"}
    return msgspec.json.encode(told if reading["note"] else {name: told[name] for name in told if name != "note"})


def _avro(head: bytes) -> Encode:
    schema = fastavro.parse_schema(msgspec.json.decode(AVRO))

    def encode(reading: dict[str, Any]) -> bytes:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, schema, reading)
        return head + stream.getvalue()

    return encode


def _protobuf(head: bytes) -> Encode:
    pool = DescriptorPool()
    for file in compile_text("reading.proto", PROTOBUF, {}, {}).values():
        pool.Add(file)
    reading_class = GetMessageClass(pool.FindMessageTypeByName("Reading"))

    def encode(reading: dict[str, Any]) -> bytes:
        at: datetime = reading["measured_at"]
        told = {**reading, "measured_at": int(at.timestamp()) * 1_000_000}
        body: bytes = reading_class(**told).SerializeToString()
        return head + b"\0" + body

    return encode
