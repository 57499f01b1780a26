"""doctor, plan, land and status against a real, embedded broker."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lakeflow.topics.embedded import EmbeddedBroker
from tests.integration.cli.conftest import Shop


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(partitions=2) as broker:
        yield broker


def records(*ids: str) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), json.dumps({"order_id": name, "customer": "ann", "amount": 150.0}).encode()) for name in ids]


@pytest.fixture
def connected(shop: Shop, broker: EmbeddedBroker) -> Shop:
    shop.configure(f'\n[kafka]\n"bootstrap.servers" = "{broker.bootstrap}"\n')
    return shop


def test_what_waits_is_planned_landed_and_then_no_more(connected: Shop, broker: EmbeddedBroker) -> None:
    broker.produce("orders", records("a", "b", "c"))
    [landing] = connected.json("plan")["landings"]
    assert (landing["topic"], landing["waiting"], landing["makes_table"], landing["skipped"]) == ("orders", 3, True, None)
    assert [(part["partition"], part["from"]) for part in landing["partitions"]] == [(0, 0), (1, 0)]
    assert sum(part["to"] for part in landing["partitions"]) == 3
    assert "bronze.orders" not in connected.project.lake.names()
    standing = next(one for one in connected.json("status") if one["kind"] == "landing")
    assert (standing["state"], standing["behind"], standing["updated"]) == ("behind", 3, None)

    [landed] = connected.json("land")
    assert (landed["read"], landed["written"]) == (3, 3)
    broker.produce("orders", records("d"))
    [landing] = connected.json("plan")["landings"]
    assert (landing["waiting"], landing["makes_table"]) == (1, False)
    assert "orders" in connected("plan").out
    connected("land")
    standing = next(one for one in connected.json("status") if one["kind"] == "landing")
    assert (standing["state"], standing["behind"], standing["last_run"]) == ("up to date", 0, "done")
    assert standing["updated"] is not None


def test_doctor_counts_the_records(connected: Shop, broker: EmbeddedBroker) -> None:
    broker.produce("orders", records("a", "b"))
    ran = connected("doctor")
    assert ran.code == 0, ran.out
    assert "topic of bronze.orders: 'orders' has 2 partitions with 2 records" in ran.out


def test_a_topic_that_is_not_there(connected: Shop, broker: EmbeddedBroker) -> None:
    broker.create("orderz")
    doctor = connected("doctor")
    assert doctor.code == 1
    assert "did you mean 'orderz'" in doctor.out
    planned = connected("plan", "--output", "json")
    assert planned.code == 1
    assert "did you mean 'orderz'" in planned.json["landings"][0]["skipped"]
    standing = next(one for one in connected.json("status") if one["kind"] == "landing")
    assert "orderz" in standing["state"]


def test_a_topic_made_anew_is_told_before_a_landing_fails(connected: Shop, broker: EmbeddedBroker) -> None:
    broker.produce("orders", records("a", "b", "c"))
    connected("land")
    with EmbeddedBroker(partitions=2) as other:
        other.create("orders")
        connected.configure(f'\n[kafka]\n"bootstrap.servers" = "{other.bootstrap}"\n')
        planned = connected("plan", "--output", "json")
        assert planned.code == 1
        assert "created anew" in planned.json["landings"][0]["skipped"]
