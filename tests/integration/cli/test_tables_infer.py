"""`lakeflow tables infer` proposes a declaration that lands the topic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakeflow.topics.embedded import EmbeddedBroker
from lakeflow.topics.registered import SchemaKind
from tests.integration.cli.conftest import Shop
from tests.lakes import query
from tests.rig.registry import SchemaRegistry

WITHOUT_COLUMNS = """
CREATE TABLE bronze.visits WITH ('connector' = 'kafka', 'topic' = 'visits', 'value.format' = '{name}', 'on_error' = 'skip');
"""


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(partitions=2) as broker:
        yield broker


@pytest.fixture
def visits(shop: Shop, broker: EmbeddedBroker) -> Shop:
    shop.configure(f'\n[kafka]\n"bootstrap.servers" = "{broker.bootstrap}"\n')
    shop.declare("tables/visits.sql", WITHOUT_COLUMNS.format(name="json"))
    return shop


def send(broker: EmbeddedBroker, *objects: object) -> None:
    broker.produce("visits", [(None, json.dumps(one).encode()) for one in objects])


def test_what_is_proposed_lands_what_was_read(visits: Shop, broker: EmbeddedBroker) -> None:
    send(
        broker,
        *({"id": number, "at": f"2026-01-01T00:00:0{number}Z", "who": {"name": "x"}, "odd": None} for number in range(6)),
    )
    broker.produce("visits", [(None, b"{broken")])
    ran = visits("tables", "infer", "bronze.visits")
    assert ran.code == 0, ran.err
    assert "id BIGINT" in ran.out
    assert "at TIMESTAMP_LTZ(6)" in ran.out
    assert "of 7 records, 1 of them no JSON object" in ran.err
    assert "odd is left out: it was never anything but null" in ran.err
    assert not visits.project.lake.exists("bronze.visits"), "nothing is made"
    visits.declare("tables/visits.sql", ran.out)
    assert visits("land", "bronze.visits").code == 0
    assert query(visits.project.lake.table("bronze.visits"), "SELECT id, who.name FROM rows ORDER BY id") == [
        (number, "x") for number in range(6)
    ]


def test_what_the_rest_of_a_declaration_needs_is_said(visits: Shop, broker: EmbeddedBroker) -> None:
    send(broker, {"id": 1, "day": 2})
    clauses = "(id BIGINT NOT NULL, day INT) PARTITIONED BY (region, day) WITH"
    visits.declare("tables/visits.sql", WITHOUT_COLUMNS.format(name="json").replace("WITH", clauses.replace("region", "id"), 1))
    notes = visits.json("tables", "infer", "bronze.visits")["notes"]
    assert notes == ["id is declared NOT NULL, and proposed without: put it back where each record has one"]
    send(broker, *({"day": 3} for _ in range(40)))
    notes = visits.json("tables", "infer", "bronze.visits", "--records", "10")["notes"]
    assert notes == ["PARTITIONED BY names id, which was not found: declare it"]


def test_without_columns_a_json_table_says_how_to_get_them(visits: Shop, broker: EmbeddedBroker) -> None:
    send(broker, {"id": 1})
    ran = visits("land", "bronze.visits")
    assert ran.code == 2
    assert "declares no columns" in ran.err
    assert "lakeflow tables infer" in ran.err


def test_an_empty_topic_shows_no_columns(visits: Shop, broker: EmbeddedBroker) -> None:
    broker.create("visits")
    ran = visits("tables", "infer", "bronze.visits")
    assert ran.code == 2
    assert "none of the 0 newest records of visits shows a column" in ran.err


def test_of_many_records_the_newest_are_read(visits: Shop, broker: EmbeddedBroker) -> None:
    send(broker, *({"old": number} for number in range(50)), *({"new": number} for number in range(50)))
    found = visits.json("tables", "infer", "bronze.visits", "--records", "20")
    assert (found["records"], "new BIGINT" in found["sql"], "old" in found["sql"]) == (20, True, False)


def test_with_a_registry_the_latest_schema_is_proposed(visits: Shop, broker: EmbeddedBroker, tmp_path: Path) -> None:
    schema = {
        "type": "record",
        "name": "V",
        "fields": [{"name": "id", "type": "long"}, {"name": "h", "type": {"type": "fixed", "name": "F", "size": 4}}],
    }
    broker.create("visits")
    with SchemaRegistry() as registry:
        registry.store.register("visits-value", SchemaKind.AVRO, json.dumps(schema))
        visits.configure(f'\n[kafka]\n"bootstrap.servers" = "{broker.bootstrap}"\n[registry]\nurl = "{registry.url}"\n')
        visits.declare("tables/visits.sql", WITHOUT_COLUMNS.format(name="avro-registry"))
        ran = visits("tables", "infer", "bronze.visits")
    assert ran.code == 0, ran.err
    assert "id BIGINT NOT NULL" in ran.out
    assert "h BINARY(4) NOT NULL" in ran.out


def test_a_table_of_another_connector_has_no_topic_to_look_at(visits: Shop) -> None:
    ran = visits("tables", "infer", "bronze.docs")
    assert ran.code == 2
    assert "unknown table with connector 'kafka' 'bronze.docs'" in ran.err
