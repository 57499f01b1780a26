"""Jobs by key that follow changed rows: in any cutting, with crashes and compactions between, they end as a snapshot run does.

What the tables hold in the end is also counted by DuckDB, which shares no code with what wrote them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from lakeflow import Hop
from lakeflow.declare import Origin, TableSpec
from lakeflow.job import Caps, Job, Read, job
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.compact import compact, plan_compaction
from lakeflow.lake.compact_plan import Readers, Sizes
from lakeflow.lake.read import splits_at
from lakeflow.landing.counts import Sizes as LandingSizes
from lakeflow.landing.cut import Limits
from lakeflow.landing.open import open_decoder
from lakeflow.landing.reading import OwnReading
from lakeflow.landing.spec import landing_spec
from lakeflow.landing.writer import Landing
from lakeflow.progress import JobProgress
from lakeflow.testing.source import ListSource, Row
from lakeflow.topics.source import Earliest
from tests.crashes import Crashes, Plan, Where
from tests.jobs import World, open_world
from tests.lakes import query, written

FEW = settings(
    max_examples=max(4, settings().max_examples // 8),
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
NUMBERS = count()
TOPIC = "flights"
SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("delay", pa.float64())])
OPTIONS = {"connector": "kafka", "topic": TOPIC, "changelog.mode": "upsert", "key.format": "json"}
TIMED = pa.schema([*SCHEMA, pa.field("at", pa.timestamp("us"))])
ZERO = datetime(2026, 1, 1)
SMALL = Sizes(1 << 20, 1 << 20, least_files=2)

DELAYS = st.sampled_from([-1.0, 0.5, 2.0])
IDS = st.integers(0, 5)
ROWS = st.lists(st.tuples(IDS, DELAYS), min_size=1, max_size=4)
RUN_ENDS = (Where.BEFORE_COMMIT, Where.AFTER_COMMIT, Where.WRITER, Where.FILES)


@dataclass(frozen=True)
class RunJob:
    """One process that runs the job incrementally."""

    caps: Caps
    crash: Plan | None


@dataclass(frozen=True)
class Land:
    """Changes come to the topic, None for a tombstone, and a process lands them in commits of so many rows."""

    changes: list[tuple[int, float | None]]
    rows: int


@dataclass(frozen=True)
class Append:
    """A commit that adds a file; keys may be there already."""

    rows: list[tuple[int, float]]


@dataclass(frozen=True)
class Overwrite:
    """A commit that takes files away, by their place among those that are there, and adds one, if it has rows."""

    places: list[int]
    rows: list[tuple[int, float]]


@dataclass(frozen=True)
class Delete:
    """Another engine deletes rows of an id, and writes the files anew that hold some."""

    id: int


@dataclass(frozen=True)
class Compact:
    """Maintenance writes small files together."""


CRASHES = st.none() | st.builds(Plan, st.sampled_from(RUN_ENDS), st.sampled_from([0, 0, 1, 2]))
RUN = st.builds(RunJob, st.builds(Caps, st.none() | st.integers(1, 3), st.none() | st.integers(1, 6)), CRASHES)
LAND = st.builds(Land, st.lists(st.tuples(IDS, DELAYS | st.none()), min_size=1, max_size=5), st.integers(1, 4))
APPEND = st.builds(Append, ROWS)
OVERWRITE = st.builds(Overwrite, st.lists(st.integers(0, 9), min_size=1, max_size=3), st.just([]) | ROWS)
LANDED = st.lists(LAND | RUN | st.just(Compact()), min_size=3, max_size=9)
WRITTEN = st.lists(APPEND | OVERWRITE | st.builds(Delete, IDS) | RUN | st.just(Compact()), min_size=3, max_size=9)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(tmp_path_factory.mktemp("lake"))


@dataclass
class Scene:
    """The tables of one example, and the job between them."""

    world: World
    crashes: Crashes = field(default_factory=Crashes)
    schema: pa.Schema = SCHEMA
    number: int = field(default_factory=lambda: next(NUMBERS))
    records: list[Row] = field(default_factory=list)

    @property
    def source(self) -> str:
        return f"bronze.t{self.number}"

    @property
    def target(self) -> str:
        return f"gold.t{self.number}"

    def job(self) -> Job:
        def late(rows: Any = Read(self.source)) -> pl.LazyFrame:
            frame: pl.LazyFrame = rows.filter(pl.col("delay") > 0)
            return frame

        return job(target=self.target, key="id", on_change="recompute")(late)

    def job_by_windows(self) -> Job:
        def busy(rows: Any = Read(self.source)) -> pl.LazyFrame:
            frame: pl.LazyFrame = rows.group_by("window_start", "window_end").agg(
                pl.len().cast(pl.Int64).alias("rows"), pl.col("id").sum()
            )
            return frame

        return job(target=self.target, window=Hop("at", "1h", "30m"), on_change="recompute")(busy)

    def play(self, running: Job, one: object) -> None:
        match one:
            case Land():
                self.land(one)
            case RunJob():
                self.run(running, one)
            case Compact():
                self.compact(running)
            case Append(rows):
                files = written(self.world.table(self.source), self.rows(rows))
                Committer(self.world.lake).commit(Change(self.source, files))
            case Overwrite():
                self.overwrite(one)
            case Delete(number):
                if query(self.world.table(self.source), f"SELECT id FROM rows WHERE id = {number}"):
                    self.world.table(self.source).delete(f"id = {number}")
            case _:
                raise AssertionError(one)

    def rows(self, rows: list[tuple[int, float]]) -> pa.Table:
        """A row's id is its time too, in quarters of an hour."""
        made = [{"id": number, "delay": delay, "at": ZERO + number * timedelta(minutes=15)} for number, delay in rows]
        return pa.Table.from_pylist(made, schema=self.schema)

    def land(self, land: Land) -> None:
        for number, delay in land.changes:
            value = None if delay is None else json.dumps({"id": number, "delay": delay}).encode()
            self.records.append((json.dumps({"id": number}).encode(), value, 1000))
        declared = TableSpec(self.source, SCHEMA, OPTIONS, primary_key=("id",), origin=Origin(None, 1))
        spec = landing_spec(declared, OPTIONS, Limits(land.rows, 1 << 20, 60.0))
        reading = OwnReading(spec.topics, Sipping({(TOPIC, 0): self.records}, land.rows), Earliest())
        lake = self.world.lake
        Landing(spec, reading, open_decoder(spec, None), lake, Committer(lake), sizes=LandingSizes(poll_seconds=0.0)).run()

    def overwrite(self, one: Overwrite) -> None:
        table = self.world.table(self.source)
        head = table.current_snapshot()
        live = splits_at(table, head)
        gone = tuple(split.task.file for place, split in enumerate(live) if place in one.places)
        if not gone or head is None:
            return
        come = written(table, self.rows(one.rows)) if one.rows else ()
        Committer(self.world.lake).commit(Change(self.source, come, gone, base=head.snapshot_id))

    def compact(self, running: Job) -> None:
        if not self.world.lake.exists(self.target):
            return
        position = JobProgress.loads(self.world.progress(running, self.target), self.source).of(self.source)
        if position is None:
            return
        lake, readers = self.world.lake, Readers((position,), by_key=True)
        done = compact(lake, Committer(lake), self.source, plan_compaction(lake.table(self.source), readers, SMALL), SMALL)
        event(f"compacted: {bool(done.snapshots)}")

    def run(self, running: Job, run: RunJob) -> None:
        self.world.caps = run.caps
        with self.crashes.survived(run.crash, self.world.lake):
            self.world.run(running)

    def check(self, running: Job) -> None:
        """Catch up, then hold the target against one snapshot run into an empty table."""
        self.run(running, RunJob(Caps(), None))
        assert self.world.run(running) is None
        check = f"check.t{self.number}"
        self.world.run(running, "snapshot", into=check)
        assert self.world.rows(self.target) == self.world.rows(check)
        event(f"crashes: {min(self.crashes.happened, 3)}")


class Sipping(ListSource):
    """A source that gives few records at once."""

    def __init__(self, partitions: dict[Any, list[Row]], most: int) -> None:
        super().__init__(partitions)
        self._most = most

    def poll(self, limit: int, timeout: float) -> Any:
        return super().poll(min(limit, self._most), timeout)


def last_changes(changes: Iterator[tuple[int, float | None]]) -> list[tuple[int, float]]:
    """What an upserting landing holds, and of that what the job lets through."""
    return sorted((number, delay) for number, delay in dict(changes).items() if delay is not None and delay > 0)


@FEW
@given(events=LANDED)
def test_over_a_landing_by_key(world: World, events: list[Any]) -> None:
    scene = Scene(world)
    running = scene.job()
    events = [Land([(0, 2.0), (1, 0.5), (2, -1.0)], 2), *events]
    for one in events:
        scene.play(running, one)
    scene.check(running)
    changes = (change for one in events if isinstance(one, Land) for change in one.changes)
    assert world.rows(scene.target) == last_changes(changes)


@FEW
@given(events=WRITTEN)
def test_over_a_table_that_anybody_writes(world: World, events: list[Any]) -> None:
    """Keys stand in several files here, of which the last row counts."""
    scene = Scene(world)
    running = scene.job()
    world.lake.ensure(TableSpec(scene.source, SCHEMA))
    for one in [Append([(0, 2.0), (1, 0.5), (2, -1.0)]), Append([(0, 0.5), (3, 2.0)]), *events]:
        scene.play(running, one)
    scene.check(running)
    ids = {number for (number,) in query(world.table(scene.source), "SELECT DISTINCT id FROM rows WHERE delay > 0")}
    assert {row[0] for row in world.rows(scene.target)} == ids


@FEW
@given(events=WRITTEN)
def test_whole_windows_over_a_table_that_anybody_writes(world: World, events: list[Any]) -> None:
    scene = Scene(world, schema=TIMED)
    running = scene.job_by_windows()
    world.lake.ensure(TableSpec(scene.source, TIMED))
    for one in [Append([(0, 2.0), (1, 0.5), (2, -1.0)]), Append([(0, 0.5), (5, 2.0)]), *events]:
        scene.play(running, one)
    scene.check(running)
    expected: dict[datetime, tuple[int, int]] = {}
    for number, at in query(world.table(scene.source), 'SELECT id, "at" FROM rows'):
        half = ZERO + (at - ZERO) // timedelta(minutes=30) * timedelta(minutes=30)
        for start in (half, half - timedelta(minutes=30)):
            rows, ids = expected.get(start, (0, 0))
            expected[start] = (rows + 1, ids + number)
    found = query(world.table(scene.target), "SELECT window_start, rows, id FROM rows")
    assert {start: (rows, ids) for start, rows, ids in found} == expected
    assert len(found) == len(expected)
