"""The Source over a Kafka cluster, by confluent_kafka (librdkafka).

Partitions are assigned by hand and offsets come from the table, so no consumer group ever decides what is read; the
group's id is only for `acknowledge`. Sharing a topic is for kafka_shared.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition as Place

from lakeflow.progress import KafkaOffsets
from lakeflow.topics.kafka_client import KafkaClient
from lakeflow.topics.kafka_read import Reading
from lakeflow.topics.kafka_settings import consumer_settings
from lakeflow.topics.names import NamedTopics, TopicPattern, Topics, only_topic
from lakeflow.topics.source import Bounds, Offsets, Records, TopicPartition


class KafkaSource:
    """Source, IdentifiedSource and GroupSource over `topics`; a pattern finds new ones whenever `bounds` is asked for.

    `settings` is [kafka], handed to librdkafka with what lakeflow owns added; `group` shows the lag. `request_timeout`
    bounds in seconds what waits for an answer, `patience` how long all brokers may be away while polling, `poll_bytes` what
    a poll gives. `headers` and `leader_epochs` say whether records come with theirs: each costs a call a record. Raises
    ConfigError for settings that librdkafka or lakeflow refuses.
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
        self._client = KafkaClient(consumer_settings(settings, group), settings, request_timeout, patience, needs_group=False)
        self._reading = Reading(
            self._client, poll_bytes, headers=headers, leader_epochs=leader_epochs, only_topic=only_topic(self._topics)
        )

    def __enter__(self) -> KafkaSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def bounds(self) -> Mapping[TopicPartition, Bounds]:
        return self._client.bounds(self._topics)

    def topic_ids(self) -> Mapping[str, str | None]:
        """Raises ConfigError too, where the brokers say that a topic may not be read."""
        return self._client.topic_ids(self._topics)

    def offsets_at(self, timestamp: int) -> Offsets:
        return self._client.offsets_at(self._topics, timestamp)

    def assign(self, start: Offsets) -> None:
        self._client.is_reading = True
        try:
            self._client.consumer.assign([Place(topic, partition, offset) for (topic, partition), offset in start.items()])
        except KafkaException as error:
            self._client.fail(error.args[0], "assigning partitions")

    def poll(self, limit: int, timeout: float) -> Records:
        return self._reading.poll(limit, timeout)

    def acknowledge(self, progress: KafkaOffsets) -> None:
        self._client.acknowledge(progress.offsets)

    def close(self) -> None:
        self._client.close()
