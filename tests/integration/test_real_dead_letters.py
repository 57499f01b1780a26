"""Dead letters on a real Kafka: to a topic before the rows land, and from the table back by a replay."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Message
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]

from lakeflow.errors import ConfigError
from lakeflow.topics.letter_producer import LetterProducer
from lakeflow.topics.sink import Outgoing
from tests.integration.commands import Commands, project
from tests.lakes import open_lake, query
from tests.rig.kafka import Kafka
from tests.rig.secured import PASSWORD, SCRAM, SecuredKafka

T0 = 1_357_000_000_000
TABLE = "bronze.events"
SECONDS = 20.0
numbers = count()


class Flow:
    """A topic with good and bad records, and a project that lands it."""

    def __init__(self, cluster: Kafka, folder: Path, options: str) -> None:
        self.cluster = cluster
        self.topic = f"letters-of{next(numbers)}"
        self.letters = f"{self.topic}-dlq"
        cluster.create(self.topic)
        settings = f"""
[project]
name = "{self.topic}"
[kafka]
"bootstrap.servers" = "{cluster.bootstrap}"
"isolation.level" = "read_committed"
[run]
poll_seconds = 0.1
connect_seconds = {SECONDS}
"""
        self.commands: Commands = project(folder / "project", settings, self._table("INT", options))
        self._options = options

    def _table(self, kind: str, options: str) -> str:
        named = options.replace("DLQ", self.letters)
        return f"""
CREATE TABLE {TABLE} (id {kind} NOT NULL)
WITH ('connector' = 'kafka', 'topic' = '{self.topic}', 'metadata.columns' = 'offset', 'on_error' = 'dead_letter' {named});
"""

    def mend(self) -> None:
        (self.commands.folder / "tables" / "tables.sql").write_text(self._table("BIGINT", self._options), encoding="utf-8")

    def produce(self, *values: bytes) -> None:
        headers: dict[int, list[tuple[str, bytes | None]]] = {place: [("trace", b"%d" % place)] for place in range(len(values))}
        self.cluster.produce(self.topic, [(b"k", value, 0, T0) for value in values], headers)

    def ids(self) -> list[tuple[Any, ...]]:
        table = open_lake(self.commands.folder / ".lakeflow").table(TABLE)
        return query(table, "SELECT kafka_offset, id FROM rows ORDER BY ALL")

    def written(self, most: int) -> list[Message]:
        """The records of the letters' topic."""
        reader = Consumer({"bootstrap.servers": self.cluster.bootstrap, "group.id": self.letters})
        ends = [reader.get_watermark_offsets(Place(self.letters, 0), timeout=SECONDS)[1]]
        reader.assign([Place(self.letters, 0, 0)])
        messages: list[Message] = []
        while len(messages) < min(most, ends[0]):
            messages += reader.consume(most, 1.0)
        reader.close()
        return messages


Make = Callable[..., Flow]


@pytest.fixture
def make(real_kafka: Kafka, tmp_path: Path) -> Make:
    return lambda options="": Flow(real_kafka, tmp_path, options)


def good(number: int) -> bytes:
    return json.dumps({"id": number}).encode()


def test_letters_are_in_the_topic_with_what_they_were_and_why(make: Make) -> None:
    flow = make(", 'dead_letter.topic' = 'DLQ'")
    flow.cluster.create(flow.letters)
    flow.produce(good(1), b"{broken", good(2), good(1 << 40))
    (landed,) = flow.commands.done("land")
    assert (landed["written"], landed["dead_lettered"]) == (2, 2)
    broken, large = flow.written(2)
    assert (broken.key(), broken.value(), broken.timestamp()[1]) == (b"k", b"{broken", T0)
    headers = dict(broken.headers() or [])
    assert headers["trace"] == b"1"
    assert headers["__connect.errors.topic"] == flow.topic.encode()
    assert (headers["__connect.errors.partition"], headers["__connect.errors.offset"]) == (b"0", b"1")
    assert headers["__connect.errors.exception.class.name"] == b"malformed"
    assert headers["lakeflow.table"] == TABLE.encode()
    assert dict(large.headers() or [])["__connect.errors.exception.class.name"] == b"misfit"


def test_a_topic_that_is_not_there_is_named_before_anything_is_read(make: Make) -> None:
    flow = make(", 'dead_letter.topic' = 'DLQ'")
    flow.produce(b"{broken")
    ended = flow.commands.run("land")
    assert ended.code == 2
    assert f"topic '{flow.letters}' for dead letters is not there" in ended.err
    assert f"create topic {flow.letters}" in ended.err


def test_a_letter_that_the_topic_does_not_take_lands_nothing_of_its_batch(make: Make) -> None:
    flow = make(", 'dead_letter.topic' = 'DLQ'")
    flow.cluster.create(flow.letters, max_message_bytes="2000")
    flow.produce(good(1), b"{" + bytes(5000))
    ended = flow.commands.run("land")
    assert ended.code == 1
    assert f"takes no record as large as topic '{flow.topic}' partition 0 offset 1" in ended.err
    assert flow.ids() == []
    flow.commands.done("query", "SELECT 1 AS one")


def test_letters_of_the_table_are_replayed_by_the_command(make: Make) -> None:
    flow = make()
    flow.produce(good(1), b"{broken", good(1 << 40))
    flow.commands.done("land")
    flow.mend()
    ended = flow.commands.run("deadletters", "replay", TABLE, "--output", "json")
    assert ended.code == 0, ended.err
    result = json.loads(ended.out)
    assert (result["read"], result["written"], result["left"]) == (2, 1, 1)
    assert flow.ids() == [(0, 1), (2, 1 << 40)]
    flow.produce(good(3))
    flow.commands.done("land")
    assert flow.ids() == [(0, 1), (2, 1 << 40), (3, 3)]


OUT = Outgoing(b"k", b"v", [("h", b"1")], T0, "topic 't' partition 0 offset 0")


def test_over_tls_as_a_user_who_may_write(secured_kafka: SecuredKafka) -> None:
    secured_kafka.create("open-letters")
    secured_kafka.grant(ResourceType.TOPIC, "open-letters", AclOperation.WRITE)
    producer = LetterProducer(secured_kafka.options(SCRAM), "open-letters", request_timeout=SECONDS)
    producer.write([OUT])
    producer.close()
    reader = Consumer({"bootstrap.servers": secured_kafka.bootstrap, "group.id": "letters"})
    assert reader.get_watermark_offsets(Place("open-letters", 0), timeout=SECONDS) == (0, 1)
    reader.close()


@pytest.mark.parametrize("sees", [False, True])
def test_who_may_not_write_to_the_topic_is_told(secured_kafka: SecuredKafka, sees: bool) -> None:
    topic = f"letters-seen-{sees}"
    secured_kafka.create(topic)
    if sees:
        secured_kafka.grant(ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
    with pytest.raises(ConfigError, match=f"refuse .*{topic}") as refused:
        LetterProducer(secured_kafka.options(SCRAM), topic, request_timeout=SECONDS).write([OUT])
    assert PASSWORD not in str(refused.value)
