"""A step of a join within a bound: its pairs are added to the target, or take the place of what it holds of the groups that the
step touched, in one commit with the progress.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from lakeflow.errors import JobFailed
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.commit import Change
from lakeflow.lake.schema import fit, require_columns
from lakeflow.lake.touch import frame
from lakeflow.models.lost import Lost
from lakeflow.runner.interval_read import KEYS_AT_ONCE, Meeting, meeting
from lakeflow.runner.letters import PartLetters
from lakeflow.runner.putting import Putting
from lakeflow.runner.sql_body import assigned
from lakeflow.within import Within

if TYPE_CHECKING:
    from lakeflow.runner.execute import RunCounts, _Work


def interval_step(work: _Work) -> tuple[int, RunCounts]:
    """Carry out a step whose `joined` is set: its snapshot, and its counts, of which what is read are the new rows.

    Raises JobFailed where a function gives rows of others than it was given, and what reading and committing raise.
    """
    joined = work.step.joined
    assert joined is not None, "the caller looked"
    work.body.prepare()
    found = meeting(work.step)
    quiet = replace(work, on_rows=lambda rows: None)
    lost = work.letters.part()
    try:
        made = _replace(quiet, joined.within, found, lost) if joined.within.keeps else _add(quiet, found, lost)
    except BaseException:
        lost.abort()
        raise
    work.on_rows(work.rows)
    return made


def _add(work: _Work, found: Meeting, lost: PartLetters) -> tuple[int, RunCounts]:
    writer = work.writer()
    try:
        for chunk in _chunks(work, found, lost):
            writer.write(chunk)
        counts = _counts(work, writer.rows, lost)
        files = writer.finish()
        work.letters.land(lost.finish())
    except BaseException:
        writer.abort()
        raise
    return work.commit(Change(work.plan.target, files, summary=counts.summary())), counts


def _replace(work: _Work, within: Within, found: Meeting, lost: PartLetters) -> tuple[int, RunCounts]:
    columns = _columns(work, within)
    require_columns(columns, arrow_schema(work.target), work.plan.target)
    groups = _groups(work, found, columns)
    putting = Putting(work.target, columns, groups, work.writer, work.runtime.spool)

    def rows() -> Iterator[pa.Table]:
        yield from _checked(work, _chunks(work, found, lost), groups)
        work.letters.land(lost.finish())

    snapshot = putting.put(
        rows(),
        lambda change: work.commit(replace(change, summary={**change.summary, **_counts(work, putting.rows, lost).summary()})),
    )
    return snapshot, _counts(work, putting.rows, lost)


def _chunks(work: _Work, found: Meeting, lost: Lost) -> Iterator[pa.Table]:
    if not found.is_empty:
        yield from work.chunks(found.reads, lost)


def _counts(work: _Work, written: int, lost: PartLetters) -> RunCounts:
    from lakeflow.runner.execute import RunCounts

    return RunCounts(work.rows, written, lost.dead_lettered, lost.skipped)


def _columns(work: _Work, within: Within) -> list[str]:
    """The columns of the target by which groups are told: the query's go there by place."""
    if work.plan.compiled is None:
        return list(within.group)
    given = [name.lower() for name in work.plan.compiled.columns.names]
    names = work.body.schema(work.step.reads).names
    return [names[given.index(name)] for name in within.outputs]


def _groups(work: _Work, found: Meeting, columns: list[str]) -> pa.Table:
    """The groups as values of the target's columns."""
    assert found.groups is not None, "rows without a match come in groups"
    into = arrow_schema(work.target)
    wanted = pa.schema([into.field(name).with_nullable(True) for name in columns])
    return fit(assigned(found.groups.to_arrow().rename_columns(columns), into), wanted, work.plan.target)


def _checked(work: _Work, chunks: Iterator[pa.Table], groups: pa.Table) -> Iterator[pa.Table]:
    """The rows, as the target has them. Raises JobFailed for one of another group than those that the job was given."""
    into, given, names = arrow_schema(work.target), frame(groups), groups.column_names
    waiting: list[pl.DataFrame] = []
    for chunk in chunks:
        rows = fit(chunk, into, work.plan.target)
        yield rows
        waiting.append(frame(rows.select(names)).unique())
        if sum(one.height for one in waiting) > max(KEYS_AT_ONCE, given.height):
            _require_groups(work, waiting, given)
            waiting = []
    _require_groups(work, waiting, given)


def _require_groups(work: _Work, found: list[pl.DataFrame], given: pl.DataFrame) -> None:
    strange = pl.concat([given.clear(), *found]).join(given, on=given.columns, how="anti", nulls_equal=True)
    if not strange.is_empty():
        raise JobFailed(
            f"job {work.plan.job.name!r} ({work.plan.job.origin}) keeps rows of the first table without a match, by "
            f"{', '.join(given.columns)}, and gave a row that none of those has which it was given: "
            f"{strange.row(0, named=True)}",
            left_behind=f"{work.plan.target}, as of the last step that was committed",
            next_step="pass these columns of the first table on unchanged",
        )
