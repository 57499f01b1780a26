"""What only a cluster can do to a source: be away, refuse, forget; and what it shows of itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place

from lakeflow.errors import ConfigError, SourceUnavailable
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.embedded import EmbeddedBroker
from lakeflow.topics.kafka import KafkaSource
from lakeflow.topics.names import TopicPattern
from lakeflow.topics.source import Bounds

NOBODY = {"bootstrap.servers": "127.0.0.1:1"}


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(partitions=1) as opened:
        opened.produce("flights", [(b"k", b"v", 0, 1000, [("origin", b"JFK"), ("empty", None)]), (None, b"w")])
        yield opened


def settings(broker: EmbeddedBroker) -> dict[str, str]:
    return {"bootstrap.servers": broker.bootstrap}


def test_headers_come_when_asked_for(broker: EmbeddedBroker) -> None:
    with KafkaSource(settings(broker), ["flights"], "g", headers=True) as source:
        source.assign({("flights", 0): 0})
        assert source.poll(2, 10.0).headers == [[("origin", b"JFK"), ("empty", None)], None]


def test_acknowledged_offsets_are_the_groups(broker: EmbeddedBroker) -> None:
    with KafkaSource(settings(broker), ["flights"], "land.flights") as source:
        source.acknowledge(KafkaOffsets({("flights", 0): 2}))
    reader = Consumer({**settings(broker), "group.id": "land.flights"})
    (found,) = reader.committed([Place("flights", 0)], timeout=10)
    reader.close()
    assert found.offset == 2


def test_a_failed_acknowledgement_is_logged_and_not_raised(caplog: pytest.LogCaptureFixture, broker: EmbeddedBroker) -> None:
    with caplog.at_level(logging.WARNING, "lakeflow.topics"), KafkaSource(settings(broker), ["flights"], "g") as source:
        source.acknowledge(KafkaOffsets({("flights", -7): 2}))
        source.poll(1, 0.2)
    assert any("the lag of group 'g' could not be shown" in record.getMessage() for record in caplog.records)


def test_no_broker_for_bounds_is_unavailable_within_the_timeout() -> None:
    source = KafkaSource(NOBODY, ["flights"], "g", request_timeout=0.3)
    with pytest.raises(
        SourceUnavailable, match=r"127\.0\.0\.1:1 gave no answer within 0\.3 s for the list of topics"
    ) as caught:
        source.bounds()
    assert "lakeflow doctor" in (caught.value.next_step or "")
    source.close()


def test_brokers_away_for_longer_than_patience_end_a_poll() -> None:
    with EmbeddedBroker(partitions=1) as broker:
        broker.produce("t", [(None, b"v")])
        with KafkaSource(settings(broker), ["t"], "g", patience=0.5, request_timeout=0.5) as source:
            source.assign({("t", 0): 0})
            assert len(source.poll(1, 10.0)) == 1
            broker.stop()
            with pytest.raises(SourceUnavailable, match=r"all brokers .* have been away for"):
                source.poll(1, 20.0)


def test_brokers_that_come_back_in_time_are_no_failure() -> None:
    with EmbeddedBroker(partitions=1) as broker:
        broker.produce("t", [(None, b"v")])
        with KafkaSource(settings(broker), ["t"], "g", patience=30.0) as source:
            source.assign({("t", 0): 0})
            assert len(source.poll(1, 10.0)) == 1
            broker.stop()
            assert len(source.poll(1, 0.3)) == 0
            broker.start()
            broker.produce("t", [(None, b"later")])
            seen: list[bytes | None] = []
            while not seen:
                seen = source.poll(1, 20.0).values
            assert seen == [b"later"]


def test_bounds_of_many_partitions_take_a_few_requests() -> None:
    with EmbeddedBroker(partitions=50) as broker:
        for number in range(40):
            broker.create(f"t{number}")
        broker.produce("t7", [(None, b"v", 3)])
        with KafkaSource(settings(broker), TopicPattern("t.*"), "g", request_timeout=30.0) as source:
            bounds = source.bounds()
    assert len(bounds) == 2000
    assert [place for place, bound in bounds.items() if bound != Bounds(0, 0)] == [("t7", 3)]


def test_a_pattern_finds_a_topic_that_came_later() -> None:
    with EmbeddedBroker(partitions=1) as broker:
        broker.create("sales-a")
        with KafkaSource(settings(broker), TopicPattern("sales-.*"), "g") as source:
            assert set(source.bounds()) == {("sales-a", 0)}
            broker.create("sales-b")
            broker.create("other")
            assert set(source.bounds()) == {("sales-a", 0), ("sales-b", 0)}


def test_a_cluster_that_gives_no_ids_is_known_without_waiting_for_them(broker: EmbeddedBroker) -> None:
    with KafkaSource(settings(broker), ["flights"], "g", request_timeout=3600.0) as source:
        assert source.topic_ids() == {"flights": None}


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=r"\[kafka\].*sasl\.pasword"):
        KafkaSource({**NOBODY, "sasl.pasword": "hush"}, ["t"], "g")


def test_no_secret_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConfigError) as caught:
        KafkaSource({**NOBODY, "ssl.key.pem": "hush-hush", "security.protocol": "ssl"}, ["t"], "g")
    assert "hush" not in str(caught.value) + caplog.text


def test_librdkafka_writes_to_the_log_and_not_to_stderr(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, "lakeflow.topics"), KafkaSource(NOBODY, ["t"], "g", request_timeout=0.2) as source:
        with pytest.raises(SourceUnavailable):
            source.bounds()
        source.poll(1, 0.2)
    assert "127.0.0.1:1" in caplog.text
    assert capfd.readouterr().err == ""
