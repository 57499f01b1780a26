"""Writes records to a topic and waits until the brokers have each of them: dead letters on their way to a topic.

Idempotent: librdkafka's own retries neither repeat a record nor turn two around. A caller that writes again after a crash does.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from lakeflow.errors import ConfigError, LakeflowError, SourceUnavailable, Terminal
from lakeflow.topics.kafka_errors import DENIED, FORBIDDEN, UNKNOWN, Asked, translated
from lakeflow.topics.kafka_settings import asking_settings, brokers, without_secrets
from lakeflow.topics.sink import Outgoing
from lakeflow.topics.topic_there import what_is_wrong

LOG = logging.getLogger("lakeflow.topics")
CLIENT_LOG = logging.getLogger("lakeflow.topics.librdkafka")

OWNED: Mapping[str, str] = {"enable.idempotence": "true", "acks": "all"}
DEFAULTS: Mapping[str, str] = {
    # Whether a record is too large is for the topic to say: it came from one that took it.
    "message.max.bytes": "1000000000",
    # As Java's producer does it, so that the letters of a key are in one partition, whoever wrote them.
    "partitioner": "murmur2_random",
}
OTHERS_ONLY = ("transactional.id", "message.timeout.ms", "delivery.timeout.ms")
SLICE = 0.1
"""Seconds that librdkafka may wait by itself: no signal is seen meanwhile."""
CLOSING = 1.0
"""Seconds that `close` waits for what was given up."""

_Failure = tuple[KafkaError, str]
"""What befell a record, and what messages call it."""


class LetterProducer:
    """Writes to `topic`, with [kafka] as `settings`. `patience` is how long, in seconds, the brokers have to take a record,
    `request_timeout` how long to answer whether the topic is there.

    Raises ConfigError for settings that librdkafka refuses, where the brokers refuse them or the right to see the topic, and
    where the topic is not there and they do not make it; SourceUnavailable where they do not answer.
    """

    def __init__(
        self, settings: Mapping[str, str], topic: str, *, request_timeout: float = 10.0, patience: float = 60.0
    ) -> None:
        self._settings = dict(settings)
        self._topic = topic
        self._patience = patience
        self._refusal: KafkaError | None = None
        own = {key: value for key, value in asking_settings(settings).items() if key not in OTHERS_ONLY}
        timeout = {"message.timeout.ms": str(max(1, round(patience * 1000)))}
        conf: dict[str, Any] = {**DEFAULTS, **own, **OWNED, **timeout, "error_cb": self._noted}
        try:
            self._producer = Producer(conf, logger=CLIENT_LOG)
        except KafkaException as error:
            raise ConfigError(
                f"[kafka], for writing to topic {topic!r}: {self._clean(error.args[0].str())}",
                next_step="correct it in lakeflow.toml; the keys are librdkafka's (CONFIGURATION.md there)",
            ) from None
        wrong = what_is_wrong(self._producer, topic, request_timeout, lambda: self._refusal is not None)
        if wrong is not None:
            raise self._error(wrong, "whether it is there")

    def write(self, records: Sequence[Outgoing]) -> None:
        """Write the records; each is in the topic once this returns.

        Raises SourceUnavailable where the brokers did not take them in time, Terminal for a record that is too large for the
        topic, ConfigError where they refuse to let us write. Then some of the records may be in the topic.
        """
        failed: list[_Failure] = []
        for record in records:
            self._send(record, failed)
        while len(self._producer) and not failed:
            self._producer.flush(SLICE)
        if failed:
            raise self._error(*failed[0])

    def close(self) -> None:
        """Gives up what is not written yet. May be called twice."""
        self._producer.purge()
        self._producer.flush(CLOSING)

    def _send(self, record: Outgoing, failed: list[_Failure]) -> None:
        """Hand a record over, unless one has failed; what comes of it later is told in `failed`."""

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                failed.append((error, record.origin))

        while not failed:
            try:
                self._producer.produce(
                    self._topic,
                    value=record.value,
                    key=record.key,
                    headers=list(record.headers),
                    timestamp=max(0, record.timestamp),
                    on_delivery=delivered,
                )
            except BufferError:
                self._producer.poll(SLICE)
            except KafkaException as error:
                failed.append((error.args[0], record.origin))
            else:
                self._producer.poll(0)
                return

    def _noted(self, error: KafkaError) -> None:
        """Called by librdkafka within poll and flush: a refusal says more than the time-out of the records behind it."""
        if error.code() in DENIED or error.fatal():
            self._refusal = self._refusal or error
        LOG.debug("%s", self._clean(error.str()))

    def _error(self, error: KafkaError, origin: str) -> LakeflowError:
        what = f"topic {self._topic!r} for dead letters, {origin}"
        said = self._clean(error.str())
        if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
            return Terminal(
                f"topic {self._topic!r} for dead letters takes no record as large as {origin}: {said}",
                left_behind="nothing of this batch is in the table; letters before this one may be in the topic already",
                next_step=f"raise max.message.bytes of topic {self._topic}, or leave 'dead_letter.topic' out",
            )
        if error.code() in UNKNOWN:
            return ConfigError(
                f"topic {self._topic!r} for dead letters is not there, and the brokers do not make it "
                f"({brokers(self._settings)})",
                next_step=f"create topic {self._topic}, or leave 'dead_letter.topic' out of the declaration",
            )
        told = error if error.code() in FORBIDDEN else self._refusal or error
        if told.code() == KafkaError._MSG_TIMED_OUT:
            return SourceUnavailable(
                f"the brokers at {brokers(self._settings)} took no record within {self._patience:g} s: {what}: {said}",
                left_behind="nothing of this batch is in the table; some of its letters may be in the topic already",
                next_step="lakeflow doctor",
            )
        asked = Asked(what, brokers(self._settings), self._patience)
        return translated(told.code(), self._clean(told.str()), asked, passes=error.retriable())

    def _clean(self, message: str) -> str:
        return without_secrets(message, self._settings)
