"""`lakeflow produce` on the embedded broker, which has no transactions: at least once, and said so."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from lakeflow.observe.maintain import table_readers
from lakeflow.observe.runs import Status
from lakeflow.start.generation import load
from lakeflow.start.parts import Kind
from lakeflow.start.send import run_sink
from lakeflow.start.work import Ended, Stop
from tests.integration.cli.conftest import Shop
from tests.integration.cli.landings import TABLE, TOPIC, Site, in_json
from tests.lakes import live_paths

OUT = "out"
COPY = "silver.copy"
COLUMNS = "id BIGINT, v STRING, PRIMARY KEY (id) NOT ENFORCED"
UPSERT = "'connector' = 'kafka', 'topic' = '{topic}', 'changelog.mode' = 'upsert', 'key.format' = 'json'"
SINK = f"'sink.topic' = '{OUT}', 'sink.delivery' = 'at-least-once'"
THERE_AND_BACK = f"""
CREATE TABLE {TABLE} ({COLUMNS}) WITH ({UPSERT.format(topic=TOPIC)}, {SINK});
CREATE TABLE {COPY} ({COLUMNS}) WITH ({UPSERT.format(topic=OUT)});
"""
ORDERS = "CREATE TABLE bronze.orders (order_id STRING NOT NULL, customer STRING, amount DOUBLE) WITH ({options});"


def change(number: int, **row: Any) -> tuple[bytes, bytes]:
    return in_json({"id": number}), in_json({"id": number} | row)


def gone(number: int) -> tuple[bytes, None]:
    return in_json({"id": number}), None


def sent(site: Site, *words: str, code: int = 0) -> dict[str, Any]:
    ran = site.shop("produce", *words, "--output", "json")
    assert ran.code == code, ran.err or ran.out
    (result,) = ran.json
    assert result["read"] == result["written"] + result["unchanged"]
    return dict(result)


def records(site: Site, topic: str = OUT) -> list[tuple[bytes | None, bytes | None]]:
    """All records of the topic's one partition."""
    reader = Consumer({"bootstrap.servers": site.broker.bootstrap, "group.id": "test"})
    end = reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)[1]
    reader.assign([TopicPartition(topic, 0, 0)])
    found: list[tuple[bytes | None, bytes | None]] = []
    while len(found) < end:
        found += [(message.key(), message.value()) for message in reader.consume(end, 1.0)]
    reader.close()
    return found


@pytest.fixture
def orders(site: Site) -> Site:
    """A table that jobs would fill, with a sink by no key."""
    site.broker.create(OUT)
    site.declare(ORDERS.format(options=SINK))
    return site


def test_a_table_by_key_goes_to_a_topic_and_comes_back_as_it_is(site: Site) -> None:
    site.broker.create(OUT)
    site.declare(THERE_AND_BACK)
    for changes, written, tombstones in (
        ([change(1, v="a"), change(2, v="b"), change(3, v="c")], 3, 0),
        ([change(1, v="A"), gone(2), change(4, v="d")], 3, 1),
        ([gone(1), gone(3), gone(4)], 3, 3),
        ([change(1, v="again")], 1, 0),
    ):
        site.send(TOPIC, *changes)
        site.land(TABLE)
        result = sent(site)
        assert (result["written"], result["tombstones"]) == (written, tombstones)
        site.land(COPY)
        assert site.rows(COPY) == site.rows(TABLE)
    assert sent(site)["status"] == "empty"
    assert len(records(site)) == 10


def test_appended_rows_are_sent_once_and_the_brokers_know_how_far(orders: Site, shop: Shop) -> None:
    shop.orders(("o1", "ann", 1.5), ("o2", "bob", 2.5))
    first = sent(orders)
    assert (first["table"], first["topic"], first["written"], first["commits"]) == ("bronze.orders", OUT, 2, 1)
    shop.orders(("o3", "ann", 3.5))
    assert sent(orders, "bronze.orders")["written"] == 1
    assert sent(orders, "--exit-on-empty", "7", code=7)["status"] == "empty"
    assert [(key, json.loads(value or b"")) for key, value in records(orders)] == [
        (None, {"order_id": "o1", "customer": "ann", "amount": 1.5}),
        (None, {"order_id": "o2", "customer": "bob", "amount": 2.5}),
        (None, {"order_id": "o3", "customer": "ann", "amount": 3.5}),
    ]
    recorded = orders.rows(
        "lakeflow.runs", "SELECT kind, name, \"read\", written FROM rows WHERE status = 'done' ORDER BY ended_at"
    )
    assert recorded == [("produce", "produce.bronze.orders", 2, 2), ("produce", "produce.bronze.orders", 1, 1)]


def test_a_dry_run_tells_and_sends_nothing(orders: Site, shop: Shop) -> None:
    shop.orders(("o1", "ann", 1.5), ("o2", "bob", 2.5))
    (plan,) = shop.json("produce", "--dry-run")
    assert (plan["rows"], plan["files"], plan["transactions"], plan["note"]) == (2, 1, 1, "begins")
    assert records(orders) == []
    sent(orders)
    (plan,) = shop.json("produce", "--dry-run")
    assert (plan["rows"], plan["transactions"], plan["note"]) == (0, 0, "")


def test_from_says_where_to_go_on(orders: Site, shop: Shop) -> None:
    shop.orders(("o1", "ann", 1.5))
    first = shop.project.lake.table("bronze.orders").current_snapshot()
    shop.orders(("o2", "ann", 1.5))
    assert sent(orders, "--from", "now")["written"] == 0
    assert first is not None
    assert sent(orders, "--from", str(first.snapshot_id))["written"] == 1
    assert sent(orders, "--from", "beginning")["written"] == 2
    assert sent(orders)["written"] == 0
    refused = shop("produce", "--from", "yesterday")
    assert refused.code == 2
    assert "valid: beginning, now, or a snapshot's id" in refused.err


def test_a_topic_that_others_wrote_to_needs_a_word_where_to_begin(orders: Site, shop: Shop) -> None:
    shop.orders(("o1", "ann", 1.5))
    orders.send(OUT, (None, b"theirs"))
    refused = shop("produce")
    assert refused.code == 1
    assert "the brokers hold no position of this sink" in refused.err
    assert "lakeflow produce bronze.orders --from beginning" in refused.err
    assert sent(orders, "--from", "beginning")["written"] == 1


def test_brokers_without_transactions_are_found_out_before_a_row_is_sent(site: Site, shop: Shop) -> None:
    site.broker.create(OUT)
    site.declare(ORDERS.format(options=f"'sink.topic' = '{OUT}'"))
    shop.orders(("o1", "ann", 1.5))
    refused = shop("produce")
    assert refused.code == 2
    assert "in a transaction, and do not hold it: they have none" in refused.err
    assert "'sink.delivery' = 'at-least-once'" in refused.err
    assert records(site) == []


def test_at_least_once_is_said_aloud(orders: Site, shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    shop.orders(("o1", "ann", 1.5))
    assert sent(orders)["delivery"] == "at-least-once"
    assert "after a failure records may come twice" in caplog.text


def test_rows_that_went_stop_a_sink_without_a_key_and_nothing_is_sent_over_them(orders: Site, shop: Shop) -> None:
    shop.orders(("o1", "ann", 1.5), ("o2", "bob", 2.5))
    sent(orders)
    shop.json("sql", "-e", "DELETE FROM bronze.orders WHERE order_id = 'o1'")
    refused = shop("produce")
    assert refused.code == 1
    assert "the sink cannot go on" in refused.err
    assert "'sink.key' in its WITH lets changed and removed rows be followed" in refused.err
    orders.declare(ORDERS.format(options=f"{SINK}, 'sink.key' = 'order_id', 'sink.key.format' = 'raw'"))
    result = sent(orders)
    assert (result["written"], result["tombstones"], result["unchanged"]) == (1, 1, 1)
    assert records(orders)[-1] == (b"o1", None)


def test_what_cannot_be_a_record_stops_before_its_batch(orders: Site, shop: Shop) -> None:
    shop.orders(("o1", "ann", float("nan")))
    refused = shop("produce")
    assert refused.code == 1
    assert "column 'amount' holds NaN" in refused.err
    orders.declare(ORDERS.format(options=f"{SINK}, 'sink.json.non-finite' = 'null'"))
    sent(orders)
    assert json.loads(records(orders)[0][1] or b"")["amount"] is None


def test_a_null_in_a_key_is_refused_by_name(orders: Site, shop: Shop) -> None:
    orders.declare(ORDERS.format(options=f"{SINK}, 'sink.key' = 'customer'"))
    shop.orders(("o1", None, 1.0))  # type: ignore[arg-type]
    refused = shop("produce")
    assert refused.code == 1
    assert "column 'customer' of 'sink.key' is NULL in 1 of 1 rows" in refused.err


def test_status_tells_how_far_a_sink_is(orders: Site, shop: Shop) -> None:
    def told() -> tuple[Any, ...]:
        (row,) = [row for row in shop.json("status") if row["kind"] == "sink"]
        assert (row["name"], row["table"]) == ("produce.bronze.orders", "bronze.orders")
        return row["state"], row["behind"], row["files_behind"], row["last_run"]

    shop.orders(("o1", "ann", 1.0), ("o2", "bob", 2.0))
    assert told() == ("never ran", 2, 1, None)
    sent(orders)
    assert told() == ("up to date", 0, 0, "done")
    shop.orders(("o3", "ann", 1.0))
    assert told()[:3] == ("behind", 1, 1)
    orders.broker.stop()
    orders.configure(connect_seconds=0.5)
    assert "gave no answer" in told()[0] or "did not answer" in told()[0]


def test_maintenance_compacts_nothing_that_a_sink_has_still_to_send(orders: Site, shop: Shop) -> None:
    orders.configure("[maintain]\ncompact_files = 2\n")
    for number in range(3):
        shop.orders((f"o{number}", "ann", 1.0))
    assert table_readers(shop.project, "bronze.orders").unread == ("the sink of bronze.orders",)
    sent(orders)
    shop.orders(("o3", "ann", 1.0))
    shop.json("maintain", "bronze.orders")
    assert len(live_paths(shop.project.lake.table("bronze.orders"))) == 2
    assert sent(orders)["written"] == 1


def test_start_sends_what_came_and_asks_the_brokers_for_nothing_else(orders: Site, shop: Shop) -> None:
    now = load(shop.folder, None)
    (part,) = [part for part in now.parts if part.kind is Kind.SINK]
    stop = Stop(threading.Event(), threading.Event())

    def run() -> Ended:
        return run_sink(now.project, part, now.sinks[part.name], stop, now.sent)

    assert run().waits == ("bronze.orders",)
    shop.orders(("o1", "ann", 1.0))
    ended = run()
    assert (ended.error, ended.run and (ended.run.status, ended.run.written)) == (None, (Status.DONE, 1))
    orders.broker.stop()
    ended = run()
    assert (ended.error, ended.run and ended.run.status) == (None, Status.EMPTY)
    orders.broker.start()
    shop.orders(("o2", "ann", 1.0))
    stop.all.set()
    ended = run()
    assert ended.run is not None
    assert (ended.run.status, ended.run.written) == (Status.STOPPED, 0)
    stop.all.clear()
    assert run().run is not None
    assert len(records(orders)) == 2


def test_no_table_with_a_sink_is_a_mistake_in_its_name(site: Site, shop: Shop) -> None:
    site.declare(ORDERS.format(options=SINK))
    assert "unknown table with 'sink.topic' 'bronze.order'" in shop("produce", "bronze.order").err
