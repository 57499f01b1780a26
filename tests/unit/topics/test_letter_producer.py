"""What is written is in the topic, or the failure says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place

from lakeflow.errors import ConfigError, SourceUnavailable, Terminal
from lakeflow.topics.embedded import EmbeddedBroker
from lakeflow.topics.kafka import KafkaSource
from lakeflow.topics.letter_producer import LetterProducer
from lakeflow.topics.sink import Outgoing
from lakeflow.topics.source import Records

TOPIC = "letters"


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(partitions=1) as opened:
        opened.create(TOPIC)
        yield opened


def settings(broker: EmbeddedBroker, **more: str) -> dict[str, str]:
    return {"bootstrap.servers": broker.bootstrap, **{key.replace("_", "."): value for key, value in more.items()}}


def outgoing(number: int, value: bytes | None = b"v") -> Outgoing:
    return Outgoing(b"k%d" % number, value, [("h", b"1"), ("h", None)], 1500 + number, f"topic 't' partition 0 offset {number}")


def written(broker: EmbeddedBroker, count: int) -> Records:
    """The first records of the topic, as many as come at once: one batch."""
    with KafkaSource(settings(broker), [TOPIC], "reader", headers=True) as source:
        source.assign({(TOPIC, 0): 0})
        return source.poll(count, 10.0)


def keys(broker: EmbeddedBroker, count: int) -> list[bytes | None]:
    found: list[bytes | None] = []
    with KafkaSource(settings(broker), [TOPIC], "reader") as source:
        source.assign({(TOPIC, 0): 0})
        while len(found) < count and (records := source.poll(count, 10.0)):
            found += records.keys
    return found


def test_each_record_is_there_once_write_returns_and_as_it_was(broker: EmbeddedBroker) -> None:
    producer = LetterProducer(settings(broker), TOPIC)
    producer.write([outgoing(0), outgoing(1, None)])
    reader = Consumer({**settings(broker), "group.id": "bounds"})
    assert reader.get_watermark_offsets(Place(TOPIC, 0), timeout=10) == (0, 2)
    reader.close()
    producer.close()
    producer.close()
    records = written(broker, 2)
    assert records.keys == [b"k0", b"k1"]
    assert records.values == [b"v", None]
    assert records.timestamps == [1500, 1501]
    assert records.headers == [[("h", b"1"), ("h", None)]] * 2


def test_more_than_librdkafka_queues_is_written_too(broker: EmbeddedBroker) -> None:
    producer = LetterProducer(settings(broker, queue_buffering_max_messages="10"), TOPIC)
    producer.write([outgoing(number) for number in range(200)])
    producer.close()
    assert keys(broker, 200) == [b"k%d" % number for number in range(200)]


def test_settings_of_consumers_and_those_it_must_own_are_no_matter(broker: EmbeddedBroker) -> None:
    """A project's [kafka] is shared with the landings' consumers."""
    theirs = settings(broker, isolation_level="read_committed", fetch_min_bytes="1", transactional_id="x", acks="1")
    producer = LetterProducer(theirs, TOPIC)
    producer.write([outgoing(0)])
    producer.close()


def test_a_setting_that_librdkafka_refuses_is_named(broker: EmbeddedBroker) -> None:
    with pytest.raises(ConfigError, match=r"compression\.codec") as refused:
        LetterProducer(settings(broker, compression_type="best"), TOPIC)
    assert TOPIC in refused.value.message


def test_where_no_broker_answers_it_is_not_opened() -> None:
    with pytest.raises(SourceUnavailable, match="letters"):
        LetterProducer({"bootstrap.servers": "127.0.0.1:1"}, TOPIC, request_timeout=0.3)


def test_brokers_that_went_away_take_nothing(broker: EmbeddedBroker) -> None:
    producer = LetterProducer(settings(broker), TOPIC, patience=0.5)
    broker.stop()
    with pytest.raises(SourceUnavailable, match=r"took no record within 0\.5 s: .*offset 4"):
        producer.write([outgoing(4)])
    producer.close()


def test_a_record_that_is_too_large_is_named_by_its_place(broker: EmbeddedBroker) -> None:
    producer = LetterProducer(settings(broker, message_max_bytes="2000"), TOPIC)
    with pytest.raises(Terminal, match=r"takes no record as large as topic 't' partition 0 offset 7") as refused:
        producer.write([outgoing(6), outgoing(7, bytes(3000))])
    producer.close()
    assert "max.message.bytes" in (refused.value.next_step or "")


def test_what_failed_once_does_not_fail_what_comes_after(broker: EmbeddedBroker) -> None:
    producer = LetterProducer(settings(broker, message_max_bytes="2000"), TOPIC)
    with pytest.raises(Terminal):
        producer.write([outgoing(7, bytes(3000))])
    producer.write([outgoing(8)])
    producer.close()
    assert keys(broker, 1) == [b"k8"]


def test_no_message_holds_a_password() -> None:
    theirs = {"bootstrap.servers": "127.0.0.1:1", "sasl.mechanism": "PLAIN", "security.protocol": "SASL_PLAINTEXT"}
    with pytest.raises(SourceUnavailable) as away:
        LetterProducer({**theirs, "sasl.username": "u", "sasl.password": "s3cret"}, TOPIC, request_timeout=0.3)
    assert "s3cret" not in str(away.value)


def test_a_topic_that_is_not_there_is_made_by_brokers_that_do_that(broker: EmbeddedBroker) -> None:
    producer = LetterProducer(settings(broker), "new-letters")
    producer.write([outgoing(0)])
    producer.close()
