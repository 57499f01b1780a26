"""`lakeflow produce` on a real Kafka: processes killed and stopped within a transaction, missing rights, and the way back."""

from __future__ import annotations

import json
import random
from collections import Counter
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]

from lakeflow.declare import TableSpec
from lakeflow.errors import ConfigError
from lakeflow.topics.kafka_sink import KafkaSink
from lakeflow.topics.sink import Outgoing
from tests.chaos.processes import Child, Nursery, judge, wait_for
from tests.integration.cli.conftest import Shop
from tests.integration.commands import project
from tests.lakes import append, open_lake, query
from tests.rig.kafka import Kafka
from tests.rig.secured import PASSWORD, SCRAM, SecuredKafka

TABLE, COPY = "gold.answers", "silver.copy"
PARTITIONS = 3
ROWS = 20_000
"""Of an append that takes a while to be sent."""
SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("text", pa.string())])
SECONDS = 60.0
numbers = count()


class Site:
    """A project whose table goes to a topic of its own, and the topic as others see it."""

    def __init__(self, cluster: Kafka, folder: Path, capsys: pytest.CaptureFixture[str], options: str = "") -> None:
        self.cluster = cluster
        self.topic = f"produce{next(numbers)}"
        cluster.create(self.topic, PARTITIONS)
        settings = f"""
[project]
name = "{self.topic}"
[kafka]
"bootstrap.servers" = "{cluster.bootstrap}"
[run]
follow_seconds = 0.1
poll_seconds = 0.1
connect_seconds = 30
"""
        declarations = f"""
CREATE TABLE {TABLE} (id BIGINT NOT NULL, text STRING) WITH ('sink.topic' = '{self.topic}', 'sink.key' = 'id' {options});
CREATE TABLE {COPY} (id BIGINT NOT NULL, text STRING, PRIMARY KEY (id) NOT ENFORCED)
WITH ('connector' = 'kafka', 'topic' = '{self.topic}', 'changelog.mode' = 'upsert', 'key.format' = 'json');
"""
        self.folder = project(folder / "project", settings, declarations).folder
        self.run = Shop(self.folder, capsys)
        self.lake = open_lake(self.folder / ".lakeflow")
        self._next = 0

    def produced(self, *words: str) -> dict[str, Any]:
        """What `lakeflow produce`, which must succeed, tells of the table."""
        (result,) = self.run.json("produce", *words)
        return dict(result)

    def append(self, rows: int) -> None:
        """Rows whose ids go on from those before."""
        self.lake.ensure(TableSpec(TABLE, SCHEMA))
        ids = range(self._next, self._next + rows)
        self._next += rows
        append(self.lake, pa.table({"id": list(ids), "text": [f"answer {i}" for i in ids]}, schema=SCHEMA), name=TABLE)

    def ends(self, isolation: str) -> list[int]:
        """Where each partition ends: for readers of committed records, before the first open transaction."""
        reader = Consumer({"bootstrap.servers": self.cluster.bootstrap, "group.id": "ends", "isolation.level": isolation})
        places = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]
        found = [reader.get_watermark_offsets(place, timeout=SECONDS)[1] for place in places]
        reader.close()
        return found

    def is_in_transaction(self) -> bool:
        """Whether records are in the topic that nobody sees yet."""
        return self.ends("read_committed") != self.ends("read_uncommitted")

    def committed(self) -> Counter[int]:
        """How often each id is in the topic, for a reader of committed records."""
        settings = {"bootstrap.servers": self.cluster.bootstrap, "group.id": "count", "isolation.level": "read_committed"}
        reader = Consumer({**settings, "enable.partition.eof": True})
        reader.assign([TopicPartition(self.topic, number, 0) for number in range(PARTITIONS)])
        found: Counter[int] = Counter()
        ended = 0
        while ended < PARTITIONS:
            for message in reader.consume(1_000, 0.2):
                if message.error():
                    ended += 1
                else:
                    row = json.loads(message.value() or b"")
                    assert row["text"] == f"answer {row['id']}"
                    assert json.loads(message.key() or b"") == {"id": row["id"]}
                    found[row["id"]] += 1
        reader.close()
        return found


def interrupted(site: Site, nursery: Nursery) -> Child:
    """A process that is within a transaction of which records are in the topic already."""
    site.append(ROWS)
    child = nursery.start("produce", "--follow")
    child.wait_until(site.is_in_transaction, "an open transaction")
    return child


def test_each_row_is_there_once_however_often_the_process_is_killed_within_a_transaction(
    real_kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(real_kafka, tmp_path, capsys)
    with Nursery(site.folder, tmp_path / "logs") as nursery:
        for _ in range(3):
            assert interrupted(site, nursery).kill()
            assert site.is_in_transaction(), "nobody has ended what the killed process had open"
    assert site.produced()["written"] > 0
    assert site.committed() == Counter(range(3 * ROWS))
    assert site.produced()["read"] == 0


def test_a_process_that_wakes_up_behind_another_is_fenced(
    real_kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(real_kafka, tmp_path, capsys)
    with Nursery(site.folder, tmp_path / "logs") as nursery:
        zombie = interrupted(site, nursery)
        zombie.stop()
        assert site.produced()["written"] == ROWS
        site.append(100)
        zombie.go_on()
        assert zombie.wait() == 1
        judge(zombie, [1])
        assert zombie.fenced() == 1
    assert site.produced()["written"] == 100
    assert site.committed() == Counter(range(ROWS + 100))


def test_a_signal_ends_it_between_two_transactions(
    real_kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(real_kafka, tmp_path, capsys, ", 'sink.commit.max-rows' = '1000'")
    for _ in range(3):
        site.append(1000)
    with Nursery(site.folder, tmp_path / "logs") as nursery:
        child = nursery.start("produce", "--follow")
        child.wait_until(lambda: sum(site.ends("read_committed")) > 0, "a committed transaction")
        child.end()
        assert child.process.returncode == 143
    assert not site.is_in_transaction()
    site.produced()
    assert site.committed() == Counter(range(3000))


def test_brokers_forget_a_position_and_the_sink_does_not_guess(
    real_kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(real_kafka, tmp_path, capsys)
    site.append(10)
    site.produced()
    group = f"lakeflow.sink.{site.topic}.{TABLE}"
    for future in real_kafka.admin.delete_consumer_groups([group]).values():
        future.result(SECONDS)
    refused = site.run("produce")
    assert refused.code == 1
    assert "the brokers hold no position of this sink" in refused.err
    site.produced(TABLE, "--from", "now")
    site.append(5)
    assert site.produced()["written"] == 5
    assert site.committed() == Counter(range(15))


def test_a_topic_made_anew_while_a_sink_stays_gets_all_rows(
    real_kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(real_kafka, tmp_path, capsys)
    site.append(10)
    with Nursery(site.folder, tmp_path / "logs") as nursery:
        child = nursery.start("produce", "--follow")
        child.wait_until(lambda: site.committed() == Counter(range(10)), "the first rows")
        real_kafka.delete(site.topic)
        real_kafka.create(site.topic, PARTITIONS)
        site.append(5)
        child.wait_until(lambda: site.committed()[14] > 0, "the rows that came later")
        child.end()
    assert site.committed() == Counter(range(15))


def test_updates_and_deletes_come_back_as_the_table_is(
    real_kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(real_kafka, tmp_path, capsys)
    roll = random.Random(7)
    site.append(40)
    site.produced()
    for change in (
        f"DELETE FROM {TABLE} WHERE id % 3 = {roll.randrange(3)}",
        f"UPDATE {TABLE} SET text = 'changed' WHERE id % 5 = {roll.randrange(5)}",
    ):
        assert site.run("sql", "-e", change).code == 0
        site.produced()
    site.run.json("land", COPY)
    rows = "SELECT id, text FROM rows ORDER BY id"
    assert query(site.lake.table(COPY), rows) == query(site.lake.table(TABLE), rows)


def test_each_right_that_is_missing_is_named(secured_kafka: SecuredKafka) -> None:
    name = f"sink{next(numbers)}"
    secured_kafka.create(name)
    said: list[str] = []

    def is_sent() -> bool:
        try:
            sink = KafkaSink(secured_kafka.options(SCRAM), name, name, exactly_once=True, request_timeout=SECONDS)
            with closing(sink):
                sink.write([Outgoing(None, b"v", [], -1, "a record")])
                sink.commit("one", 1)
        except ConfigError as error:
            said.append(str(error))
            return False
        return True

    for kind, operation, refused in (
        (ResourceType.TOPIC, AclOperation.DESCRIBE, f"refuse topic '{name}', whether it is there"),
        (ResourceType.TRANSACTIONAL_ID, AclOperation.WRITE, f"refuse the transactional id '{name}'"),
        (ResourceType.TOPIC, AclOperation.WRITE, f"refuse topic '{name}', a record"),
        (ResourceType.GROUP, AclOperation.READ, "Group authorization failed"),
        (ResourceType.TOPIC, AclOperation.READ, "Topic authorization failed"),
    ):
        # A right that was granted takes a moment to count.
        wait_for(lambda refused=refused: not is_sent() and refused in said[-1], refused)  # type: ignore[misc]
        secured_kafka.grant(kind, name, operation)
    wait_for(is_sent, "the last right to count")
    assert not [text for text in said if PASSWORD in text]
