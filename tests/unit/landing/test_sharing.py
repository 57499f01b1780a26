"""Several landings of one table share its topic: partitions come and go, and every record lands once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from lakeflow.declare import Origin, TableSpec
from lakeflow.errors import Fenced
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Committer
from lakeflow.landing.counts import Landed, Sizes
from lakeflow.landing.cut import Limits
from lakeflow.landing.dead_letters import DEAD_LETTERS
from lakeflow.landing.open import open_decoder
from lakeflow.landing.reading import SharedReading
from lakeflow.landing.spec import landing_spec
from lakeflow.landing.writer import Landing
from lakeflow.progress import KafkaOffsets
from lakeflow.testing.source import ListSource, Row
from lakeflow.topics.source import Bounds, Earliest, Handover, Latest, Records, Start, TopicPartition
from tests.lakes import query

TABLE, TOPIC = "bronze.t", "t"
SCHEMA = pa.schema([("id", pa.int64())])
Turn = Callable[["Member"], None]


class Member:
    """A SharedSource over lists. Before each poll the next of its `turns` may hand partitions over; polls give two records."""

    def __init__(self, partitions: Mapping[TopicPartition, Sequence[Row]], turns: Iterable[Turn]) -> None:
        self._partitions = partitions
        self._turns = iter(turns)
        self._held: dict[TopicPartition, int] = {}
        self.handover: Handover | None = None

    def bounds(self) -> Mapping[TopicPartition, Bounds]:
        return {place: Bounds(0, len(rows)) for place, rows in self._partitions.items()}

    def join(self, handover: Handover) -> None:
        self.handover = handover

    def poll(self, limit: int, timeout: float) -> Records:
        if (turn := next(self._turns, None)) is not None:
            turn(self)
        source = ListSource(self._partitions)
        source.assign(self._held)
        records = source.poll(2, timeout)
        for place, offset in zip(zip(records.topics, records.partitions, strict=True), records.offsets, strict=True):
            self._held[place] = offset + 1
        return records

    def close(self) -> None:
        self._held.clear()

    def gains(self, *places: TopicPartition) -> None:
        assert self.handover is not None
        self._held.update(self.handover.gained(places))

    def gives(self, *places: TopicPartition) -> None:
        assert self.handover is not None
        self.handover.revoked(places)
        self._forget(places)

    def loses(self, *places: TopicPartition) -> None:
        assert self.handover is not None
        self.handover.lost(places)
        self._forget(places)

    def _forget(self, places: Iterable[TopicPartition]) -> None:
        for place in places:
            self._held.pop(place, None)


@dataclass
class Site:
    lake: Lake
    partitions: dict[TopicPartition, list[Row]] = field(default_factory=dict)
    rows: int = 1000
    gained: list[None] = field(default_factory=list)

    def add(self, partition: int, *numbers: int | None) -> None:
        values = [b"bad" if number is None else json.dumps({"id": number}).encode() for number in numbers]
        self.partitions.setdefault((TOPIC, partition), []).extend((None, value, 0) for value in values)

    def landing(self, *turns: Turn, start: Start = Earliest()) -> Landing:
        options = {"connector": "kafka", "topic": TOPIC, "on_error": "dead_letter"}
        declared = TableSpec(TABLE, SCHEMA, options, origin=Origin(None, 1))
        spec = landing_spec(declared, options, Limits(self.rows, 1 << 20, 60.0))
        member = Member(self.partitions, turns)
        reading = SharedReading(spec.topics, member, start, on_gained=lambda: self.gained.append(None), clock=Ticking())
        decoder = open_decoder(spec, None)
        return Landing(spec, reading, decoder, self.lake, Committer(self.lake), sizes=Sizes(poll_seconds=0.0))

    def land(self, *turns: Turn, polls: int | None = None, start: Start = Earliest()) -> Landed:
        """Land until all is in the table, or for some polls."""
        count = -1

        def stop() -> bool:
            nonlocal count
            count += 1
            return polls is not None and count >= polls

        return self.landing(*turns, start=start).run(follow=polls is not None, stop=stop)

    def ids(self) -> list[int]:
        return [row[0] for row in query(self.lake.table(TABLE), "SELECT id FROM rows ORDER BY id")]

    def offsets(self) -> dict[int, int]:
        progress = KafkaOffsets.loads(Committer(self.lake).progress(TABLE, "landing"))
        return {partition: offset for (_, partition), offset in progress.offsets.items()}


class Ticking:
    """A clock that goes on by ten seconds at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10.0
        return self.now


P0, P1 = (TOPIC, 0), (TOPIC, 1)


@pytest.fixture
def site(lake: Lake) -> Site:
    site = Site(lake)
    site.add(0, 1, 2, 3, 4)
    site.add(1, 11, 12, 13, 14)
    return site


def gains(*places: TopicPartition) -> Turn:
    return lambda member: member.gains(*places)


def test_one_that_is_given_all_lands_all(site: Site) -> None:
    assert site.land(gains(P0, P1)).counts.written == 8
    assert (site.ids(), site.offsets()) == ([1, 2, 3, 4, 11, 12, 13, 14], {0: 4, 1: 4})


def test_two_that_hold_a_part_each_move_their_own_offsets(site: Site) -> None:
    site.land(gains(P0), polls=2)
    assert site.offsets() == {0: 4}
    site.land(gains(P1), polls=1)
    assert (site.ids(), site.offsets()) == ([1, 2, 3, 4, 11, 12], {0: 4, 1: 2})


def test_what_is_in_hand_lands_before_a_partition_goes(site: Site) -> None:
    def give(member: Member) -> None:
        member.gives(P0)
        assert site.offsets()[0] == 2
        site.land(gains(P0), polls=2)

    site.land(gains(P0, P1), give, polls=3)
    assert sorted(site.ids()) == site.ids()
    assert site.offsets()[0] == 4
    assert len(site.ids()) == len(set(site.ids()))


def test_one_that_slept_through_a_rebalance_is_fenced(site: Site) -> None:
    def meanwhile(member: Member) -> None:
        site.land(gains(P0), polls=2)

    with pytest.raises(
        Fenced, match=r"landing in topic 't' partition 0.*started from the beginning, the table now shows offset 4"
    ):
        site.land(gains(P0), meanwhile, polls=2)
    assert (site.ids(), site.offsets()) == ([1, 2, 3, 4], {0: 4})


def test_what_was_lost_is_dropped_and_read_by_the_other(site: Site) -> None:
    def lose(member: Member) -> None:
        site.land(gains(P0), polls=1)
        member.loses(P0)
        member.gains(P1)

    site.land(gains(P0, P1), lose, polls=3)
    assert (site.ids(), site.offsets()) == ([1, 2, 11, 12, 13, 14], {0: 2, 1: 4})


def test_a_partition_that_comes_back_is_read_from_where_the_table_is(site: Site) -> None:
    def give(member: Member) -> None:
        member.gives(P0)
        site.land(gains(P0), polls=1)

    site.land(gains(P0), give, gains(P0), polls=4)
    assert (site.ids(), site.offsets()) == ([1, 2, 3, 4], {0: 4})
    assert len(site.gained) == 3, "each time it is told, so that letters are looked up anew"


def test_one_without_partitions_waits_until_the_others_have_landed_all(site: Site) -> None:
    def others(member: Member) -> None:
        site.land(gains(P0, P1))

    landed = site.land(lambda member: None, others)
    assert (landed.counts.read, site.ids()) == (0, [1, 2, 3, 4, 11, 12, 13, 14])


def test_a_first_start_counts_for_all_partitions_whoever_reads_them(site: Site) -> None:
    site.land(gains(P0), polls=1, start=Latest())
    assert site.offsets() == {0: 4, 1: 4}
    site.add(1, 15)
    site.land(gains(P1), polls=1, start=Latest())
    assert site.ids() == [15]


def test_dead_letters_of_both_are_kept_once(site: Site) -> None:
    site.add(0, None)
    site.add(1, None)

    def meanwhile(member: Member) -> None:
        site.land(gains(P1), polls=3)

    site.land(gains(P0), meanwhile, polls=3)
    found = query(site.lake.table(DEAD_LETTERS), 'SELECT partition, "offset" FROM rows ORDER BY ALL')
    assert found == [(0, 4), (1, 4)]
    assert (site.ids(), site.offsets()) == ([1, 2, 3, 4, 11, 12, 13, 14], {0: 5, 1: 5})
