"""The Source over a Kafka cluster, by confluent_kafka (librdkafka).

Partitions are assigned by hand and offsets come from the table, so no consumer group ever decides what is read; the
group's id is only for `acknowledge`. `check.crcs` is left as librdkafka has it (off): TCP and the brokers check already,
and it costs a pass over all bytes.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn

from confluent_kafka import Consumer, KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as Place

from lakeflow.errors import ConfigError, LakeflowError, SourceChanged, SourceUnavailable, Terminal, UnknownName
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.kafka_settings import brokers, consumer_settings, without_secrets
from lakeflow.topics.source import Bounds, Offsets, Records, TopicPartition, size_of

LOG = logging.getLogger("lakeflow.topics")
CLIENT_LOG = logging.getLogger("lakeflow.topics.librdkafka")
"""librdkafka's own lines: one for each attempt to connect. What matters of them comes as an error or a warning."""

CONSUME_AT_ONCE = 1000
"""Messages a call to librdkafka: more of them alive at once are slower to collect than they save in calls."""
LARGE_RECORD = 1 << 20
"""Bytes of a record that is not known yet: as large as brokers take without being told to."""
SLICE = 0.1
"""Seconds that librdkafka may wait by itself: no signal is seen meanwhile."""

DENIED = {
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
LOST_PLACE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._LOG_TRUNCATION}
UNKNOWN = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
AWAY = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._RESOLVE}


class KafkaSource:
    """Source and GroupSource over `topics`.

    `settings` is [kafka], handed to librdkafka with what lakeflow owns added; `group` shows the lag. `request_timeout`
    bounds in seconds what waits for an answer, `patience` how long all brokers may be away while polling, `poll_bytes` what
    a poll gives. `headers` and `leader_epochs` say whether records come with theirs: each costs a call a record. Raises
    ConfigError for settings that librdkafka or lakeflow refuses.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        topics: Sequence[str],
        group: str,
        *,
        headers: bool = False,
        leader_epochs: bool = False,
        request_timeout: float = 10.0,
        patience: float = 60.0,
        poll_bytes: int = 64 << 20,
    ) -> None:
        self._settings = dict(settings)
        self._topics = tuple(topics)
        self._group = group
        self._headers = headers
        self._leader_epochs = leader_epochs
        self._request_timeout = request_timeout
        self._patience = patience
        self._poll_bytes = poll_bytes
        self._record_bytes = LARGE_RECORD
        self._away_since: float | None = None
        self._failure: KafkaError | None = None
        self._closed = False
        conf: dict[str, Any] = {
            **consumer_settings(settings, group),
            "error_cb": self._noted,
            "on_commit": self._committed,
        }
        try:
            self._consumer = Consumer(conf, logger=CLIENT_LOG)
        except KafkaException as error:
            raise self._refused(error) from None

    def __enter__(self) -> KafkaSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def bounds(self) -> Mapping[TopicPartition, Bounds]:
        deadline = time.monotonic() + self._request_timeout
        found: dict[TopicPartition, Bounds] = {}
        for topic, partition in self._places(deadline):
            try:
                begin, end = self._consumer.get_watermark_offsets(Place(topic, partition), timeout=_left(deadline))
            except KafkaException as error:
                self._raise(error.args[0], f"the bounds of topic {topic!r} partition {partition}")
            found[topic, partition] = Bounds(begin, end)
        return found

    def assign(self, start: Offsets) -> None:
        try:
            self._consumer.assign([Place(topic, partition, offset) for (topic, partition), offset in start.items()])
        except KafkaException as error:
            self._raise(error.args[0], "assigning partitions")

    def poll(self, limit: int, timeout: float) -> Records:
        deadline = time.monotonic() + timeout
        ends: dict[TopicPartition, int] = {}
        records = Records(headers=[] if self._headers else None, leader_epochs=[] if self._leader_epochs else None, ends=ends)
        size = 0
        while len(records) < limit and size < self._poll_bytes:
            most = min(CONSUME_AT_ONCE, limit - len(records), (self._poll_bytes - size) // self._record_bytes + 1)
            with _no_collection():
                came = self._take(records, ends, most, 0.0)
            if came is not None:
                size += came
                continue
            if records.offsets or ends or time.monotonic() >= deadline:
                break
            self._check_failure()
            size += self._take(records, ends, most, min(SLICE, _left(deadline))) or 0
        if not records.offsets:
            self._check_failure()
        return records

    def _take(self, records: Records, ends: dict[TopicPartition, int], most: int, wait: float) -> int | None:
        """Adds `most` messages that have come to `records`, and gives their bytes; None where there are none."""
        messages = self._consumer.consume(most, wait)
        if not messages:
            return None
        self._away_since = None
        before = len(records)
        self._append(records, messages, ends)
        size = size_of(records, before)
        if len(records) > before:
            self._record_bytes = max(1, size // (len(records) - before))
        return size

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._consumer.close()

    def offsets_at(self, timestamp: int) -> Offsets:
        """Asks all partitions at once. (librdkafka's embedded broker keeps no times: it does not give useful answers.)"""
        deadline = time.monotonic() + self._request_timeout
        asked = [Place(topic, partition, timestamp) for topic, partition in self._places(deadline)]
        try:
            answers = self._consumer.offsets_for_times(asked, timeout=_left(deadline))
        except KafkaException as error:
            self._raise(error.args[0], f"the offsets at {timestamp} ms")
        found: dict[TopicPartition, int] = {}
        for answer in answers:
            if answer.error:
                self._raise(
                    answer.error, f"the offset at {timestamp} ms of topic {answer.topic!r} partition {answer.partition}"
                )
            if answer.offset >= 0:
                found[answer.topic, answer.partition] = answer.offset
        if len(found) < len(asked):
            found = {place: found.get(place, bound.end) for place, bound in self.bounds().items()}
        return found

    def acknowledge(self, progress: KafkaOffsets) -> None:
        places = [Place(topic, partition, offset) for (topic, partition), offset in progress.offsets.items()]
        try:
            if places:
                self._consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            self._committed(error.args[0], places)

    def _places(self, deadline: float) -> list[TopicPartition]:
        try:
            metadata = self._consumer.list_topics(timeout=_left(deadline))
        except KafkaException as error:
            self._raise(error.args[0], "the list of topics")
        places: list[TopicPartition] = []
        for topic in self._topics:
            known = metadata.topics.get(topic)
            if known is None or (known.error and known.error.code() in UNKNOWN):
                names = [name for name in metadata.topics if not name.startswith("__")]
                raise UnknownName(
                    "topic", topic, names, next_step=f"create it, or correct 'topic' in the table's options ({self._brokers})"
                )
            if known.error:
                self._raise(known.error, f"topic {topic!r}")
            places.extend((topic, partition) for partition in sorted(known.partitions))
        return places

    def _append(self, records: Records, messages: list[Message], ends: dict[TopicPartition, int]) -> None:
        if any(map(Message.error, messages)):
            messages = [message for message in messages if not self._is_event(message, ends)]
        # Unbound methods under map: the interpreter makes no frame and looks up no name for each message.
        records.topics.extend(map(Message.topic, messages))  # type: ignore[arg-type]
        records.partitions.extend(map(Message.partition, messages))  # type: ignore[arg-type]
        records.offsets.extend(map(Message.offset, messages))  # type: ignore[arg-type]
        records.keys.extend(map(Message.key, messages))
        records.values.extend(map(Message.value, messages))
        stamps = list(map(Message.timestamp, messages))
        records.timestamp_types.extend([stamp[0] for stamp in stamps])
        records.timestamps.extend([stamp[1] for stamp in stamps])
        if records.headers is not None:
            records.headers.extend(map(Message.headers, messages))  # type: ignore[arg-type]
        if records.leader_epochs is not None:
            records.leader_epochs.extend(map(Message.leader_epoch, messages))

    def _is_event(self, message: Message, ends: dict[TopicPartition, int]) -> bool:
        error = message.error()
        if error is None:
            return False
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        if error.code() == KafkaError._PARTITION_EOF:
            ends[topic, partition] = offset  # type: ignore[index, assignment]
        elif error.code() in LOST_PLACE:
            raise SourceChanged(
                f"topic {topic!r} partition {partition} has no offset {offset}: {error.str()}",
                next_step="lakeflow land, which compares the table's progress with the topic",
            )
        elif not error.retriable() and error.code() not in AWAY:
            self._raise(error, f"topic {topic!r} partition {partition}")
        return True

    def _noted(self, error: KafkaError) -> None:
        """Called by librdkafka within consume and the like: what it says is acted on once the call is back."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            if self._away_since is None:
                self._away_since = time.monotonic()
                LOG.info("all brokers (%s) are away; waiting for them up to %g s", self._brokers, self._patience)
        elif error.code() in DENIED or error.fatal():
            self._failure = error
        else:
            LOG.debug("%s", self._clean(error.str()))

    def _check_failure(self) -> None:
        if self._failure is not None:
            self._raise(self._failure, "reading records")
        away = self._away_since
        if away is None or time.monotonic() - away < self._patience:
            return
        try:
            self._consumer.list_topics(timeout=min(1.0, self._request_timeout))
        except KafkaException as error:
            raise SourceUnavailable(
                f"all brokers ({self._brokers}) have been away for {time.monotonic() - away:.0f} s: {self._clean(str(error))}",
                next_step="lakeflow doctor",
            ) from None
        self._away_since = None

    def _committed(self, error: KafkaError | None, places: list[Place]) -> None:
        if error is not None:
            LOG.warning("group %s: its lag could not be shown: %s", self._group, self._clean(error.str()))

    def _raise(self, error: KafkaError, what: str) -> NoReturn:
        raise self._translated(self._failure or error, what) from None

    def _translated(self, error: KafkaError, what: str) -> LakeflowError:
        detail = f"{what}: {self._clean(error.str())} ({self._brokers})"
        if error.code() in DENIED:
            return ConfigError(
                f"the brokers refuse {detail}", next_step="check the credentials in [kafka], then: lakeflow doctor"
            )
        if error.code() in UNKNOWN:
            return SourceChanged(f"no longer there: {detail}", next_step="lakeflow doctor")
        if error.retriable() or error.code() in AWAY or self._away_since is not None:
            return SourceUnavailable(
                f"the brokers at {self._brokers} gave no answer within {self._request_timeout:g} s "
                f"for {what}: {self._clean(error.str())}",
                next_step="see that they run and that bootstrap.servers under [kafka] names them, then: lakeflow doctor",
            )
        return Terminal(f"the brokers gave an error for {detail}", next_step="lakeflow doctor")

    def _refused(self, error: KafkaException) -> ConfigError:
        return ConfigError(
            f"[kafka]: {self._clean(error.args[0].str())}",
            next_step="correct it in lakeflow.toml; the keys are librdkafka's (CONFIGURATION.md there)",
        )

    def _clean(self, message: str) -> str:
        return without_secrets(message, self._settings)

    @property
    def _brokers(self) -> str:
        return brokers(self._settings)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keeps the garbage collector from walking the thousand Messages of a call, which live for a millisecond and hold no
    cycles: 12 % of the time to consume. Only around calls that do not wait.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _left(deadline: float) -> float:
    return max(0.001, deadline - time.monotonic())
