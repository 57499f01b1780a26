"""librdkafka's embedded broker, for trying things out and for tests: no server, nothing kept, ready in milliseconds.

It drops the oldest batches of a partition, silently, past 5 MiB of encoded bytes or 100,000 batches; EmbeddedBroker
refuses to write that far. It has no transactions, keeps no timestamps to search by, and gives one batch a fetch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Any, NamedTuple

import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, murmur2
from confluent_kafka import TopicPartition as Place

from lakeflow.errors import Terminal, UsageError
from lakeflow.topics.mock_cluster import MockCluster
from lakeflow.topics.source import TopicPartition

CLIENT_LOG = logging.getLogger("lakeflow.topics.librdkafka")

MIB = 1024 * 1024
PARTITION_BYTES = 5 * MIB
PARTITION_BATCHES = 100_000
SAFE_SHARE = 0.9
"""How much of the limits is used: sizes are computed before sending, with the same codec but not batch by batch."""
BATCH_ROWS = 10_000
BATCH_BYTES = 512 * 1024
RECORD_OVERHEAD = 12
BATCH_OVERHEAD = 80
TIMEOUT = 30.0
CODEC = pa.Codec("zstd", compression_level=3)


class Row(NamedTuple):
    """What is written. None leaves the partition to the key (murmur2, as Java's producer; without a key in turn) and the
    timestamp (ms since the epoch) to the clock.
    """

    key: bytes | None
    value: bytes | None
    partition: int | None = None
    timestamp: int | None = None
    headers: list[tuple[str, bytes | None]] | None = None


@dataclass(slots=True)
class _Partition:
    """What was written to a partition, and what is gathered for its next batch."""

    records: int = 0
    encoded: int = 0
    batches: int = 0
    waiting: list[Row] = field(default_factory=list)
    waiting_bytes: int = 0


class EmbeddedBroker:
    """A cluster of `brokers`, whose topics have `partitions`, for as long as the `with` lasts.

    `bootstrap` is for `bootstrap.servers`. A topic comes into being by `create` or when it is first written to.
    """

    def __init__(self, partitions: int = 4, brokers: int = 1) -> None:
        if partitions < 1 or brokers < 1:
            raise UsageError(f"the embedded broker has {partitions} partitions and {brokers} brokers; valid: 1 or more of each")
        self._partition_count = partitions
        self._broker_count = brokers
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._turn = count()
        self._failure: KafkaError | None = None
        self._down = False

    def __enter__(self) -> EmbeddedBroker:
        self._cluster = MockCluster(self._broker_count, self._partition_count)
        self.bootstrap = self._cluster.bootstrap
        settings: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            "compression.type": "zstd",
            "linger.ms": 20,
            "batch.num.messages": BATCH_ROWS,
            "enable.idempotence": True,
            "on_delivery": self._delivered,
        }
        self._producer = Producer(settings, logger=CLIENT_LOG)
        self._reader = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "embedded"}, logger=CLIENT_LOG)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._reader.close()
        self._producer.purge()
        self._producer.flush(TIMEOUT)
        del self._producer
        self._cluster.close()

    def create(self, topic: str) -> None:
        """Makes an empty topic; one that is there stays as it is."""
        if (topic, 0) not in self._partitions:
            self._cluster.create(topic)
            self._partitions.update({(topic, number): _Partition() for number in range(self._partition_count)})

    def stop(self) -> None:
        """Takes all brokers away until `start`."""
        self._cluster.set_down(True)

    def start(self) -> None:
        """Brings the brokers back with all that they held."""
        self._cluster.set_down(False)

    def produce(self, topic: str, rows: Iterable[Sequence[Any]]) -> int:
        """Writes `(key, value[, partition[, timestamp[, headers]]])`, as Row has them, and waits until all are there.

        Gives the number of rows. Raises Terminal before a partition would outgrow what the broker keeps (the rows before
        are there then), for a record that is too large, and where the broker afterwards does not hold what was sent.
        """
        self.create(topic)
        written = 0
        try:
            for given in rows:
                self._gather(topic, Row(*given))
                written += 1
            for number in range(self._partition_count):
                self._send(topic, number)
        finally:
            self._discard_waiting(topic)
            self._producer.flush(TIMEOUT)
        if self._failure is not None:
            raise Terminal(f"topic {topic!r}: a record was not written: {self._failure.str()}")
        self._verify(topic)
        return written

    def _gather(self, topic: str, row: Row) -> None:
        number = self._number_for(row)
        if number not in range(self._partition_count):
            raise UsageError(f"topic {topic!r} has no partition {number}; valid: 0 to {self._partition_count - 1}")
        partition = self._partitions[topic, number]
        partition.waiting.append(row)
        partition.waiting_bytes += len(_encoded(row))
        if partition.waiting_bytes >= BATCH_BYTES or len(partition.waiting) >= BATCH_ROWS:
            self._send(topic, number)

    def _number_for(self, row: Row) -> int:
        if row.partition is not None:
            return row.partition
        return next(self._turn) % self._partition_count if row.key is None else murmur2(row.key, self._partition_count)

    def _send(self, topic: str, number: int) -> None:
        partition = self._partitions[topic, number]
        if not partition.waiting:
            return
        content = b"".join(map(_encoded, partition.waiting))
        encoded = partition.encoded + min(len(content), len(CODEC.compress(content))) + BATCH_OVERHEAD
        if encoded > PARTITION_BYTES * SAFE_SHARE or partition.batches + 1 > PARTITION_BATCHES * SAFE_SHARE:
            raise Terminal(
                f"topic {topic!r} partition {number} is full: with the next {len(partition.waiting):,} records it would hold "
                f"{encoded:,} bytes in {partition.batches + 1:,} batches, and the embedded broker drops the oldest past "
                f"{PARTITION_BYTES:,} bytes or {PARTITION_BATCHES:,} batches",
                left_behind=f"the {partition.records:,} records before are in the partition",
                next_step="write fewer records, open the broker with more partitions, or use a real one",
            )
        for row in partition.waiting:
            self._produce(topic, number, row)
        partition.records += len(partition.waiting)
        partition.encoded = encoded
        partition.batches += 1
        partition.waiting, partition.waiting_bytes = [], 0
        self._producer.poll(0)

    def _produce(self, topic: str, number: int, row: Row) -> None:
        more: dict[str, Any] = {"headers": row.headers} if row.headers else {}
        while True:
            try:
                self._producer.produce(
                    topic, value=row.value, key=row.key, partition=number, timestamp=row.timestamp or 0, **more
                )
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                size = len(row.value or b"")
                raise Terminal(f"topic {topic!r}: a record of {size:,} bytes was refused: {error.args[0].str()}") from None
            else:
                return

    def _discard_waiting(self, topic: str) -> None:
        for number in range(self._partition_count):
            partition = self._partitions[topic, number]
            partition.waiting, partition.waiting_bytes = [], 0

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        self._failure = self._failure or error

    def _verify(self, topic: str) -> None:
        for number in range(self._partition_count):
            sent = self._partitions[topic, number].records
            kept = self._reader.get_watermark_offsets(Place(topic, number), timeout=TIMEOUT)
            if kept != (0, sent):
                raise Terminal(
                    f"topic {topic!r} partition {number} keeps offsets {kept[0]} to {kept[1]}, and 0 to {sent} were sent: "
                    "the embedded broker dropped records, or another program writes to it"
                )


def _encoded(row: Row) -> bytes:
    """About what a record takes in a batch before compression."""
    headers = b"".join(name.encode() + (value or b"") for name, value in row.headers or ())
    return bytes(RECORD_OVERHEAD) + (row.key or b"") + (row.value or b"") + headers
