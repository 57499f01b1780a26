"""What every SharedSource does: the real one on the embedded broker and on a real one, and the fake."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

import pytest

from lakeflow.errors import CatalogUnavailable, Fenced
from lakeflow.testing.shared import ListGroup
from lakeflow.testing.source import Row
from lakeflow.topics.embedded import EmbeddedBroker
from lakeflow.topics.kafka_shared import SharedKafkaSource
from lakeflow.topics.source import Offsets, SharedSource, TopicPartition
from tests.contract.sharing import Ledger, Member
from tests.rig.kafka import Kafka

PARTITIONS = 6
ROWS = 200
"""In each partition."""
SECONDS = 60.0
SESSION = {"session.timeout.ms": "3000", "heartbeat.interval.ms": "300"}
BY_BROKERS = {"group.protocol": "consumer"}
EAGER = {**SESSION, "partition.assignment.strategy": "range"}
KINDS = {
    "kafka": SESSION,
    "real kafka": SESSION,
    "real kafka, eager": EAGER,
    "real kafka, brokers assign": BY_BROKERS,
}

numbers = iter(range(1000))


class Scene(Protocol):
    """A topic of PARTITIONS with ROWS in each, and the group that reads it."""

    topic: str

    def open(self) -> SharedSource: ...
    def write(self) -> None:
        """As many rows again."""
        ...


class KafkaScene:
    def __init__(self, broker: EmbeddedBroker | Kafka, settings: dict[str, str]) -> None:
        self.topic = f"shared{next(numbers)}"
        self.group = f"land.{self.topic}"
        self.settings = {**settings, "bootstrap.servers": broker.bootstrap}
        self._broker = broker
        if isinstance(broker, Kafka):
            broker.create(self.topic, PARTITIONS)
        else:
            broker.create(self.topic)
        self._written = 0
        self._opened: list[SharedSource] = []
        self.write()

    def open(self) -> SharedSource:
        self._opened.append(SharedKafkaSource(self.settings, [self.topic], self.group))
        return self._opened[-1]

    def write(self) -> None:
        begin, self._written = self._written, self._written + ROWS
        self._broker.produce(
            self.topic, [(None, b"%d" % at, part, 1) for part in range(PARTITIONS) for at in range(begin, begin + ROWS)]
        )

    def close(self) -> None:
        for source in self._opened:
            source.close()


class ListScene:
    topic = "shared"

    def __init__(self) -> None:
        self._rows: dict[TopicPartition, list[Row]] = {(self.topic, part): [] for part in range(PARTITIONS)}
        self._group = ListGroup(self._rows)
        self.write()

    def open(self) -> SharedSource:
        return self._group.member()

    def write(self) -> None:
        for rows in self._rows.values():
            rows.extend([(None, b"%d" % at, 1) for at in range(len(rows), len(rows) + ROWS)])

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(partitions=PARTITIONS) as opened:
        yield opened


@pytest.fixture(params=["lists", *KINDS])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    opened: KafkaScene | ListScene
    if request.param == "lists":
        opened = ListScene()
    else:
        server = "real_kafka" if request.param.startswith("real") else "broker"
        opened = KafkaScene(request.getfixturevalue(server), KINDS[request.param])
    yield opened
    opened.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


def join(scene: Scene, ledger: Ledger) -> Member:
    member = Member(scene.open(), ledger)
    member.source.join(member)
    return member


def take_until(happened: Callable[[], bool], *members: Member) -> None:
    """Lets the members poll in turn, and commit now and then."""
    deadline = time.monotonic() + SECONDS
    turn = 0
    while not happened():
        assert time.monotonic() < deadline, [member.told for member in members]
        for member in members:
            member.take(0.05)
            turn += 1
            if turn % 7 == 0:
                member.commit()


def everything(topic: str, rows: int) -> list[tuple[str, int, int, bytes]]:
    return [(topic, part, at, b"%d" % at) for part in range(PARTITIONS) for at in range(rows)]


def is_shared(*members: Member) -> Callable[[], bool]:
    """Whether each holds some of the partitions, and all are held."""
    return lambda: all(member.held for member in members) and sum(len(member.held) for member in members) == PARTITIONS


def landed(ledger: Ledger, *members: Member) -> int:
    return len(ledger.rows()) + sum(len(member.hand) for member in members)


def test_one_alone_gets_all_partitions_and_every_record_once(scene: Scene, ledger: Ledger) -> None:
    member = join(scene, ledger)
    take_until(lambda: landed(ledger, member) >= PARTITIONS * ROWS, member)
    member.commit()
    assert member.told == [("gained", [(scene.topic, part) for part in range(PARTITIONS)])]
    assert ledger.rows() == everything(scene.topic, ROWS)


def test_nothing_is_read_before_partitions_are_given(scene: Scene, ledger: Ledger) -> None:
    source = scene.open()
    assert len(source.poll(10, 0.05)) == 0
    assert len(source.bounds()) == PARTITIONS


def test_reading_begins_where_the_handover_says(scene: Scene, ledger: Ledger) -> None:
    at = dict.fromkeys([(scene.topic, part) for part in range(PARTITIONS)], ROWS - 3)
    ledger.commit([], dict.fromkeys(at, 0), at)
    member = join(scene, ledger)
    take_until(lambda: len(member.hand) >= 3 * PARTITIONS, member)
    assert sorted(row[:3] for row in member.hand) == [
        (scene.topic, part, offset) for part in range(PARTITIONS) for offset in range(ROWS - 3, ROWS)
    ]


def test_members_that_come_and_go_read_every_record_once(scene: Scene, ledger: Ledger) -> None:
    first = join(scene, ledger)
    take_until(lambda: len(first.hand) > 0, first)
    second = join(scene, ledger)
    take_until(is_shared(first, second), first, second)
    third = join(scene, ledger)
    take_until(is_shared(first, second, third), first, second, third)
    scene.write()
    take_until(lambda: landed(ledger, first, second, third) > PARTITIONS * ROWS, first, second, third)
    second.commit()
    second.source.close()
    take_until(is_shared(first, third), first, third)
    first.commit()
    first.source.close()
    take_until(is_shared(third), third)
    scene.write()
    take_until(lambda: landed(ledger, third) >= PARTITIONS * ROWS * 3, third)
    third.commit()
    assert ledger.rows() == everything(scene.topic, ROWS * 3)
    assert all(told != "lost" for member in (first, second, third) for told, _ in member.told)


def test_a_partition_is_given_to_the_next_once_the_one_before_has_committed(scene: Scene, ledger: Ledger) -> None:
    first = join(scene, ledger)
    take_until(lambda: len(first.held) == PARTITIONS and len(first.hand) > 0, first)
    second = join(scene, ledger)
    deadline = time.monotonic() + SECONDS
    while not second.held:
        assert time.monotonic() < deadline
        first.take(0.05)  # it commits only when it is told to
        second.take(0.05)
    assert [told for told, _ in first.told][:2] == ["gained", "revoked"]
    take_until(is_shared(first, second), first, second)
    take_until(lambda: landed(ledger, first, second) >= PARTITIONS * ROWS, first, second)
    first.commit()
    second.commit()
    assert ledger.rows() == everything(scene.topic, ROWS)


def test_what_the_handover_raises_ends_every_poll(scene: Scene, ledger: Ledger) -> None:
    class Failing(Member):
        def gained(self, places: object) -> Offsets:
            raise CatalogUnavailable("no catalog")

    member = Failing(scene.open(), ledger)
    member.source.join(member)
    with pytest.raises(CatalogUnavailable):
        take_until(lambda: False, member)
    with pytest.raises(CatalogUnavailable):
        member.take()


def test_closing_asks_nothing(scene: Scene, ledger: Ledger) -> None:
    member = join(scene, ledger)
    take_until(lambda: bool(member.held), member)
    told = list(member.told)
    member.source.close()
    member.source.close()
    assert member.told == told


def test_a_member_of_the_fake_that_was_expelled_learns_it_and_is_fenced_by_the_ledger(ledger: Ledger) -> None:
    rows: dict[TopicPartition, list[Row]] = {("t", part): [(None, b"%d" % at, 1) for at in range(9)] for part in (0, 1)}
    group = ListGroup(rows)
    source = group.member()
    slow = Member(source, ledger)
    source.join(slow)
    slow.take()
    hand = list(slow.hand)
    group.expel(source)
    other_source = group.member()
    other = Member(other_source, ledger)
    other_source.join(other)
    other.take()
    other.commit()
    assert len(ledger.rows()) == 18
    with pytest.raises(Fenced):
        slow.commit()
    assert slow.hand == hand
    slow.take()
    assert slow.told[1] == ("lost", [("t", 0), ("t", 1)])
    assert slow.hand == []


class Reader:
    """A member that is a process of its own."""

    def __init__(self, scene: KafkaScene, path: Path) -> None:
        bootstrap, settings = scene.settings["bootstrap.servers"], json.dumps(scene.settings)
        command = [sys.executable, "-m", "tests.contract.sharing", bootstrap, scene.topic, scene.group, str(path), settings]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.said: list[dict[str, object]] = []
        assert self._process.stdout is not None
        self._listening = threading.Thread(target=self._listen, args=(self._process.stdout,))
        self._listening.start()

    def _listen(self, output: IO[str]) -> None:
        with output:
            self.said.extend(json.loads(line) for line in output)

    @property
    def holds(self) -> int:
        held = [line["holds"] for line in self.said if "holds" in line]
        return len(held[-1]) if held else 0  # type: ignore[arg-type]

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self) -> None:
        self._process.wait(SECONDS)
        self._listening.join()


@pytest.fixture(params=["kafka", "real kafka", "real kafka, brokers assign"])
def cluster(request: pytest.FixtureRequest) -> KafkaScene:
    server = "real_kafka" if request.param.startswith("real") else "broker"
    return KafkaScene(request.getfixturevalue(server), KINDS[request.param])


def test_processes_that_are_killed_and_that_stand_still_lose_and_repeat_nothing(cluster: KafkaScene, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    readers = [Reader(cluster, path) for _ in range(3)]
    try:
        wait_for(lambda: all(reader.holds for reader in readers) and sum(reader.holds for reader in readers) == PARTITIONS)
        killed, still, last = readers
        cluster.write()
        killed.signal(signal.SIGKILL)
        still.signal(signal.SIGSTOP)
        wait_for(lambda: last.holds == PARTITIONS)
        cluster.write()
        wait_for(lambda: len(ledger.rows()) >= PARTITIONS * ROWS * 3)
        still.signal(signal.SIGCONT)
        wait_for(lambda: still.said[-1].get("told") == "gained" and last.holds < PARTITIONS)
        cluster.write()
        wait_for(lambda: len(ledger.rows()) >= PARTITIONS * ROWS * 4)
    finally:
        Path(f"{path}.stop").touch()
        for reader in readers:
            reader.signal(signal.SIGCONT)
            reader.wait()
    assert ledger.rows() == everything(cluster.topic, ROWS * 4)
    assert any("lost" in line.values() or "fenced" in line for line in still.said)


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
