"""How the rows of a backfill meet those of the target, and which jobs can have one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import pyarrow as pa

from lakeflow.errors import UsageError
from lakeflow.job import Job, Mode, Read, SqlQuery, is_keyed
from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.ranges import ValueRange
from lakeflow.lake.schema import require_columns
from lakeflow.runner.backfill_range import Range
from lakeflow.window import Session


@dataclass(frozen=True, slots=True)
class InRange:
    """Of a job that appends: its rows take the place of all that the target holds of the range, by its own `column`."""

    column: str

    def of(self, within: Range) -> ValueRange:
        """The range as one of the target."""
        assert isinstance(within, ValueRange), "refused before"
        return replace(within, column=self.column)


@dataclass(frozen=True, slots=True)
class ByKey:
    """The rows of whole keys take the place of those of the target. `columns` are the key's in the table that is read."""

    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ByWindow:
    """Whole windows take the place of those of the target."""


Landing: TypeAlias = InRange | ByKey | ByWindow


def landing_of(job: Job, within: Range, source: Table, target: Table) -> Landing:
    """How rows land. Raises UsageError for a job of which no part can be made anew, with what to do instead."""
    require_parts(job)
    if job.windowed is not None:
        return ByWindow()
    if job.by:
        require_columns(job.by, arrow_schema(source), ".".join(source.name()))
        return ByKey(job.by)
    if job.key:
        return ByKey(_key_from(job, source, target))
    if not isinstance(within, ValueRange):
        raise UsageError(
            f"job {job.name!r} ({job.origin}) appends, and {job.target} does not tell which rows came of which snapshots",
            next_step=f"name a range of a column: --from COLUMN=VALUE; or lakeflow run {job.name} --full-refresh",
        )
    return InRange(_into(job, within.column, source, target))


def require_parts(job: Job) -> None:
    """Raises UsageError for a job that makes its rows of more than a range, its windows or its keys."""
    if job.mode is Mode.SNAPSHOT:
        raise UsageError(
            f"job {job.name!r} ({job.origin}) reads its whole table at each run, so that no part of it is made anew",
            next_step=f"lakeflow run {job.name}",
        )
    reads = [source.table for source in job.inputs.values() if isinstance(source, Read)]
    if is_keyed(job):
        raise _whole(job, "keeps groups or ranks of all rows between its runs")
    if job.history is not None:
        raise _whole(job, "keeps every version of a key, which does not forget what was once said of it")
    if len(reads) != 1:
        raise _whole(job, f"reads {len(reads)} tables incrementally ({', '.join(reads)})")
    if job.windowed is not None and not job.windowed.follows:
        what = "works by sessions" if isinstance(job.windowed.window, Session) else "closes windows by a watermark"
        raise _whole(job, f"{what}, which depend on rows outside of any range")


def _whole(job: Job, why: str) -> UsageError:
    return UsageError(
        f"job {job.name!r} ({job.origin}) {why}: a part of it cannot be made anew",
        next_step=f"lakeflow run {job.name} --full-refresh, which makes all of it anew",
    )


def _key_from(job: Job, source: Table, target: Table) -> tuple[str, ...]:
    """The columns of the source that are the job's key. Without them, which rows a key has could not be told."""
    if job.key_from:
        return job.key_from
    passed = [_source_of(job, column, source, target) for column in job.key]
    found = tuple(column for column in passed if column is not None)
    if len(found) != len(job.key):
        computed = ", ".join(column for column, origin in zip(job.key, passed, strict=True) if origin is None)
        raise _whole(job, f"merges by {computed}, which it does not pass on of {'.'.join(source.name())}")
    return found


def _into(job: Job, column: str, source: Table, target: Table) -> str:
    """The column of the target that a column of the source is passed on as."""
    schema, into = arrow_schema(source), arrow_schema(target)
    found: str | None = next((name for name in into.names if _source_of(job, name, source, target) == column), None)
    if found is None:
        raise UsageError(
            f"job {job.name!r} ({job.origin}) appends to {job.target}, and passes no column on that is {column} of "
            f"{'.'.join(source.name())}: which rows of the range are there cannot be told",
            next_step=f"name another column: --from COLUMN=VALUE; pass {column} on; or lakeflow run {job.name} --full-refresh",
        )
    given, wanted = schema.field(column).type, into.field(found).type
    if _order(given) != _order(wanted):
        raise UsageError(
            f"column {column!r} of {'.'.join(source.name())} is {given}, and {found!r} of {job.target} is {wanted}: a range of "
            "one is none of the other",
            next_step=f"name another column: --from COLUMN=VALUE; or lakeflow run {job.name} --full-refresh",
        )
    return found


def _order(kind: pa.DataType) -> str:
    """What types have alike whose values are ordered alike."""
    if pa.types.is_timestamp(kind):
        return f"time in {kind.unit}"
    if pa.types.is_integer(kind):
        return "integer"
    text: bool = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return "text" if text else f"{kind}"


def _source_of(job: Job, column: str, source: Table, target: Table) -> str | None:
    """Which column of the source a column of the target is, passed on unchanged; None: it is computed, as far as is known.

    A function passes columns on under their names; what it hands over is held against the range or the keys as it runs.
    """
    names = arrow_schema(source).names
    if not isinstance(job.body, SqlQuery):
        return column if column in names else None
    from lakeflow.sql.passed import passed_columns

    passed = passed_columns(job.body.text)
    wanted = list(job.body.columns) or list(arrow_schema(target).names)
    if passed is None:
        return column if column in names else None
    if column not in wanted or len(wanted) != len(passed):
        return None
    origin = passed[wanted.index(column)][1]
    return _same(origin, names) if origin is not None else None


def _same(name: str, names: Sequence[str]) -> str | None:
    """The name as the table has it: a query may write it large or small."""
    return next((one for one in names if one.lower() == name.lower()), None)
