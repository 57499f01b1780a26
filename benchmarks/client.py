"""confluent-kafka alone, in a process that has loaded nothing else: what no landing in Python can exceed."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from benchmarks.harness import Spent, spending
from lakeflow.topics.kafka_settings import consumer_settings

AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Read:
    """What one run of a path took, the records that it read and the rows that it stored."""

    spent: Spent
    records: int
    written: int = 0


def client_settings(bootstrap: str, group: str) -> dict[str, Any]:
    """librdkafka's settings as lakeflow makes them: with its defaults instead, it waits most of the time."""
    return dict(consumer_settings({"bootstrap.servers": bootstrap}, group))


def consume(bootstrap: str, topic: str, partitions: int, *, collect: bool) -> Read:
    """Every column of every record as a list. `collect` leaves the garbage collector on, as Python has it."""
    if not collect:
        gc.disable()
    ended = records = 0
    with spending() as spent:
        consumer = Consumer(client_settings(bootstrap, "client"))
        consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        while ended < partitions:
            messages = consumer.consume(AT_ONCE, 0.1)
            if any(map(Message.error, messages)):
                ended += sum(map(is_end, messages))
                messages = [message for message in messages if message.error() is None]
            for column in (Message.value, Message.key, Message.timestamp, Message.offset, Message.partition):
                list(map(column, messages))
            records += len(messages)
        consumer.close()
    return Read(spent, records)


def is_end(message: Message) -> bool:
    """Whether this tells of the end of a partition; any other error ends the benchmark."""
    error = message.error()
    if error is None:
        return False
    assert error.code() == KafkaError._PARTITION_EOF, error
    return True
