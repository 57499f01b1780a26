"""What a poll makes of messages, in orders that no broker gives on demand."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, Message

from lakeflow.topics.kafka_read import Reading


def record(partition: int, offset: int) -> Message:
    return Message(topic="t", partition=partition, offset=offset, value=b"v", timestamp=(1, 0))


def end(partition: int, offset: int) -> Message:
    return Message(topic="t", partition=partition, offset=offset, error=KafkaError(KafkaError._PARTITION_EOF))


def reading(*given: Sequence[Message]) -> Reading:
    steps = iter(given)
    consumer = SimpleNamespace(consume=lambda most, wait: list(next(steps, ())))
    client: Any = SimpleNamespace(consumer=consumer, check=lambda: None, heard=lambda: None)
    return Reading(client, 1 << 20, headers=False, leader_epochs=False)


def test_an_end_that_records_came_behind_in_the_same_poll_is_none() -> None:
    polled = reading([record(0, 4), end(0, 5), end(1, 3)], [record(0, 5), record(0, 6)]).poll(100, 0.0)
    assert polled.offsets == [4, 5, 6]
    assert polled.ends == {("t", 1): 3}


def test_an_end_behind_the_last_record_stays() -> None:
    polled = reading([record(0, 4), end(0, 5), record(0, 5)], [end(0, 9)]).poll(100, 0.0)
    assert polled.ends == {("t", 0): 9}
