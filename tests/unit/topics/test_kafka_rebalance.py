"""A rebalance in the middle of a poll, in orders that no broker gives on demand: the client is a script of events."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message
from confluent_kafka import TopicPartition as Place

from lakeflow.topics import kafka_client
from lakeflow.topics.kafka_shared import SharedKafkaSource
from lakeflow.topics.source import Offsets, Records, TopicPartition

Step = Callable[["Script"], list[Message]]


class Script:
    """What librdkafka's consumer does: each `consume` is one step, and after the last there is nothing."""

    steps: Sequence[Step] = ()

    def __init__(self, conf: dict[str, Any], logger: object) -> None:
        self._steps: Iterator[Step] = iter(self.steps)
        self.assigned: list[tuple[str, list[tuple[int, int]]]] = []

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        self.tell = callbacks

    def consume(self, most: int, wait: float) -> list[Message]:
        step = next(self._steps, None)
        return [] if step is None else step(self)

    def incremental_assign(self, places: list[Place]) -> None:
        self.assigned.append(("assign", [(place.partition, place.offset) for place in places]))

    def incremental_unassign(self, places: list[Place]) -> None:
        self.assigned.append(("unassign", [(place.partition, place.offset) for place in places]))

    def assign(self, places: list[Place]) -> None:
        self.assigned.append(("anew", [(place.partition, place.offset) for place in places]))

    def list_topics(self, timeout: float) -> Any:
        return SimpleNamespace(topics={"t": SimpleNamespace(error=None, partitions=[0, 1])})

    def offsets_for_times(self, places: list[Place], timeout: float) -> list[Place]:
        return [Place(place.topic, place.partition, 0) for place in places]

    def poll(self, timeout: float) -> None: ...
    def close(self) -> None: ...


def gives(*places: tuple[int, int]) -> list[Message]:
    return [
        Message(topic="t", partition=partition, offset=offset, value=b"v", timestamp=(1, 0)) for partition, offset in places
    ]


def end(partition: int, offset: int) -> Message:
    return Message(topic="t", partition=partition, offset=offset, error=KafkaError(KafkaError._PARTITION_EOF))


def on(name: str, *partitions: int) -> Callable[[Script], None]:
    return lambda script: script.tell[name](script, [Place("t", partition) for partition in partitions])


def step(*events: Callable[[Script], None], then: Sequence[Message] = ()) -> Step:
    def take(script: Script) -> list[Message]:
        for event in events:
            event(script)
        return list(then)

    return take


class Table:
    """A Handover whose partitions all begin at 5."""

    def __init__(self) -> None:
        self.told: list[tuple[str, list[int]]] = []

    def gained(self, places: Collection[TopicPartition]) -> Offsets:
        self._note("gained", places)
        return dict.fromkeys(places, 5)

    def revoked(self, places: Collection[TopicPartition]) -> None:
        self._note("revoked", places)

    def lost(self, places: Collection[TopicPartition]) -> None:
        self._note("lost", places)

    def _note(self, what: str, places: Collection[TopicPartition]) -> None:
        self.told.append((what, sorted(partition for _, partition in places)))


Play = Callable[..., tuple[SharedKafkaSource, Script, Table]]


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    monkeypatch.setattr(kafka_client, "Consumer", Script)

    def start(*steps: Step, **settings: str) -> tuple[SharedKafkaSource, Script, Table]:
        monkeypatch.setattr(Script, "steps", steps)
        source = SharedKafkaSource({"bootstrap.servers": "nobody:1", **settings}, ["t"], "g")
        table = Table()
        source.join(table)
        script: Any = source._client.consumer
        return source, script, table

    return start


def given(records: Records) -> list[tuple[int, int]]:
    return list(zip(records.partitions, records.offsets, strict=True))


BOTH = on("on_assign", 0, 1)


def test_records_of_a_partition_that_goes_during_a_poll_are_not_given_out(play: Play) -> None:
    source, _, table = play(
        step(BOTH, then=gives((0, 5), (1, 5))),
        step(then=[*gives((0, 6)), end(1, 6)]),
        step(on("on_revoke", 1), then=[*gives((0, 7), (1, 6)), end(1, 7)]),
    )
    records = source.poll(100, 0.0)
    assert given(records) == [(0, 5), (0, 6), (0, 7)]
    assert dict(records.ends) == {}
    assert table.told == [("gained", [0, 1]), ("revoked", [1])]


def test_records_of_before_that_come_late_are_not_given_out(play: Play) -> None:
    source, _, _ = play(
        step(BOTH, then=gives((0, 5))), step(on("on_revoke", 1)), step(then=[*gives((1, 5), (0, 6), (1, 6)), end(1, 7)])
    )
    assert given(source.poll(100, 0.0)) == [(0, 5)]
    records = source.poll(100, 0.0)
    assert given(records) == [(0, 6)]
    assert dict(records.ends) == {}


def test_a_partition_that_went_and_came_back_at_once_is_read_from_its_beginning_again(play: Play) -> None:
    source, script, table = play(
        step(BOTH, then=gives((0, 5), (1, 5))),
        step(on("on_revoke", 1), on("on_assign", 1), then=gives((1, 9), (1, 5), (0, 6))),
        step(then=gives((1, 5), (1, 6))),
    )
    assert given(source.poll(100, 0.0)) == [(0, 5), (0, 6), (1, 5), (1, 6)]
    assert table.told == [("gained", [0, 1]), ("revoked", [1]), ("gained", [1])]
    assert [what for what, _ in script.assigned] == ["assign", "assign", "unassign", "assign"]
    assert script.assigned[-1] == ("assign", [(1, 5)])


def test_where_all_go_and_come_each_time_all_are_read_from_their_beginning_again(play: Play) -> None:
    source, script, _ = play(
        step(BOTH, then=gives((0, 5), (1, 5))),
        step(on("on_revoke", 0, 1), on("on_assign", 1), then=gives((0, 6), (1, 6))),
        step(then=gives((1, 5))),
        **{"partition.assignment.strategy": "range"},
    )
    assert given(source.poll(100, 0.0)) == [(1, 5)]
    assert script.assigned == [("anew", [(0, 5), (1, 5)]), ("anew", [(1, 5)]), ("anew", [(1, 5)])]


def test_partitions_that_remain_when_others_are_lost_are_asked_for_again(play: Play) -> None:
    source, script, table = play(
        step(BOTH, then=gives((0, 5), (1, 5))), step(on("on_lost", 1), then=gives((0, 6))), step(then=gives((0, 5)))
    )
    assert given(source.poll(100, 0.0)) == [(0, 5)]
    assert table.told == [("gained", [0, 1]), ("lost", [1]), ("gained", [0])]
    assert script.assigned[-1] == ("assign", [(0, 5)])


def test_what_the_handover_raises_comes_before_anything_that_librdkafka_gives(play: Play) -> None:
    source, _, table = play(step(on("on_assign", 0), then=[*gives((0, 5))]), step(then=gives((0, 6))))

    def fail(places: object) -> Offsets:
        raise KeyError("no table")

    table.gained = fail  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(KeyError, match="no table"):
            source.poll(100, 0.0)
