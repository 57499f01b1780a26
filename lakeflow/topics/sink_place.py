"""The position of a sink, as the brokers hold it: the metadata of its group's offset in the first partition of its topic."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from lakeflow.errors import ConfigError, SourceUnavailable
from lakeflow.topics.kafka_errors import UNKNOWN
from lakeflow.topics.kafka_settings import asking_settings
from lakeflow.topics.sink import Place
from lakeflow.topics.sink_errors import Trouble, error_of, refused_settings

LOG = logging.getLogger("lakeflow.topics")
CLIENT_LOG = logging.getLogger("lakeflow.topics.librdkafka")

READING: Mapping[str, str] = {
    "enable.auto.commit": "false",
    # So that a position whose transaction is still open is waited for (KIP-447).
    "isolation.level": "read_committed",
}
OTHERS_ONLY = ("transactional.id", "group.id", "message.timeout.ms", "delivery.timeout.ms")
CALL = 1.0
"""Seconds of one try."""
AGAIN = 0.1
HOME = 0
"""The partition whose offset in the group holds the position."""
MOST_METADATA = 4096
"""Bytes that brokers keep beside an offset unless they are set otherwise (offset.metadata.max.bytes)."""

T = TypeVar("T")


def own_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """The user's settings, without those that a sink must own."""
    return {key: value for key, value in asking_settings(settings).items() if key not in OTHERS_ONLY}


class KafkaPlace:
    """How far the sink `name`, which is its group, has come in `topic`. Asking changes nothing and fences nobody.

    `patience` is how long, in seconds, brokers have to answer. Raises ConfigError for settings that librdkafka refuses.
    """

    def __init__(self, settings: Mapping[str, str], topic: str, name: str, *, patience: float) -> None:
        self._topic, self._patience = topic, patience
        self._trouble = Trouble(topic, name, "its position", patience, dict(settings))
        self._refusal: KafkaError | None = None
        own = {**own_settings(settings), **READING, "group.id": name, "error_cb": self._noted}
        own.pop("transaction.timeout.ms", None)
        try:
            self._client = Consumer(own, logger=CLIENT_LOG)
        except KafkaException as error:
            raise refused_settings(self._trouble, error) from None

    def place(self) -> Place:
        """See `Sink.place`. Raises ConfigError where the topic is not there, too."""
        place = self._asking(lambda: self._client.committed([TopicPartition(self._topic, HOME)], timeout=CALL))[0]
        if place.error is not None and place.error.code() not in UNKNOWN:
            raise error_of(place.error, self._trouble)
        if place.offset >= 0:
            return Place(place.metadata or "", True)
        topic = self._asking(lambda: self._client.list_topics(self._topic, timeout=CALL)).topics[self._topic]
        if topic.error is not None:
            raise error_of(topic.error, self._trouble)
        return Place(None, any(self._was_written(number) for number in topic.partitions))

    def at(self, position: str, number: int) -> TopicPartition:
        """The offset `number`, with the position, as it is committed. Raises ConfigError where brokers keep no text so long."""
        size = len(position.encode())
        if size > MOST_METADATA:
            raise ConfigError(
                f"the position of the sink {self._trouble.name} takes {size:,} bytes, and brokers keep {MOST_METADATA:,}: "
                f"{position[:200]}",
                next_step="give the table's files shorter paths (warehouse under [catalog])",
            )
        return TopicPartition(self._topic, HOME, number, position)

    def keep(self, position: str, number: int) -> None:
        """Commit the position by itself."""
        place = self.at(position, number)
        self._asking(lambda: self._client.commit(offsets=[place], asynchronous=False))

    def group(self) -> Any:
        """What a transaction names the group by."""
        return self._client.consumer_group_metadata()

    def close(self) -> None:
        """May be called twice."""
        self._client.close()

    def _was_written(self, partition: int) -> bool:
        """Whether a record was ever in a partition."""
        place = TopicPartition(self._topic, partition)
        ends = self._asking(lambda: self._client.get_watermark_offsets(place, timeout=CALL))
        return bool(ends[1])

    def _asking(self, ask: Callable[[], T]) -> T:
        """What brokers answer, asked again while they are away."""
        end = time.monotonic() + self._patience
        while True:
            try:
                return ask()
            except KafkaException as failure:
                error = error_of(self._refusal or failure.args[0], self._trouble)
                if not isinstance(error, SourceUnavailable) or time.monotonic() > end:
                    raise error from None
                time.sleep(AGAIN)

    def _noted(self, error: KafkaError) -> None:
        """Called by librdkafka: a refusal says more than the time-out of what waits behind it."""
        if self._trouble.is_refusal(error):
            self._refusal = self._refusal or error
        LOG.debug("%s", self._trouble.clean(error.str()))
