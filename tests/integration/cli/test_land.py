"""`lakeflow land --follow` against a real, embedded broker: how it ends when a landing cannot go on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lakeflow.topics.embedded import EmbeddedBroker
from tests.integration.cli.conftest import Shop

PAYMENTS = """
CREATE TABLE bronze.payments (payment_id STRING)
WITH ('connector' = 'kafka', 'topic' = 'payments', 'value.format' = 'json', 'on_error' = 'suspend');
"""


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(partitions=1) as broker:
        yield broker


@pytest.fixture
def connected(shop: Shop, broker: EmbeddedBroker) -> Shop:
    shop.configure(f'\n[kafka]\n"bootstrap.servers" = "{broker.bootstrap}"\n')
    shop.declare("tables/payments.sql", PAYMENTS)
    broker.produce("orders", [(b"a", json.dumps({"order_id": "a", "customer": "ann", "amount": 1.0}).encode())])
    broker.produce("payments", [(b"p", b"{broken")])
    return shop


def test_when_one_of_several_landings_fails_the_others_commit_and_end(connected: Shop) -> None:
    ran = connected("land", "--follow", "--output", "json")
    assert ran.code == 1
    status = {landed["table"]: landed["status"] for landed in ran.json}
    assert status == {"bronze.orders": "stopped", "bronze.payments": "suspended"}
    assert ran.err.count("landing of bronze.payments is suspended") == 1


def test_a_single_landing_that_fails_ends_too(connected: Shop) -> None:
    ran = connected("land", "bronze.payments", "--follow", "--output", "json")
    assert (ran.code, [landed["status"] for landed in ran.json]) == (1, ["suspended"])
    standing = next(one for one in connected.json("status") if one["name"] == "bronze.payments")
    assert (standing["last_run"], standing["behind"]) == ("suspended", 1)
    assert "landing of bronze.payments is suspended at topic 'payments', partition 0, offset 0" in standing["reason"]
