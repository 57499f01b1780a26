"""What a job reads next of a table, by what its `on_change` says of rows that were changed or removed; metadata only."""

from __future__ import annotations

from collections.abc import Iterator

from lakeflow.errors import UsageError, did_you_mean
from lakeflow.job import Caps, Job, OnChange
from lakeflow.lake.catalog import Table
from lakeflow.lake.changes import batches_after
from lakeflow.lake.read import Batch
from lakeflow.progress import JobProgress
from lakeflow.runner.letters import Kept


def batches_of(
    job: Job, name: str, table: Table, start: str | None, caps: Caps, letters: Kept | None = None
) -> Iterator[Batch]:
    """What the job reads of the table `name` after its progress `start`, a batch a step.

    A step whose letters have landed and whose rows have not comes first, as it was cut then. Raises SourceChanged where the
    job cannot go on, UsageError where its key is not the table's own.
    """
    table_uuid = str(table.metadata.table_uuid)
    position = JobProgress.loads(start, name).of(name, table_uuid)
    again = None
    if letters is not None and letters.start == start:
        end = JobProgress.loads(letters.end, name).of(name, table_uuid)
        again = end if end is not None and end.table_uuid == table_uuid else None
    if job.on_change is OnChange.RECOMPUTE:
        key_columns(job, name, table)
    yield from batches_after(table, position, job.on_change, caps, again)


def key_columns(job: Job, name: str, table: Table) -> tuple[str, ...]:
    """The columns of the table that are the job's key, in its order. Raises UsageError where the table lacks one."""
    columns = job.key_from or job.key
    known = table.schema().column_names
    for column, key in zip(columns, job.key, strict=True):
        if column not in known:
            raise UsageError(
                f"job {job.name!r} ({job.origin}) is to follow rows that changed (on_change = 'recompute'), and "
                f"its key column {key!r} is none of {name}{did_you_mean(column, known)}",
                next_step="key the job by columns that it passes on unchanged under their own names, or say on_change = 'fail'",
            )
    return columns
