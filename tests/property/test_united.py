"""The promise of the two modes, for a query over several tables put together by UNION ALL, whatever dies in between."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakeflow.errors import JobFailed
from lakeflow.job import Caps
from lakeflow.lake.letters import DEAD_LETTERS
from lakeflow.models.registry import ModelSet
from tests.crashes import Crashes, Plan, Where
from tests.failing import Failing, spec_of
from tests.jobs import FLIGHTS, World, open_world

EXAMPLES = int(os.environ.get("LAKEFLOW_UNITED_EXAMPLES", "4"))
ONE, OTHER = "bronze.one", "bronze.other"
ASKED = "SELECT o.id, p.y FROM {table} AS o CROSS JOIN LATERAL TABLE(ML_PREDICT('failing', o.delay)) AS p"
QUERY = (
    f"INSERT INTO gold.both WITH first AS ({ASKED.format(table=ONE)}) SELECT id, y FROM first "
    f"UNION ALL {ASKED.format(table=OTHER)} UNION ALL SELECT -id, delay FROM {ONE} WHERE carrier = 'UA';"
)
ROWS = st.lists(st.tuples(st.integers(1, 99), st.sampled_from(["UA", None]), st.floats(0, 1, width=16)), min_size=1, max_size=3)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from([ONE, OTHER]),
        ROWS,
        st.one_of(st.none(), st.builds(Plan, st.sampled_from([Where.BEFORE_COMMIT, Where.AFTER_COMMIT]), st.integers(0, 3))),
    ),
    min_size=1,
    max_size=4,
)
Event = tuple[str, list[tuple[int, str | None, float]], Plan | None]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=EVENTS, files=st.sampled_from([None, 1]))
def test_rows_of_each_table_land_once(events: list[Event], files: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = open_world(Path(folder))
        world.caps = Caps(files=files)
        world.models = ModelSet([spec_of("failing", on_error="dead_letter")], lambda spec: Failing(spec, lambda x: x < 0.5))
        for table in (ONE, OTHER):
            world.append(FLIGHTS.empty_table(), table)
        job, crashes = world.sql_job(QUERY), Crashes()
        for table, rows, plan in events:
            world.append(pa.Table.from_pylist([dict(zip(FLIGHTS.names, row, strict=True)) for row in rows], FLIGHTS), table)
            with suppress(JobFailed), crashes.survived(plan, world.lake):  # a crash within a model is the job's failure
                world.run(job)
        world.run(job)
        _check(world, [(table, row) for table, rows, _ in events for row in rows])
        world.run(job, "snapshot", into="gold.whole")
        assert world.rows("gold.both") == world.rows("gold.whole")


def _check(world: World, read: list[tuple[str, tuple[int, str | None, float]]]) -> None:
    asked = [(number, delay) for _, (number, _, delay) in read]
    expected = [(number, 2 * delay) for number, delay in asked if delay >= 0.5]
    expected += [(-number, delay) for table, (number, carrier, delay) in read if table == ONE and carrier == "UA"]
    assert Counter(world.rows("gold.both")) == Counter(expected)
    letters = world.table(DEAD_LETTERS).scan().to_arrow().num_rows if world.lake.exists(DEAD_LETTERS) else 0
    assert letters == sum(delay < 0.5 for _, delay in asked)
