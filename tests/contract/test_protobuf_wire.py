"""Records that Confluent's own serializer writes, read by way of a registry: the wire format is not only our reading of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass

from lakeflow.topics.formats.format import Format, Opening
from lakeflow.topics.formats.registry import open_format
from lakeflow.topics.registry_client import HttpRegistry
from tests.property.protobuf_schemas import compiled
from tests.rig.registry import SchemaRegistry

TEXT = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
message Order {
  int32 id = 1;
  google.protobuf.Timestamp made = 2;
  message Line { string name = 1; message Part { int32 n = 1; } }
}
message Refund { int32 id = 1; }
"""


@pytest.fixture
def server() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as running:
        yield running


@pytest.fixture
def confluents(server: SchemaRegistry) -> Iterator[Any]:
    with SchemaRegistryClient({"url": server.url}) as client:
        yield client


@pytest.fixture
def ours(server: SchemaRegistry) -> Iterator[HttpRegistry]:
    registry = HttpRegistry({"url": server.url})
    yield registry
    registry.close()


def written(confluents: Any, message: Descriptor, **fields: Any) -> bytes:
    one = GetMessageClass(message)
    serialize = ProtobufSerializer(one, confluents, {"use.deprecated.format": False})
    framed: bytes = serialize(one(**fields), SerializationContext("orders", MessageField.VALUE))
    return framed


def opened(ours: HttpRegistry, message: str) -> Format:
    return open_format("proto-registry", Opening(None, {"proto-registry.message": message}, "value", ("orders",), ours))


def test_messages_of_any_place_in_a_file_are_read(confluents: Any, ours: HttpRegistry) -> None:
    file = compiled(TEXT)
    order, refund = file.message_types_by_name["Order"], file.message_types_by_name["Refund"]
    line = order.nested_types_by_name["Line"]
    for message, fields in (
        (order, {"id": 5}),
        (refund, {"id": 6}),
        (line, {"name": "x"}),
        (line.nested_types_by_name["Part"], {"n": 7}),
    ):
        decoded = opened(ours, message.full_name).decode([written(confluents, message, **fields)])
        assert decoded.rejects == ()
        assert fields.items() <= decoded.rows.to_pylist()[0].items()


def test_text_that_is_registered_is_read_with_its_references(confluents: Any, ours: HttpRegistry) -> None:
    part = 'syntax = "proto3"; package a; message Part { int32 n = 1; }'
    confluents.register_schema("part", Schema(part, "PROTOBUF"))
    whole = 'syntax = "proto3"; package a; import "a/part.proto"; message Whole { repeated Part parts = 1; }'
    reference = SchemaReference("a/part.proto", "part", 1)
    number = confluents.register_schema("orders-value", Schema(whole, "PROTOBUF", [reference]))
    format_ = opened(ours, "a.Whole")
    assert format_.schema().names == ["parts"]
    decoded = format_.decode([b"\0" + number.to_bytes(4, "big") + b"\0\x0a\x02\x08\x05"])
    assert decoded.rows.to_pylist() == [{"parts": [{"n": 5}]}]


def test_a_registry_for_tests_refuses_text_that_is_no_schema(confluents: Any) -> None:
    with pytest.raises(SchemaRegistryError):
        confluents.register_schema("a", Schema('syntax = "proto3"; message A { int32 = 1; }', "PROTOBUF"))
