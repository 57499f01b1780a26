"""What a shared source says of brokers that are too old, and of partitions that it never gets."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator

import pytest

from lakeflow.errors import ConfigError
from lakeflow.topics.kafka import KafkaSource
from lakeflow.topics.kafka_shared import SharedKafkaSource
from lakeflow.topics.mock_cluster import MockCluster
from lakeflow.topics.source import Offsets, TopicPartition

SECONDS = 30.0
LIST_OFFSETS, JOIN_GROUP = 2, 11
SESSION = {"session.timeout.ms": "3000"}


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    opened = MockCluster(1, 1)
    opened.create("flights")
    yield opened
    opened.close()


class Beginning:
    """A Handover that begins everywhere with offset 0."""

    def __init__(self) -> None:
        self.held: set[TopicPartition] = set()

    def gained(self, places: Collection[TopicPartition]) -> Offsets:
        self.held.update(places)
        return dict.fromkeys(places, 0)

    def revoked(self, places: Collection[TopicPartition]) -> None:
        self.held.difference_update(places)

    def lost(self, places: Collection[TopicPartition]) -> None:
        self.held.difference_update(places)


def shared(cluster: MockCluster, patience: float = 60.0) -> SharedKafkaSource:
    return SharedKafkaSource({"bootstrap.servers": cluster.bootstrap, **SESSION}, ["flights"], "g", patience=patience)


def poll_until(happened: Callable[[], bool], *sources: SharedKafkaSource) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        for source in sources:
            source.poll(1, 0.1)


def test_brokers_that_do_not_know_a_request_are_too_old(cluster: MockCluster) -> None:
    cluster.leave_out(LIST_OFFSETS)
    too_old = pytest.raises(ConfigError, match=r"the brokers are too old.* for the bounds: ")
    with KafkaSource({"bootstrap.servers": cluster.bootstrap}, ["flights"], "g") as source, too_old as caught:
        source.bounds()
    assert "Kafka 2.1 or newer" in (caught.value.next_step or "")


def test_brokers_that_know_no_groups_are_too_old_to_share_a_topic(cluster: MockCluster) -> None:
    cluster.leave_out(JOIN_GROUP)
    with shared(cluster) as source:
        source.join(Beginning())
        with pytest.raises(ConfigError, match=r"the brokers are too old.* for reading as group 'g': "):
            poll_until(lambda: False, source)


def test_a_process_that_gets_no_partition_says_so_once(cluster: MockCluster, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lakeflow.topics"), shared(cluster) as first, shared(cluster, patience=0.5) as second:
        handover = Beginning()
        first.join(handover)
        poll_until(lambda: bool(handover.held), first)
        second.join(Beginning())
        poll_until(
            lambda: "group 'g' has given this process none of the partitions of flights in 0.5 s" in caplog.text, second, first
        )
        poll_until(iter([False] * 8 + [True]).__next__, second, first)
    assert caplog.text.count("has given this process none") == 1
