"""The steps of a job that joins two tables within a bound: each reads new rows of one, and what they can meet of the other.

The pairs of two tables are those of new rows of the one with all rows of the other that have been read before, step by step:
each pair comes in the step that reads the later of its two rows, in whatever order they arrive. So nothing is kept between
runs but the positions in both tables. Metadata alone is read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl
import pyarrow as pa

from lakeflow.errors import SchemaMismatch, UnknownName
from lakeflow.job import Caps, Job, Mode
from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.read import Batch, Split, snapshot_at, splits_at
from lakeflow.lake.time_bounds import Range, TimeBounds
from lakeflow.progress import JobProgress, SnapshotPosition
from lakeflow.runner.letters import Kept
from lakeflow.runner.on_change import batches_of
from lakeflow.runner.plan import JobPlan, Source, Step
from lakeflow.runner.windows import END, START, ranges_of
from lakeflow.within import Within

STATE: Final = "joined"
"""Under which name a job's progress says which tables it joins, the first first."""
_FAR: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two tables: its files, and which of them have been read once the step is done."""

    table: Table
    files: tuple[Split, ...]
    position: SnapshotPosition | None

    @property
    def known(self) -> tuple[Split, ...]:
        """Those files."""
        end = self.position
        return () if end is None else tuple(one for one in self.files if end.covers(one.sequence, one.path))


@dataclass(frozen=True, slots=True)
class Joined:
    """What a step joins: the two tables in their order, and which of them, 0 or 1, it reads new rows of."""

    within: Within
    sides: tuple[Side, Side]
    new: int


def in_case(job: Job, tables: Sequence[Table]) -> Within:
    """The job's join with columns as the tables write them: a query may write them large or small.

    Raises UnknownName for a column that a table lacks, SchemaMismatch for a time that is none and a key that is of parts.
    """
    within = job.within
    assert within is not None, "the caller looked"
    left, right = tables
    times = (_time(job, left, within.left_time), _time(job, right, within.right_time))
    left_on = [_key(job, left, name) for name in within.left_on]
    right_on = [_key(job, right, name) for name in within.right_on]
    return within.over(left_on, right_on, times)


def columns_of_groups(plan: JobPlan, reads: Sequence[Source]) -> tuple[str, ...]:
    """The columns that a function which keeps rows without a match passes on. None of a query: it was looked at before."""
    within = plan.job.within
    if within is None or not within.keeps or plan.compiled is not None:
        return ()
    return in_case(plan.job, [source.table for source in reads]).group


def _named(job: Job, table: Table, name: str) -> str:
    names: list[str] = arrow_schema(table).names
    found = next((one for one in names if one == name), None) or next(
        (one for one in names if one.lower() == name.lower()), None
    )
    if found is None:
        raise UnknownName(f"column of {'.'.join(table.name())}, by which job {job.name!r} ({job.origin}) joins:", name, names)
    return found


def _key(job: Job, table: Table, name: str) -> str:
    found = _named(job, table, name)
    kind = arrow_schema(table).field(found).type
    if pa.types.is_nested(kind):
        raise SchemaMismatch(
            f"job {job.name!r} ({job.origin}) joins by column {found!r} of {'.'.join(table.name())}, which is {kind}; valid: a "
            "column of single values",
            next_step=f"join by its parts, or lakeflow run {job.name} --mode snapshot",
        )
    return found


def _time(job: Job, table: Table, name: str) -> str:
    found = _named(job, table, name)
    kind = arrow_schema(table).field(found).type
    if not pa.types.is_timestamp(kind) or kind.unit != "us":
        raise SchemaMismatch(
            f"job {job.name!r} ({job.origin}) joins within a bound on column {found!r} of {'.'.join(table.name())}, which is "
            f"{kind}; valid: a column of type TIMESTAMP(6) or TIMESTAMP_LTZ(6)",
            next_step=f"make one in the job or table before, or lakeflow run {job.name} --mode snapshot, which needs no bound",
        )
    return found


def interval_steps(
    job: Job, tables: Mapping[str, Table], start: str | None, caps: Caps, letters: Kept | None
) -> Iterator[Step]:
    """The steps up to the heads of both tables, each of new rows of one: those of the second table first, so that rows of the
    first meet all that is there. `tables` are by the parameters of the job, the first first.

    A step whose letters have landed and whose rows have not comes before all. Raises as `batches_of` does.
    """
    within = in_case(job, list(tables.values()))
    names = {parameter: source.table for parameter, source in job.inputs.items() if parameter in tables}
    progress = _begun(names, tables, start)
    known = start if start is None or len(JobProgress.loads(start, "").positions) > 1 else progress.dumps()
    again = _left_by(names, tables, start, letters)
    first, second = tables
    order = sorted((second, first), key=lambda parameter: parameter != again)
    batches = {
        one: list(batches_of(job, names[one], tables[one], known, caps, letters if one == again else None)) for one in order
    }
    if not any(batches.values()):
        return
    files = {parameter: splits_at(table, snapshot_at(table)) for parameter, table in tables.items()}
    for parameter in order:
        meets_nothing = parameter != first and progress.of(names[first]) is None
        for batch in _together(batches[parameter]) if meets_nothing and again is None else batches[parameter]:
            progress = progress.at(names[parameter], batch.end)
            left, right = (Side(table, files[one], progress.of(names[one])) for one, table in tables.items())
            reads = tuple(
                Source(one, table, batch.end.snapshot_id, batch.splits) if one == parameter else unread(one, table)
                for one, table in tables.items()
            )
            yield Step(reads, progress.dumps(), joined=Joined(within, (left, right), list(tables).index(parameter)))


def _together(batches: Sequence[Batch]) -> Sequence[Batch]:
    """One batch of several: where no row can meet them, nothing of them is read, and no cap is needed."""
    return batches and [replace(batches[-1], splits=tuple(split for batch in batches for split in batch.splits))]


def unread(parameter: str, table: Table) -> Source:
    """A table with none of its rows."""
    head = snapshot_at(table)
    return Source(parameter, table, head.snapshot_id if head else None, ())


def _begun(names: Mapping[str, str], tables: Mapping[str, Table], start: str | None) -> JobProgress:
    """The progress with a position in each of the tables that have one, under its name of now."""
    given = JobProgress.loads(start, next(iter(names.values())))
    found = {name: given.of(name, str(tables[parameter].metadata.table_uuid)) for parameter, name in names.items()}
    positions = {name: position for name, position in found.items() if position is not None}
    return JobProgress(positions, {**given.state, STATE: list(names.values())})


def _left_by(names: Mapping[str, str], tables: Mapping[str, Table], start: str | None, letters: Kept | None) -> str | None:
    """The table, by its parameter, of which the step with letters read new rows: the one in which it would have moved."""
    if letters is None or letters.start != start:
        return None
    before, after = _begun(names, tables, start), _begun(names, tables, letters.end)
    return next((one for one, name in names.items() if after.of(name) != before.of(name)), None)


@dataclass(frozen=True, slots=True)
class Met:
    """What a run of a join reads beside new rows, at the most: known files of both tables that may hold rows that meet them."""

    bound: str
    files: int
    bytes: int


def met(plan: JobPlan) -> Met | None:
    """For an incremental run of a join, by the bounds of files alone; None for any other. Each file counts once."""
    if plan.mode is not Mode.INCREMENTAL or plan.job.within is None:
        return None
    new = {split.path for step in plan.steps for source in step.reads for split in source.splits}
    found = {one.path: one.bytes for step in plan.steps for _, one in _reached(step) if one.path not in new}
    return Met(str(plan.job.within), len(found), sum(found.values()))


def with_known(step: Step) -> tuple[Source, ...]:
    """What a step reads of each table, as much at the most, by the bounds of files alone."""
    if step.joined is None:
        return step.reads
    known = list(_reached(step))
    return tuple(
        replace(one, splits=(*one.splits, *(split for table, split in known if table is one.table))) for one in step.reads
    )


def _reached(step: Step) -> Iterator[tuple[Table, Split]]:
    """The known files that may hold rows which meet new ones of the step, or come again with them."""
    joined = step.joined
    if joined is None:  # it makes rows of what is kept already
        return
    within, new = joined.within, joined.new
    times = (within.left_time, within.right_time)
    bounds = [TimeBounds(side.table, time) for side, time in zip(joined.sides, times, strict=True)]
    back, ahead = (within.before, within.after) if new == 0 else (within.after, within.before)
    spans = [bounds[new].span(split.task.file) for split in step.reads[new].splits]
    reach = {1 - new: _around(spans, back, ahead)}
    if within.keeps:  # rows of the first table that come again take all with them that they meet
        reach[new] = _around(spans, 0, 0) if new == 0 else _around(spans, back + within.before, ahead + within.after)
    for place, ranges in reach.items():
        table, new_ones = joined.sides[place].table, {split.path for split in step.reads[place].splits}
        for one in joined.sides[place].known:
            if one.path not in new_ones and bounds[place].may_hold(one.task.file, ranges):
                yield table, one


def _around(spans: Sequence[Range | None], before: int, after: int) -> tuple[Range, ...]:
    """The time that is in reach of spans; all of it where nothing tells of one."""
    known = [(span[0] - before, span[1] + after + 1) for span in spans if span is not None]
    if len(known) < len(spans):
        return ((-_FAR, _FAR),)
    return ranges_of(pl.DataFrame(known, schema={START: pl.Int64, END: pl.Int64}, orient="row"))
