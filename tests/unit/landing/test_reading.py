"""From where a landing reads, when it has caught up, and what it notices of its topics meanwhile."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.declare import Origin, TableSpec
from lakeflow.errors import SourceChanged, SourceUnavailable
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Committer
from lakeflow.landing.counts import Landed, Sizes
from lakeflow.landing.cut import Limits
from lakeflow.landing.open import open_decoder
from lakeflow.landing.reading import GIVEN_UP_SECONDS, LOOK_SECONDS, OwnReading, SharedReading, Stall
from lakeflow.landing.spec import LandingSpec, landing_spec
from lakeflow.landing.writer import Landing
from lakeflow.testing.shared import ListGroup
from lakeflow.testing.source import ListSource, Row
from lakeflow.topics.names import NamedTopics
from lakeflow.topics.source import Bounds, Earliest, Latest, Records, Start, TopicPartition
from tests.lakes import query

TABLE = "bronze.t"
SCHEMA = pa.schema([("id", pa.int64())])


def row(number: int, at: int = 0) -> Row:
    return None, json.dumps({"id": number}).encode(), at


def spec_of(topic: str = "a") -> LandingSpec:
    options = {"connector": "kafka", "topic": topic, "on_error": "dead_letter"}
    return landing_spec(TableSpec(TABLE, SCHEMA, options, origin=Origin(None, 1)), options, Limits(1000, 1 << 20, 1e9))


def land(
    lake: Lake,
    source: ListSource,
    *,
    topic: str = "a",
    start: Start = Earliest(),
    clock: Callable[[], float] = lambda: 0.0,
    follow: bool = False,
) -> Landed:
    spec = spec_of(topic)
    reading = OwnReading(spec.topics, source, start, group=source, identity=source, clock=clock)
    decoder = open_decoder(spec, None)
    return Landing(spec, reading, decoder, lake, Committer(lake), sizes=Sizes(poll_seconds=0.0), clock=clock).run(follow=follow)


def ids(lake: Lake) -> list[int]:
    return [found for (found,) in query(lake.table(TABLE), "SELECT id FROM rows ORDER BY id")]


def test_a_topic_that_is_named_later_keeps_the_start_that_was_chosen_for_it(lake: Lake) -> None:
    partitions = {("a", 0): [row(1)]}
    land(lake, ListSource(partitions), start=Latest())
    partitions[("b", 0)] = [row(100)]
    land(lake, ListSource(partitions), topic="a;b", start=Latest())
    partitions[("b", 0)] += [row(101), row(102)]
    land(lake, ListSource(partitions), topic="a;b", start=Latest())
    assert ids(lake) == [101, 102]


def test_so_it_is_where_processes_share_the_topics(lake: Lake) -> None:
    partitions = {("a", 0): [row(1)]}
    land(lake, ListSource(partitions), start=Latest())
    partitions[("b", 0)] = [row(100)]

    def share() -> None:
        spec, member = spec_of("a;b"), ListGroup(partitions).member()
        reading = SharedReading(spec.topics, member, Latest(), group=member)
        turns = itertools.count()
        landing = Landing(spec, reading, open_decoder(spec, None), lake, Committer(lake), sizes=Sizes(poll_seconds=0.0))
        landing.run(follow=True, stop=lambda: next(turns) > 5)

    share()
    partitions[("b", 0)] += [row(101), row(102)]
    share()
    assert ids(lake) == [101, 102]


class Stuck(ListSource):
    """Nothing comes of partition 1, and nothing is said of it."""

    looks = 0

    def poll(self, limit: int, timeout: float) -> Records:
        self._next.pop(("a", 1), None)
        return super().poll(limit, timeout)

    def bounds(self) -> Mapping[TopicPartition, Bounds]:
        self.looks += 1
        return super().bounds()


def ticking(step: float) -> Callable[[], float]:
    ticks: Iterator[float] = itertools.count(0.0, step)
    return lambda: next(ticks)


def test_a_partition_of_which_nothing_comes_is_asked_about_and_given_up_at_last(lake: Lake) -> None:
    source = Stuck({("a", 0): [row(1)], ("a", 1): [row(2)]})
    with pytest.raises(SourceUnavailable, match=r"nothing came of partitions \[\('a', 1\)\] for 3\d\d s"):
        land(lake, source, clock=ticking(1.0))
    assert source.looks > 2


def test_a_stall_counts_from_the_last_motion_of_what_is_behind() -> None:
    stall = Stall({("a", 0): 1, ("a", 1): 1}, 0.0)
    assert stall.seconds([("a", 0)], {("a", 0): 1, ("a", 1): 5}, 10.0) == 10.0
    assert stall.seconds([("a", 0)], {("a", 0): 2, ("a", 1): 5}, 20.0) == 0.0
    assert stall.seconds([("a", 0)], {("a", 0): 2, ("a", 1): 9}, GIVEN_UP_SECONDS + 20.0) == GIVEN_UP_SECONDS
    assert stall.seconds([], {("a", 0): 2}, 999.0) == 0.0


class Deleted(ListSource):
    """A topic that is gone once its records were fetched; the client says so as soon as it is asked."""

    gone = False

    def _check(self) -> None:
        if self.gone:
            raise SourceChanged("topic 'a' is no longer there: it was deleted while it was read")

    def bounds(self) -> Mapping[TopicPartition, Bounds]:
        self._check()
        return super().bounds()

    def topic_ids(self) -> Mapping[str, str | None]:
        self._check()
        return super().topic_ids()

    def poll(self, limit: int, timeout: float) -> Records:
        records = super().poll(limit, timeout)
        self.gone = True
        return records


def test_what_is_in_hand_lands_when_a_look_finds_the_topic_deleted(lake: Lake) -> None:
    source = Deleted({("a", 0): [row(1), row(2)]}, topic_ids={"a": "first"})
    with pytest.raises(SourceChanged, match="was deleted while it was read"):
        land(lake, source, clock=ticking(LOOK_SECONDS), follow=True)
    assert ids(lake) == [1, 2]


class Aborted(ListSource):
    """Offsets up to 10 hold nothing but an aborted transaction; `begin` is the first that is kept."""

    def __init__(self, begin: int) -> None:
        super().__init__({("a", 0): []})
        self._kept_from = begin

    def bounds(self) -> Mapping[TopicPartition, Bounds]:
        return {("a", 0): Bounds(self._kept_from, 10)}

    def assign(self, start: Mapping[TopicPartition, int]) -> None:
        """Nothing is given but the end."""

    def poll(self, limit: int, timeout: float) -> Records:
        return Records(ends={("a", 0): 10})


def test_offsets_without_records_are_put_on_record_before_retention_passes_them(lake: Lake) -> None:
    land(lake, ListSource({("a", 0): [row(0), row(1), row(2)]}))
    assert land(lake, Aborted(0)).end.offsets == {("a", 0): 10}
    assert land(lake, Aborted(10)).snapshots == ()
    assert ids(lake) == [0, 1, 2]


@pytest.mark.parametrize("stamp", [1_700_000_000_000_000_000, 253_402_300_800_000, -(2**62)])
def test_a_timestamp_beyond_all_calendars_stops_nothing(lake: Lake, stamp: int) -> None:
    broken: Any = (None, b"{", stamp)
    landed = land(lake, ListSource({("a", 0): [row(1, stamp), broken]}))
    assert (landed.counts.written, landed.counts.dead_lettered) == (1, 1)
    assert query(lake.table("lakeflow.dead_letters"), "SELECT timestamp FROM rows") == [(None,)]


def test_new_topics_are_asked_for_where_a_pattern_is_shared(lake: Lake) -> None:
    class Asked(ListGroup):
        pass

    spec = spec_of()
    member = Asked({("a", 0): [row(1)]}).member()
    looks = 0
    told = member.bounds

    def bounds() -> Mapping[TopicPartition, Bounds]:
        nonlocal looks
        looks += 1
        return told()

    member.bounds = bounds  # type: ignore[method-assign]
    reading = SharedReading(NamedTopics(("a",)), member, Earliest(), clock=ticking(LOOK_SECONDS))
    turns = itertools.count()
    landing = Landing(spec, reading, open_decoder(spec, None), lake, Committer(lake), sizes=Sizes(poll_seconds=0.0))
    landing.run(follow=True, stop=lambda: next(turns) > 4)
    assert looks > 4
