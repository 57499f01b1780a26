"""What a source makes of a topic that changes while it is read, and between two reads: nothing is lost or repeated silently."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from lakeflow.errors import ConfigError, SourceChanged
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.kafka import KafkaSource
from lakeflow.topics.kafka_shared import SharedKafkaSource
from lakeflow.topics.names import NamedTopics, TopicPattern, Topics
from lakeflow.topics.source import Bounds, Earliest, Offsets, TopicPartition, check_identity, start_offsets
from tests.rig.kafka import Kafka

SECONDS = 60
Seen = list[tuple[str, int, int, bytes | None]]

numbers = iter(range(1000))


@pytest.fixture
def topic(real_kafka: Kafka) -> str:
    name = f"changing{next(numbers)}"
    real_kafka.create(name)
    return name


def write(cluster: Kafka, topic: str, values: range, partition: int = 0) -> None:
    cluster.produce(topic, [(None, b"%d" % value, partition, 1000) for value in values])


def make_anew(cluster: Kafka, topic: str) -> None:
    cluster.delete(topic)
    wait_for(lambda: topic not in cluster.admin.list_topics(timeout=SECONDS).topics)
    cluster.create(topic)


def source_of(cluster: Kafka, topics: str | Topics, **settings: str) -> KafkaSource:
    meant = NamedTopics((topics,)) if isinstance(topics, str) else topics
    return KafkaSource({"bootstrap.servers": cluster.bootstrap, **settings}, meant, "g", request_timeout=SECONDS)


def read(source: KafkaSource, count: int) -> Seen:
    seen: Seen = []
    wait_for(lambda: len(seen) >= count, lambda: take(source, seen))
    return seen


def take(source: KafkaSource | SharedKafkaSource, seen: Seen) -> None:
    records = source.poll(1000, 0.5)
    seen += zip(records.topics, records.partitions, records.offsets, records.values, strict=True)


def wait_for(happened: Callable[[], bool], meanwhile: Callable[[], None] = lambda: time.sleep(0.2)) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        meanwhile()


def test_a_topic_made_anew_and_grown_past_the_position_is_refused_at_the_start(real_kafka: Kafka, topic: str) -> None:
    write(real_kafka, topic, range(20))
    with source_of(real_kafka, topic) as source:
        begin = start_offsets(Earliest(), source.bounds(), KafkaOffsets(), topic_ids=source.topic_ids())
        progress = KafkaOffsets(begin).identified(source.topic_ids()).moved_to({(topic, 0): 20})
    make_anew(real_kafka, topic)
    write(real_kafka, topic, range(100, 150))
    again = KafkaOffsets.loads(progress.dumps())
    with source_of(real_kafka, topic) as source:
        bounds = source.bounds()
        assert bounds[topic, 0] == Bounds(0, 50), "only the id tells the two apart"
        with pytest.raises(SourceChanged, match=rf"topic '{topic}' was deleted and created anew since"):
            start_offsets(Earliest(), bounds, again, topic_ids=source.topic_ids())


def test_a_topic_made_anew_under_the_reader_is_known_by_its_id_alone(real_kafka: Kafka, topic: str) -> None:
    write(real_kafka, topic, range(20))
    with source_of(real_kafka, topic) as source:
        progress = KafkaOffsets({(topic, 0): 20}).identified(source.topic_ids())
        source.assign({(topic, 0): 0})
        read(source, 20)
        check_identity(progress, source.topic_ids())
        make_anew(real_kafka, topic)
        write(real_kafka, topic, range(100, 150))
        with pytest.raises(SourceChanged, match="created anew since"):
            check_identity(progress, source.topic_ids())


def test_a_topic_deleted_while_it_is_read_is_said_to_be_gone(real_kafka: Kafka, topic: str) -> None:
    write(real_kafka, topic, range(5))
    with source_of(real_kafka, topic) as source:
        source.bounds()
        source.assign({(topic, 0): 0})
        read(source, 5)
        real_kafka.delete(topic)
        wait_for(lambda: topic not in real_kafka.admin.list_topics(timeout=SECONDS).topics)
        for ask in (source.bounds, source.topic_ids):
            with pytest.raises(SourceChanged, match=rf"topic '{topic}' is no longer there: it was deleted while it was read"):
                ask()


def test_a_topic_truncated_under_the_reader_below_its_position_changes_nothing(real_kafka: Kafka, topic: str) -> None:
    write(real_kafka, topic, range(10))
    with source_of(real_kafka, topic) as source:
        source.assign({(topic, 0): 0})
        read(source, 10)
        real_kafka.delete_records(topic, 0, 10)
        write(real_kafka, topic, range(10, 15))
        assert [value for _, _, _, value in read(source, 5)] == [b"%d" % value for value in range(10, 15)]


def test_a_topic_truncated_past_the_readers_position_is_no_jump(real_kafka: Kafka, topic: str) -> None:
    write(real_kafka, topic, range(10))
    with source_of(real_kafka, topic, **{"queued.min.messages": "1"}) as source:
        bounds = source.bounds()
        write(real_kafka, topic, range(10, 20))
        real_kafka.delete_records(topic, 0, 15)
        assert bounds[topic, 0].begin == 0
        source.assign({(topic, 0): 5})
        with pytest.raises(SourceChanged, match=rf"topic '{topic}' partition 0 has no offset 5"):
            read(source, 1)


def test_partitions_added_while_reading_are_found_and_read_from_their_beginning(real_kafka: Kafka, topic: str) -> None:
    write(real_kafka, topic, range(5))
    with source_of(real_kafka, topic) as source:
        reached = start_offsets(Earliest(), source.bounds(), KafkaOffsets())
        source.assign(reached)
        read(source, 5)
        reached = {(topic, 0): 5}
        for future in real_kafka.admin.create_partitions([NewPartitions(topic, 3)]).values():
            future.result(SECONDS)
        wait_for(lambda: len(source.bounds()) == 3)
        write(real_kafka, topic, range(50, 53), 2)
        write(real_kafka, topic, range(5, 7))
        source.assign(start_offsets(Earliest(), source.bounds(), KafkaOffsets(reached)))
        seen = read(source, 5)
    assert sorted(place[1:] for place in seen) == [
        (0, 5, b"5"), (0, 6, b"6"), (2, 0, b"50"), (2, 1, b"51"), (2, 2, b"52")
    ]  # fmt: skip


def test_an_aborted_transaction_leaves_a_gap_and_the_end_behind_it(real_kafka: Kafka, topic: str) -> None:
    producer = Producer({"bootstrap.servers": real_kafka.bootstrap, "transactional.id": f"of-{topic}"})
    producer.init_transactions(SECONDS)
    for values, end in ((range(3), producer.commit_transaction), (range(10, 14), producer.abort_transaction)):
        producer.begin_transaction()
        for value in values:
            producer.produce(topic, b"%d" % value, partition=0)
        producer.flush(SECONDS)
        end(SECONDS)
    with source_of(real_kafka, topic) as source:
        assert source.bounds()[topic, 0] == Bounds(0, 9)  # 3, a marker, 4, a marker
        source.assign({(topic, 0): 0})
        ends: dict[TopicPartition, int] = {}
        values_seen: list[bytes | None] = []

        def look() -> None:
            records = source.poll(100, 0.5)
            values_seen.extend(records.values)
            ends.update(records.ends)

        wait_for(lambda: ends.get((topic, 0)) == 9, look)
    assert values_seen == [b"0", b"1", b"2"]


def test_an_open_transaction_is_the_end_of_what_can_be_read(real_kafka: Kafka, topic: str) -> None:
    write(real_kafka, topic, range(4))
    producer = Producer({"bootstrap.servers": real_kafka.bootstrap, "transactional.id": f"of-{topic}"})
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    producer.flush(SECONDS)
    with source_of(real_kafka, topic) as source:
        assert source.bounds()[topic, 0] == Bounds(0, 4)
    with source_of(real_kafka, topic, **{"isolation.level": "read_uncommitted"}) as source:
        assert source.bounds()[topic, 0] == Bounds(0, 5)
    producer.abort_transaction(SECONDS)


class FromTheBeginning:
    def __init__(self) -> None:
        self.held: set[TopicPartition] = set()

    def gained(self, places: Collection[TopicPartition]) -> Offsets:
        assert self.held.isdisjoint(places)
        self.held.update(places)
        return dict.fromkeys(places, 0)

    def revoked(self, places: Collection[TopicPartition]) -> None:
        self.held.difference_update(places)

    def lost(self, places: Collection[TopicPartition]) -> None:
        raise AssertionError("nothing was lost")


@pytest.mark.parametrize("settings", [{}, {"group.protocol": "consumer"}], ids=["a member assigns", "brokers assign"])
def test_a_shared_pattern_takes_up_a_topic_that_comes_later(real_kafka: Kafka, topic: str, settings: dict[str, str]) -> None:
    write(real_kafka, topic, range(3))
    options = {"bootstrap.servers": real_kafka.bootstrap, **settings}
    with SharedKafkaSource(options, TopicPattern(f"{topic}.*"), f"of-{topic}", request_timeout=SECONDS) as source:
        handover, seen = FromTheBeginning(), Seen()
        source.join(handover)
        wait_for(lambda: len(seen) == 3, lambda: take(source, seen))
        real_kafka.create(f"{topic}-later", 2)
        write(real_kafka, f"{topic}-later", range(7, 9), 1)
        wait_for(lambda: len(source.bounds()) == 3)
        wait_for(lambda: len(seen) == 5, lambda: take(source, seen))
    assert handover.held == {(topic, 0), (f"{topic}-later", 0), (f"{topic}-later", 1)}
    assert [value for *_, value in seen] == [b"0", b"1", b"2", b"7", b"8"]


def test_two_processes_with_one_name_are_told(real_kafka: Kafka, topic: str) -> None:
    options = {"bootstrap.servers": real_kafka.bootstrap, "group.instance.id": "the-same", "session.timeout.ms": "6000"}
    with (
        SharedKafkaSource(options, [topic], f"of-{topic}", request_timeout=SECONDS) as first,
        SharedKafkaSource(options, [topic], f"of-{topic}", request_timeout=SECONDS) as second,
    ):
        handover = FromTheBeginning()
        first.join(handover)
        wait_for(lambda: bool(handover.held), lambda: take(first, []))
        second.join(FromTheBeginning())

        def both() -> None:
            take(second, [])
            take(first, [])

        with pytest.raises(ConfigError, match=r"two processes have the same group\.instance\.id"):
            wait_for(lambda: False, both)
