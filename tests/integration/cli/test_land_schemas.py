"""`lakeflow land` of topics whose schemas are in a registry: tables that are made, evolve and stop as their schemas do."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import fastavro
import pytest

from lakeflow.topics.embedded import EmbeddedBroker
from lakeflow.topics.registered import SchemaKind
from tests.integration.cli.conftest import Shop
from tests.lakes import query
from tests.rig.registry import SchemaRegistry

TABLE = "bronze.purchases"
DECLARED = """
CREATE TABLE bronze.purchases (PRIMARY KEY (id) NOT ENFORCED)
PARTITIONED BY (bucket(2, id))
WITH ('connector' = 'kafka', 'topic' = 'purchases', 'value.format' = 'avro-registry', 'metadata.columns' = 'offset'{more});
"""
UPSERT = ", 'changelog.mode' = 'upsert', 'key.format' = 'avro-registry'"


def record(*fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": "Purchase", "fields": [{"name": name, "type": kind} for name, kind, *_ in fields]}


FIRST = record(("id", "long"), ("price", "float"))
SECOND = record(("id", "long"), ("price", "double"), ("address", ["null", record(("city", "string")) | {"name": "Address"}]))
THIRD = record(("id", "long"), ("price", "string"))
KEY = record(("id", "long")) | {"name": "Key"}


class Purchases:
    """A topic of framed Avro."""

    def __init__(self, broker: EmbeddedBroker, registry: SchemaRegistry) -> None:
        self._broker = broker
        self.registry = registry

    def framed(self, schema: dict[str, Any], row: dict[str, Any], subject: str = "purchases-value") -> bytes:
        number = self.registry.store.register(subject, SchemaKind.AVRO, json.dumps(schema))
        body = io.BytesIO()
        fastavro.schemaless_writer(body, fastavro.parse_schema(schema), row)
        return b"\0" + number.to_bytes(4, "big") + body.getvalue()

    def send(self, schema: dict[str, Any], *rows: dict[str, Any]) -> None:
        self._broker.produce("purchases", [(self.key(row["id"]), self.framed(schema, row)) for row in rows])

    def send_raw(self, *records: tuple[bytes | None, bytes | None]) -> None:
        self._broker.produce("purchases", list(records))

    def key(self, number: int) -> bytes:
        return self.framed(KEY, {"id": number}, "purchases-key")


@pytest.fixture
def purchases() -> Iterator[Purchases]:
    with EmbeddedBroker(partitions=1) as broker, SchemaRegistry() as registry:
        yield Purchases(broker, registry)


@pytest.fixture
def connected(shop: Shop, purchases: Purchases) -> Shop:
    broker = purchases._broker
    shop.configure(f'\n[kafka]\n"bootstrap.servers" = "{broker.bootstrap}"\n[registry]\nurl = "{purchases.registry.url}"\n')
    return shop


def rows(shop: Shop, columns: str = "*") -> list[Any]:
    return query(shop.project.lake.table(TABLE), f"SELECT {columns} FROM rows ORDER BY id, kafka_offset")


def test_a_table_takes_its_columns_from_the_topic_and_follows_it(connected: Shop, purchases: Purchases) -> None:
    connected.declare("tables/purchases.sql", DECLARED.format(more=""))
    purchases.send(FIRST, {"id": 1, "price": 1.5}, {"id": 2, "price": 2.5})
    assert connected("land", TABLE).code == 0
    assert rows(connected) == [(1, 1.5, 0), (2, 2.5, 1)]
    purchases.send(SECOND, {"id": 3, "price": 1e300, "address": {"city": "Ulm"}})
    purchases.send(FIRST, {"id": 4, "price": 4.5})
    ran = connected("land", TABLE)
    assert ran.code == 0, ran.err
    found = rows(connected, "id, price, kafka_offset, address.city")
    assert found == [(1, 1.5, 0, None), (2, 2.5, 1, None), (3, 1e300, 2, "Ulm"), (4, 4.5, 3, None)]
    schemas = connected.project.lake.table(TABLE).schemas()
    assert len(schemas) == 2, "the table evolved once, in the commit that brought the first row that needed it"


def test_a_schema_that_the_table_cannot_evolve_to_suspends_with_both_sides(connected: Shop, purchases: Purchases) -> None:
    connected.declare("tables/purchases.sql", DECLARED.format(more=", 'on_error' = 'skip'"))
    purchases.send(FIRST, {"id": 1, "price": 1.5})
    assert connected("land", TABLE).code == 0
    purchases.send(THIRD, {"id": 2, "price": "dear"})
    purchases.send(FIRST, {"id": 3, "price": 3.5})
    for _ in range(2):
        ran = connected("land", TABLE)
        assert ran.code == 1
        assert "is suspended at topic 'purchases', partition 0, offset 1" in ran.err
        assert "float" in ran.err
        assert "string" in ran.err
        assert rows(connected) == [(1, 1.5, 0)]


def test_a_schema_that_is_not_registered_is_a_reject_of_its_own(connected: Shop, purchases: Purchases) -> None:
    connected.declare("tables/purchases.sql", DECLARED.format(more=", 'on_error' = 'dead_letter'"))
    purchases.send(FIRST, {"id": 1, "price": 1.5})
    purchases.send_raw((None, b"\0\0\0\x99\x99rest"), (None, b"\1no frame"), (None, b"\0\0"))
    assert connected("land", TABLE).code == 0
    assert rows(connected) == [(1, 1.5, 0)]
    letters = query(connected.project.lake.table("lakeflow.dead_letters"), 'SELECT "offset", kind FROM rows ORDER BY 1')
    assert letters == [(1, "schema"), (2, "malformed"), (3, "malformed")]


def test_a_table_by_key_follows_its_topic_too(connected: Shop, purchases: Purchases) -> None:
    connected.declare("tables/purchases.sql", DECLARED.format(more=UPSERT))
    purchases.send(FIRST, {"id": 1, "price": 1.5}, {"id": 2, "price": 2.5}, {"id": 3, "price": 3.5})
    assert connected("land", TABLE).code == 0
    purchases.send(SECOND, {"id": 1, "price": 9.0, "address": {"city": "Ulm"}})
    purchases.send_raw((purchases.key(2), None))
    purchases.send(FIRST, {"id": 3, "price": 7.5})
    ran = connected("land", TABLE)
    assert ran.code == 0, ran.err
    assert rows(connected, "id, price, address.city") == [(1, 9.0, "Ulm"), (3, 7.5, None)]


def test_a_registry_that_is_away_is_told_and_nothing_lands(connected: Shop, purchases: Purchases) -> None:
    connected.declare("tables/purchases.sql", DECLARED.format(more=""))
    purchases.send(FIRST, {"id": 1, "price": 1.5})
    assert connected("land", TABLE).code == 0
    purchases.send(FIRST, {"id": 2, "price": 2.5})
    purchases.registry.__exit__(None, None, None)
    ran = connected("land", TABLE)
    assert ran.code == 1
    assert "registry" in ran.err
    assert rows(connected) == [(1, 1.5, 0)]


def test_the_doctor_asks_the_registry(connected: Shop, purchases: Purchases) -> None:
    connected.declare("tables/purchases.sql", DECLARED.format(more=""))
    purchases.send(FIRST, {"id": 1, "price": 1.5})
    checks = {one["name"]: one for one in connected("doctor", "--output", "json").json["checks"]}
    assert (checks["registry"]["state"], "AVRO" in checks["registry"]["detail"]) == ("ok", True)
    purchases.registry.__exit__(None, None, None)
    ran = connected("doctor", "--output", "json")
    checks = {one["name"]: one for one in ran.json["checks"]}
    assert (ran.code, checks["registry"]["state"], checks["brokers"]["state"]) == (1, "failed", "ok")
    assert "schema registry" in checks["registry"]["detail"]


def test_a_registry_that_is_away_keeps_no_other_table_from_its_topic(connected: Shop, purchases: Purchases) -> None:
    connected.declare("tables/purchases.sql", DECLARED.format(more=""))
    purchases.send(FIRST, {"id": 1, "price": 1.5})
    purchases._broker.produce("orders", [(None, b'{"order_id": "a", "customer": "b", "amount": 1.0}')])
    purchases.registry.__exit__(None, None, None)
    ran = connected("land", "bronze.purchases", "bronze.orders", "--output", "json")
    landed = {one["table"]: one for one in ran.json}
    assert (ran.code, landed["bronze.orders"]["written"]) == (1, 1)
