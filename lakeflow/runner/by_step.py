"""A step of a job in Python that makes the rows of whole keys: it reads all rows of the keys that new rows have, and what the
job makes of them takes the place of what the target holds of these keys, in one commit with the progress.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from lakeflow.errors import JobFailed
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.prune import Pruner
from lakeflow.lake.read import Split, splits_at
from lakeflow.lake.schema import fit, require_columns
from lakeflow.lake.touch import frame
from lakeflow.progress import JobProgress
from lakeflow.runner.changed_keys import changed_keys
from lakeflow.runner.embedding import recalling
from lakeflow.runner.plan import Source
from lakeflow.runner.putting import Putting

if TYPE_CHECKING:
    from lakeflow.runner.execute import RunCounts, _Work


def by_step(work: _Work) -> tuple[int, RunCounts]:
    """Carry out a step: its snapshot, and its counts. Raises UnknownName where a table has no such columns, JobFailed where the
    job gives rows of other keys."""
    job, [source] = work.plan.job, work.step.reads
    require_columns(job.by, arrow_schema(source.table), source.name)
    known, came = _known(work, source), {split.path for split in source.splits}
    keys = changed_keys(source, job.by, [split for split in known if split.path not in came])
    pruner = Pruner(source.table, keys)
    held = tuple(split for split in known if len(pruner.in_file(split.task.file)))
    return put_keys(work, replace(source, splits=held, keys=keys))


def put_keys(work: _Work, source: Source) -> tuple[int, RunCounts]:
    """Put what the job makes of the source's keys in place of what the target holds of them. Raises as `by_step`."""
    keys = source.keys
    assert keys is not None, "a source of keys"
    require_columns(work.plan.job.by, arrow_schema(work.target), work.plan.target)
    with recalling(work, lambda: frame(_groups(work, keys))) as knowing:
        return _put(knowing, source, keys)


def _put(work: _Work, source: Source, keys: pl.DataFrame) -> tuple[int, RunCounts]:
    from lakeflow.runner.execute import RunCounts

    job, reads = work.plan.job, (source,)
    work.body.prepare()
    lost = work.letters.part()
    putting = Putting(work.target, job.by, _groups(work, keys), work.writer, work.runtime.spool)

    def counts() -> RunCounts:
        return RunCounts(work.rows, putting.rows, lost.dead_lettered, lost.skipped)

    def rows() -> Iterator[pa.Table]:
        if not keys.is_empty():
            yield from _checked(work, work.chunks(reads, lost), keys)
        work.letters.land(lost.finish())

    try:
        snapshot = putting.put(
            rows(), lambda change: work.commit(replace(change, summary={**change.summary, **counts().summary()}))
        )
    except BaseException:
        lost.abort()
        raise
    return snapshot, counts()


def _known(work: _Work, source: Source) -> tuple[Split, ...]:
    """All files that have been read once the step is done."""
    position = JobProgress.loads(work.step.end, source.name).of(source.name)
    assert position is not None, "a step ends somewhere"
    known = splits_at(source.table, source.table.snapshot_by_id(position.snapshot_id))
    return tuple(split for split in known if position.covers(split.sequence, split.path))


def _groups(work: _Work, keys: pl.DataFrame) -> pa.Table:
    """The keys as values of the target's columns."""
    into = arrow_schema(work.target)
    wanted = pa.schema([into.field(name).with_nullable(True) for name in keys.columns])
    return fit(keys.to_arrow(), wanted, work.plan.target)


def _checked(work: _Work, chunks: Iterator[pa.Table], keys: pl.DataFrame) -> Iterator[pa.Table]:
    """The rows, as the target has them. Raises JobFailed for one of another key than those that the job was given."""
    into, job = arrow_schema(work.target), work.plan.job
    given = frame(_groups(work, keys))
    for chunk in chunks:
        rows = fit(chunk, into, work.plan.target)
        strange = frame(rows.select(list(job.by))).join(given, on=list(job.by), how="anti", nulls_equal=True)
        if not strange.is_empty():
            raise JobFailed(
                f"job {job.name!r} ({job.origin}) makes the rows of whole keys ({', '.join(job.by)}), and gave a row of a "
                f"key that none of the rows has which it was given: {strange.row(0, named=True)}",
                left_behind=f"{work.plan.target}, as of the last step that was committed",
                next_step="pass the key's columns on unchanged, or make the job by others",
            )
        yield rows
