"""A landing by key: the last change of each key is what the table holds, however the topic is cut."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.declare import Origin, PartitionField, TableSpec
from lakeflow.errors import Suspended
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, CommitProtocol, Committed, Committer
from lakeflow.lake.merge import KeyedMerge
from lakeflow.lake.write import DataWriter
from lakeflow.landing.counts import Landed, Sizes
from lakeflow.landing.cut import Limits
from lakeflow.landing.open import open_decoder
from lakeflow.landing.reading import OwnReading
from lakeflow.landing.spec import landing_spec
from lakeflow.landing.writer import Landing
from lakeflow.testing.source import ListSource, Row
from lakeflow.topics.source import Earliest, TopicPartition
from tests.lakes import live_paths, open_lake, query, stored_files

TABLE, TOPIC = "bronze.accounts", "accounts"
SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("v", pa.string())])
OPTIONS = {"connector": "kafka", "topic": TOPIC, "changelog.mode": "upsert", "key.format": "json"}


def change(number: int, value: str | None, at: int = 1000) -> Row:
    """An upsert, or with None a tombstone."""
    key = json.dumps({"id": number}).encode()
    return key, None if value is None else json.dumps({"id": number, "v": value}).encode(), at


@dataclass
class Topic:
    """A compacted topic, and the landing of it."""

    lake: Lake
    partitions: dict[TopicPartition, list[Row]] = field(default_factory=lambda: {(TOPIC, 0): []})
    rows: int = 1000
    options: Mapping[str, str] = field(default_factory=dict)
    partitioning: tuple[PartitionField, ...] = ()
    sizes: Sizes = field(default_factory=lambda: Sizes(poll_seconds=0.0))

    def add(self, *rows: Row, partition: int = 0) -> None:
        self.partitions.setdefault((TOPIC, partition), []).extend(rows)

    def land(self, commits: CommitProtocol | None = None) -> Landed:
        options = {**OPTIONS, **self.options}
        declared = TableSpec(TABLE, SCHEMA, options, self.partitioning, primary_key=("id",), origin=Origin(None, 1))
        spec = landing_spec(declared, options, Limits(self.rows, 1 << 20, 60.0))
        reading = OwnReading(spec.topics, Sipping(self.partitions, self.rows), Earliest())
        decoder = open_decoder(spec, None)
        return Landing(spec, reading, decoder, self.lake, commits or Committer(self.lake), sizes=self.sizes).run()

    def table(self) -> dict[int, str | None]:
        found = query(self.lake.table(TABLE), "SELECT id, v FROM rows")
        assert len(found) == len(dict(found)), "a key is there twice"
        return dict(found)


class Sipping(ListSource):
    def __init__(self, partitions: Mapping[TopicPartition, list[Row]], most: int) -> None:
        super().__init__(partitions)
        self._most = most

    def poll(self, limit: int, timeout: float) -> Any:
        return super().poll(min(limit, self._most), timeout)


@pytest.fixture
def topic(lake: Lake) -> Topic:
    return Topic(lake)


def test_of_each_key_the_last_change_stays(topic: Topic) -> None:
    topic.add(change(1, "a"), change(2, "b"), change(1, "c"), change(3, "d"), change(2, None), change(4, None))
    landed = topic.land()
    assert topic.table() == {1: "c", 3: "d"}
    assert (landed.counts.read, landed.counts.written, landed.counts.skipped) == (6, 6, 0)


def test_later_changes_reach_the_rows_that_are_there(topic: Topic) -> None:
    topic.add(change(1, "a"), change(2, "b"), change(3, "c"))
    topic.land()
    topic.add(change(2, None), change(3, "C"), change(9, None))
    topic.land()
    assert topic.table() == {1: "a", 3: "C"}
    topic.add(change(2, "again"))
    topic.land()
    assert topic.table() == {1: "a", 2: "again", 3: "C"}


def test_deletes_alone_are_a_commit(topic: Topic) -> None:
    topic.add(change(1, "a"))
    topic.land()
    topic.add(change(1, None))
    assert len(topic.land().snapshots) == 1
    assert topic.table() == {}
    assert not live_paths(topic.lake.table(TABLE))


def test_a_row_may_move_to_another_partition_of_the_table(topic: Topic) -> None:
    topic.partitioning = (PartitionField("v"),)
    topic.add(change(1, "a"), change(2, "a"), change(3, "b"))
    topic.land()
    topic.add(change(1, "b"), change(3, "a"), change(3, "b"))
    topic.land()
    assert topic.table() == {1: "b", 2: "a", 3: "b"}


def test_between_partitions_of_the_topic_the_later_time_wins(topic: Topic) -> None:
    topic.add(change(1, "new", 5000), change(2, "old", 10))
    topic.add(change(1, "old", 100), change(2, "new", 20), partition=1)
    topic.land()
    assert topic.table() == {1: "new", 2: "new"}


def test_within_a_partition_the_offset_orders_even_where_time_goes_back(topic: Topic) -> None:
    topic.add(change(1, "first", 5000), change(1, "second", 10))
    topic.add(change(1, "other", 7), partition=1)
    topic.land()
    assert topic.table() == {1: "second"}


def test_a_tombstone_without_a_readable_key_is_met(topic: Topic) -> None:
    topic.add(change(1, "a"), (b"?", None, 0))
    with pytest.raises(Suspended, match=r"offset 1: its key: "):
        topic.land()
    topic.options = {"on_error": "skip"}
    assert topic.land().counts.skipped == 1
    assert topic.table() == {1: "a"}


class Raced:
    """A commit protocol where other rows are appended just before the first commit that removes files."""

    def __init__(self, lake: Lake) -> None:
        self._real = Committer(lake)
        self._lake = lake
        self.raced = False

    def progress(self, table: str, writer: str) -> str | None:
        return self._real.progress(table, writer)

    def commit(self, change: Change) -> Committed:
        if change.remove and not self.raced:
            self.raced = True
            writer = DataWriter(self._lake.table(TABLE))
            writer.write(pa.Table.from_pylist([{"id": 2, "v": "theirs"}, {"id": 7, "v": "theirs"}], schema=SCHEMA))
            self._real.commit(Change(TABLE, writer.finish()))
        return self._real.commit(change)


def test_where_another_commit_comes_first_the_changes_are_merged_into_what_it_left(topic: Topic) -> None:
    topic.add(change(1, "a"), change(2, "b"))
    topic.land()
    topic.add(change(1, "A"), change(2, "ours"))
    commits = Raced(topic.lake)
    topic.land(commits)
    assert commits.raced
    assert topic.table() == {1: "A", 2: "ours", 7: "theirs"}


CHANGES = st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.sampled_from("abc"))), max_size=30)


@settings(max_examples=25, deadline=None)
@given(waves=st.lists(CHANGES, min_size=1, max_size=3), rows=st.integers(1, 12))
def test_any_cutting_ends_in_the_last_change_of_each_key(
    tmp_path_factory: pytest.TempPathFactory, waves: list[list[tuple[int, str | None]]], rows: int
) -> None:
    topic = Topic(open_lake(tmp_path_factory.mktemp("upsert")), rows=rows)
    expected: dict[int, str | None] = {}
    for wave in waves:
        for number, value in wave:
            topic.add(change(number, value))
            expected[number] = value
        topic.land()
    assert topic.table() == {number: value for number, value in expected.items() if value is not None}


class Interrupted(KeyboardInterrupt):
    pass


def test_an_interrupted_merge_leaves_no_file(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    topic.add(change(1, "a"), change(2, "b"))
    topic.land()
    before = stored_files(topic.lake.table(TABLE))
    topic.add(change(1, "c"))

    def interrupted(self: KeyedMerge, keys: object) -> None:
        assert len(stored_files(topic.lake.table(TABLE))) > len(before), "the rows that stay are written already"
        raise Interrupted

    topic.sizes = Sizes(buffer_bytes=1, poll_seconds=0.0)
    monkeypatch.setattr(KeyedMerge, "_last_rows", interrupted)
    with pytest.raises(Interrupted):
        topic.land()
    assert stored_files(topic.lake.table(TABLE)) == before
