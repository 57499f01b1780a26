"""Messages of librdkafka as Records: how many at once, what of them are events, and which are left out."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from itertools import repeat

from confluent_kafka import KafkaError, Message

from lakeflow.errors import SourceChanged
from lakeflow.topics.kafka_client import LOG, KafkaClient
from lakeflow.topics.kafka_errors import AWAY, LOST_PLACE
from lakeflow.topics.source import Records, TopicPartition, size_of, without_passed_ends

CONSUME_AT_ONCE = 1000
"""Messages a call to librdkafka: more of them alive at once are slower to collect than they save in calls."""
LARGE_RECORD = 1 << 20
"""Bytes of a record that is not known yet: as large as brokers take without being told to."""
SLICE = 0.1
"""Seconds that librdkafka may wait by itself: no signal is seen meanwhile."""


class Reading:
    """What is read by `client`, `poll_bytes` at once; `headers` and `leader_epochs` say whether records come with theirs.

    `only_topic` is the topic, where there is no other: its name need not be made anew for each record.

    `check` is called as soon as librdkafka gives messages, and may raise; `after` once they are taken and before any is
    given out: it may leave some out, by `drop`.
    """

    def __init__(
        self,
        client: KafkaClient,
        poll_bytes: int,
        *,
        headers: bool,
        leader_epochs: bool,
        only_topic: str | None = None,
        check: Callable[[], None] = lambda: None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self._client = client
        self._poll_bytes = poll_bytes
        self._headers = headers
        self._leader_epochs = leader_epochs
        self._only_topic = only_topic
        self._check = check
        self._after = after
        self._record_bytes = LARGE_RECORD
        self._ends: dict[TopicPartition, int] = {}
        self._records = self._empty()

    def poll(self, limit: int, timeout: float) -> Records:
        """As `Source.poll`."""
        deadline = time.monotonic() + timeout
        self._records = self._empty()
        size = 0
        while len(self._records) < limit and size < self._poll_bytes:
            most = min(CONSUME_AT_ONCE, limit - len(self._records), (self._poll_bytes - size) // self._record_bytes + 1)
            with _no_collection():
                came = self._take(most, 0.0)
            if came is not None:
                size += came
                continue
            if self._records.offsets or self._ends or time.monotonic() >= deadline:
                break
            self._client.check()
            size += self._take(most, min(SLICE, max(0.001, deadline - time.monotonic()))) or 0
        if not self._records.offsets:
            self._client.check()
        return without_passed_ends(self._records)

    def places(self) -> set[TopicPartition]:
        """The partitions of what was taken and not given out yet."""
        return {*zip(self._records.topics, self._records.partitions, strict=True), *self._ends}

    def drop(self, places: Collection[TopicPartition]) -> None:
        """Leaves out what was taken of these partitions and not given out yet."""
        records = self._records
        keep = [place not in places for place in zip(records.topics, records.partitions, strict=True)]
        self._ends = {place: end for place, end in self._ends.items() if place not in places}
        self._records = records.chosen(keep, self._ends)

    def _empty(self) -> Records:
        self._ends = {}
        return Records(
            headers=[] if self._headers else None, leader_epochs=[] if self._leader_epochs else None, ends=self._ends
        )

    def _take(self, most: int, wait: float) -> int | None:
        """Adds `most` messages that have come to the records, and gives their bytes; None where there are none."""
        messages = self._client.consumer.consume(most, wait)
        self._check()
        if not messages:
            self._after()
            return None
        self._client.heard()
        before = len(self._records)
        self._append(messages)
        self._after()
        size = size_of(self._records, before)
        if len(self._records) > before:
            self._record_bytes = max(1, size // (len(self._records) - before))
        return size

    def _append(self, messages: list[Message]) -> None:
        records = self._records
        if any(map(Message.error, messages)):
            messages = [message for message in messages if not self._is_event(message)]
        # Unbound methods under map: the interpreter makes no frame and looks up no name for each message.
        topics = map(Message.topic, messages) if self._only_topic is None else repeat(self._only_topic, len(messages))
        records.topics.extend(topics)  # type: ignore[arg-type]
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

    def _is_event(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return False
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        what = f"reading as {self._client.who}" if topic is None else f"reading topic {topic!r} partition {partition}"
        if error.code() == KafkaError._PARTITION_EOF:
            self._ends[topic, partition] = offset  # type: ignore[index, assignment]
        elif error.code() in LOST_PLACE:
            raise SourceChanged(
                f"topic {topic!r} partition {partition} has no offset {offset}: {error.str()}",
                next_step="lakeflow land, which compares the table's progress with the topic",
            )
        elif error.code() == KafkaError._MAX_POLL_EXCEEDED:
            LOG.warning("the group took the partitions back: more than max.poll.interval.ms passed between two polls")
        elif not error.retriable() and error.code() not in AWAY and not self._client.hides_lag(error):
            self._client.fail(error, what)
        return True


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
