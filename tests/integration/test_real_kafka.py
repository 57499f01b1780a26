"""Landing from a real Kafka: what no embedded broker does. Transactions, compaction, truncation, times, lost brokers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import NewPartitions  # type: ignore[attr-defined]

from lakeflow.errors import SourceChanged
from lakeflow.topics.kafka import KafkaSource
from tests.integration.commands import Commands, Ended, project
from tests.lakes import open_lake, query
from tests.rig.kafka import Kafka

SECONDS = 60
DAY = 86_400_000
T0 = 1_357_000_000_000
TABLE = "bronze.events"

Rows = list[tuple[int, ...]]
numbers = iter(range(1000))


def value(number: int) -> bytes:
    return json.dumps({"id": number}).encode()


@dataclass(frozen=True, slots=True)
class Landed:
    """A topic of its own on the cluster, and the project that lands it."""

    cluster: Kafka
    topic: str
    commands: Commands

    def produce(self, ids: range, partition: int = 0, start: int = T0, step: int = 0) -> None:
        self.cluster.produce(
            self.topic,
            [(f"k{number}".encode(), value(number), partition, start + place * step) for place, number in enumerate(ids)],
        )

    def land(self) -> dict[str, Any]:
        (row,) = self.commands.done("land")
        return row

    def fail(self) -> Ended:
        ended = self.commands.run("land")
        assert ended.code == 1, ended.err
        return ended

    def rows(self, sql: str = "SELECT kafka_partition, kafka_offset, id FROM rows ORDER BY ALL") -> Rows:
        return query(open_lake(self.commands.folder / ".lakeflow").table(TABLE), sql)

    def ids(self) -> list[int]:
        return [row[0] for row in self.rows("SELECT id FROM rows ORDER BY id")]


Make = Callable[..., Landed]


@pytest.fixture
def landed(real_kafka: Kafka, tmp_path: Path) -> Make:
    return lambda partitions=1, options="", **config: make(real_kafka, tmp_path, partitions, options, **config)


def make(cluster: Kafka, folder: Path, partitions: int = 1, options: str = "", **config: str) -> Landed:
    topic = f"events{next(numbers)}"
    cluster.create(topic, partitions, **config)
    settings = f"""
[project]
name = "{topic}"
[kafka]
"bootstrap.servers" = "{cluster.bootstrap}"
[run]
poll_seconds = 0.1
connect_seconds = 20.0
"""
    table = f"""
CREATE TABLE {TABLE} (id BIGINT NOT NULL)
WITH ('connector' = 'kafka', 'topic' = '{topic}', 'metadata.columns' = 'partition, offset, timestamp' {options});
"""
    return Landed(cluster, topic, project(folder / "project", settings, table))


@pytest.fixture
def producer(real_kafka: Kafka) -> Iterator[Producer]:
    opened = Producer({"bootstrap.servers": real_kafka.bootstrap, "transactional.id": f"writer{next(numbers)}"})
    opened.init_transactions(SECONDS)
    yield opened
    opened.purge()


def transaction(producer: Producer, topic: str, ids: range) -> None:
    """Begins one and writes; how it ends is for the caller."""
    producer.begin_transaction()
    for number in ids:
        producer.produce(topic, value(number), partition=0)
    producer.flush(SECONDS)


class TestTheCommand:
    def test_lands_every_record_once_and_then_has_nothing_to_do(self, landed: Make) -> None:
        flow = landed(partitions=3)
        for partition in range(3):
            flow.produce(range(partition * 1000, partition * 1000 + 400), partition)
        assert flow.land()["written"] == 1200
        assert flow.rows() == [(part, offset, part * 1000 + offset) for part in range(3) for offset in range(400)]
        assert (flow.land()["status"], flow.land()["read"]) == ("empty", 0)

        flow.produce(range(9000, 9010), 1)
        assert flow.land()["written"] == 10
        assert flow.ids()[-10:] == list(range(9000, 9010))

    def test_the_groups_lag_is_what_is_left_to_land(self, landed: Make) -> None:
        flow = landed()
        flow.produce(range(25))
        flow.land()
        group = f"lakeflow.{flow.topic}.{TABLE}"
        reader = Consumer({"bootstrap.servers": flow.cluster.bootstrap, "group.id": group})
        (found,) = reader.committed([TopicPartition(flow.topic, 0)], timeout=SECONDS)
        reader.close()
        assert found.offset == 25

    def test_follows_what_is_written_while_it_runs_and_stops_on_a_signal(self, landed: Make) -> None:
        flow = landed(options=", 'commit.interval' = '0.2'")
        flow.produce(range(10))
        process = flow.commands.start("land", "--follow")
        wait_for(lambda: open_lake(flow.commands.folder / ".lakeflow").exists(TABLE) and len(flow.ids()) == 10)
        flow.produce(range(10, 30))
        wait_for(lambda: len(flow.ids()) == 30)
        process.terminate()
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 143, said
        assert flow.ids() == list(range(30))


class TestStarts:
    def test_a_time_starts_at_the_first_record_of_it_or_later(self, landed: Make) -> None:
        flow = landed(
            partitions=2, options=f", 'scan.startup.mode' = 'timestamp', 'scan.startup.timestamp-millis' = '{T0 + 4 * DAY}'"
        )
        flow.produce(range(10), 0, step=DAY)
        flow.produce(range(100, 103), 1, step=DAY)
        assert flow.land()["written"] == 6
        assert flow.ids() == [4, 5, 6, 7, 8, 9]
        flow.produce(range(200, 202), 1)
        flow.land()
        assert flow.ids() == [4, 5, 6, 7, 8, 9, 200, 201]  # older than the time, and later in the topic

    def test_times_are_searched_by_the_broker(self, real_kafka: Kafka) -> None:
        topic = f"events{next(numbers)}"
        real_kafka.create(topic, 3)
        real_kafka.produce(topic, [(None, b"v", 0, T0 + place * DAY) for place in range(10)])
        real_kafka.produce(topic, [(None, b"v", 1, T0)])
        with KafkaSource({"bootstrap.servers": real_kafka.bootstrap}, [topic], "g") as source:
            assert source.offsets_at(T0 + 3 * DAY - 1) == {(topic, 0): 3, (topic, 1): 1, (topic, 2): 0}
            assert source.offsets_at(0) == {(topic, 0): 0, (topic, 1): 0, (topic, 2): 0}

    def test_latest_leaves_what_was_there_and_misses_nothing_after(self, landed: Make) -> None:
        flow = landed(options=", 'scan.startup.mode' = 'latest-offset'")
        flow.produce(range(5))
        assert flow.land()["read"] == 0
        flow.produce(range(5, 8))
        flow.land()
        assert flow.ids() == [5, 6, 7]


class TestTransactions:
    def test_aborted_records_never_land_and_their_offsets_are_passed(self, landed: Make, producer: Producer) -> None:
        flow = landed()
        for begin, end in (
            (0, producer.commit_transaction),
            (100, producer.abort_transaction),
            (200, producer.commit_transaction),
        ):
            transaction(producer, flow.topic, range(begin, begin + 50))
            end(SECONDS)
        transaction(producer, flow.topic, range(300, 350))
        producer.abort_transaction(SECONDS)  # the topic ends with records that nobody may see

        assert flow.land()["written"] == 100
        assert flow.ids() == [*range(50), *range(200, 250)]
        assert flow.land()["status"] == "empty"

    def test_a_topic_of_nothing_but_aborted_records_is_caught_up_with(self, landed: Make, producer: Producer) -> None:
        flow = landed()
        transaction(producer, flow.topic, range(10))
        producer.abort_transaction(SECONDS)
        assert flow.land()["read"] == 0

    def test_an_open_transaction_holds_back_what_is_in_it_and_behind_it_and_nothing_else(
        self, landed: Make, producer: Producer
    ) -> None:
        flow = landed()
        flow.produce(range(10))
        transaction(producer, flow.topic, range(100, 110))
        flow.produce(range(10, 20))
        assert flow.land()["written"] == 10
        assert flow.ids() == list(range(10))

        producer.commit_transaction(SECONDS)
        assert flow.land()["written"] == 20
        assert flow.ids() == [*range(20), *range(100, 110)]

    def test_read_uncommitted_is_the_users_choice(self, landed: Make, producer: Producer) -> None:
        flow = landed(options=", 'properties.isolation.level' = 'read_uncommitted'")
        transaction(producer, flow.topic, range(10))
        producer.abort_transaction(SECONDS)
        flow.land()
        assert flow.ids() == list(range(10))


class TestGaps:
    def test_a_compacted_topic_lands_what_is_kept_with_its_own_offsets(self, landed: Make) -> None:
        flow = landed(
            cleanup_policy="compact",
            segment_ms="100",
            min_cleanable_dirty_ratio="0.001",
            delete_retention_ms="0",
            max_compaction_lag_ms="100",
        )
        times = count(T0, 1000)  # segments end by the records' own times
        for turn in range(20):
            flow.cluster.produce(flow.topic, [(b"a", value(turn), 0, next(times)), (b"b", value(100 + turn), 0, next(times))])
        wait_for(lambda: len(kept(flow)) < 30, lambda: flow.cluster.produce(flow.topic, [(b"c", value(999), 0, next(times))]))
        flow.land()
        rows = flow.rows("SELECT kafka_offset, id FROM rows ORDER BY ALL")
        assert {19, 119} <= {row[1] for row in rows}
        offsets = [row[0] for row in rows]
        assert offsets == sorted(set(offsets))
        assert len(offsets) < offsets[-1] + 1
        assert flow.land()["status"] == "empty"

    def test_records_that_were_deleted_before_the_first_landing_are_no_fault(self, landed: Make) -> None:
        flow = landed()
        flow.produce(range(20))
        flow.cluster.delete_records(flow.topic, 0, 15)
        flow.land()
        assert flow.rows() == [(0, offset, offset) for offset in range(15, 20)]

    def test_records_deleted_below_the_position_change_nothing(self, landed: Make) -> None:
        flow = landed()
        flow.produce(range(20))
        flow.land()
        flow.cluster.delete_records(flow.topic, 0, 20)
        flow.produce(range(20, 25))
        flow.land()
        assert flow.ids() == list(range(25))


class TestChangedTopics:
    def test_records_deleted_past_the_position_are_said_to_be_gone(self, landed: Make) -> None:
        flow = landed()
        flow.produce(range(10))
        flow.land()
        flow.produce(range(10, 30))
        flow.cluster.delete_records(flow.topic, 0, 18)
        ended = flow.fail()
        assert "8 records from offset 10 on are gone; the first that is kept is at 18" in ended.err
        assert flow.ids() == list(range(10))

    def test_records_deleted_under_the_reader_are_no_jump(self, real_kafka: Kafka) -> None:
        topic = f"events{next(numbers)}"
        real_kafka.create(topic)
        real_kafka.produce(topic, [(None, value(number), 0, T0) for number in range(20)])
        real_kafka.delete_records(topic, 0, 10)
        with KafkaSource({"bootstrap.servers": real_kafka.bootstrap}, [topic], "g") as source:
            source.assign({(topic, 0): 5})
            with pytest.raises(SourceChanged, match=rf"{topic}' partition 0 has no offset 5"):
                source.poll(10, SECONDS)

    def test_a_shorter_topic_made_anew_is_refused(self, landed: Make) -> None:
        flow = landed()
        flow.produce(range(20))
        flow.land()
        flow.cluster.delete(flow.topic)
        wait_for(lambda: flow.topic not in flow.cluster.admin.list_topics(timeout=SECONDS).topics)
        flow.cluster.create(flow.topic)
        flow.produce(range(5))
        assert "was deleted and created anew since" in flow.fail().err
        assert flow.ids() == list(range(20))

    def test_partitions_added_later_are_read_from_their_beginning(self, landed: Make) -> None:
        flow = landed(options=", 'scan.startup.mode' = 'latest-offset'")
        flow.produce(range(5))
        flow.land()
        for future in flow.cluster.admin.create_partitions([NewPartitions(flow.topic, 3)]).values():
            future.result(SECONDS)
        wait_for(lambda: len(flow.cluster.admin.list_topics(flow.topic, timeout=SECONDS).topics[flow.topic].partitions) == 3)
        flow.produce(range(100, 105), 2)
        flow.land()
        assert flow.ids() == list(range(100, 105))


class TestThreeBrokers:
    def test_a_leader_that_dies_costs_no_record(self, three_kafkas: Kafka, tmp_path: Path) -> None:
        flow = make(three_kafkas, tmp_path, 3, ", 'commit.max-rows' = '2000'", min_insync_replicas="2")
        for partition in range(3):
            flow.produce(range(partition * 100_000, partition * 100_000 + 20_000), partition)
        leader = three_kafkas.admin.list_topics(flow.topic, timeout=SECONDS).topics[flow.topic].partitions[0].leader
        process = flow.commands.start("land", "--output", "json")
        try:
            wait_for(lambda: open_lake(flow.commands.folder / ".lakeflow").exists(TABLE) and len(flow.ids()) > 0)
            three_kafkas.brokers[leader - 1].kill()
            assert process.poll() is None, "it had landed everything before the leader died"
            _, said = process.communicate(timeout=SECONDS * 2)
            assert process.returncode == 0, said
        finally:
            process.kill()
            three_kafkas.brokers[leader - 1].start()
        assert flow.ids() == [part * 100_000 + place for part in range(3) for place in range(20_000)]


def kept(flow: Landed) -> list[int]:
    """The offsets that a plain consumer finds in partition 0."""
    reader = Consumer({"bootstrap.servers": flow.cluster.bootstrap, "group.id": "look", "enable.partition.eof": True})
    reader.assign([TopicPartition(flow.topic, 0, 0)])
    offsets: list[int] = []
    while (message := reader.poll(SECONDS)) is not None and message.error() is None:
        offsets.append(message.offset() or 0)
    reader.close()
    assert message is not None, "the end of the partition never came"
    return offsets


def wait_for(happened: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        meanwhile()
        time.sleep(0.3)
