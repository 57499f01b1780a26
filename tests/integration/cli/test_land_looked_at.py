"""plan, status, doctor and tables say what is true of every kind of landing: of topics by name and by pattern, by route, and
of tables that take their columns from a registry.
"""

from __future__ import annotations

import pytest

from tests.integration.cli.landings import TABLE, Site, declared, record, values

AVRO = ", 'value.format' = 'avro-registry'"
WAITING = {"bronze.from_registry": 1, "bronze.patterned": 3, "bronze.several": 3, "bronze.routed": 2}
TOPICS = {
    "bronze.from_registry": "prices",
    "bronze.patterned": "(eu|us)-items",
    "bronze.several": "eu-items;us-items",
    "bronze.routed": "eu-items",
}


@pytest.fixture
def told(site: Site) -> Site:
    site.declare(
        declared("", AVRO, table="bronze.from_registry", topic="'topic' = 'prices'")
        + declared("id INT", table="bronze.patterned", topic="'topic-pattern' = '(eu|us)-items'")
        + declared("id INT", table="bronze.several", topic="'topic' = 'eu-items;us-items'")
        + declared("id INT", ", 'route.by' = 'field:kind', 'route.values' = 'order'", table="bronze.routed",
                   topic="'topic' = 'eu-items'")
    )  # fmt: skip
    site.send("prices", (None, site.avro("prices-value", record(("id", "int"), ("price", "double")), {"id": 1, "price": 2.5})))
    site.send("eu-items", *values([{"id": 1, "kind": "order"}, {"id": 2, "kind": "refund"}]))
    site.send("us-items", *values([{"id": 3}]))
    return site


def test_before_and_after_landing(told: Site) -> None:
    shop = told.shop
    planned = {one["table"]: one for one in shop.json("plan")["landings"]}
    assert {name: (one["topic"], one["waiting"], one["makes_table"]) for name, one in planned.items()} == {
        name: (topic, WAITING[name], True) for name, topic in TOPICS.items()
    }
    listed = {one["table"]: one for one in shop.json("tables")}
    assert {name: (listed[name]["kind"], listed[name]["state"]) for name in TOPICS} == {
        name: (f"topic {topic}", "not there yet") for name, topic in TOPICS.items()
    }
    assert shop("doctor").code == 0
    states = {one["name"]: (one["state"], one["behind"]) for one in shop.json("status") if one["kind"] == "landing"}
    assert states == {name: ("behind", waiting) for name, waiting in WAITING.items()}

    assert {result["table"]: result["read"] for result in told.land()} == WAITING
    assert {one["waiting"] for one in shop.json("plan")["landings"]} == {0}
    states = {one["name"]: (one["state"], one["behind"]) for one in shop.json("status") if one["kind"] == "landing"}
    assert states == dict.fromkeys(TOPICS, ("up to date", 0))
    listed = {one["table"]: one for one in shop.json("tables")}
    assert {name: listed[name]["kind"] for name in TOPICS} == {n: f"topic {topic}" for n, topic in TOPICS.items()}
    shown = shop.json("tables", "show", "bronze.from_registry")
    assert [column["column"] for column in shown["columns"]] == ["id", "price"]
    for name in TOPICS:
        assert shop("tables", "show", name).code == 0
    for verb in ("plan", "status", "tables", "doctor"):
        assert shop(verb).code == 0


def test_with_everything_away(told: Site) -> None:
    told.land()
    told.broker.stop()
    told.registry.__exit__(None, None, None)
    told.configure(connect_seconds=0.5)
    for verb, code in (("plan", 0), ("status", 0), ("tables", 0), ("doctor", 1)):
        ran = told.shop(verb)
        assert ran.code == code, (verb, ran.out, ran.err)
    for one in told.shop.json("plan")["landings"]:
        assert "gave no answer" in one["skipped"]


def test_a_pattern_without_columns_says_what_to_declare(site: Site) -> None:
    site.declare(declared("", AVRO, topic="'topic-pattern' = '.*-items'"))
    row = record(("id", "int"))
    site.send("eu-items", (None, site.avro("eu-items-value", row, {"id": 1})))
    for verb in ("plan", "status", "tables", "doctor"):
        site.shop(verb)
    said = site.refused(code=2).err
    assert "topic-pattern" in said
    site.declare(declared("id INT", AVRO, topic="'topic-pattern' = '.*-items'"))
    assert site.landed()["written"] == 1
    site.declare(declared("", AVRO, topic="'topic-pattern' = '.*-items'"))
    site.send(
        "us-items", (None, site.avro("us-items-value", record(("id", "long"), ("n", ["null", "int"])), {"id": 2, "n": 3}))
    )
    assert site.landed()["written"] == 1
    assert site.rows(TABLE, "SELECT id, n FROM rows ORDER BY id") == [(1, None), (2, 3)]
