"""The steps of a job that puts the rows of several tables together by UNION ALL: each reads new rows of one of them.

A row of one table never meets one of another, so that a step over new rows of one, with nothing of the others, gives what they
come to. The job's progress has a position in each; what says that the tables are read so rides along as state.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from lakeflow.job import Caps, Job
from lakeflow.lake.catalog import Table
from lakeflow.lake.read import Batch
from lakeflow.progress import JobProgress
from lakeflow.runner.letters import Kept
from lakeflow.runner.on_change import batches_of

STATE: Final = "united"


def united_batches(
    job: Job, tables: Mapping[str, Table], start: str | None, caps: Caps, letters: Kept | None
) -> Iterator[tuple[str, Batch, str]]:
    """For each step the table that it reads, its batch, and the progress after it.

    A step whose letters have landed and whose rows have not comes first, whichever table it reads. Raises as `batches_of` does.
    """
    first = next(iter(tables))
    progress = JobProgress.loads(start, first)
    progress = replace(progress, state={**progress.state, STATE: sorted(tables)})
    again = _left_by(tables, start, letters)
    for name in sorted(tables, key=lambda one: one != again):
        own = letters if name == again else None
        for batch in batches_of(job, name, tables[name], start, caps, own):
            progress = progress.at(name, batch.end)
            yield name, batch, progress.dumps()


def _left_by(tables: Mapping[str, Table], start: str | None, letters: Kept | None) -> str | None:
    """The table that the step with letters read: the one in which it would have moved."""
    if letters is None or letters.start != start:
        return None
    first = next(iter(tables))
    before, after = JobProgress.loads(start, first), JobProgress.loads(letters.end, first)
    moved = (name for name in tables if after.positions.get(name) != before.positions.get(name))
    return next(moved, None)
