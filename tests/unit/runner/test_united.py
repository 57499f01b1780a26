"""A query over several tables put together by UNION ALL: a step reads one of them, the progress has a position in each."""

from __future__ import annotations

import json

import pytest

from lakeflow.errors import DeclarationError
from lakeflow.job import Caps
from lakeflow.lake.letters import DEAD_LETTERS
from lakeflow.models.registry import ModelSet
from tests.crashes import Crashes, Plan, Where
from tests.failing import Failing, spec_of
from tests.jobs import World, flights

ONE, OTHER = "bronze.one", "bronze.other"
QUERY = f"INSERT INTO gold.both SELECT id, delay FROM {ONE} UNION ALL SELECT -id, delay FROM {OTHER} WHERE delay > 0;"
ASKED = "SELECT o.id, p.y FROM {} AS o CROSS JOIN LATERAL TABLE(ML_PREDICT('failing', o.delay)) AS p"


def test_each_step_reads_one_table_and_goes_on_from_there(world: World) -> None:
    world.caps = Caps(files=1)
    world.append(flights((1, "UA", 1.0)), ONE)
    world.append(flights((2, "UA", 2.0)), ONE)
    world.append(flights((1, "AA", 1.0), (2, "AA", -1.0)), OTHER)
    job = world.sql_job(QUERY)
    plan = world.plan(job)
    assert [[source.name for source in step.reads] for step in plan.steps] == [[ONE], [ONE], [OTHER]]
    world.run(job)
    assert world.rows("gold.both") == [(-1, 1.0), (1, 1.0), (2, 2.0)]
    kept = json.loads(world.progress(job, "gold.both") or "")
    assert (sorted(kept["tables"]), kept["state"]) == ([ONE, OTHER], {"united": [ONE, OTHER]})
    assert world.run(job) is None
    world.append(flights((3, "AA", 3.0)), OTHER)
    ran = world.run(job)
    assert ran is not None
    assert ran.counts.read == 1
    assert world.rows("gold.both") == [(-3, 3.0), (-1, 1.0), (1, 1.0), (2, 2.0)]


def test_a_snapshot_run_is_gone_on_from(world: World) -> None:
    world.append(flights((1, "UA", 1.0)), ONE)
    world.append(flights((1, "AA", 1.0)), OTHER)
    job = world.sql_job(QUERY)
    world.run(job, "snapshot")
    assert world.run(job) is None
    world.append(flights((2, "UA", 2.0)), ONE)
    world.run(job)
    assert world.rows("gold.both") == [(-1, 1.0), (1, 1.0), (2, 2.0)]


def test_the_step_that_left_letters_comes_first_whichever_table_it_read(world: World) -> None:
    """The last commit of the step of the other table dies: its letters have landed. Then the first table gets a row."""
    world.models = ModelSet([spec_of("failing", on_error="dead_letter")], lambda spec: Failing(spec, lambda x: x < 0))
    world.append(flights((1, "UA", 1.0)), ONE)
    world.append(flights((9, "AA", 1.0)), OTHER)
    job = world.sql_job(f"INSERT INTO gold.asked {ASKED.format(ONE)} UNION ALL {ASKED.format(OTHER)};")
    world.run(job)
    world.append(flights((2, "AA", -1.0), (3, "AA", 3.0)), OTHER)
    crashes = Crashes()
    with crashes.survived(Plan(Where.BEFORE_COMMIT, 2), world.lake):
        world.run(job)
    assert crashes.happened == 1
    world.append(flights((4, "UA", 4.0)), ONE)
    assert [step.reads[0].name for step in world.plan(job).steps] == [OTHER, ONE]
    world.run(job)
    assert world.rows("gold.asked") == [(1, 2.0), (3, 6.0), (4, 8.0), (9, 2.0)]
    assert world.table(DEAD_LETTERS).scan().to_arrow().num_rows == 1


def test_a_join_of_two_tables_and_a_target_with_a_key_are_refused(world: World) -> None:
    world.append(flights((1, "UA", 1.0)), ONE)
    world.append(flights((1, "AA", 1.0)), OTHER)
    joined = world.sql_job(f"INSERT INTO gold.joined SELECT a.id FROM {ONE} AS a JOIN {OTHER} AS b ON a.id = b.id;")
    with pytest.raises(DeclarationError, match="second table beside"):
        world.plan(joined)
