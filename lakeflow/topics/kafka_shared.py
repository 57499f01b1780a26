"""The SharedSource over a Kafka cluster: several processes read the same topics through one consumer group.

librdkafka tells of a rebalance within `consume`, by callbacks, and goes on with it when they return; so the Handover is
asked right there, and the group waits for what it does. Where assignors are cooperative (the default, and what brokers do
with group.protocol = consumer) only the partitions that move are told of; with an eager one all go and come each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType

from confluent_kafka import Consumer, KafkaException
from confluent_kafka import TopicPartition as Place

from lakeflow.progress import KafkaOffsets
from lakeflow.topics.kafka_client import LOG, KafkaClient
from lakeflow.topics.kafka_read import Reading
from lakeflow.topics.kafka_settings import consumer_settings, is_cooperative
from lakeflow.topics.names import NamedTopics, TopicPattern, Topics, only_topic
from lakeflow.topics.source import Bounds, Handover, Offsets, Records, TopicPartition

SETTLING = 5.0
"""Seconds after a rebalance in which librdkafka may still give records that it had fetched before."""


class SharedKafkaSource:
    """SharedSource, IdentifiedSource and GroupSource over `topics`, shared by all that have the same `group`.

    The arguments are those of KafkaSource. The user's settings may name an assignor, group.protocol and
    group.instance.id (each process its own); sessions end after `session.timeout.ms`.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        topics: Topics | Sequence[str],
        group: str,
        *,
        headers: bool = False,
        leader_epochs: bool = False,
        request_timeout: float = 10.0,
        patience: float = 60.0,
        poll_bytes: int = 64 << 20,
    ) -> None:
        self._topics = topics if isinstance(topics, NamedTopics | TopicPattern) else NamedTopics(tuple(topics))
        conf = consumer_settings(settings, group, shared=True)
        self._cooperative = is_cooperative(conf)
        self._client = KafkaClient(conf, settings, request_timeout, patience, needs_group=True)
        self._reading = Reading(
            self._client,
            poll_bytes,
            headers=headers,
            leader_epochs=leader_epochs,
            only_topic=only_topic(self._topics),
            check=self._check,
            after=self._settle,
        )
        self._handover: Handover | None = None
        self._subscribed: tuple[str, ...] = ()
        self._wanted: tuple[str, ...] = ()
        self._held: dict[TopicPartition, int] = {}
        """Each partition that is held, with where the Handover had it begin."""
        self._went: set[TopicPartition] = set()
        """Partitions that went since messages were taken last, though some may be back."""
        self._unsettled_until = 0.0
        self._waits_since: float | None = None
        self._patience = patience
        self._failure: BaseException | None = None
        self._closed = False

    def __enter__(self) -> SharedKafkaSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def bounds(self) -> Mapping[TopicPartition, Bounds]:
        found = self._client.bounds(self._topics)
        self._wanted = tuple(sorted({topic for topic, _ in found}))
        return found

    def topic_ids(self) -> Mapping[str, str | None]:
        """Raises ConfigError too, where the brokers say that a topic may not be read."""
        return self._client.topic_ids(self._topics)

    def offsets_at(self, timestamp: int) -> Offsets:
        return self._client.offsets_at(self._topics, timestamp)

    def join(self, handover: Handover) -> None:
        """Raises as `bounds` does, which finds the topics that a pattern means."""
        self._handover = handover
        if not self._wanted:
            self.bounds()
        self._client.is_reading = True

    def poll(self, limit: int, timeout: float) -> Records:
        self._check()
        if self._wanted != self._subscribed:
            self._subscribe()
        records = self._reading.poll(limit, timeout)
        if self._waits_since is not None and time.monotonic() - self._waits_since >= self._patience:
            self._waits_since = None
            LOG.warning(
                "%s has given this process none of the partitions of %s in %g s: other processes hold them all, or are long "
                "in giving theirs back, or the brokers are too old for group.protocol = consumer (it needs Kafka 4.0)",
                self._client.who,
                ", ".join(self._subscribed),
                self._patience,
            )
        return records

    def acknowledge(self, progress: KafkaOffsets) -> None:
        """Shows the lag of the partitions that are held; of the others their holders show it."""
        self._client.acknowledge({place: offset for place, offset in progress.offsets.items() if place in self._held})

    def close(self) -> None:
        self._closed = True
        self._client.close()

    def _subscribe(self) -> None:
        try:
            self._client.consumer.subscribe(
                list(self._wanted), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
            )
        except KafkaException as error:
            self._client.fail(error.args[0], "joining the group")
        self._subscribed = self._wanted
        if not self._held:
            self._waits_since = time.monotonic()

    def _check(self) -> None:
        """Raises what the Handover raised."""
        if self._failure is not None:
            raise self._failure

    def _settle(self) -> None:
        """Leaves out records of partitions that went.

        librdkafka may give records of before and after a rebalance at once, and some more of before later. Those of a
        partition that went and came back cannot be told apart, so it is read from its beginning again.
        """
        if self._went:
            went, self._went = self._went, set()
            self._unsettled_until = time.monotonic() + SETTLING
            self._reading.drop(went)
            self._read_again([place for place in went if place in self._held])
        elif time.monotonic() < self._unsettled_until:
            self._reading.drop(self._reading.places() - self._held.keys())

    def _read_again(self, places: Collection[TopicPartition]) -> None:
        if not places:
            return
        consumer = self._client.consumer
        if self._cooperative:
            consumer.incremental_unassign([Place(*place) for place in places])
            consumer.incremental_assign([Place(*place, self._held[place]) for place in places])
        else:  # all that are held came at once
            consumer.assign([Place(*place, offset) for place, offset in self._held.items()])

    def _assigned(self, consumer: Consumer, partitions: list[Place]) -> None:
        self._answer(lambda handover: self._take_up(consumer, _places(partitions), handover))

    def _revoked(self, consumer: Consumer, partitions: list[Place]) -> None:
        places = _places(partitions)
        self._let_go(places)
        if places:
            self._answer(lambda handover: handover.revoked(places))

    def _lost(self, consumer: Consumer, partitions: list[Place]) -> None:
        places = _places(partitions)
        self._let_go(places)
        LOG.warning("%d partitions were lost to the group: this process gave no sign of life in time", len(places))
        self._answer(lambda handover: self._give_up(consumer, partitions, places, handover))

    def _give_up(
        self, consumer: Consumer, partitions: list[Place], places: Collection[TopicPartition], handover: Handover
    ) -> None:
        handover.lost(places)
        if self._cooperative and self._held:
            kept = sorted(self._held)
            self._let_go(kept)
            consumer.incremental_unassign([*partitions, *(Place(*place) for place in kept)])
            self._take_up(consumer, kept, handover)

    def _take_up(self, consumer: Consumer, places: Collection[TopicPartition], handover: Handover) -> None:
        start = handover.gained(places) if places else {}
        begin = {place: start[place] for place in places}
        assigned = [Place(*place, offset) for place, offset in begin.items()]
        if self._cooperative:
            consumer.incremental_assign(assigned)
        else:
            consumer.assign(assigned)
        self._held.update(begin)
        self._waits_since = None

    def _let_go(self, places: Collection[TopicPartition]) -> None:
        for place in places:
            self._held.pop(place, None)
        self._went.update(places)

    def _answer(self, ask: Callable[[Handover], None]) -> None:
        """Asks the Handover. What it raises is kept for `poll` to raise: librdkafka must come to the end of its call."""
        if self._closed or self._failure is not None or self._handover is None:
            return
        try:
            ask(self._handover)
        except BaseException as error:  # noqa: BLE001  # raised by poll
            self._failure = error


def _places(partitions: Sequence[Place]) -> list[TopicPartition]:
    return sorted((place.topic, place.partition) for place in partitions)
