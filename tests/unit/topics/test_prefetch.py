"""What is polled ahead: how far, in which pieces it comes, what an error does, and what is left of the thread."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from threading import Event

import pytest

from lakeflow.errors import SourceUnavailable
from lakeflow.landing.rows import next_offsets
from lakeflow.testing.source import Crash, ListSource, Row
from lakeflow.topics.prefetch import Prefetching, cut
from lakeflow.topics.source import Records, TopicPartition, without_passed_ends

PLACE = ("flights", 0)
PATIENCE = 10.0


class Watched(ListSource):
    """Tells of each poll, and by which thread; `before` is called first, with the poll's number."""

    def __init__(self, count: int, before: Callable[[int], None] = lambda number: None) -> None:
        super().__init__({PLACE: rows(count)})
        self._before = before
        self.polled: list[int] = []
        self.threads: set[str] = set()

    def poll(self, limit: int, timeout: float) -> Records:
        self.threads.add(threading.current_thread().name)
        self.polled.append(limit)
        self._before(len(self.polled) - 1)
        return super().poll(limit, timeout)

    def assign(self, start: object) -> None:
        self.threads.add(threading.current_thread().name)
        super().assign(start)  # type: ignore[arg-type]


def rows(count: int) -> list[Row]:
    return [(None, b"v%d" % number, number) for number in range(count)]


def polling_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("lakeflow-poll")]


def offsets(source: Prefetching, polls: int, limit: int) -> list[list[int]]:
    return [source.poll(limit, PATIENCE).offsets for _ in range(polls)]


def test_a_large_poll_comes_in_pieces_and_its_ends_with_the_last() -> None:
    source = Prefetching(Watched(10), records=10)
    source.assign({PLACE: 0})
    polled = [source.poll(4, PATIENCE) for _ in range(3)]
    assert [records.offsets for records in polled] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [records.ends for records in polled] == [{}, {}, {PLACE: 10}]
    source.close()


def test_every_column_is_cut() -> None:
    ten = list(range(10))
    records = Records(
        topics=["t"] * 10,
        partitions=[0] * 10,
        offsets=ten,
        timestamps=ten,
        timestamp_types=[1] * 10,
        keys=[b"%d" % number for number in ten],
        values=[b"%d" % number for number in ten],
        headers=[[("h", b"%d" % number)] for number in ten],
        leader_epochs=list(ten),
        ends={("t", 0): 10},
    )
    first, rest = cut(records, 3)
    assert (first.offsets, first.timestamps, first.leader_epochs) == ([0, 1, 2],) * 3
    assert (first.keys, first.values) == ([b"0", b"1", b"2"],) * 2
    assert first.headers == [[("h", b"0")], [("h", b"1")], [("h", b"2")]]
    assert (len(first.topics), len(first.partitions), len(first.timestamp_types)) == (3, 3, 3)
    assert (len(rest), rest.offsets[0], dict(rest.ends)) == (7, 3, {("t", 0): 10})
    assert cut(records, 10) == (records, Records())


@pytest.mark.parametrize("limit", range(1, 7))
def test_pieces_move_no_partition_back(limit: int) -> None:
    """Whoever goes through the pieces gets where the whole leads to, and never past it and back."""
    places = [(0, 4), (1, 7), (1, 8), (0, 5), (0, 6), (1, 9)]
    partitions, offsets = map(list, zip(*places, strict=True))
    records = Records(topics=["t"] * 6, partitions=partitions, offsets=offsets, ends={("t", 0): 5, ("t", 1): 12, ("t", 2): 3})
    piece, rest = cut(without_passed_ends(records), limit)
    reached: dict[TopicPartition, int] = {}
    while len(piece) or piece.ends:
        after = next_offsets(piece)
        assert all(offset >= reached.get(place, 0) for place, offset in after.items())
        reached |= after
        piece, rest = cut(rest, limit)
    assert reached == {("t", 0): 7, ("t", 1): 12, ("t", 2): 3}


def test_no_more_is_polled_than_may_wait() -> None:
    inner = Watched(1000)
    source = Prefetching(inner, polls=2, records=10)
    source.assign({PLACE: 0})
    source.poll(10, PATIENCE)
    source.bounds()  # behind the polls under way
    assert len(inner.polled) == 3
    source.poll(5, PATIENCE)
    source.bounds()
    assert len(inner.polled) == 4
    source.poll(5, PATIENCE)  # the rest of that
    source.bounds()
    assert len(inner.polled) == 4
    source.close()


def test_the_next_records_are_polled_while_nobody_asks() -> None:
    second = Event()
    source = Prefetching(Watched(20, lambda number: second.set() if number == 1 else None), records=10)
    source.assign({PLACE: 0})
    source.poll(10, PATIENCE)
    assert second.wait(PATIENCE)
    source.close()


def test_one_thread_alone_uses_the_source() -> None:
    inner = Watched(5)
    source = Prefetching(inner)
    source.assign({PLACE: 0})
    source.poll(5, PATIENCE)
    source.close()
    assert len(inner.threads) == 1
    assert threading.current_thread().name not in inner.threads


def test_what_was_polled_ahead_is_forgotten_with_a_new_assignment() -> None:
    source = Prefetching(Watched(30), records=10)
    source.assign({PLACE: 0})
    assert offsets(source, 1, 3) == [[0, 1, 2]]
    source.assign({PLACE: 25})
    assert offsets(source, 1, 10) == [[25, 26, 27, 28, 29]]
    source.close()


def test_an_error_comes_behind_the_records_before_it_and_then_the_source_is_asked_anew() -> None:
    def fail(number: int) -> None:
        if number == 1:
            raise SourceUnavailable("away")

    source = Prefetching(Watched(30, fail), records=10)
    source.assign({PLACE: 0})
    assert offsets(source, 2, 5) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    with pytest.raises(SourceUnavailable, match="away"):
        source.poll(10, PATIENCE)
    assert offsets(source, 1, 10) == [list(range(10, 20))]
    source.close()


def test_what_is_no_exception_comes_through_too() -> None:
    source = Prefetching(ListSource({PLACE: rows(9)}, crash_after=3))
    source.assign({PLACE: 0})
    assert offsets(source, 1, 9) == [[0, 1, 2]]
    with pytest.raises(Crash):
        source.poll(9, PATIENCE)
    source.close()


def test_nothing_comes_of_an_empty_topic_within_the_timeout() -> None:
    source = Prefetching(Watched(0))
    source.assign({PLACE: 0})
    assert source.poll(9, PATIENCE).ends == {PLACE: 0}
    assert len(source.poll(9, 0.01)) == 0
    source.close()


def test_a_poll_that_is_still_waiting_is_not_waited_for_longer_than_the_timeout() -> None:
    go_on = Event()
    source = Prefetching(Watched(5, lambda number: None if go_on.wait(PATIENCE) else pytest.fail("nobody went on")))
    source.assign({PLACE: 0})
    assert len(source.poll(9, 0.01)) == 0
    go_on.set()
    assert offsets(source, 1, 9) == [[0, 1, 2, 3, 4]]
    source.close()


@pytest.mark.parametrize("polls", [0, 1, 5])
def test_no_thread_is_left_and_the_source_is_closed(polls: int) -> None:
    inner = Watched(100)
    source = Prefetching(inner, records=10)
    source.assign({PLACE: 0})
    offsets(source, polls, 10)
    assert polling_threads()
    source.close()
    source.close()
    assert not polling_threads()
    assert inner.closed


ENDED = """
import os, signal, sys
from lakeflow.cli.signals import ended_by_sigterm
from lakeflow.topics.embedded import EmbeddedBroker
from lakeflow.topics.kafka import KafkaSource
from lakeflow.topics.prefetch import Prefetching

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has its commands ignore it
with EmbeddedBroker(partitions=1) as broker, ended_by_sigterm():
    broker.create("flights")
    source = Prefetching(KafkaSource({{"bootstrap.servers": broker.bootstrap}}, ["flights"], "group"))
    source.assign({{("flights", 0): 0}})
    source.poll(10, 5.0)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 5.0)  # again: what raises within a callback of the interpreter is lost
    signal.signal(signal.SIGALRM, lambda number, frame: os.kill(os.getpid(), signal.{signal}))
    source.poll(10, 60.0)
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", -2), ("SIGTERM", 128 + 15)])
def test_a_signal_ends_a_process_that_waits_for_records_and_never_closed_its_source(name: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDED.format(signal=name)], timeout=50, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
