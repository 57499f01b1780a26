"""Dead letters as records of a topic: the record as it was, and headers that say where it stood and why it gave no row.

The headers have the names that Kafka Connect's dead letter queues use (KIP-298), for tools that read those. All letters of
a batch are in the topic before its rows land. A landing that dies in between writes them again, so a reader may see a letter
twice, and drops what repeats by topic, partition and offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from lakeflow.errors import DeclarationError
from lakeflow.landing.dead_letters import DeadLetter
from lakeflow.landing.spec import LandingSpec
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.letter_producer import LetterProducer
from lakeflow.topics.names import includes
from lakeflow.topics.sink import Outgoing
from lakeflow.topics.source import Headers

CONNECT = "__connect.errors."


class Producing(Protocol):
    """What brings records to a topic."""

    def write(self, records: Sequence[Outgoing]) -> None:
        """Write all of them, or raise."""
        ...


class TopicLetters:
    """The Letters of a landing of `table` that go to a topic."""

    def __init__(self, producer: Producing, table: str) -> None:
        self._producer = producer
        self._table = table

    def write(self, letters: Sequence[DeadLetter], upto: KafkaOffsets) -> int:
        """Write all letters; raises as LetterProducer.write does."""
        now = datetime.now(UTC)
        self._producer.write([outgoing(letter, self._table, now) for letter in letters])
        return len(letters)


def outgoing(letter: DeadLetter, table: str, rejected_at: datetime) -> Outgoing:
    """The letter as a record: key, value, time and headers as they were, and behind its headers those of the error."""
    origin = f"topic {letter.topic!r} partition {letter.partition} offset {letter.offset}"
    headers = [*(letter.headers or ()), *_error_headers(letter, table, rejected_at)]
    return Outgoing(letter.key, letter.value, headers, letter.timestamp, origin)


def _error_headers(letter: DeadLetter, table: str, rejected_at: datetime) -> Headers:
    facts = {
        f"{CONNECT}topic": letter.topic,
        f"{CONNECT}partition": letter.partition,
        f"{CONNECT}offset": letter.offset,
        f"{CONNECT}connector.name": "lakeflow",
        f"{CONNECT}exception.class.name": letter.kind,
        f"{CONNECT}exception.message": letter.error,
        "lakeflow.table": table,
        "lakeflow.rejected-at": rejected_at.isoformat(),
    }
    return [(name, str(value).encode()) for name, value in facts.items()]


def open_letter_topic(
    spec: LandingSpec, settings: Mapping[str, str], *, request_timeout: float
) -> tuple[TopicLetters, LetterProducer]:
    """What takes the letters of a landing that names a topic for them, and the producer, which the caller closes.

    Raises DeclarationError where the landing would read its own letters, and as LetterProducer does.
    """
    assert spec.letter_topic is not None, "the caller looks"
    if includes(spec.topics, spec.letter_topic):
        raise DeclarationError(
            f"{spec.declared.origin}: table {spec.table}: 'dead_letter.topic' is {spec.letter_topic!r}, which the table lands "
            "itself: it would read its own dead letters for ever",
            next_step="name another topic, or narrow 'topic-pattern'",
        )
    producer = LetterProducer(settings, spec.letter_topic, request_timeout=request_timeout)
    return TopicLetters(producer, spec.table), producer
