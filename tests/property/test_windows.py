"""Jobs by windows: an incremental run over any cutting, with rows late and out of order, crashes and compactions in between,
ends in the same table as a snapshot run and as a plain count over all rows, which shares no code with them.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, event, example, given, settings
from hypothesis import strategies as st

from lakeflow import Cumulate, Hop, Session, Tumble
from lakeflow.declare import MetadataColumn, TableSpec, Watermark
from lakeflow.job import Caps, Job, Read, job
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.compact import compact, plan_compaction
from lakeflow.lake.compact_plan import Readers, Sizes
from lakeflow.lake.letters import DEAD_LETTERS
from lakeflow.lake.write import DataFile
from lakeflow.progress import JobProgress
from lakeflow.window import Window
from tests.crashes import Crashes, Plan, Where
from tests.jobs import World, open_world
from tests.lakes import query, written

EXAMPLES = int(os.environ.get("LAKEFLOW_WINDOW_EXAMPLES", "6"))
SHARE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
ROWS = pa.schema([("at", pa.timestamp("us", "UTC")), ("user", pa.string()), ("x", pa.int64()), ("part", pa.int32())])
ZERO = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NUMBERS = count()

Row = tuple[int | None, str | None, int, int]
"""Minutes behind ZERO, user, value, partition."""
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Wave:
    """One commit to the source, of several files."""

    files: list[list[Row]]


@dataclass(frozen=True)
class Run:
    """One process that runs the job incrementally."""

    files: int | None
    crash: Plan | None


@dataclass(frozen=True)
class Compact:
    """Files behind the job become one."""


ROW = st.tuples(st.integers(-12, 40) | st.none(), st.sampled_from(["a", "b", None]), st.integers(0, 3), st.integers(0, 1))
WAVE = st.builds(Wave, st.lists(st.lists(ROW, min_size=1, max_size=4), min_size=1, max_size=3))
PLACES = [Where.BEFORE_COMMIT, Where.AFTER_COMMIT, Where.WRITER, Where.FILES]
CRASH = st.none() | st.builds(Plan, st.sampled_from(PLACES), st.sampled_from([0, 0, 1]))
RUN = st.builds(Run, st.sampled_from([None, 1, 2]), CRASH)
EVENTS = st.lists(WAVE | WAVE | RUN | st.just(Compact()), min_size=2, max_size=8)

KINDS = ("tumble", "tumble with an offset", "hop", "cumulate")


def window_of(kind: str, lateness: str) -> Window:
    match kind:
        case "tumble":
            return Tumble("at", "10m", lateness=lateness)
        case "tumble with an offset":
            return Tumble("at", "10m", lateness=lateness, offset="3m")
        case "hop":
            return Hop("at", "10m", "5m", lateness=lateness)
        case _:
            return Cumulate("at", "5m", "15m", lateness=lateness)


def moment(minutes: int) -> datetime:
    return ZERO + minutes * MINUTE


def windows_of(minutes: int, kind: str) -> list[tuple[int, int]]:
    """The windows of a moment, tried one by one. ZERO is a multiple of every length here but the offset."""
    tried = range(-60, 80)
    match kind:
        case "tumble":
            made = [(start, start + 10) for start in tried if start % 10 == 0]
        case "tumble with an offset":
            made = [(start, start + 10) for start in tried if start % 10 == 3]
        case "hop":
            made = [(start, start + 10) for start in tried if start % 5 == 0]
        case _:
            made = [(start, start + length) for start in tried if start % 15 == 0 for length in (5, 10, 15)]
    return [(start, end) for start, end in made if start <= minutes < end]


@dataclass
class Marks:
    """Watermarks, as they are described, in minutes."""

    delay: int
    idle: int
    value: int | None = None
    newest: dict[int, int] = field(default_factory=dict)
    mark: dict[int, int] = field(default_factory=dict)

    def commit(self, rows: Iterable[Row], parts: bool) -> None:
        brought = set()
        for minutes, _, _, part in rows:
            if minutes is not None:
                key = part if parts else 0
                self.newest[key] = max(minutes, self.newest.get(key, minutes))
                brought.add(key)
        if not self.newest:
            return
        top = max(self.newest.values())
        self.mark.update(dict.fromkeys(brought, top))
        alive = [self.newest[part] for part in self.newest if top - self.mark[part] <= self.idle]
        least = min(alive) - self.delay
        self.value = least if self.value is None else max(self.value, least)


@dataclass
class Expected:
    """What the target holds, and what came too late."""

    groups: dict[Key, list[int]] = field(default_factory=lambda: defaultdict(list))
    late: int = 0
    untimed: int = 0

    def counted(self) -> Counter[Key]:
        return Counter((*key, len(values), sum(values)) for key, values in self.groups.items())


def expected(
    waves: Sequence[Wave], kind: str, *, late: str, emit: str, lateness: int, delay: int, idle: int, parts: bool
) -> Expected:
    found, marks = Expected(), Marks(delay, idle)
    for wave in waves:
        rows = [row for rows in wave.files for row in rows]
        for minutes, user, x, _ in rows:
            if minutes is None:
                found.untimed += 1
                continue
            windows = windows_of(minutes, kind)
            if late != "recompute" and marks.value is not None:
                windows = [window for window in windows if window[1] + lateness > marks.value]
            found.late += not windows
            for start, end in windows:
                found.groups[(moment(start), moment(end), user)].append(x)
        marks.commit(rows, parts)
    if emit == "append":
        until = None if marks.value is None else moment(marks.value - lateness)
        for key in [key for key in found.groups if until is None or key[1] > until]:
            del found.groups[key]
    return found


def expected_sessions(waves: Sequence[Wave], gap: int) -> Counter[Key]:
    by_user: dict[str | None, list[tuple[int, int]]] = defaultdict(list)
    for wave in waves:
        for rows in wave.files:
            for minutes, user, x, _ in rows:
                if minutes is not None:
                    by_user[user].append((minutes, x))
    found: Counter[Key] = Counter()
    for user, values in by_user.items():
        session: list[tuple[int, int]] = []
        for one in sorted(values):
            if session and one[0] - session[-1][0] > gap:
                found[_session(session, user, gap)] += 1
                session = []
            session.append(one)
        found[_session(session, user, gap)] += 1
    return found


def _session(rows: list[tuple[int, int]], user: str | None, gap: int) -> Key:
    return moment(rows[0][0]), moment(rows[-1][0] + gap), user, len(rows), sum(x for _, x in rows)


@dataclass
class Scene:
    world: World
    crashes: Crashes = field(default_factory=Crashes)
    number: int = field(default_factory=lambda: next(NUMBERS))
    waves: list[Wave] = field(default_factory=list)

    @property
    def source(self) -> str:
        return f"bronze.w{self.number}"

    @property
    def target(self) -> str:
        return f"gold.w{self.number}"

    def declare(self, delay: int, parts: bool) -> None:
        metadata = (MetadataColumn(pa.field("part", pa.int32()), "partition"),) if parts else ()
        spec = TableSpec(self.source, ROWS, watermark=Watermark("at", delay * MINUTE), metadata=metadata)
        self.world.declared = {self.source: spec}
        self.world.lake.ensure(TableSpec(self.source, ROWS))

    def counting(self, **windows: Any) -> Job:
        """Rows and their sum, by window and user."""

        def count(rows: Any = Read(self.source)) -> pl.LazyFrame:
            grouped = rows.group_by("window_start", "window_end", "user")
            frame: pl.LazyFrame = grouped.agg(pl.len().cast(pl.Int64).alias("n"), pl.col("x").sum().alias("sum"))
            return frame

        return job(target=self.target, **windows)(count)

    def play(self, events: Sequence[Any], running: Job) -> None:
        for one in events:
            match one:
                case Wave():
                    self.commit(one)
                case Run(files, crash):
                    self.world.caps = Caps(files=files)
                    with self.crashes.survived(crash, self.world.lake):
                        self.world.run(running)
                case Compact():
                    self.compact(running)
                case _:
                    raise AssertionError(one)
        self.world.caps = Caps()
        self.world.run(running)
        event(f"crashes: {min(self.crashes.happened, 3)}")

    def commit(self, wave: Wave) -> None:
        self.waves.append(wave)
        data: list[DataFile] = []
        for rows in wave.files:
            data += written(self.world.table(self.source), table_of(rows))
        Committer(self.world.lake).commit(Change(self.source, tuple(data)))

    def compact(self, running: Job) -> None:
        committer = Committer(self.world.lake)
        position = JobProgress.loads(committer.progress(self.target, running.writer), self.source).of(self.source)
        if position is not None:
            sizes = Sizes(1 << 20, 1 << 20, least_files=2)
            plan = plan_compaction(self.world.table(self.source), Readers((position,), (), False), sizes)
            done = compact(self.world.lake, committer, self.source, plan, sizes)
            event(f"compacted: {bool(done.snapshots)}")

    def rows(self, name: str | None = None) -> Counter[Key]:
        columns = 'epoch_us(window_start), epoch_us(window_end), "user", n, sum'
        found = query(self.world.table(name or self.target), f"SELECT {columns} FROM rows")
        return Counter((since_1970(start), since_1970(end), *rest) for start, end, *rest in found)

    def snapshot(self, running: Job) -> Counter[Key]:
        check = f"check.w{self.number}"
        self.world.run(running, "snapshot", into=check)
        return self.rows(check)


def since_1970(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)


def table_of(rows: Sequence[Row]) -> pa.Table:
    named = [dict(zip(ROWS.names, (None if at is None else moment(at), *rest), strict=True)) for at, *rest in rows]
    return pa.Table.from_pylist(named, schema=ROWS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(tmp_path_factory.mktemp("lake"))


FIRST = Wave([[(0, "a", 1, 0), (31, "a", 1, 1)], [(2, None, 2, 0)]])


@SHARE
@given(kind=st.sampled_from(KINDS), events=EVENTS)
def test_windows_that_are_recomputed_are_those_of_all_rows(world: World, kind: str, events: list[Any]) -> None:
    scene = Scene(world)
    scene.declare(0, False)
    running = scene.counting(window=window_of(kind, "0s"))
    scene.play([FIRST, *events], running)
    wanted = expected(scene.waves, kind, late="recompute", emit="update", lateness=0, delay=0, idle=5, parts=False)
    assert scene.rows() == wanted.counted()
    assert scene.snapshot(running) == wanted.counted()


@SHARE
@given(
    kind=st.sampled_from(KINDS),
    events=EVENTS,
    lateness=st.sampled_from([0, 4]),
    delay=st.sampled_from([0, 3]),
    emit=st.sampled_from(["update", "append"]),
    parts=st.booleans(),
)
def test_late_rows_are_left_out_by_the_commits_they_came_with(
    world: World, kind: str, events: list[Any], lateness: int, delay: int, emit: str, parts: bool
) -> None:
    scene = Scene(world)
    scene.declare(delay, parts)
    running = scene.counting(window=window_of(kind, f"{lateness}m"), late="drop", emit=emit, idle="6m")
    scene.play([FIRST, *events], running)
    wanted = expected(scene.waves, kind, late="drop", emit=emit, lateness=lateness, delay=delay, idle=6, parts=parts)
    assert scene.rows() == wanted.counted()
    assert late_rows(scene) == (wanted.late, wanted.untimed)
    if Compact() not in events:
        assert scene.snapshot(running) == wanted.counted()


def late_rows(scene: Scene) -> tuple[int, int]:
    """By the commits of the target."""
    table = scene.world.table(scene.target)
    told = [one.summary.additional_properties for one in table.snapshots() if one.summary is not None]
    names = ("lakeflow.rows-late", "lakeflow.rows-untimed")
    late, untimed = (sum(int(facts.get(name, 0)) for facts in told) for name in names)
    return late, untimed


@SHARE
@example(events=[Run(None, None), Wave([[(-7, "a", 1, 0)]])], gap=7)
@given(events=EVENTS, gap=st.sampled_from([3, 7]))
def test_sessions_that_grow_and_meet_are_those_of_all_rows(world: World, events: list[Any], gap: int) -> None:
    scene = Scene(world)
    scene.declare(0, False)
    running = scene.counting(window=Session("at", f"{gap}m", by="user"))
    scene.play([FIRST, *events], running)
    assert scene.rows() == expected_sessions(scene.waves, gap)
    assert scene.snapshot(running) == scene.rows()


@settings(parent=SHARE, max_examples=max(4, EXAMPLES // 2))
@given(events=EVENTS)
def test_late_rows_are_dead_letters_once(events: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(open_world(Path(folder)))
        scene.declare(0, False)
        running = scene.counting(window=Tumble("at", "10m"), late="dead_letter")
        scene.play([FIRST, *events, Run(None, None)], running)
        wanted = expected(scene.waves, "tumble", late="drop", emit="update", lateness=0, delay=0, idle=5, parts=False)
        assert scene.rows() == wanted.counted()
        found = Counter[str]()
        if scene.world.lake.exists(DEAD_LETTERS):
            found = Counter(kind for (kind,) in query(scene.world.table(DEAD_LETTERS), "SELECT kind FROM rows"))
        assert (found["late"], found["untimed"]) == (wanted.late, wanted.untimed)
