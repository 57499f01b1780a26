"""What every Sink does: the real one on a real Kafka, with and without transactions, and on the embedded broker; the fake."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import pytest
from confluent_kafka import Consumer, TopicPartition

from lakeflow.errors import ConfigError, Fenced, Terminal
from lakeflow.testing.sink import ListSink, ListTopic
from lakeflow.topics.embedded import EmbeddedBroker
from lakeflow.topics.kafka_sink import KafkaSink
from lakeflow.topics.sink import Outgoing, Place, Sink
from lakeflow.topics.sink_place import KafkaPlace
from tests.rig.kafka import Kafka

SECONDS = 30.0
numbers = count()
IN_TRANSACTIONS = pytest.mark.parametrize("target", ["real kafka", "list"], indirect=True)
"""Without transactions records are seen as they are written."""


@dataclass(frozen=True, slots=True)
class Target:
    """A topic without records: `open` opens its sink, `values` are those of committed records."""

    open: Callable[[], Sink]
    values: Callable[[], list[bytes | None]]


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(partitions=1) as opened:
        yield opened


def on_kafka(bootstrap: str, topic: str, exactly_once: bool, close: Callable[[Sink], None]) -> Target:
    def opened() -> Sink:
        sink = KafkaSink({"bootstrap.servers": bootstrap}, topic, f"sink.{topic}", exactly_once=exactly_once, patience=SECONDS)
        close(sink)
        return sink

    return Target(opened, lambda: committed(bootstrap, topic))


def committed(bootstrap: str, topic: str) -> list[bytes | None]:
    """The values of the topic's one partition that a reader of committed records sees."""
    settings = {"bootstrap.servers": bootstrap, "group.id": "reader", "isolation.level": "read_committed"}
    reader = Consumer({**settings, "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, 0, 0)])
    found: list[bytes | None] = []
    while True:
        message = reader.poll(SECONDS)
        assert message is not None, "the reader came to no end"
        if message.error():
            reader.close()
            return found
        found.append(message.value())


@pytest.fixture(params=["real kafka", "real kafka, at least once", "embedded", "list"])
def target(request: pytest.FixtureRequest, broker: EmbeddedBroker) -> Iterator[Target]:
    opened: list[Sink] = []
    topic = f"sink{next(numbers)}"
    if request.param == "list":
        held = ListTopic()
        yield Target(lambda: ListSink(held), lambda: [record.value for record in held.records])
        return
    if request.param == "embedded":
        broker.create(topic)
        yield on_kafka(broker.bootstrap, topic, False, opened.append)
    else:
        cluster: Kafka = request.getfixturevalue("real_kafka")
        cluster.create(topic, 1)
        yield on_kafka(cluster.bootstrap, topic, request.param == "real kafka", opened.append)
    for sink in opened:
        sink.close()


def record(value: bytes | None, key: bytes | None = None) -> Outgoing:
    return Outgoing(key, value, [], -1, "a record")


def test_a_new_topic_has_no_position_and_nothing_written(target: Target) -> None:
    assert target.open().place() == Place(None, False)


def test_records_and_their_position_are_seen_from_the_commit_on(target: Target) -> None:
    sink = target.open()
    sink.commit("beginning", 0)
    assert sink.place() == Place("beginning", True)
    sink.write([record(b"a"), record(None, b"k")])
    sink.write([])
    sink.write([record(b"b")])
    sink.commit('{"at":1}', 1)
    assert target.open().place() == Place('{"at":1}', True)
    assert target.values() == [b"a", None, b"b"]


def test_a_sink_goes_on_where_another_was_closed(target: Target) -> None:
    for number in range(3):
        sink = target.open()
        sink.write([record(b"%d" % number)])
        sink.commit(str(number), number)
        sink.close()
        sink.close()
    assert target.open().place() == Place("2", True)
    assert target.values() == [b"0", b"1", b"2"]


@IN_TRANSACTIONS
def test_what_was_not_committed_is_not_seen_after_the_next_one_is_opened(target: Target) -> None:
    zombie = target.open()
    zombie.commit("first", 0)
    zombie.write([record(b"lost")])
    sink = target.open()
    assert sink.place() == Place("first", True)
    sink.write([record(b"kept")])
    sink.commit("second", 1)
    with pytest.raises(Fenced):
        zombie.commit("third", 2)
    zombie.close()
    assert target.values() == [b"kept"]
    assert sink.place() == Place("second", True)


@IN_TRANSACTIONS
def test_closing_gives_up_what_is_not_committed(target: Target) -> None:
    sink = target.open()
    sink.write([record(b"lost")])
    sink.close()
    assert target.values() == []


class TestKafka:
    def test_asking_for_the_position_fences_nobody(self, real_kafka: Kafka) -> None:
        topic = f"sink{next(numbers)}"
        real_kafka.create(topic, 1)
        sink = KafkaSink({"bootstrap.servers": real_kafka.bootstrap}, topic, topic, exactly_once=True)
        sink.commit("one", 1)
        asked = KafkaPlace({"bootstrap.servers": real_kafka.bootstrap}, topic, topic, patience=SECONDS)
        assert asked.place() == Place("one", True)
        sink.write([record(b"x")])
        assert asked.place() == Place("one", True)
        sink.commit("two", 2)
        assert asked.place() == Place("two", True)
        sink.close()
        asked.close()

    def test_the_position_is_of_the_transaction_itself(self, real_kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
        topic = f"sink{next(numbers)}"
        real_kafka.create(topic, 1)
        monkeypatch.setattr(KafkaPlace, "keep", lambda *given: pytest.fail("it was committed beside the transaction"))
        sink = KafkaSink({"bootstrap.servers": real_kafka.bootstrap}, topic, topic, exactly_once=True)
        sink.write([record(b"x")])
        sink.commit("one", 1)
        assert sink.place() == Place("one", True)
        sink.close()

    def test_a_record_that_the_topic_does_not_take_gives_up_its_batch(self, real_kafka: Kafka) -> None:
        topic = f"sink{next(numbers)}"
        real_kafka.create(topic, 1, max_message_bytes="2000")
        sink = KafkaSink({"bootstrap.servers": real_kafka.bootstrap}, topic, topic, exactly_once=True)
        sink.commit("one", 1)
        with pytest.raises(Terminal, match="takes no record as large as a record"):
            self._send(sink, record(b"small"), record(bytes(5000)))
        sink.close()
        again = KafkaSink({"bootstrap.servers": real_kafka.bootstrap}, topic, topic, exactly_once=True)
        assert again.place() == Place("one", True)
        again.close()
        assert committed(real_kafka.bootstrap, topic) == []

    def _send(self, sink: Sink, *records: Outgoing) -> None:
        sink.write(records)
        sink.commit("two", 2)

    def test_a_topic_that_is_not_there_is_named(self, real_kafka: Kafka) -> None:
        with pytest.raises(ConfigError, match="topic 'nowhere' is not there") as caught:
            KafkaSink({"bootstrap.servers": real_kafka.bootstrap}, "nowhere", "s", exactly_once=True, request_timeout=1.0)
        assert caught.value.next_step == "create topic nowhere, or correct 'sink.topic'"

    def test_brokers_that_only_play_at_transactions_are_found_out(self, broker: EmbeddedBroker) -> None:
        topic = f"sink{next(numbers)}"
        broker.create(topic)
        sink = KafkaSink({"bootstrap.servers": broker.bootstrap}, topic, topic, exactly_once=True)
        with pytest.raises(ConfigError, match="do not hold it: they have none"):
            sink.commit("beginning", 0)
        sink.close()

    def test_a_position_that_brokers_would_not_keep_is_refused_before_they_are_asked(self, broker: EmbeddedBroker) -> None:
        topic = f"sink{next(numbers)}"
        broker.create(topic)
        sink = KafkaSink({"bootstrap.servers": broker.bootstrap}, topic, topic, exactly_once=False)
        with pytest.raises(ConfigError, match="takes 4,097 bytes, and brokers keep 4,096"):
            sink.commit("x" * 4097, 0)
        sink.close()

    def test_settings_that_librdkafka_refuses_are_named_without_secrets(self, broker: EmbeddedBroker) -> None:
        settings = {"bootstrap.servers": broker.bootstrap, "sasl.password": "hush"}
        with pytest.raises(ConfigError) as caught:
            KafkaSink({**settings, "socket.timeout.ms": "hush"}, "t", "s", exactly_once=True)
        assert "socket.timeout.ms" in str(caught.value)
        assert "hush" not in str(caught.value)
