"""What an update of an index would do, and what keeps that from being told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lakeflow.errors import StorageUnavailable
from lakeflow.job import Caps
from lakeflow.models.registry import ModelSet
from lakeflow.runner.index_plan import plan_index
from lakeflow.runner.indexing import update_index
from tests.jobs import World
from tests.lakes import path_of
from tests.unit.runner.test_indexing import SPEC, TABLE, MemoryRoom, X, Y, merged, rows


@pytest.fixture
def room(world: World, tmp_path: Path) -> MemoryRoom:
    return MemoryRoom(world.lake, ModelSet([]), str(tmp_path / "index"), {}, Caps())


def test_an_index_declared_otherwise_is_refused(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X)), TABLE)
    update_index(SPEC, room)
    assert plan_index(SPEC, room).standing == "up to date"
    assert plan_index(replace(SPEC, metric="l2"), room).standing.startswith("refused: ")


def test_a_warehouse_that_does_not_answer_refuses_nothing(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X)), TABLE)
    for manifest in path_of(world.lake.table(TABLE).location()).rglob("*.avro"):
        manifest.unlink()
    with pytest.raises(StorageUnavailable):
        plan_index(SPEC, room)


def test_rows_that_went_put_an_index_behind(world: World, room: MemoryRoom) -> None:
    world.append(rows((1, "a", X), (2, "b", Y), (3, "c", Y)), TABLE)
    update_index(SPEC, room)
    merged(world, rows((1, "a", X), (2, "b", Y)))
    plan = plan_index(SPEC, room)
    assert (plan.standing, plan.files, plan.rows, plan.changed, plan.rebuild) == ("behind", 1, 2, 3, None)
    update_index(SPEC, room)
    assert plan_index(SPEC, room).standing == "up to date"
