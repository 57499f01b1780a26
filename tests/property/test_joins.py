"""Joins within a bound: whatever order both sides arrive in, however it is cut, with late rows, crashes and compactions
in between, the target ends as the join of all rows, which is worked out here by plain loops, and as a snapshot run makes it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from lakeflow import Within
from lakeflow.declare import TableSpec
from lakeflow.job import Caps, Job, Read, job
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.compact import compact, plan_compaction
from lakeflow.lake.compact_plan import Readers, Sizes
from lakeflow.lake.write import DataFile
from lakeflow.progress import JobProgress
from tests.crashes import Crashes, Plan, Where
from tests.jobs import World, open_world
from tests.lakes import written

EXAMPLES = int(os.environ.get("LAKEFLOW_JOIN_EXAMPLES", "6"))
SHARE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
ORDERS = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("v", pa.int64())])
SHIPMENTS = pa.schema([("order_id", pa.int32()), ("shipped", pa.timestamp("us", "UTC")), ("w", pa.int64())])
ZERO = datetime(2026, 1, 1, tzinfo=UTC)
NUMBERS = count()

Row = tuple[int | None, int | None, int]
"""Key, minutes behind ZERO, value."""


@dataclass(frozen=True)
class Wave:
    """One commit to one of the sides, of several files."""

    side: int
    files: list[list[Row]]


@dataclass(frozen=True)
class Run:
    """One process that runs the job incrementally."""

    files: int | None
    crash: Plan | None


@dataclass(frozen=True)
class Compact:
    """Files of a side that are behind the job become one."""

    side: int


ROW = st.tuples(st.sampled_from([1, 1, 2, None]), st.integers(-3, 9) | st.integers(-3, 9) | st.none(), st.integers(0, 2))
WAVE = st.builds(Wave, st.integers(0, 1), st.lists(st.lists(ROW, min_size=1, max_size=4), min_size=1, max_size=3))
PLACES = [Where.BEFORE_COMMIT, Where.AFTER_COMMIT, Where.WRITER, Where.FILES]
CRASH = st.none() | st.builds(Plan, st.sampled_from(PLACES), st.sampled_from([0, 0, 1]))
RUN = st.builds(Run, st.sampled_from([None, 1, 2]), CRASH)
EVENTS = st.lists(WAVE | WAVE | RUN | st.builds(Compact, st.integers(0, 1)), min_size=3, max_size=9)
FIRST = (Wave(0, [[(1, 0, 0), (2, 3, 1)], [(1, 2, 1)]]), Wave(1, [[(1, 1, 0)], [(2, 2, 0), (1, 4, 1)]]))
BOUNDS = st.sampled_from([(1, 3), (0, 0), (-1, 4), (5, -2)])

SPELLINGS = (
    "o.id = s.order_id AND s.shipped BETWEEN o.at - INTERVAL '{before}' MINUTE AND o.at + INTERVAL '{after}' MINUTE",
    "s.order_id = o.id AND o.at <= s.shipped + INTERVAL '{before}' MINUTE AND s.shipped - o.at <= INTERVAL '{after}' MINUTE",
    "(o.id = s.order_id) AND NOT o.v > 9 AND -(s.shipped - o.at) <= INTERVAL '{before}' MINUTE "
    "AND o.at > s.shipped - (INTERVAL '{after}' MINUTE + INTERVAL '1' SECOND) "
    "AND o.at >= s.shipped - INTERVAL '{after}' MINUTE",
)


def expected(orders: Sequence[Row], shipments: Sequence[Row], before: int, after: int, kept: str) -> Counter[tuple[Any, ...]]:
    """The join of all rows: `kept` is the side whose rows without a match stay."""
    found: Counter[tuple[Any, ...]] = Counter()
    for order in orders:
        for shipment in shipments:
            if _meet(order, shipment, before, after):
                found[(*order, *shipment)] += 1
    if kept == "LEFT":
        found.update((*one, None, None, None) for one in orders if not any(_meet(one, two, before, after) for two in shipments))
    if kept == "RIGHT":
        found.update((None, None, None, *two) for two in shipments if not any(_meet(one, two, before, after) for one in orders))
    return found


def _meet(order: Row, shipment: Row, before: int, after: int) -> bool:
    if None in (order[0], order[1], shipment[0], shipment[1]):
        return False
    assert order[1] is not None
    assert shipment[1] is not None
    return order[0] == shipment[0] and -before <= shipment[1] - order[1] <= after


@dataclass
class Scene:
    world: World
    crashes: Crashes = field(default_factory=Crashes)
    number: int = field(default_factory=lambda: next(NUMBERS))
    rows: tuple[list[Row], list[Row]] = field(default_factory=lambda: ([], []))

    def __post_init__(self) -> None:
        for name, schema in zip(self.sources, (ORDERS, SHIPMENTS), strict=True):
            self.world.lake.ensure(TableSpec(name, schema))

    @property
    def sources(self) -> tuple[str, str]:
        return f"bronze.orders{self.number}", f"bronze.shipments{self.number}"

    @property
    def target(self) -> str:
        return f"gold.shipped{self.number}"

    def in_sql(self, spelling: str, kept: str, before: int, after: int) -> Job:
        orders, shipments = self.sources
        return self.world.sql_job(
            f"INSERT INTO {self.target} SELECT o.id, o.at, o.v, s.order_id, s.shipped, s.w "
            f"FROM {orders} AS o {kept} JOIN {shipments} AS s ON {spelling.format(before=before, after=after)};"
        )

    def in_python(self, kept: str, before: int, after: int) -> Job:
        orders, shipments = self.sources
        times, how = ("at", "shipped"), "left" if kept else "inner"
        length = (timedelta(minutes=before), timedelta(minutes=after))
        within = Within(left_on="id", right_on="order_id", times=times, how=how, before=length[0], after=length[1])

        def joined(left: Any = Read(orders), right: Any = Read(shipments)) -> pl.LazyFrame:
            keyed = right.with_columns(pl.col("order_id").cast(pl.Int64), theirs=pl.col("order_id"))
            return within.join(left, keyed).select("id", "at", "v", pl.col("theirs").alias("order_id"), "shipped", "w")

        return job(target=self.target, within=within)(joined)

    def play(self, events: Sequence[Any], running: Job) -> None:
        for one in [*FIRST, *events]:
            match one:
                case Wave():
                    self.commit(one)
                case Run(files, crash):
                    self.world.caps = Caps(files=files)
                    with self.crashes.survived(crash, self.world.lake):
                        self.world.run(running)
                case Compact(side):
                    self.compact(running, self.sources[side])
                case _:
                    raise AssertionError(one)
        self.world.caps = Caps()
        self.world.run(running)
        event(f"crashes: {min(self.crashes.happened, 3)}")

    def commit(self, wave: Wave) -> None:
        name, schema = self.sources[wave.side], (ORDERS, SHIPMENTS)[wave.side]
        data: list[DataFile] = []
        for rows in wave.files:
            self.rows[wave.side].extend(rows)
            named = [dict(zip(schema.names, (key, moment(minutes), value), strict=True)) for key, minutes, value in rows]
            data += written(self.world.table(name), pa.Table.from_pylist(named, schema=schema))
        Committer(self.world.lake).commit(Change(name, tuple(data)))

    def compact(self, running: Job, source: str) -> None:
        committer = Committer(self.world.lake)
        position = JobProgress.loads(committer.progress(self.target, running.writer), self.sources[0]).of(source)
        if position is not None:
            sizes = Sizes(1 << 20, 1 << 20, least_files=2)
            plan = plan_compaction(self.world.table(source), Readers((position,), (), False), sizes)
            event(f"compacted: {bool(compact(self.world.lake, committer, source, plan, sizes).snapshots)}")

    def found(self, name: str) -> Counter[tuple[Any, ...]]:
        table = self.world.table(name).scan().to_arrow()
        return Counter(
            (row["id"], _minutes(row["at"]), row["v"], row["order_id"], _minutes(row["shipped"]), row["w"])
            for row in table.to_pylist()
        )

    def check(self, running: Job, before: int, after: int, kept: str) -> None:
        wanted = expected(*self.rows, before, after, kept)
        event(f"rows: {min(20, 5 * (wanted.total() // 5))}")
        assert self.found(self.target) == wanted
        check = f"check.s{self.number}"
        self.world.run(running, "snapshot", into=check)
        assert self.found(check) == wanted


def moment(minutes: int | None) -> datetime | None:
    return None if minutes is None else ZERO + timedelta(minutes=minutes)


def _minutes(at: datetime | None) -> int | None:
    return None if at is None else (at - ZERO) // timedelta(minutes=1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(tmp_path_factory.mktemp("lake"))


@SHARE
@given(spelling=st.sampled_from(SPELLINGS), kept=st.sampled_from(["", "LEFT", "RIGHT"]), bound=BOUNDS, events=EVENTS)
def test_a_query_ends_as_the_join_of_all_rows(
    world: World, spelling: str, kept: str, bound: tuple[int, int], events: list[Any]
) -> None:
    scene, (before, after) = Scene(world), bound
    running = scene.in_sql(spelling, kept, before, after)
    assert running.within is not None
    scene.play(events, running)
    scene.check(running, before, after, kept)


GROUPED = {
    "groups": "SELECT o.id, count(*) AS n, CAST(sum(s.w) AS BIGINT) AS w {joined} GROUP BY o.id",
    "distinct": "SELECT DISTINCT o.id, s.w {joined}",
    "ranks": "SELECT id, v, w FROM (SELECT o.id, o.v, s.w, row_number() OVER (PARTITION BY o.id ORDER BY s.w, o.v) AS n "
    "{joined}) WHERE n <= 2",
}


@settings(SHARE, max_examples=max(3, EXAMPLES // 2))
@given(kind=st.sampled_from(sorted(GROUPED)), bound=BOUNDS, events=EVENTS)
def test_groups_of_pairs_are_those_of_all_rows(world: World, kind: str, bound: tuple[int, int], events: list[Any]) -> None:
    scene, (before, after) = Scene(world), bound
    orders, shipments = scene.sources
    on = SPELLINGS[0].format(before=before, after=after)
    query = GROUPED[kind].format(joined=f"FROM {orders} AS o JOIN {shipments} AS s ON {on}")
    running = world.sql_job(f"SET 'pipeline.name' = 'grouped{scene.number}'; INSERT INTO {scene.target} {query};")
    scene.play(events, running)
    pairs = Counter(expected(*scene.rows, before, after, ""))
    assert Counter(world.rows(scene.target)) == grouped(kind, pairs)
    world.run(running, "snapshot", into=f"check.s{scene.number}")
    assert world.rows(f"check.s{scene.number}") == world.rows(scene.target)


def grouped(kind: str, pairs: Counter[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
    """What a query makes of the pairs: key, minutes and value of the one, then of the other."""
    by_key: dict[Any, list[tuple[int, int]]] = {}
    for pair in pairs.elements():
        by_key.setdefault(pair[0], []).append((pair[5], pair[2]))
    match kind:
        case "groups":
            return Counter((key, len(values), sum(w for w, _ in values)) for key, values in by_key.items())
        case "distinct":
            return Counter({(key, w) for key, values in by_key.items() for w, _ in values})
        case _:
            return Counter((key, v, w) for key, values in by_key.items() for w, v in sorted(values)[:2])


@SHARE
@given(kept=st.sampled_from(["", "LEFT"]), bound=BOUNDS, events=EVENTS)
def test_a_function_ends_as_the_join_of_all_rows(world: World, kept: str, bound: tuple[int, int], events: list[Any]) -> None:
    scene, (before, after) = Scene(world), bound
    running = scene.in_python(kept, before, after)
    scene.play(events, running)
    scene.check(running, before, after, kept)
