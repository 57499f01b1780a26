"""A topic says what its table holds: in any cutting, with crashes, compactions and changed rows between.

What the table holds is read by DuckDB, which shares no code with what sends it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from lakeflow.declare import TableSpec
from lakeflow.errors import SourceUnavailable
from lakeflow.job import Caps
from lakeflow.lake.commit import Committer
from lakeflow.lake.compact import compact, plan_compaction
from lakeflow.lake.compact_plan import Readers
from lakeflow.landing.produce import Producing, loads
from lakeflow.landing.produce_spec import SinkSpec, sink_spec
from lakeflow.testing.sink import ListSink, ListTopic
from tests.jobs import World, open_world
from tests.lakes import query
from tests.property.test_changes import APPEND, IDS, LAND, SCHEMA, SMALL, Append, Compact, Delete, Land, Scene

EXAMPLES = int(os.environ.get("LAKEFLOW_PRODUCE_EXAMPLES", "8"))
FEW = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@dataclass(frozen=True)
class Send:
    """A process that sends; it fails once so many records were written, None: not."""

    caps: Caps
    fails_after: int | None


SEND = st.builds(
    Send, st.builds(Caps, st.none() | st.integers(1, 3), st.none() | st.integers(1, 6)), st.none() | st.integers(0, 6)
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(tmp_path_factory.mktemp("lake"))


@dataclass
class Sent:
    """A table, and the topic that it goes to."""

    scene: Scene
    spec: SinkSpec
    topic: ListTopic

    def play(self, one: object) -> None:
        match one:
            case Send():
                self.send(one)
            case Compact():
                self.compact()
            case _:
                self.scene.play(self.scene.job(), one)

    def send(self, one: Send) -> None:
        failure = SourceUnavailable("the brokers went away")
        sink = ListSink(self.topic, fails_after=one.fails_after, failure=failure)
        before = len(self.topic.records)
        try:
            producing = Producing(self.spec, sink, self.scene.world.lake, one.caps)
            producing.catch_up(lambda: False)
            producing.catch_up(lambda: False)  # as one that stays does
        except SourceUnavailable:
            event("crashed")
        else:
            done = producing.produced
            assert done.read == done.written + done.unchanged
            assert done.written == len(self.topic.records) - before
        finally:
            sink.close()

    def compact(self) -> None:
        """As maintenance does, which knows how far the sink is."""
        lake, position = self.scene.world.lake, self.topic.position and loads(self.topic.position)
        if not position or not lake.exists(self.scene.source):
            return
        plan = plan_compaction(lake.table(self.scene.source), Readers((position,), by_key=self.spec.is_keyed), SMALL)
        event(f"compacted: {bool(compact(lake, Committer(lake), self.scene.source, plan, SMALL).snapshots)}")

    def catch_up(self) -> None:
        self.send(Send(Caps(), None))
        before = len(self.topic.records)
        self.send(Send(Caps(), None))
        assert len(self.topic.records) == before

    def rows(self) -> list[Any]:
        """The rows of the table."""
        lake = self.scene.world.lake
        if not lake.exists(self.scene.source):
            return []
        return sorted(query(lake.table(self.scene.source), "SELECT id, delay FROM rows"))


def opened(world: World, options: dict[str, str], key: tuple[str, ...] = ()) -> Sent:
    scene = Scene(world)
    declared = TableSpec(scene.source, SCHEMA, {"sink.topic": "t", **options}, primary_key=key)
    return Sent(scene, sink_spec(declared, declared.options), ListTopic())


@FEW
@given(events=st.lists(LAND | SEND | st.builds(Delete, IDS) | st.just(Compact()), min_size=4, max_size=12))
def test_by_key_the_last_records_are_the_rows_of_the_table(world: World, events: list[Any]) -> None:
    sent = opened(world, {}, ("id",))
    for one in [Land([(0, 2.0), (1, 0.5), (2, -1.0)], 2), *events]:
        if not (isinstance(one, Delete) and not sent.rows()):
            sent.play(one)
    sent.catch_up()
    last = {record.key: record.value for record in sent.topic.records}
    values = [json.loads(value) for value in last.values() if value is not None]
    assert sorted((row["id"], row["delay"]) for row in values) == sent.rows()
    assert all(json.loads(key or b"") == {"id": json.loads(value)["id"]} for key, value in last.items() if value)
    event(f"tombstones: {any(record.value is None for record in sent.topic.records)}")


@FEW
@given(events=st.lists(APPEND | SEND | st.just(Compact()), min_size=4, max_size=12))
def test_appended_rows_are_each_there_once(world: World, events: list[Any]) -> None:
    sent = opened(world, {})
    world.lake.ensure(TableSpec(sent.scene.source, SCHEMA))
    for one in [Append([(0, 2.0), (1, 0.5)]), *events]:
        sent.play(one)
    sent.catch_up()
    values = [json.loads(record.value or b"") for record in sent.topic.records]
    assert sorted((row["id"], row["delay"]) for row in values) == sent.rows()


def test_a_topic_that_is_made_anew_under_a_sink_that_stays_gets_all_rows(world: World) -> None:
    sent = opened(world, {})
    world.lake.ensure(TableSpec(sent.scene.source, SCHEMA))
    sent.play(Append([(0, 2.0)]))
    producing = Producing(sent.spec, ListSink(sent.topic), world.lake, Caps())
    producing.catch_up(lambda: False)
    for anew, later in ((producing.catch_up, [(1, 0.5)]), (lambda stop: producing.claim(), [])):
        sent.topic.records.clear()
        sent.topic.position = None
        if later:
            sent.play(Append(later))
        anew(lambda: False)
        producing.catch_up(lambda: False)
        assert [json.loads(record.value or b"")["id"] for record in sent.topic.records] == [0, 1]
