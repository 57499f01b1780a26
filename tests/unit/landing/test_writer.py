from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.declare import Origin, TableSpec
from lakeflow.errors import Fenced, SchemaMismatch, SourceChanged, SourceUnavailable, StorageUnavailable, Suspended
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Committer
from lakeflow.lake.history import ancestors
from lakeflow.lake.write import DataWriter
from lakeflow.landing.counts import Counts, Landed, Sizes
from lakeflow.landing.cut import Limits
from lakeflow.landing.dead_letters import DEAD_LETTERS, LETTER_BYTES
from lakeflow.landing.decode import RecordDecoder
from lakeflow.landing.reading import LOOK_SECONDS, OwnReading
from lakeflow.landing.spec import landing_spec
from lakeflow.landing.writer import Landing
from lakeflow.progress import KafkaOffsets
from lakeflow.testing.source import Crash, ListSource, Row
from lakeflow.topics.formats import Opening, open_format
from lakeflow.topics.source import AtOffsets, AtTimestamp, Bounds, Earliest, Latest, Records, Start, TopicPartition
from tests.crashes import Crashes, Plan, Where
from tests.lakes import live_paths, path_of, query, stored_files

TABLE = "bronze.flights"
TOPIC = "flights"
SCHEMA = pa.schema([("id", pa.int64()), ("carrier", pa.string())])
ROOMY = Limits(rows=1000, bytes=1 << 20, seconds=60.0)
BAD = (b"bad", b"{broken", 1_357_000_000_000)


def good(number: int, at: int = 1_357_000_000_000) -> Row:
    return (None, json.dumps({"id": number, "carrier": "AA"}).encode(), at)


def goods(*numbers: int) -> list[Row]:
    return [good(number) for number in numbers]


@dataclass
class Site:
    """A topic, a table, and landings between them."""

    lake: Lake
    partitions: dict[TopicPartition, list[Row]] = field(default_factory=lambda: {(TOPIC, 0): []})
    options: dict[str, str] = field(default_factory=dict)
    limits: Limits = ROOMY
    clock: Callable[[], float] = lambda: 0.0
    polled: int = 16_384
    sizes: Sizes = field(default_factory=lambda: Sizes(poll_seconds=0.0))
    told: list[tuple[Counts, int]] = field(default_factory=list)

    def add(self, *rows: Row, partition: int = 0) -> None:
        self.partitions.setdefault((TOPIC, partition), []).extend(rows)

    def source(self, **switches: Any) -> ListSource:
        return Sipping(self.partitions, self.polled, **switches)

    def landing(self, source: ListSource | None = None, start: Start = Earliest()) -> Landing:
        options = {"connector": "kafka", "topic": TOPIC, **self.options}
        declared = TableSpec(TABLE, SCHEMA, options, origin=Origin(None, 4))
        source = source or self.source()
        spec = landing_spec(declared, options, self.limits)
        return Landing(
            spec,
            OwnReading(spec.topics, source, start, group=source, identity=source, clock=self.clock),
            RecordDecoder(spec, open_format("json", Opening(SCHEMA, options)), None),
            self.lake,
            Committer(self.lake),
            sizes=self.sizes,
            clock=self.clock,
            on_progress=lambda counts, left: self.told.append((counts, left)),
        )

    def land(self, source: ListSource | None = None, start: Start = Earliest()) -> Landed:
        return self.landing(source, start).run()

    def ids(self) -> list[int]:
        return [row[0] for row in query(self.lake.table(TABLE), "SELECT id FROM rows ORDER BY id")]

    def dead(self) -> list[tuple[Any, ...]]:
        if not self.lake.exists(DEAD_LETTERS):
            return []
        return query(self.lake.table(DEAD_LETTERS), 'SELECT partition, "offset" FROM rows ORDER BY ALL')

    def summaries(self) -> list[Mapping[str, str]]:
        """Of the commits, the oldest first."""
        found = [snapshot.summary for snapshot in ancestors(self.lake.table(TABLE).metadata)]
        return [summary.additional_properties for summary in reversed(found) if summary]

    def counted(self) -> Counts:
        """The counts of all commits together, by their summaries."""
        names = ("records-read", "rows-written", "rows-dead-lettered", "rows-skipped")
        return sum((Counts(*(int(s[f"lakeflow.{n}"]) for n in names)) for s in self.summaries()), Counts())

    def progress(self) -> KafkaOffsets:
        return KafkaOffsets.loads(Committer(self.lake).progress(TABLE, "landing"))


class Sipping(ListSource):
    """Gives at most `most` records at once, and no longer tells of the partitions in `gone` from that look on."""

    def __init__(
        self,
        partitions: Mapping[TopicPartition, list[Row]],
        most: int,
        gone: Mapping[int, TopicPartition] | None = None,
        **switches: Any,
    ) -> None:
        super().__init__(partitions, **switches)
        self._most = most
        self._gone = gone or {}
        self.asked: list[tuple[int, float]] = []
        self.looks = 0

    def bounds(self) -> Mapping[TopicPartition, Bounds]:
        found, self.looks = dict(super().bounds()), self.looks + 1
        for look, place in self._gone.items():
            if self.looks > look:
                del found[place]
        return found

    def poll(self, limit: int, timeout: float) -> Records:
        self.asked.append((limit, timeout))
        return super().poll(min(limit, self._most), timeout)


@pytest.fixture
def site(lake: Lake) -> Site:
    return Site(lake)


def test_the_records_of_a_topic_become_the_rows_of_the_table(site: Site) -> None:
    site.add(*goods(1, 2), partition=0)
    site.add(*goods(3), partition=1)
    landed = site.land()
    assert site.ids() == [1, 2, 3]
    assert (landed.counts, landed.start, landed.end) == (
        Counts(3, 3),
        KafkaOffsets(),
        KafkaOffsets({(TOPIC, 0): 2, (TOPIC, 1): 1}),
    )
    assert landed.snapshots == (site.lake.table(TABLE).metadata.current_snapshot_id,)
    assert site.progress() == landed.end


def test_the_next_landing_goes_on_where_the_last_one_ended(site: Site) -> None:
    site.add(*goods(1, 2))
    site.land()
    site.add(*goods(3))
    landed = site.land()
    assert site.ids() == [1, 2, 3]
    assert (landed.counts, landed.start.next_offset(TOPIC, 0)) == (Counts(1, 1), 2)


def test_a_topic_with_nothing_new_makes_no_commit(site: Site) -> None:
    site.add(*goods(1))
    site.land()
    landed = site.land()
    assert (landed.counts, landed.snapshots, len(site.summaries())) == (Counts(), (), 1)


def test_an_empty_topic_makes_the_table_and_no_commit(site: Site) -> None:
    landed = site.land()
    assert (landed.counts, landed.snapshots, site.ids()) == (Counts(), (), [])
    site.add(*goods(1))
    assert site.land().counts == Counts(1, 1)


def test_polls_that_give_nothing_do_not_end_a_landing(site: Site) -> None:
    site.add(*goods(1, 2, 3))
    site.polled = 1
    assert site.land(site.source(pauses={0, 1, 3, 5})).counts == Counts(3, 3)


def test_the_new_progress_is_shown_after_each_commit(site: Site) -> None:
    site.add(*goods(1, 2))
    source = site.source()
    site.land(source)
    assert source.acknowledged == KafkaOffsets({(TOPIC, 0): 2})


def test_metadata_columns_are_those_of_the_record(site: Site) -> None:
    site.options["metadata.columns"] = "partition,offset,key"
    site.options["on_error"] = "skip"
    site.add(good(1), BAD, good(3))
    site.land()
    assert query(site.lake.table(TABLE), "SELECT id, kafka_partition, kafka_offset FROM rows ORDER BY id") == [
        (1, 0, 0),
        (3, 0, 2),
    ]


def test_a_partition_that_is_added_later_is_read_from_its_beginning(site: Site) -> None:
    site.add(*goods(1))
    site.land(start=Latest())
    site.add(*goods(2), partition=1)
    site.add(*goods(3), partition=0)
    site.land(start=Latest())
    assert site.ids() == [2, 3]


def test_a_table_with_other_columns_is_refused_before_a_record_is_read(site: Site) -> None:
    site.lake.ensure(TableSpec(TABLE, pa.schema([("id", pa.string())])))
    with pytest.raises(SchemaMismatch, match=TABLE):
        site.landing()


# Where a landing begins


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (Earliest(), [1, 2, 3]),
        (Latest(), []),
        (AtOffsets({0: 2}), [3]),
        (AtTimestamp(1_357_000_000_002), [2, 3]),
    ],
)
def test_a_landing_begins_where_it_is_told(site: Site, start: Start, expected: list[int]) -> None:
    site.add(*(good(number, 1_357_000_000_000 + number) for number in (1, 2, 3)))
    site.land(start=start)
    assert site.ids() == expected


def test_a_first_start_is_recorded_so_that_the_next_run_does_not_choose_again(site: Site) -> None:
    site.add(*goods(1, 2))
    landed = site.land(start=Latest())
    assert (landed.counts, landed.end) == (Counts(), KafkaOffsets({(TOPIC, 0): 2}))
    site.add(*goods(3))
    site.land(start=Latest())
    assert site.ids() == [3]
    assert site.counted() == Counts(1, 1)


def test_a_start_counts_for_a_table_without_progress_only(site: Site) -> None:
    site.add(*goods(1))
    site.land()
    site.add(*goods(2, 3))
    site.land(start=AtOffsets({0: 2}))
    assert site.ids() == [1, 2, 3]


def test_records_that_are_gone_before_they_were_landed_are_refused(site: Site) -> None:
    site.add(*goods(1))
    site.land()
    site.add(*goods(2, 3))
    with pytest.raises(SourceChanged, match="1 records from offset 1 on are gone"):
        site.land(site.source(begins={(TOPIC, 0): 2}))
    assert site.ids() == [1]


# Records that give no row


def with_a_bad_one(site: Site, on_error: str) -> None:
    site.options["on_error"] = on_error
    site.add(good(1), BAD, good(3), partition=0)
    site.add(*goods(4, 5), partition=1)


def test_suspended_before_the_bad_record_with_all_before_it_landed(site: Site) -> None:
    with_a_bad_one(site, "suspend")
    landing = site.landing()
    with pytest.raises(Suspended, match=r"suspended at topic 'flights', partition 0, offset 1: ") as caught:
        landing.run()
    assert site.ids() == [1, 4, 5]
    assert landing.landed.counts == Counts(3, 3)
    assert site.progress() == KafkaOffsets({(TOPIC, 0): 1, (TOPIC, 1): 2})
    assert "lakeflow land bronze.flights" in (caught.value.next_step or "")


def test_a_landing_stays_suspended_until_something_is_mended(site: Site) -> None:
    with_a_bad_one(site, "suspend")
    for _ in range(2):
        with pytest.raises(Suspended, match="offset 1"):
            site.land()
    assert (site.ids(), len(site.summaries())) == ([1, 4, 5], 1)


@pytest.mark.parametrize("on_error", ["skip", "dead_letter"])
def test_after_mending_a_suspended_landing_goes_on_at_the_bad_record(site: Site, on_error: str) -> None:
    with_a_bad_one(site, "suspend")
    with pytest.raises(Suspended):
        site.land()
    site.options["on_error"] = on_error
    landed = site.land()
    assert site.ids() == [1, 3, 4, 5]
    assert landed.counts == (Counts(2, 1, skipped=1) if on_error == "skip" else Counts(2, 1, dead_lettered=1))


def test_a_bad_record_in_each_partition_suspends_each_before_its_own(site: Site) -> None:
    site.add(good(1), BAD, good(2), partition=0)
    site.add(good(3), good(4), BAD, partition=1)
    with pytest.raises(Suspended):
        site.land()
    assert site.ids() == [1, 3, 4]
    assert site.progress() == KafkaOffsets({(TOPIC, 0): 1, (TOPIC, 1): 2})


def test_a_bad_first_record_lands_nothing(site: Site) -> None:
    site.add(BAD)
    with pytest.raises(Suspended, match="offset 0"):
        site.land()
    assert (site.ids(), site.summaries()) == ([], [])


def test_skipped_records_are_counted(site: Site) -> None:
    with_a_bad_one(site, "skip")
    landed = site.land()
    assert (site.ids(), landed.counts, site.dead()) == ([1, 3, 4, 5], Counts(5, 4, skipped=1), [])
    assert site.counted() == landed.counts


def test_dead_letters_are_kept_and_counted(site: Site) -> None:
    with_a_bad_one(site, "dead_letter")
    landed = site.land()
    assert (site.ids(), landed.counts, site.dead()) == ([1, 3, 4, 5], Counts(5, 4, dead_lettered=1), [(0, 1)])
    assert site.counted() == landed.counts


def test_a_batch_of_nothing_but_bad_records_moves_the_progress(site: Site) -> None:
    site.options["on_error"] = "dead_letter"
    site.add(BAD, BAD)
    assert site.land().counts == Counts(2, 0, dead_lettered=2)
    assert site.land().counts == Counts()
    assert site.dead() == [(0, 0), (0, 1)]


@pytest.mark.parametrize("on_error", ["skip", "dead_letter"])
@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_what_was_read_is_written_dead_lettered_or_skipped_in_each_commit(site: Site, on_error: str, rows: int) -> None:
    site.limits = Limits(rows, 1 << 20, 60.0)
    site.options["on_error"] = on_error
    site.add(*(BAD if number % 3 == 0 else good(number) for number in range(10)))
    landed = site.land()
    assert landed.counts.read == 10
    for counts in (landed.counts, site.counted()):
        assert counts == Counts(10, 6, dead_lettered=4 * (on_error == "dead_letter"), skipped=4 * (on_error == "skip"))


# When a batch is committed


@pytest.mark.parametrize(
    ("limits", "commits"),
    [
        (Limits(2, 1 << 20, 60.0), [2, 2, 1]),
        (Limits(5, 1 << 20, 60.0), [5]),
        (Limits(1000, 1, 60.0), [1, 1, 1, 1, 1]),
        (Limits(1000, 60, 60.0), [3, 2]),
    ],
)
def test_a_batch_is_committed_by_its_rows_or_bytes(site: Site, limits: Limits, commits: list[int]) -> None:
    site.limits, site.polled = limits, 1
    site.add(*goods(1, 2, 3, 4, 5))
    landed = site.land()
    assert [int(summary["lakeflow.records-read"]) for summary in site.summaries()] == commits
    assert len(landed.snapshots) == len(commits)


def test_a_batch_is_committed_by_the_age_of_its_first_record(site: Site) -> None:
    times = iter(range(0, 1000, 10))
    site.clock, site.polled = lambda: float(next(times)), 1
    site.limits = Limits(1000, 1 << 20, 50.0)
    site.add(*goods(*range(8)))
    site.land()
    reads = [int(summary["lakeflow.records-read"]) for summary in site.summaries()]
    assert sum(reads) == 8
    assert 1 < len(reads) < 8


def test_a_source_is_asked_for_no_more_than_the_batch_has_room_for(site: Site) -> None:
    site.limits = Limits(3, 1 << 20, 60.0)
    site.add(*goods(*range(5)))
    source = site.source()
    site.land(source)
    assert isinstance(source, Sipping)
    assert [limit for limit, _ in source.asked] == [3, 3]


def test_stopping_commits_what_is_in_hand(site: Site) -> None:
    site.polled = 1
    site.add(*goods(1, 2, 3, 4))
    stops = iter([False, False, True])
    landed = site.landing().run(stop=lambda: next(stops))
    assert (site.ids(), landed.counts) == ([1, 2], Counts(2, 2))
    site.land()
    assert site.ids() == [1, 2, 3, 4]


def test_following_goes_on_past_what_was_there_at_the_start(site: Site) -> None:
    site.add(*goods(1))
    seen: list[int] = []

    def stop() -> bool:
        seen.append(len(seen))
        if len(seen) == 3:
            site.add(*goods(2))
        return len(seen) > 5

    assert site.landing().run(follow=True, stop=stop).counts == Counts(2, 2)


def test_without_following_a_landing_ends_at_what_was_there_at_the_start(site: Site) -> None:
    site.polled = 1
    site.add(*goods(1, 2))
    landing = site.landing()
    site.add(*goods(3, 4, 5))
    assert landing.run().counts.read == 2


def test_progress_is_told_with_what_is_left(site: Site) -> None:
    site.polled = 2
    site.add(*goods(1, 2, 3))
    site.land()
    assert site.told == [(Counts(2, 2), 1), (Counts(3, 3), 0)]


def test_a_batch_is_committed_when_its_letters_fill_the_memory(site: Site) -> None:
    site.options["on_error"] = "dead_letter"
    site.sizes, site.polled = Sizes(buffer_bytes=2 * LETTER_BYTES, poll_seconds=0.0), 1
    site.add(BAD, BAD, BAD, BAD, good(1))
    landed = site.land()
    assert [int(summary["lakeflow.records-read"]) for summary in site.summaries()] == [2, 2, 1]
    assert (landed.counts, len(site.dead())) == (Counts(5, 1, dead_lettered=4), 4)


# Partitions that are added while a landing follows


def following(site: Site, source: ListSource, does: Mapping[int, Callable[[], None]]) -> Landed:
    """Follows for ten turns of half a look's time each; `does` has what happens before some of them."""
    turn = -1

    def stop() -> bool:
        nonlocal turn
        turn += 1
        if turn in does:
            does[turn]()
        return turn == 10

    site.clock = lambda: max(turn, 0) * LOOK_SECONDS / 2
    return site.landing(source, start=Latest()).run(follow=True, stop=stop)


def test_a_partition_that_is_added_meanwhile_is_read_from_its_beginning(site: Site) -> None:
    site.limits = Limits(1000, 1 << 20, 1e6)
    site.add(*goods(1))
    added = {
        1: lambda: site.add(*goods(2)),
        2: lambda: site.add(*goods(3, 4), partition=1),
        6: lambda: site.add(*goods(5)),
    }
    landed = following(site, site.source(), added)
    assert (site.ids(), landed.counts) == ([2, 3, 4, 5], Counts(4, 4))
    assert site.progress() == KafkaOffsets({(TOPIC, 0): 3, (TOPIC, 1): 2})
    assert [int(summary["lakeflow.records-read"]) for summary in site.summaries()] == [0, 1, 3]


def test_partitions_that_stay_are_no_reason_to_commit(site: Site) -> None:
    site.limits = Limits(1000, 1 << 20, 1e6)
    landed = following(site, site.source(), {1: lambda: site.add(*goods(1)), 8: lambda: site.add(*goods(2))})
    assert (landed.counts, len(site.summaries())) == (Counts(2, 2), 2)


def test_brokers_that_are_away_are_asked_for_partitions_at_the_next_look(site: Site) -> None:
    source = site.source(away={1: SourceUnavailable("no answer")})
    following(site, source, {1: lambda: site.add(*goods(1), partition=1)})
    assert site.ids() == [1]


def test_a_partition_that_is_gone_ends_the_landing_with_what_was_read(site: Site) -> None:
    site.limits = Limits(1000, 1 << 20, 1e6)
    source = site.source(gone={1: (TOPIC, 0)})
    site.add(*goods(1), partition=1)
    with pytest.raises(SourceChanged, match="has no partition 0"):
        following(site, source, {1: lambda: site.add(*goods(2), partition=1)})
    assert site.ids() == [2]


# Others, and the end of the process


def test_of_two_landings_of_one_table_the_second_is_fenced_and_leaves_nothing(site: Site) -> None:
    site.add(*goods(1, 2))
    first, second = site.landing(), site.landing()
    first.run()
    with pytest.raises(Fenced, match=f"landing in table {TABLE}"):
        second.run()
    assert (site.ids(), strays(site)) == ([1, 2], set())
    site.land()
    assert site.ids() == [1, 2]


def strays(site: Site) -> set[Any]:
    table = site.lake.table(TABLE)
    return set(stored_files(table)) - {path_of(path) for path in live_paths(table)}


def test_a_source_that_dies_lands_what_was_committed_and_the_next_landing_the_rest(site: Site) -> None:
    site.limits = Limits(2, 1 << 20, 60.0)
    site.add(*goods(1, 2, 3, 4, 5))
    with pytest.raises(Crash):
        site.land(site.source(crash_after=3))
    assert (site.ids(), strays(site)) == ([1, 2], set())
    site.land()
    assert site.ids() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("where", [Where.BEFORE_COMMIT, Where.AFTER_COMMIT, Where.WRITER, Where.FILES])
@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_wherever_a_landing_dies_each_record_is_landed_once(site: Site, where: Where, number: int) -> None:
    site.limits = Limits(3, 1 << 20, 60.0)
    site.options["on_error"] = "dead_letter"
    site.add(good(0), BAD, good(2), good(3), BAD, BAD, good(6))
    crashes = Crashes()
    with crashes.survived(Plan(where, number), site.lake):
        site.land()
    assert crashes.happened or number > 2
    site.land()
    assert site.ids() == [0, 2, 3, 6]
    assert site.dead() == [(0, 1), (0, 4), (0, 5)]
    assert site.counted() == Counts(7, 4, dead_lettered=3)


def test_a_table_that_was_rolled_back_takes_its_records_again_and_no_letter_twice(site: Site) -> None:
    site.options["on_error"] = "dead_letter"
    site.add(good(1), BAD)
    first = site.land()
    site.add(good(3), BAD)
    site.land()
    site.lake.table(TABLE).manage_snapshots().rollback_to_snapshot(first.snapshots[0]).commit()
    site.land()
    assert (site.ids(), site.dead()) == ([1, 3], [(0, 1), (0, 3)])


def test_letters_of_a_tightened_declaration_below_the_progress_are_kept(site: Site) -> None:
    site.options["on_error"] = "dead_letter"
    site.add(good(1), BAD, good(3))
    crashes = Crashes()
    with crashes.survived(Plan(Where.AFTER_COMMIT, 2), site.lake):
        site.land()
    assert (site.dead(), site.ids()) == ([(0, 1)], [])
    site.partitions[TOPIC, 0][0] = (None, b'{"id": "one"}', 1_357_000_000_000)  # as a tighter declaration would see it
    assert site.land().counts == Counts(3, 1, dead_lettered=2)
    assert (site.dead(), site.ids()) == ([(0, 0), (0, 1)], [3])


def test_what_cannot_be_deleted_does_not_hide_why(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(writer: DataWriter) -> None:
        raise StorageUnavailable("gone away")

    monkeypatch.setattr(DataWriter, "abort", fails)
    site.add(*goods(1, 2))
    first, second = site.landing(), site.landing()
    first.run()
    with pytest.raises(Fenced):
        second.run()
    assert "data files for bronze.flights are left behind: gone away" in caplog.text


def test_a_table_that_was_dropped_is_landed_anew(site: Site) -> None:
    site.add(*goods(1, 2))
    site.land()
    site.lake.drop(TABLE)
    site.land()
    assert site.ids() == [1, 2]


def test_a_start_at_the_latest_of_an_empty_topic_is_kept(site: Site) -> None:
    site.land(start=Latest())
    site.add(*goods(1, 2, 3))
    site.land(start=Latest())
    assert site.ids() == [1, 2, 3]


def test_a_topic_that_is_made_anew_while_it_is_read_lands_nothing_of_the_new_one(site: Site) -> None:
    ids: dict[str, str | None] = {TOPIC: "first"}
    source = site.source(topic_ids=ids)
    site.limits = Limits(2, 1 << 20, 1e6)
    site.polled = 2
    site.add(*goods(1, 2, 3, 4))
    source = site.source(topic_ids=ids)

    def stop() -> bool:
        if site.told and site.told[-1][0].read == 2:
            ids[TOPIC] = "second"
        return False

    with pytest.raises(SourceChanged, match=r"topic 'flights' was deleted and created anew since.* id first, .* id second"):
        site.landing(source).run(stop=stop)
    assert site.ids() == [1, 2]
    assert site.progress().topic_ids == {TOPIC: "first"}
    with pytest.raises(SourceChanged, match="was deleted and created anew"):
        site.landing(site.source(topic_ids=ids))


class Deleted(ListSource):
    """A topic that is no longer there when it is asked about, though its last records were fetched."""

    def topic_ids(self) -> Mapping[str, str | None]:
        if self.assigned:
            raise SourceChanged("topic 'flights' is no longer there: it was deleted while it was read")
        return {TOPIC: "first"}

    assigned = False

    def assign(self, start: Mapping[TopicPartition, int]) -> None:
        self.assigned = True
        super().assign(start)


def test_what_was_read_of_a_topic_before_it_was_deleted_lands(site: Site) -> None:
    site.add(*goods(1, 2))
    site.land(Deleted(site.partitions))
    assert (site.ids(), site.progress().topic_ids) == ([1, 2], {TOPIC: "first"})
