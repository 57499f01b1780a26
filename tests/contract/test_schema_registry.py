"""The rig's Schema Registry answers as Confluent's own client expects, and ours reads the same from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from lakeflow.topics.registered import SchemaKind
from lakeflow.topics.registry_client import HttpRegistry
from tests.rig.registry import SchemaRegistry

ORDER = {"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}]}
WIDER = {**ORDER, "fields": [*ORDER["fields"], {"name": "note", "type": ["null", "string"], "default": None}]}
BASKET = {"type": "record", "name": "Basket", "fields": [{"name": "orders", "type": {"type": "array", "items": "Order"}}]}


@pytest.fixture
def server() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as registry:
        yield registry


@pytest.fixture
def confluents(server: SchemaRegistry) -> Iterator[Any]:
    with SchemaRegistryClient({"url": server.url}) as client:
        yield client


@pytest.fixture
def ours(server: SchemaRegistry) -> Iterator[HttpRegistry]:
    registry = HttpRegistry({"url": server.url})
    yield registry
    registry.close()


def code(call: Any, *arguments: Any) -> int:
    with pytest.raises(SchemaRegistryError) as caught:
        call(*arguments)
    return int(caught.value.error_code)


def test_what_one_client_registers_the_other_reads(confluents: Any, ours: HttpRegistry) -> None:
    first = confluents.register_schema("orders-value", Schema(json.dumps(ORDER), "AVRO"))
    second = confluents.register_schema("orders-value", Schema(json.dumps(WIDER), "AVRO"))
    reference = SchemaReference("Order", "orders-value", 1)
    basket = confluents.register_schema("baskets/all", Schema(json.dumps(BASKET), "AVRO", [reference]))

    assert first != second
    found = ours.by_id(first)
    assert found is not None
    assert found.kind is SchemaKind.AVRO
    assert json.loads(found.text) == ORDER == json.loads(confluents.get_schema(first).schema_str)
    assert ours.latest("orders-value").id == second == confluents.get_latest_version("orders-value").schema_id
    latest = ours.latest("baskets/all")
    assert latest.id == basket
    assert [(name, one.id) for name, one in ours.referenced(latest).items()] == [("Order", first)]
    assert confluents.get_schema(basket).references == [reference]


def test_ids_are_shared_by_equal_schemas_and_versions_are_not_repeated(confluents: Any) -> None:
    first = confluents.register_schema("a", Schema(json.dumps(ORDER), "AVRO"))
    assert confluents.register_schema("b", Schema(json.dumps(ORDER, indent=2), "AVRO")) == first
    assert confluents.register_schema("a", Schema(json.dumps(ORDER, indent=4), "AVRO")) == first
    assert confluents.register_schema("c", Schema(json.dumps(ORDER), "JSON")) != first
    assert confluents.get_versions("a") == [1]
    assert confluents.get_subjects() == ["a", "b", "c"]
    assert {version.subject for version in confluents.get_schema_versions(first)} == {"a", "b"}
    found = confluents.lookup_schema("b", Schema(json.dumps(ORDER), "AVRO"))
    assert (found.schema_id, found.version) == (first, 1)
    assert confluents.get_version("a", 1).schema_id == first


def test_codes_of_errors(confluents: Any) -> None:
    confluents.register_schema("a", Schema(json.dumps(ORDER), "AVRO"))
    assert code(confluents.get_latest_version, "missing") == 40401
    assert code(confluents.get_versions, "missing") == 40401
    assert code(confluents.get_version, "a", 7) == 40402
    assert code(confluents.get_schema, 99) == 40403
    assert code(confluents.lookup_schema, "a", Schema(json.dumps(WIDER), "AVRO")) == 40403
    assert code(confluents.register_schema, "a", Schema('{"type": "record"}', "AVRO")) == 42201
    missing = SchemaReference("Order", "nowhere", 1)
    assert code(confluents.register_schema, "a", Schema(json.dumps(BASKET), "AVRO", [missing])) == 42201


def test_types_config_and_compatibility(confluents: Any) -> None:
    assert set(confluents.get_schema_types()) == {"AVRO", "JSON", "PROTOBUF"}
    assert confluents.get_config().compatibility_level == "BACKWARD"
    confluents.set_compatibility("a", "NONE")
    assert confluents.get_compatibility("a") == "NONE"
    confluents.register_schema("a", Schema(json.dumps(ORDER), "AVRO"))
    assert confluents.test_compatibility("a", Schema(json.dumps(WIDER), "AVRO"))


def test_a_serialized_form_is_given_where_the_language_has_one(confluents: Any, ours: HttpRegistry) -> None:
    number = confluents.register_schema("a", Schema(json.dumps(ORDER), "AVRO"))
    assert ours.serialized(number) is None
    assert ours.serialized(99) is None
