"""What only the fake source does: it crashes, pauses, loses records and makes them up."""

from __future__ import annotations

import pytest

from lakeflow.errors import SourceChanged
from lakeflow.progress import KafkaOffsets
from lakeflow.testing.source import Crash, Generated, ListSource, Row
from lakeflow.topics.source import Bounds

TEN: list[Row] = [(None, b"%d" % number, 1000 + number) for number in range(10)]


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
def test_crashes_after_exactly_so_many_records(limit: int) -> None:
    source = ListSource({("t", 0): TEN}, crash_after=7)
    source.assign({("t", 0): 0})
    seen: list[int] = []
    while len(seen) < 7:
        seen.extend(source.poll(limit, 0.0).offsets)
    with pytest.raises(Crash):
        source.poll(limit, 0.0)
    assert seen == list(range(7))
    assert not issubclass(Crash, Exception)


def test_pauses_give_nothing_and_lose_nothing() -> None:
    source = ListSource({("t", 0): TEN}, pauses={0, 2})
    source.assign({("t", 0): 0})
    assert [len(source.poll(4, 0.0)) for _ in range(6)] == [0, 4, 0, 4, 2, 0]


def test_partitions_take_turns() -> None:
    source = ListSource({("t", 0): TEN, ("t", 1): TEN})
    source.assign({("t", 0): 0, ("t", 1): 0})
    assert [source.poll(5, 0.0).partitions[0] for _ in range(4)] == [0, 1, 0, 1]


def test_generated_records_are_made_when_they_are_read() -> None:
    made: list[int] = []

    def make(offset: int) -> Row:
        made.append(offset)
        return None, b"%d" % offset, offset

    source = ListSource({("t", 0): Generated(5_000_000, make)})
    source.assign({("t", 0): 4_999_990})
    assert source.bounds() == {("t", 0): Bounds(0, 5_000_000)}
    assert source.poll(4, 0.0).values == [b"4999990", b"4999991", b"4999992", b"4999993"]
    assert made == [4_999_990, 4_999_991, 4_999_992, 4_999_993]


def test_records_written_later_are_seen() -> None:
    rows = list(TEN)
    source = ListSource({("t", 0): rows})
    source.assign({("t", 0): 10})
    assert source.poll(5, 0.0).ends == {("t", 0): 10}
    rows.append((None, b"late", 0))
    later = source.poll(5, 0.0)
    assert later.values == [b"late"]
    assert later.ends == {("t", 0): 11}


def test_lost_records_are_missed() -> None:
    source = ListSource({("t", 0): TEN}, begins={("t", 0): 4})
    assert source.bounds() == {("t", 0): Bounds(4, 10)}
    source.assign({("t", 0): 3})
    with pytest.raises(SourceChanged, match="no offset 3; valid: 4 to 10"):
        source.poll(1, 0.0)


def test_offsets_by_time_and_what_was_acknowledged() -> None:
    source = ListSource({("t", 0): TEN, ("t", 1): []})
    assert source.offsets_at(1003) == {("t", 0): 3, ("t", 1): 0}
    assert source.offsets_at(9999) == {("t", 0): 10, ("t", 1): 0}
    source.acknowledge(KafkaOffsets({("t", 0): 3}))
    assert source.acknowledged == KafkaOffsets({("t", 0): 3})
