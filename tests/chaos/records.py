"""The records that are landed under fire, good and bad, and what the tables must hold of them in the end.

What is expected is worked out here in plain Python from what was produced; nothing of lakeflow is asked.
"""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.independent_reader import frozen

PARTITIONS = 4
CUSTOMERS = 120
PLACES = 12
ENRICHED_FROM = 20.0
LARGE_FROM = 80.0
PING_KINDS = ("a", "b", "c")
FIRST_MOMENT = datetime(2024, 3, 1, tzinfo=UTC)
FIRST_STAMP = 1_700_000_000_000
BAD_SHARE = 0.06
REPEATED_SHARE = 0.1

BAD_ORDERS: tuple[bytes | None, ...] = (
    None,
    b"",
    b"not json",
    b'{"id": 1, "customer": "c1"',
    b'{"id": "one", "customer": "c1"}',
    b'{"id": 1}',
    b'{"id": 1, "customer": null}',
    b'{"id": 99999999999999999999, "customer": "c1"}',
    b'{"id": 1, "customer": "c1", "tags": [1]}',
    b'{"id": 1, "customer": "c1", "at": "yesterday"}',
    b'{"id": 1, "customer": "\xff\xfe"}',
    b"[1, 2]",
)
"""Tombstones, broken JSON, misfits, numbers out of range, broken UTF-8."""
BAD_PINGS: tuple[bytes | None, ...] = (None, b"?", b'{"kind": 1, "n": 1}', b'{"kind": "a", "n": 0.5}')


@dataclass(frozen=True, slots=True)
class Sent:
    """A record as the topic holds it. `row` is its value as a row; None for one that gives none."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    row: dict[str, Any] | None

    def to_produce(self) -> tuple[bytes | None, bytes | None, int, int]:
        """As EmbeddedBroker.produce takes it."""
        return self.key, self.value, self.partition, self.timestamp


@dataclass(slots=True)
class Topic:
    """The records of one topic in the order in which they were made, with the offsets that they got."""

    records: list[Sent] = field(default_factory=list)
    ends: Counter[int] = field(default_factory=Counter)

    def add(self, partition: int, key: bytes | None, value: bytes | None, row: dict[str, Any] | None) -> Sent:
        sent = Sent(partition, self.ends[partition], FIRST_STAMP + len(self.records), key, value, row)
        self.ends[partition] += 1
        self.records.append(sent)
        return sent

    @property
    def good(self) -> list[tuple[Sent, dict[str, Any]]]:
        return [(sent, sent.row) for sent in self.records if sent.row is not None]

    @property
    def bad(self) -> list[Sent]:
        return [sent for sent in self.records if sent.row is None]


class Records:
    """Makes records of both topics, in waves, and knows what they must have become."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.orders = Topic()
        self.pings = Topic()

    def order_wave(self, count: int) -> list[Sent]:
        """The next `count` orders. All of one customer are in one partition, so that there is a last one."""
        return [self._order() for _ in range(count)]

    def ping_wave(self, count: int) -> list[Sent]:
        """The next `count` pings, many of them equal to the byte."""
        return [self._ping() for _ in range(count)]

    def _order(self) -> Sent:
        roll = self._random
        if roll.random() < BAD_SHARE:
            key = roll.choice((None, b"", b"\x00\xff"))
            return self.orders.add(roll.randrange(PARTITIONS), key, roll.choice(BAD_ORDERS), None)
        row = self._order_row(len(self.orders.records))
        value = {name: inner.isoformat() if isinstance(inner, datetime) else inner for name, inner in row.items()}
        customer = row["customer"].encode()
        text = json.dumps(value, ensure_ascii=roll.random() < 0.5).encode()
        return self.orders.add(zlib.crc32(customer) % PARTITIONS, customer, text, row)

    def _order_row(self, number: int) -> dict[str, Any]:
        roll = self._random
        return {
            "id": number,
            "customer": f"c{roll.randrange(CUSTOMERS)}",
            "place": roll.choice((None, *range(PLACES + 2))),
            "amount": None if roll.random() < 0.05 else round(roll.uniform(0, 100), 2),
            "note": roll.choice((None, "", "plain", "übergröße ☕", 'quo"te\n')),
            "tags": roll.choice((None, [], ["x"], ["x", None, "ÿ"])),
            "spot": None if roll.random() < 0.2 else {"lat": roll.uniform(-90, 90), "lon": None},
            "at": FIRST_MOMENT + timedelta(microseconds=roll.randrange(10**12)),
        }

    def _ping(self) -> Sent:
        roll = self._random
        partition = roll.randrange(PARTITIONS)
        if roll.random() < BAD_SHARE:
            return self.pings.add(partition, None, roll.choice(BAD_PINGS), None)
        number = roll.randrange(5) if roll.random() < REPEATED_SHARE else len(self.pings.records)
        row = {"kind": roll.choice(PING_KINDS), "n": number}
        return self.pings.add(partition, None, json.dumps(row).encode(), row)


def place_rows() -> list[dict[str, Any]]:
    """The dimension that orders are joined with; orders name two places that it lacks."""
    return [{"place": number, "name": f"place {number}"} for number in range(PLACES)]


def counted(rows: Iterable[Iterable[Any]]) -> Counter[Hashable]:
    """How often each row is there."""
    return Counter(frozen(tuple(row)) for row in rows)


def stamp(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)


def landed_orders(orders: Topic) -> Counter[Hashable]:
    """bronze.orders: every good record, with its Kafka coordinates."""
    return counted((*row.values(), sent.partition, sent.offset, stamp(sent.timestamp), sent.key) for sent, row in orders.good)


def dead_orders(orders: Topic) -> Counter[Hashable]:
    """lakeflow.dead_letters: every bad record, byte for byte."""
    return counted(
        ("bronze.orders", "orders", sent.partition, sent.offset, stamp(sent.timestamp), sent.key, sent.value)
        for sent in orders.bad
    )


def enriched_orders(orders: Topic) -> Counter[Hashable]:
    """gold.enriched: the filter and the join."""
    names = {row["place"]: row["name"] for row in place_rows()}
    return counted(
        (row["id"], row["customer"], row["amount"], names.get(row["place"]), sent.partition, sent.offset)
        for sent, row in orders.good
        if row["amount"] is not None and row["amount"] >= ENRICHED_FROM
    )


def large_orders(orders: Topic) -> Counter[Hashable]:
    """gold.large: the filter over the filter."""
    return counted(
        (row["id"], row["amount"]) for _, row in orders.good if row["amount"] is not None and row["amount"] >= LARGE_FROM
    )


def latest_orders(orders: Topic) -> Counter[Hashable]:
    """gold.latest: the last order of each customer."""
    last = {row["customer"]: (row["customer"], row["id"], row["amount"], sent.offset) for sent, row in orders.good}
    return counted(last.values())


def landed_pings(pings: Topic) -> Counter[Hashable]:
    """bronze.pings and gold.pings: every good record as often as it was sent."""
    return counted(row.values() for _, row in pings.good)
