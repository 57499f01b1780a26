"""The embedded broker keeps what it is given, or says so before it would drop any of it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, murmur2
from confluent_kafka import TopicPartition as Place

from lakeflow.errors import Terminal, UsageError
from lakeflow.topics.embedded import PARTITION_BYTES, EmbeddedBroker
from lakeflow.topics.kafka import KafkaSource
from lakeflow.topics.source import Bounds


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(partitions=3, brokers=2) as opened:
        yield opened


def bounds(broker: EmbeddedBroker, topic: str) -> list[Bounds]:
    with KafkaSource({"bootstrap.servers": broker.bootstrap}, [topic], "g") as source:
        return list(source.bounds().values())


def test_topics_have_the_partitions_that_were_asked_for(broker: EmbeddedBroker) -> None:
    broker.create("empty")
    broker.create("empty")
    assert bounds(broker, "empty") == [Bounds(0, 0)] * 3


def test_rows_go_to_their_partition_their_keys_or_in_turn(broker: EmbeddedBroker) -> None:
    assert broker.produce("given", [(None, b"v", 2), (None, b"v", 2), (None, b"v", 0)]) == 3
    assert bounds(broker, "given") == [Bounds(0, 1), Bounds(0, 0), Bounds(0, 2)]
    broker.produce("keyed", [(b"carrier", b"v")] * 5)
    assert bounds(broker, "keyed")[murmur2(b"carrier", 3)] == Bounds(0, 5)
    broker.produce("unkeyed", [(None, b"v")] * 6)
    assert bounds(broker, "unkeyed") == [Bounds(0, 2)] * 3


def test_a_second_wave_follows_the_first(broker: EmbeddedBroker) -> None:
    broker.produce("t", [(None, b"a", 0)])
    broker.produce("t", [(None, b"b", 0)])
    assert bounds(broker, "t")[0] == Bounds(0, 2)


def test_a_full_partition_is_refused_before_anything_is_dropped(broker: EmbeddedBroker) -> None:
    noise = random.Random(1)
    rows = [(None, noise.randbytes(50_000), 0) for _ in range(PARTITION_BYTES // 50_000 + 1)]
    with pytest.raises(Terminal, match="topic 't' partition 0 is full") as caught:
        broker.produce("t", rows)
    kept = bounds(broker, "t")[0]
    assert kept.begin == 0
    assert kept.end > 80
    assert caught.value.left_behind == f"the {kept.end:,} records before are in the partition"


def test_rows_that_compress_well_fit_in_greater_numbers(broker: EmbeddedBroker) -> None:
    rows = [(None, b'{"carrier": "UA", "flight": %d, "note": "%s"}' % (number, b"x" * 400), 0) for number in range(15_000)]
    assert sum(len(row[1]) for row in rows) > PARTITION_BYTES
    broker.produce("t", rows)
    assert bounds(broker, "t")[0] == Bounds(0, 15_000)


def test_dropped_records_are_noticed(broker: EmbeddedBroker) -> None:
    broker.produce("t", [(None, b"v", 0)])
    stranger = Producer({"bootstrap.servers": broker.bootstrap})
    stranger.produce("t", b"from elsewhere", partition=0)
    stranger.flush(10)
    with pytest.raises(Terminal, match="partition 0 keeps offsets 0 to 3, and 0 to 2 were sent"):
        broker.produce("t", [(None, b"v", 0)])


def test_an_oversize_record_is_refused(broker: EmbeddedBroker) -> None:
    with pytest.raises(Terminal, match=r"a record of 1,000,001 bytes was refused.*too large"):
        broker.produce("t", [(None, bytes(1_000_001), 0)])
    assert bounds(broker, "t")[0] == Bounds(0, 0)


def test_a_partition_that_is_not_there_is_refused(broker: EmbeddedBroker) -> None:
    with pytest.raises(UsageError, match="topic 't' has no partition 3; valid: 0 to 2"):
        broker.produce("t", [(None, b"v", 3)])


@pytest.mark.parametrize(("partitions", "brokers"), [(0, 1), (4, 0)])
def test_no_broker_without_partitions_and_brokers(partitions: int, brokers: int) -> None:
    with pytest.raises(UsageError, match="valid: 1 or more"):
        EmbeddedBroker(partitions, brokers)


def test_each_broker_has_an_address(broker: EmbeddedBroker) -> None:
    assert len(broker.bootstrap.split(",")) == 2


def test_batches_are_compressed(broker: EmbeddedBroker) -> None:
    reader = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "g"})
    broker.produce("t", [(None, bytes(900_000), 0)] * 20)
    assert reader.get_watermark_offsets(Place("t", 0), timeout=10) == (0, 20)
    reader.close()
