"""The real Sink: a topic of a Kafka cluster, and a consumer group that holds the position beside it.

Exactly once: records and the group's offset, with the position as its metadata, are of one transaction (KIP-98). The
transactional id is the sink's own, so that opening it aborts what a process before had open, and fences that process. At
least once, for brokers without transactions: the position is committed after its records.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from lakeflow.errors import ConfigError, LakeflowError
from lakeflow.topics.kafka_settings import brokers
from lakeflow.topics.sink import Outgoing, Place
from lakeflow.topics.sink_errors import FENCING, Trouble, error_of, refused_settings
from lakeflow.topics.sink_place import KafkaPlace, own_settings
from lakeflow.topics.topic_there import what_is_wrong

LOG = logging.getLogger("lakeflow.topics")
CLIENT_LOG = logging.getLogger("lakeflow.topics.librdkafka")

OWNED: Mapping[str, str] = {"enable.idempotence": "true", "acks": "all"}
DEFAULTS: Mapping[str, str] = {
    # Whether a record is too large is for the topic to say.
    "message.max.bytes": "1000000000",
    # As Java's producer does it: the records of a key are in one partition, whoever wrote them.
    "partitioner": "murmur2_random",
    # A data file is read and sent within one transaction; readers wait so long for the end of one that nobody goes on with.
    "transaction.timeout.ms": "300000",
}
PURGED = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT)
"""What befalls the records of a transaction that something else has failed."""
SLICE = 0.1
"""Seconds that librdkafka may wait by itself: no signal is seen meanwhile."""
CALL = 1.0
"""Seconds of one try of a call about a transaction."""
AGAIN = 0.1
CLOSING = 5.0
"""Seconds that `close` waits for a transaction to be aborted; the next to open the sink aborts it else."""


class KafkaSink:
    """Writes to `topic` as the sink `name`, with [kafka] as `settings`; `name` is the transactional id and the group.

    `patience` is how long, in seconds, brokers have to take records or to commit, `request_timeout` how long to answer at the
    start, `buffer_bytes` what may wait to be sent. Opening it fences whoever else has it open, if `exactly_once`.
    Raises ConfigError for settings that librdkafka or the brokers refuse and for a topic that is not there, SourceUnavailable.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        topic: str,
        name: str,
        *,
        exactly_once: bool,
        request_timeout: float = 10.0,
        patience: float = 60.0,
        buffer_bytes: int = 64 << 20,
    ) -> None:
        self._settings, self._topic, self._name = dict(settings), topic, name
        self._exactly_once, self._patience = exactly_once, patience
        self._refusal: KafkaError | None = None
        self._failed: list[tuple[KafkaError, str]] = []
        self._in_transaction = self._is_proven = self._is_closed = False
        self._place = KafkaPlace(settings, topic, name, patience=patience)
        self._producer = self._made(self._producing(own_settings(settings), buffer_bytes))
        try:
            error = what_is_wrong(self._producer, topic, request_timeout, lambda: self._refusal is not None)
            if error is not None:
                raise self._error(error, "whether it is there", request_timeout)
            if exactly_once:
                self._calling(self._producer.init_transactions, "opening a transaction", request_timeout)
        except BaseException:
            self.close()
            raise

    def place(self) -> Place:
        """See the protocol."""
        return self._place.place()

    def write(self, records: Sequence[Outgoing]) -> None:
        """See the protocol."""
        if records and self._exactly_once:
            self._begin()
        for record in records:
            self._send(record)

    def commit(self, position: str, number: int) -> None:
        """See the protocol."""
        if self._exactly_once:
            self._commit_transaction(self._place.at(position, number))
        else:
            self._flush()
            self._place.keep(position, number)
        if not self._is_proven:
            self._prove(position)

    def close(self) -> None:
        """See the protocol."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            if self._in_transaction:
                self._producer.abort_transaction(CLOSING)
            elif not self._exactly_once:
                self._producer.purge()
                self._producer.flush(SLICE)
        except KafkaException as error:
            LOG.debug("the transaction of %s is left to its time-out: %s", self._name, error.args[0].str())
        self._place.close()

    def _producing(self, own: Mapping[str, str], buffer_bytes: int) -> dict[str, Any]:
        once = {"transactional.id": self._name} if self._exactly_once else {}
        left_out = () if self._exactly_once else ("transaction.timeout.ms",)
        defaults = {key: value for key, value in DEFAULTS.items() if key not in left_out}
        timeout = min(self._patience * 1000, float(own.get("transaction.timeout.ms", DEFAULTS["transaction.timeout.ms"])))
        return {
            **defaults,
            "queue.buffering.max.kbytes": str(max(1024, buffer_bytes >> 10)),
            **own,
            **OWNED,
            **once,
            "message.timeout.ms": str(max(1, round(timeout))),
            "error_cb": self._noted,
        }

    def _made(self, conf: Mapping[str, Any]) -> Producer:
        try:
            return Producer(dict(conf), logger=CLIENT_LOG)
        except KafkaException as error:
            self._place.close()
            raise refused_settings(self._trouble("", 0.0), error) from None

    def _begin(self) -> None:
        if not self._in_transaction:
            self._calling(lambda seconds: self._producer.begin_transaction(), "beginning a transaction", self._patience)
            self._in_transaction = True

    def _send(self, record: Outgoing) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._failed.append((error, record.origin))

        end = time.monotonic() + self._patience
        while True:
            self._raise_failed()
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
                if time.monotonic() > end:
                    raise self._error(KafkaError(KafkaError._MSG_TIMED_OUT), record.origin, self._patience) from None
                self._poll(SLICE, record.origin)
            except KafkaException as error:
                self._poll(0, record.origin)  # which tells what is fatal, where that is all that `error` says
                raise self._error(error.args[0], record.origin, self._patience) from None
            else:
                self._poll(0, record.origin)
                return

    def _poll(self, seconds: float, doing: str) -> None:
        """Have librdkafka tell what came of records. A fatal error is raised by whatever is called next."""
        try:
            self._producer.poll(seconds)
        except KafkaException as error:
            raise self._error(error.args[0], doing, self._patience) from None

    def _flush(self) -> None:
        """Until brokers have all records; librdkafka gives each up when its time is over."""
        while len(self._producer):
            try:
                self._producer.flush(SLICE)
            except KafkaException as error:
                raise self._error(error.args[0], "writing records", self._patience) from None
            self._raise_failed()
        self._raise_failed()

    def _commit_transaction(self, place: TopicPartition) -> None:
        self._begin()
        self._flush()
        group = self._place.group()
        doing = "committing a transaction"
        self._calling(
            lambda seconds: self._producer.send_offsets_to_transaction([place], group, seconds), doing, self._patience
        )
        self._calling(self._producer.commit_transaction, doing, self._patience)
        self._in_transaction = False

    def _prove(self, position: str) -> None:
        """Brokers that only play at transactions take the position, and do not hold it."""
        if self.place().position != position:
            way = "in a transaction, and do not hold it: they have none" if self._exactly_once else "and do not hold it"
            once = "say 'sink.delivery' = 'at-least-once' in the table's WITH: records may then come twice after a failure"
            raise ConfigError(
                f"the brokers at {brokers(self._settings)} took the position of the sink {self._name} {way}",
                next_step=f"use brokers that have transactions, or {once}" if self._exactly_once else "lakeflow doctor",
            )
        self._is_proven = True

    def _calling(self, call: Callable[[float], Any], doing: str, seconds: float) -> None:
        """A call about a transaction, tried again as librdkafka says until the time is over: it goes on where it was then."""
        end = time.monotonic() + seconds
        while True:
            try:
                call(CALL)
            except KafkaException as failure:
                error: KafkaError = failure.args[0]
                self._poll(0, doing)
                if self._refusal is not None or not error.retriable() or time.monotonic() > end:
                    raise self._error(error, doing, seconds) from None
                time.sleep(AGAIN)
            else:
                return

    def _raise_failed(self) -> None:
        if not self._failed:
            return
        error, origin = self._failed[0]
        if self._in_transaction and error.code() in PURGED:
            # The transaction cannot be committed any more; to ask for it tells why.
            self._calling(self._producer.commit_transaction, origin, self._patience)
        raise self._error(error, origin, self._patience)

    def _noted(self, error: KafkaError) -> None:
        """Called by librdkafka within poll: a refusal says more than the time-out of what waits behind it."""
        trouble = self._trouble("", 0.0)
        if trouble.is_refusal(error):
            self._refusal = self._refusal or error
        LOG.debug("%s", trouble.clean(error.str()))

    def _error(self, error: KafkaError, doing: str, seconds: float) -> LakeflowError:
        told = self._refusal if self._refusal is not None and error.code() not in FENCING else error
        return error_of(told, self._trouble(doing, seconds))

    def _trouble(self, doing: str, seconds: float) -> Trouble:
        return Trouble(self._topic, self._name, doing, seconds, self._settings)
