"""What is written under fire, by whom, and what of it was committed.

Each record that is not empty carries an id of its own, which is never used again. A producer notes of each id what became of
it; what the topics hold in the end is read by a plain consumer, and the two must agree.
"""

from __future__ import annotations

import json
import logging
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.chaos.real_project import ACCOUNTS, TOPICS

SECONDS = 60.0
ACCOUNTS_A_PARTITION = 40
TRANSACTION_TIMEOUT_MS = 8000
POISON = re.compile(rb"x-[a-z0-9]+-[0-9]+")
IDS = re.compile(rb"[gx]-[a-z0-9]+-[0-9]+")

Place = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True, slots=True)
class Held:
    """A committed record, as a plain consumer reads it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None

    @property
    def place(self) -> Place:
        return self.topic, self.partition, self.offset

    @property
    def record_id(self) -> str | None:
        found = IDS.search(self.value or b"")
        return None if found is None else found[0].decode()

    @property
    def is_poison(self) -> bool:
        """Whether its value is one that no table takes."""
        return self.value is not None and POISON.search(self.value) is not None

    def row(self) -> dict[str, Any]:
        assert self.value is not None
        return dict(json.loads(self.value))


@dataclass(slots=True)
class Fates:
    """What producers know of the ids that they wrote. `unknown` may be in the topics or not."""

    committed: set[str] = field(default_factory=set)
    aborted: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    transactions: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, outcome: str, ids: Sequence[str]) -> None:
        with self.lock:
            {"committed": self.committed, "unknown": self.unknown}.get(outcome, self.aborted).update(ids)
            self.transactions[outcome] += 1


class Maker:
    """Makes the records of one producer, by its own dice. `partitions` is how many each topic has now."""

    def __init__(self, name: str, roll: random.Random, partitions: Mapping[str, int]) -> None:
        self._name = name
        self._roll = roll
        self._partitions = partitions
        self._count = 0

    def make(self) -> tuple[dict[str, Any], str | None]:
        """The arguments of `produce`, and the id where the record has one."""
        roll, topic = self._roll, self._roll.choice(TOPICS)
        partition = roll.randrange(self._partitions[topic])
        self._count += 1
        poison = roll.random() < 0.04
        record_id = f"{'x' if poison else 'g'}-{self._name}-{self._count}"
        account = f"a{partition}-{roll.randrange(ACCOUNTS_A_PARTITION)}"
        key = json.dumps({"account": account}).encode() if topic == ACCOUNTS else roll.choice((None, b"", b"k\x00\xff"))
        row = {"id": record_id, "n": roll.randrange(10**12)}
        row |= {"account": account} if topic == ACCOUNTS else {"kind": roll.choice(("a", "b", None)), "spot": self._spot()}
        value: bytes | None = roll.choice(poisons(record_id)) if poison else json.dumps(row).encode()
        if not poison and roll.random() < (0.15 if topic == ACCOUNTS else 0.02):
            value = None
            key = b"no json" if topic == ACCOUNTS and roll.random() < 0.1 else key
        made = {"topic": topic, "partition": partition, "key": key, "value": value}
        return made, None if value is None else record_id

    def _spot(self) -> dict[str, Any] | None:
        return None if self._roll.random() < 0.3 else {"lat": self._roll.uniform(-90, 90), "tags": ["x", None, "ÿ"]}


def poisons(record_id: str) -> tuple[bytes, ...]:
    """Values that give no row of any table, each with its id."""
    text = record_id.encode()
    return (
        b"no json " + text,
        b'{"id": "' + text,
        b'{"n": "1", "id": "' + text + b'"}',
        b'["' + text + b'"]',
        b"\xff\xfe" + text,
    )


class Producing:
    """The threads that write, until `stop`. What one of them raises is in `failure`."""

    def __init__(self, bootstrap: str, seed: int, partitions: Mapping[str, int], pace: float = 1.0) -> None:
        self.fates = Fates()
        self.failure: BaseException | None = None
        self._bootstrap = bootstrap
        self._partitions = partitions
        self._pace = pace
        self._over = threading.Event()
        works: dict[str, Callable[[str, random.Random], None]] = {"t1": self._transact, "t2": self._transact, "p1": self._write}
        self._threads = [
            threading.Thread(target=self._guarded, args=(work, name, random.Random(f"{seed} {name}")), daemon=True)
            for name, work in works.items()
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all of them, with no transaction left open by us. Raises what one of them raised."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self.failure is not None:
            raise self.failure

    def _guarded(self, work: Callable[[str, random.Random], None], name: str, roll: random.Random) -> None:
        try:
            work(name, roll)
        except BaseException as error:  # noqa: BLE001  # raised by `stop`
            self.failure = error

    def _settings(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Brokers that are away are no news here."""
        known = {"bootstrap.servers": self._bootstrap, "topic.metadata.refresh.interval.ms": 1000}
        return {**known, "log_level": 2, "logger": logging.getLogger("tests.chaos.producers"), **own}

    def _rest(self, roll: random.Random) -> None:
        self._over.wait(roll.uniform(0.1, 0.5) * self._pace)

    def _write(self, name: str, roll: random.Random) -> None:
        """Without transactions, idempotent: what was acknowledged is there once."""
        maker = Maker(name, roll, self._partitions)
        producer = Producer(self._settings({"enable.idempotence": True, "linger.ms": 20, "message.timeout.ms": 120_000}))
        while not self._over.is_set():
            for _ in range(roll.randrange(5, 40)):
                made, record_id = maker.make()
                produce(producer, **made, on_delivery=self._noted(record_id))
            producer.poll(0)
            self._rest(roll)
        assert producer.flush(SECONDS * 2) == 0, "the brokers did not take what was written without transactions"

    def _noted(self, record_id: str | None) -> Callable[[KafkaError | None, Message], None]:
        def delivered(error: KafkaError | None, _: Message) -> None:
            if record_id is not None:
                with self.fates.lock:
                    (self.fates.committed if error is None else self.fates.unknown).add(record_id)

        return delivered

    def _transact(self, name: str, roll: random.Random) -> None:
        maker = Maker(name, roll, self._partitions)
        while not self._over.is_set():
            producer = Producer(
                self._settings({"transactional.id": f"chaos-{name}", "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS})
            )
            patiently(lambda producer=producer: producer.init_transactions(SECONDS))  # type: ignore[misc]
            while self._transaction(producer, maker, roll) and not self._over.is_set():
                self._rest(roll)

    def _transaction(self, producer: Producer, maker: Maker, roll: random.Random) -> bool:
        """One transaction; whether the producer may begin another one."""
        ids: list[str] = []
        try:
            producer.begin_transaction()
            for _ in range(roll.randrange(3, 60)):
                made, record_id = maker.make()
                ids += [record_id] if record_id is not None else []
                produce(producer, **made)
        except KafkaException:
            self.fates.note("unknown", ids)
            return False
        if roll.random() < 0.1:
            self._over.wait(roll.uniform(1.0, 5.0))  # left open: what is behind it waits
        fate = roll.choices(("commit", "abort", "abandon"), (75, 20, 5))[0]
        if fate == "abandon":
            producer.flush(SECONDS)
            self._over.wait(roll.uniform(0.0, TRANSACTION_TIMEOUT_MS / 1000 + 2))
            self.fates.note("abandoned", ids)  # aborted by the brokers in time, or by the next one of the same name
            producer.purge()
            return False
        outcome = ended(producer, commit=fate == "commit")
        self.fates.note(outcome, ids)
        return outcome in ("committed", "aborted")


def produce(producer: Producer, **made: Any) -> None:
    """To a partition that the producer may not have heard of yet."""
    while True:
        try:
            return producer.produce(**made)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._UNKNOWN_PARTITION:
                raise
            producer.poll(0.1)


def ended(producer: Producer, *, commit: bool) -> str:
    """End the transaction; what became of it. `unknown` is one whose producer is of no more use."""
    try:
        patiently(lambda: producer.commit_transaction(SECONDS) if commit else producer.abort_transaction(SECONDS))
    except KafkaException as error:
        if not error.args[0].txn_requires_abort():
            return "unknown"
        try:
            patiently(lambda: producer.abort_transaction(SECONDS))
        except KafkaException:
            return "unknown"
        return "aborted"
    return "committed" if commit else "aborted"


def patiently(act: Callable[[], None]) -> None:
    """Again while librdkafka says that it may be tried again."""
    end = time.monotonic() + 4 * SECONDS
    while True:
        try:
            return act()
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > end:
                raise


def committed_records(bootstrap: str, partitions: Mapping[str, int]) -> list[Held]:
    """Every committed record of the topics, to their ends, once no transaction is open."""
    reader = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "count",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    places = [TopicPartition(topic, partition, 0) for topic, count in partitions.items() for partition in range(count)]
    reader.assign(places)
    held: list[Held] = []
    at_end: set[tuple[str | None, int | None]] = set()
    while len(at_end) < len(places):
        message = reader.poll(SECONDS)
        assert message is not None, "the end of a partition never came"
        if (error := message.error()) is None:
            held.append(
                Held(message.topic() or "", message.partition() or 0, message.offset() or 0, message.key(), message.value())
            )
        elif error.code() == KafkaError._PARTITION_EOF:
            at_end.add((message.topic(), message.partition()))
    reader.close()
    return held


def wait_until_closed(bootstrap: str, partitions: Mapping[str, int]) -> dict[tuple[str, int], int]:
    """Wait until no transaction is open in the topics; their ends."""
    readers = {
        level: Consumer({"bootstrap.servers": bootstrap, "group.id": "look", "isolation.level": level})
        for level in ("read_committed", "read_uncommitted")
    }
    places = [(topic, partition) for topic, count in partitions.items() for partition in range(count)]
    end = time.monotonic() + SECONDS
    while True:
        ends = {
            level: {place: reader.get_watermark_offsets(TopicPartition(*place), SECONDS)[1] for place in places}
            for level, reader in readers.items()
        }
        if ends["read_committed"] == ends["read_uncommitted"]:
            break
        assert time.monotonic() < end, f"a transaction stays open: {ends}"
        time.sleep(0.5)
    for reader in readers.values():
        reader.close()
    return ends["read_committed"]


def check_fates(held: Sequence[Held], fates: Fates) -> None:
    """What the topics hold is what producers committed: the brokers have kept their word, whatever was killed."""
    found = Counter(record.record_id for record in held if record.record_id is not None)
    repeated = [record_id for record_id, times in found.items() if times > 1]
    lost = fates.committed - found.keys()
    risen = fates.aborted & found.keys()
    strange = found.keys() - fates.committed - fates.unknown
    wrong = {"twice": repeated, "lost": lost, "of aborted transactions": risen, "never written": strange}
    assert not any(wrong.values()), {what: (len(ids), sorted(ids)[:3]) for what, ids in wrong.items()}
