"""The promise of the two modes: an incremental run over any cutting of the input ends in the same table as one snapshot run.

The input comes in waves; between them runs take what is there, under any caps, and die anywhere. What the tables hold
in the end is counted by DuckDB, which shares no code with what wrote them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from lakeflow.declare import TableSpec
from lakeflow.job import Caps, Job, Lookup, Read, job
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.history import ancestors
from lakeflow.lake.write import DataFile
from lakeflow.landing.cut import Limits
from lakeflow.landing.dead_letters import DEAD_LETTERS
from lakeflow.landing.decode import RecordDecoder
from lakeflow.landing.reading import OwnReading
from lakeflow.landing.spec import landing_spec
from lakeflow.landing.writer import Landing
from lakeflow.runner import execute
from lakeflow.runner.engines import Threads
from lakeflow.testing.source import ListSource, Row
from lakeflow.topics.formats import Opening, open_format
from lakeflow.topics.source import Earliest, TopicPartition
from tests.crashes import Crashes, Plan, Where
from tests.jobs import CARRIERS, FLIGHTS, NAMES, World, flights, open_world
from tests.lakes import query, written

SHARE = settings(
    max_examples=max(5, settings().max_examples // 5),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
TOPIC = "flights"
NUMBERS = count()

Flight = tuple[int, str | None, float | None]

FLIGHT = st.tuples(st.integers(0, 6), st.sampled_from(["AA", "UA", "ZZ", None]), st.sampled_from([-1.0, 0.0, 1.5, 2.0, None]))
FILE = st.lists(FLIGHT, max_size=5)
CAPS = st.builds(
    Caps,
    st.none() | st.integers(1, 3),
    st.none() | st.integers(1, 8),
    st.none() | st.sampled_from([1, 1500, 3000]),
)
EITHER_RUN = (Where.BEFORE_COMMIT, Where.AFTER_COMMIT, Where.WRITER, Where.FILES)


def crashes(last: Where) -> st.SearchStrategy[Plan | None]:
    """Most runs die, and most of these soon: a later place is often never reached."""
    dying = st.builds(Plan, st.sampled_from([*EITHER_RUN, last]), st.sampled_from([0, 0, 0, 1, 1, 2, 4]))
    return st.one_of(dying, dying, dying, st.none())


@dataclass(frozen=True)
class Wave:
    """One commit to the source, of several files."""

    files: list[list[Flight]]


@dataclass(frozen=True)
class RunJob:
    """One process that runs the job incrementally."""

    caps: Caps
    crash: Plan | None
    workers: int


@dataclass(frozen=True)
class Produce:
    """Records for each partition, None for one that no row can be made of."""

    records: list[tuple[int, Flight | None]]


@dataclass(frozen=True)
class Land:
    """One process that lands the topic."""

    rows: int
    crash: Plan | None


RUN = st.builds(RunJob, CAPS, crashes(Where.JOB), st.integers(1, 2))
WAVE = st.builds(Wave, st.lists(FILE, min_size=1, max_size=3))
PRODUCE = st.builds(Produce, st.lists(st.tuples(st.integers(0, 1), FLIGHT | st.none()), min_size=1, max_size=6))
LAND = st.builds(Land, st.integers(1, 5), crashes(Where.POLL))
WAVES = st.lists(WAVE | st.tuples(WAVE, RUN) | RUN, min_size=1, max_size=5)
TOPICS = st.lists(st.tuples(PRODUCE, LAND) | st.tuples(LAND, RUN) | RUN, min_size=1, max_size=6)


def in_a_row(events: list[Any]) -> Iterator[Any]:
    for one in events:
        yield from one if isinstance(one, tuple) else [one]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = open_world(tmp_path_factory.mktemp("lake"))
    names = [{"carrier": code, "name": name} for code, name in (("AA", "American"), ("UA", "United"), ("UA", "Again"))]
    world.append(pa.Table.from_pylist(names, schema=NAMES), CARRIERS)
    return world


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a row-wise job is a file, so that there are several."""
    monkeypatch.setattr(execute, "TASK_BYTES", 1)


@dataclass
class Scene:
    """The tables of one example, and the job between them."""

    world: World
    crashes: Crashes = field(default_factory=Crashes)
    number: int = field(default_factory=lambda: next(NUMBERS))

    @property
    def source(self) -> str:
        return f"bronze.t{self.number}"

    @property
    def target(self) -> str:
        return f"gold.t{self.number}"

    def filtering_and_joining(self) -> Job:
        """Appends: read = written + filtered, and some carriers have two names."""

        def late(rows: Any = Read(self.source), names: Any = Lookup(CARRIERS)) -> pl.LazyFrame:
            trapped = rows.with_columns(pl.col("delay").map_batches(self.crashes.trap, pl.Float64, is_elementwise=True))
            frame: pl.LazyFrame = trapped.filter(pl.col("delay") > 0).join(names, on="carrier", how="left")
            return frame

        return job(target=self.target)(late)

    def updating(self) -> Job:
        """Updates by key: the last row of each key stays."""

        def latest(rows: Any = Read(self.source)) -> pl.LazyFrame:
            frame: pl.LazyFrame = rows.with_columns(
                pl.col("delay").map_batches(self.crashes.trap, pl.Float64, is_elementwise=True)
            )
            return frame

        return job(target=self.target, key="id")(latest)

    def wave(self, wave: Wave) -> None:
        self.world.lake.ensure(TableSpec(self.source, FLIGHTS))
        files: list[DataFile] = []
        for rows in wave.files:
            files += written(self.world.table(self.source), flights(*rows))
        Committer(self.world.lake).commit(Change(self.source, tuple(files)))

    def run(self, running: Job, run: RunJob) -> None:
        if not self.world.lake.exists(self.source):
            return
        self.world.caps, self.world.engine = run.caps, Threads(run.workers)
        with self.crashes.survived(run.crash, self.world.lake):
            self.world.run(running)

    def check(self, running: Job) -> None:
        """Catch up, then hold the target against one snapshot run into an empty table, and the counts against the source."""
        self.run(running, RunJob(Caps(), None, 1))
        assert self.world.run(running) is None
        check = f"check.t{self.number}"
        self.world.run(running, "snapshot", into=check)
        assert rows_of(self.world, self.target) == rows_of(self.world, check)
        assert self.rows_read() == sum(rows_of(self.world, self.source).values())
        event(f"crashes: {min(self.crashes.happened, 3)}")

    def rows_read(self) -> int:
        """By the commits of the target."""
        summaries = [snapshot.summary for snapshot in ancestors(self.world.table(self.target).metadata)]
        return sum(int(summary.additional_properties["lakeflow.rows-read"]) for summary in summaries if summary)


def rows_of(world: World, name: str) -> Counter[tuple[Any, ...]]:
    return Counter(query(world.table(name)))


def expected_late(rows: Counter[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
    """What the appending job must have made, computed without lakeflow."""
    names = {"AA": ["American"], "UA": ["United", "Again"]}
    found: Counter[tuple[Any, ...]] = Counter()
    for (number, carrier, delay), times in rows.items():
        if delay is not None and delay > 0:
            for name in names.get(carrier, [None]):
                found[(number, carrier, delay, name)] += times
    return found


def play(scene: Scene, running: Job, events: list[Any]) -> None:
    for one in in_a_row(events):
        if isinstance(one, Wave):
            scene.wave(one)
        else:
            scene.run(running, one)


@SHARE
@given(events=WAVES)
def test_a_job_that_appends_gives_the_same_in_both_modes(world: World, events: list[Any]) -> None:
    scene = Scene(world)
    running = scene.filtering_and_joining()
    play(scene, running, [Wave([[(1, "UA", 1.5)], [(1, "AA", 2.0)]]), *events])
    scene.check(running)
    assert rows_of(world, scene.target) == expected_late(rows_of(world, scene.source))


@SHARE
@given(events=WAVES)
def test_a_job_that_updates_by_key_gives_the_same_in_both_modes(world: World, events: list[Any]) -> None:
    scene = Scene(world)
    running = scene.updating()
    play(scene, running, [Wave([[(1, "UA", 1.5)], [(1, "AA", 2.0)]]), *events])
    scene.check(running)
    rows = rows_of(world, scene.target)
    assert {row[0] for row in rows} == {row[0] for row in rows_of(world, scene.source)}
    assert len({row[0] for row in rows}) == rows.total()


@dataclass
class Topic:
    """Two partitions that grow."""

    partitions: dict[TopicPartition, list[Row]] = field(default_factory=lambda: {(TOPIC, 0): [], (TOPIC, 1): []})

    def produce(self, produced: Produce) -> None:
        for partition, flight in produced.records:
            value = b"{broken" if flight is None else json.dumps(dict(zip(FLIGHTS.names, flight, strict=True))).encode()
            self.partitions[TOPIC, partition].append((None, value, 1_357_000_000_000))

    def good(self) -> Counter[tuple[Any, ...]]:
        return Counter(
            (record["id"], record["carrier"], record["delay"])
            for rows in self.partitions.values()
            for _, value, _ in rows
            if value is not None and value != b"{broken"
            for record in [json.loads(value)]
        )

    def bad(self) -> Counter[tuple[Any, ...]]:
        return Counter(
            (partition, offset)
            for (_, partition), rows in self.partitions.items()
            for offset, (_, value, _) in enumerate(rows)
            if value == b"{broken"
        )


class Dying(ListSource):
    """A source whose polls can be the end of the process, and which gives few records at once."""

    def __init__(self, topic: Topic, reach: Callable[[Where], None]) -> None:
        super().__init__(topic.partitions)
        self._reach = reach

    def poll(self, limit: int, timeout: float) -> Any:
        self._reach(Where.POLL)
        return super().poll(min(limit, 2), timeout)


def land(scene: Scene, topic: Topic, how: Land) -> None:
    declared = TableSpec(scene.source, FLIGHTS, {"connector": "kafka", "topic": TOPIC, "on_error": "dead_letter"})
    spec = landing_spec(declared, declared.options, Limits(how.rows, 1 << 30, 60.0))
    with scene.crashes.survived(how.crash, scene.world.lake):
        source = Dying(topic, scene.crashes.reach)
        decoder = RecordDecoder(spec, open_format("json", Opening(FLIGHTS, declared.options)), None)
        reading = OwnReading(spec.topics, source, Earliest())
        Landing(spec, reading, decoder, scene.world.lake, Committer(scene.world.lake), clock=lambda: 0.0).run()


def dead_letters(scene: Scene) -> Counter[tuple[Any, ...]]:
    if not scene.world.lake.exists(DEAD_LETTERS):
        return Counter()
    letters = query(
        scene.world.table(DEAD_LETTERS), f"""SELECT partition, "offset" FROM rows WHERE "table" = '{scene.source}'"""
    )
    return Counter(letters)


@pytest.fixture(params=["appending", "updating"])
def scenes(request: pytest.FixtureRequest, world: World) -> Callable[[], tuple[Scene, Job]]:
    def made() -> tuple[Scene, Job]:
        scene = Scene(world)
        return scene, scene.filtering_and_joining() if request.param == "appending" else scene.updating()

    return made


@SHARE
@given(events=TOPICS)
def test_from_topic_to_job_no_record_is_lost_and_none_comes_twice(
    scenes: Callable[[], tuple[Scene, Job]], events: list[Any]
) -> None:
    (scene, running), topic = scenes(), Topic()
    topic.produce(Produce([(0, (1, "UA", 1.5)), (1, None)]))
    for one in in_a_row(events):
        match one:
            case Produce():
                topic.produce(one)
            case Land():
                land(scene, topic, one)
            case RunJob():
                scene.run(running, one)
            case _:
                raise AssertionError(one)
    land(scene, topic, Land(100, None))
    assert rows_of(scene.world, scene.source) == topic.good()
    assert dead_letters(scene) == topic.bad()
    scene.check(running)
