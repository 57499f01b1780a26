"""The promise of the two modes, for a statement set: however its jobs came along, each table is that of a snapshot run."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakeflow.job import Caps, Job
from lakeflow.runner.sql_jobs import jobs_of
from lakeflow.runner.statement_sets import run_together
from lakeflow.sql.parse import parse_jobs
from tests.jobs import FLIGHTS, SOURCE, World, open_world

EXAMPLES = int(os.environ.get("LAKEFLOW_SET_EXAMPLES", "6"))
SET = f"""BEGIN STATEMENT SET;
INSERT INTO gold.late SELECT id, delay FROM {SOURCE} WHERE delay > 1;
INSERT INTO gold.names SELECT lower(carrier) AS name, id FROM {SOURCE};
INSERT INTO gold.both SELECT id, delay FROM {SOURCE} UNION ALL SELECT -id, NULL FROM {SOURCE} WHERE carrier = 'UA';
END;"""
ROWS = st.lists(st.tuples(st.integers(1, 99), st.sampled_from(["UA", "AA", None]), st.floats(0, 2)), min_size=1, max_size=4)
EVENTS = st.lists(st.one_of(ROWS, st.sampled_from([0, 1, 2])), min_size=1, max_size=4)
"""What happens to the source: rows are appended, or one job of the set runs without the others."""


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(events=EVENTS, files=st.sampled_from([None, 1, 2]), together=st.lists(st.booleans(), min_size=4, max_size=4))
def test_each_table_is_that_of_a_snapshot_run(
    events: list[list[tuple[int, str | None, float]] | int], files: int | None, together: list[bool]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = open_world(Path(folder))
        world.caps = Caps(files=files)
        path = Path("jobs/split.sql")
        jobs = list(jobs_of(parse_jobs(SET, path), path, {}))
        world.append(FLIGHTS.empty_table())
        for event, runs in zip(events, together, strict=False):
            if isinstance(event, int):
                world.run(jobs[event])
            else:
                rows = [dict(zip(FLIGHTS.names, row, strict=True)) for row in event]
                world.append(pa.Table.from_pylist(rows, schema=FLIGHTS))
            if runs:
                _run(world, jobs)
        _run(world, jobs)
        for job in jobs:
            world.run(job, "snapshot", into=f"{job.target}_whole")
            assert world.rows(job.target) == world.rows(f"{job.target}_whole")


def _run(world: World, jobs: list[Job]) -> None:
    for member in run_together([world.plan(job) for job in jobs], world.runtime()):
        assert member.error is None
