"""Parts that are made anew, cut and killed anywhere, come to what their rows come to; and so does the whole."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from lakeflow.job import Caps, Job, Read, job
from lakeflow.lake.commit import Committer
from lakeflow.runner import backfill_ledger
from lakeflow.runner.backfill import plan_backfill, run_backfill
from lakeflow.runner.backfill_ledger import Worker
from lakeflow.runner.backfill_range import Asked
from lakeflow.runner.refresh import Refresh
from lakeflow.runner.sql_names import ProjectNames
from lakeflow.window import Tumble
from tests.crashes import Crashes, Plan, Where
from tests.jobs import World, open_world
from tests.lakes import query

EXAMPLES = int(os.environ.get("LAKEFLOW_BACKFILL_EXAMPLES", "3"))
SHARE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
ROWS = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us")), ("carrier", pa.string())])
NOON = datetime(2013, 1, 1, 12)
HALF_HOUR = 30
NUMBERS = count()

PLACES = (Where.BEFORE_COMMIT, Where.AFTER_COMMIT, Where.WRITER, Where.FILES)
CRASH = st.none() | st.builds(Plan, st.sampled_from(PLACES), st.integers(0, 6))
FILE = st.lists(st.tuples(st.integers(-60, 60), st.sampled_from(["AA", "UA", "B6"])), min_size=1, max_size=4)


@dataclass(frozen=True)
class Wave:
    """One commit to the source: minutes from noon, and carriers."""

    rows: list[tuple[int, str]]


@dataclass(frozen=True)
class Run:
    """The job reads on."""


@dataclass(frozen=True)
class Anew:
    """The job is changed, and the rows of a range of minutes (None: all of them, by a full refresh) are made anew: by a process
    that dies, then by two that share it. `meanwhile` happens as it goes."""

    low: int | None
    high: int | None
    chunk: str | None
    crash: Plan | None
    meanwhile: list[Wave | Run]


MINUTES = st.none() | st.integers(-65, 65)
CHUNK = st.sampled_from([None, "1", "2 files", "7m", "30m", "2h"])
WAVE = st.builds(Wave, FILE)
MEANWHILE = st.lists(WAVE | st.just(Run()), max_size=3)
PART = st.builds(Anew, MINUTES, MINUTES, CHUNK, CRASH, MEANWHILE)
WHOLE = st.builds(Anew, st.none(), st.none(), st.none(), CRASH, MEANWHILE)
PARTS = st.lists(WAVE | st.just(Run()) | PART, min_size=2, max_size=6)
WHOLES = st.lists(WAVE | st.just(Run()) | WHOLE, min_size=2, max_size=5)


@dataclass
class Row:
    """A row of the source, and which version of the job made what came of it; None: the job has not read it."""

    id: int
    minute: int
    carrier: str
    version: int | None = None


Made = Callable[[str, str, str, int], Job]


def appends(name: str, source: str, target: str, version: int) -> Job:
    @job(target=target, name=name)
    def made(rows: pl.LazyFrame = Read(source)) -> pl.LazyFrame:  # type: ignore[assignment]
        return rows.filter(pl.col("id") % 5 != version % 5).with_columns(pl.lit(version).alias("version"))

    return made


def keeps_the_last(name: str, source: str, target: str, version: int) -> Job:
    @job(target=target, name=name, key="carrier")
    def made(rows: pl.LazyFrame = Read(source)) -> pl.LazyFrame:  # type: ignore[assignment]
        return rows.with_columns(pl.lit(version).alias("version"))

    return made


def counts_by(name: str, source: str, target: str, version: int) -> Job:
    @job(target=target, name=name, by="carrier")
    def made(rows: pl.LazyFrame = Read(source)) -> pl.LazyFrame:  # type: ignore[assignment]
        return rows.group_by("carrier").agg(pl.len().cast(pl.Int64).alias("n"), pl.lit(version).alias("version"))

    return made


def counts_windows(name: str, source: str, target: str, version: int) -> Job:
    @job(target=target, name=name, window=Tumble("at", "30m"))
    def made(rows: pl.LazyFrame = Read(source)) -> pl.LazyFrame:  # type: ignore[assignment]
        counted = rows.group_by("window_start", "window_end").agg(pl.len().cast(pl.Int64).alias("n"))
        return counted.with_columns(pl.lit(version).alias("version"))

    return made


def is_in(minute: int, low: int | None, high: int | None) -> bool:
    return (low is None or minute >= low) and (high is None or minute < high)


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def group_of(made: Made, row: Row) -> Any:
    """What of the target is made at once with what comes of a row."""
    if made is appends:
        return row.id
    return row.minute // HALF_HOUR if made is counts_windows else row.carrier


def expected(made: Made, rows: list[Row]) -> list[tuple[Any, ...]]:
    """What the target holds, worked out by hand: of each group what its latest version makes of all rows that were read."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        if row.version is not None:
            groups.setdefault(group_of(made, row), []).append(row)
    found: list[tuple[Any, ...]] = []
    for group, members in groups.items():
        version, last = max(one.version or 0 for one in members), members[-1]
        if (made is appends and last.id % 5 != version % 5) or made is keeps_the_last:
            found.append((last.id, at(last.minute), last.carrier, version))
        elif made is counts_by:
            found.append((group, len(members), version))
        elif made is counts_windows:
            found.append((at(group * HALF_HOUR), at((group + 1) * HALF_HOUR), len(members), version))
    return sorted(found)


@dataclass
class Scene:
    """The tables of one example, what stands in them, and who lives."""

    world: World
    made: Made
    rows: list[Row] = field(default_factory=list)
    version: int = 1
    number: int = field(default_factory=lambda: next(NUMBERS))
    crashes: Crashes = field(default_factory=Crashes)
    living: set[int] = field(default_factory=set)
    pids: Iterator[int] = field(default_factory=lambda: count(1 << 22))

    @property
    def source(self) -> str:
        return f"bronze.b{self.number}"

    @property
    def target(self) -> str:
        return f"gold.b{self.number}"

    @property
    def job(self) -> Job:
        """As it is now: its version counts as its text."""
        made = self.made(f"b{self.number}", self.source, self.target, self.version)
        return replace(made, source=f"{made.source} {self.version}")

    @property
    def names(self) -> ProjectNames:
        return ProjectNames(self.world)

    def wave(self, wave: Wave) -> None:
        came = [Row(len(self.rows) + place, minute, carrier) for place, (minute, carrier) in enumerate(wave.rows)]
        self.rows += came
        columns = [{"id": one.id, "at": at(one.minute), "carrier": one.carrier} for one in came]
        self.world.append(pa.Table.from_pylist(columns, schema=ROWS), self.source)

    def run(self) -> None:
        self.world.run(self.job)
        self.read(lambda row: row.version is None)

    def read(self, which: Callable[[Row], bool]) -> None:
        for row in self.rows:
            row.version = self.version if which(row) else row.version

    def part(self, anew: Anew) -> None:
        """By a process that dies, then by two that live; all in turn, with what happens meanwhile between their chunks."""
        self.version += 1
        if all(row.version is None for row in self.rows):
            return
        low, high = sorted((anew.low, anew.high)) if None not in (anew.low, anew.high) else (anew.low, anew.high)  # type: ignore[type-var]
        if low == high and low is not None:
            return
        texts = [None if one is None else at(one).isoformat() for one in (low, high)]
        asked = Asked(texts[0] or (at(-100).isoformat() if texts[1] is None else None), texts[1], anew.chunk)
        meanwhile = iter(anew.meanwhile)
        with self.crashes.survived(anew.crash, self.world.lake):
            self.carry_out([self.process(asked)], meanwhile)
        self.living.clear()
        if anew.crash is None:
            self.check_once()
        now = time.time()
        self.carry_out([self.process(asked, now), self.process(asked, now)], meanwhile)
        for one in meanwhile:
            self.play(one)
        inside = {group_of(self.made, row) for row in self.rows if row.version is not None and is_in(row.minute, low, high)}
        self.read(lambda row: row.version is not None and group_of(self.made, row) in inside)

    def process(self, asked: Asked, began: float | None = None) -> Iterator[Any]:
        pid = next(self.pids)
        self.living.add(pid)
        commits = Committer(self.world.lake)
        plan = plan_backfill(self.job, asked, self.world.lake, commits, None, self.names)
        runtime, worker = self.world.runtime(), Worker(pid=pid)
        yield from run_backfill(plan, runtime, worker=worker, sleep=lambda seconds: None, began=began)
        self.living.discard(pid)

    def check_once(self) -> None:
        """Each chunk of the last backfill was committed once."""
        facts = [one.summary.additional_properties for one in self.world.table(self.target).metadata.snapshots if one.summary]
        last = max((int(one["lakeflow.backfill"]) for one in facts if "lakeflow.backfill" in one), default=0)
        chunks = [one["lakeflow.backfill-chunk"] for one in facts if one.get("lakeflow.backfill") == str(last)]
        assert len(chunks) == len(set(chunks))

    def carry_out(self, processes: list[Iterator[Any]], meanwhile: Iterator[Wave | Run]) -> None:
        """Each in turn a step, until all have ended."""
        while processes:
            for one in list(processes):
                if next(one, None) is None:
                    processes.remove(one)
                    continue
                if (happening := next(meanwhile, None)) is not None:
                    with self.crashes.elsewhere():
                        self.play(happening)

    def whole(self, anew: Anew) -> None:
        self.version += 1
        if not self.world.lake.exists(self.source):
            return
        meanwhile = iter(anew.meanwhile)
        with self.crashes.survived(anew.crash, self.world.lake):
            self.carry_out([self.refresh()], meanwhile)
        self.carry_out([self.refresh()], meanwhile)
        self.run()
        self.read(lambda row: True)

    def refresh(self) -> Iterator[Any]:
        world = self.world
        return Refresh(self.job, world.lake, Committer(world.lake), world.runtime(), self.names).run()

    def play(self, one: Wave | Run | Anew) -> None:
        match one:
            case Wave():
                self.wave(one)
            case Run():
                if self.world.lake.exists(self.source):
                    self.run()
            case Anew(low, high, chunk):
                self.whole(one) if (low, high, chunk) == (None, None, None) else self.part(one)

    def check(self) -> None:
        found = query(self.world.table(self.target)) if self.world.lake.exists(self.target) else []
        assert sorted(found) == expected(self.made, self.rows)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return replace(open_world(tmp_path_factory.mktemp("lake")), caps=Caps(files=1))


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    living: set[int] = set()
    monkeypatch.setattr(backfill_ledger, "_is_alive", lambda pid: pid in living)
    return living


def played(world: World, made: Made, living: set[int], events: list[Any]) -> None:
    scene = Scene(world, made, living=living)
    for one in events:
        scene.play(one)
        scene.check()
    event(f"crashes: {min(scene.crashes.happened, 3)}")


@SHARE
@given(made=st.sampled_from([appends, appends, keeps_the_last, counts_by, counts_windows]), events=PARTS)
def test_parts_made_anew_in_any_chunks_come_to_what_their_rows_come_to(
    world: World, alive: set[int], made: Made, events: list[Any]
) -> None:
    played(world, made, alive, [Wave([(0, "AA"), (31, "UA")]), Run(), *events])


@SHARE
@given(made=st.sampled_from([appends, keeps_the_last, counts_by, counts_windows]), events=WHOLES)
def test_a_full_refresh_that_dies_anywhere_comes_to_what_all_rows_come_to(
    world: World, alive: set[int], made: Made, events: list[Any]
) -> None:
    played(world, made, alive, [Wave([(0, "AA")]), Wave([(31, "UA")]), Run(), *events])
