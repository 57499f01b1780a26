"""Whether a topic that is to be written is there. Brokers which make topics by themselves make it when they are asked."""

from __future__ import annotations

import time
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Producer

from lakeflow.topics.kafka_errors import AWAY, UNKNOWN

AGAIN = 0.1
MAKING = 5.0
"""Seconds that brokers have to make a topic that was asked for."""


def what_is_wrong(producer: Producer, topic: str, seconds: float, is_refused: Callable[[], bool]) -> KafkaError | None:
    """What stands in the way of writing to `topic`, None where it is there. It is asked for until `seconds` are over, or
    `is_refused()`, which librdkafka's other threads find out."""
    deadline = time.monotonic() + seconds
    missing_by = min(deadline, time.monotonic() + MAKING)
    missing: KafkaError | None = None
    while True:
        error = _asked(producer, topic, max(0.001, min(1.0, deadline - time.monotonic())))
        if error is None:
            return None
        producer.poll(0)
        missing = error if error.code() in UNKNOWN else missing
        passes = error.code() in AWAY or error.retriable() or error.code() in UNKNOWN
        if is_refused() or not passes or time.monotonic() >= (missing_by if missing else deadline):
            return missing or error
        time.sleep(AGAIN)


def _asked(producer: Producer, topic: str, seconds: float) -> KafkaError | None:
    """What is wrong with the topic; None where it is there."""
    try:
        found: KafkaError | None = producer.list_topics(topic, timeout=seconds).topics[topic].error
    except KafkaException as failure:
        return failure.args[0]  # type: ignore[no-any-return]  # as librdkafka makes them
    return found
