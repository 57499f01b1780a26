"""What `--from`, `--to` and `--chunk` mean: a range of rows of the table that a job reads, cut into chunks. Metadata only.

A range is half-open, [from, to). It is of a column's values (of time, of a partition, of any that has an order), or of commits:
what was appended after one snapshot, up to and with another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final, TypeAlias

import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.errors import UnknownName, UsageError
from lakeflow.job import Job
from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.prune import column_bounds
from lakeflow.lake.ranges import Value, ValueRange, partition_columns
from lakeflow.lake.read import Split, snapshot_at
from lakeflow.window import microseconds

CHUNK_BYTES: Final = 512 << 20
"""Of data files, about, in a chunk where nothing else is asked for."""
MOST_CHUNKS: Final = 1000
SNAPSHOT: Final = "snapshot"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = 86_400_000_000
_PART_OF_DATE = re.compile(r"(\d{4})(?:-(\d{2}))?")
_FILES = re.compile(r"([0-9]{1,9})\s*(?:files?)?")


@dataclass(frozen=True, slots=True)
class CommitRange:
    """The files of a snapshot whose sequence numbers are greater than `after` and not greater than `upto`."""

    snapshot_id: int
    after: int
    upto: int


Range: TypeAlias = ValueRange | CommitRange


@dataclass(frozen=True, slots=True)
class Asked:
    """What a backfill is asked for, as texts: of the command line. None: not said."""

    start: str | None = None
    end: str | None = None
    chunk: str | None = None

    @property
    def given(self) -> bool:
        return self.start is not None or self.end is not None

    def __str__(self) -> str:
        ends = (("from", self.start), ("to", self.end), ("by", self.chunk))
        return " ".join(f"{word} {text}" for word, text in ends if text is not None)


def range_of(asked: Asked, job: Job, table: Table, declared: TableSpec | None, read_up_to: int) -> Range:
    """The range that is asked for, of the rows of `table`. `read_up_to` is the snapshot up to which the job has read it.

    Raises UsageError where it means nothing, UnknownName for a column or snapshot that is not there.
    """
    (named, low), (other, high) = _split(asked.start), _split(asked.end)
    named, other = named or other, other or named
    if named != other:
        raise UsageError(f"--from is of {named}, and --to of {other}; valid: both of one column, or both of snapshots")
    if named == SNAPSHOT:
        return _of_commits(low, high, table, read_up_to)
    column = _default_column(job, table, declared) if named is None else _named_column(named, table)
    kind = arrow_schema(table).field(column).type
    first, last = (None if text is None else value_of(text, kind, column) for text in (low, high))
    if first is not None and last is not None and first >= last:  # type: ignore[operator]  # both are of the column's type
        raise UsageError(f"nothing is at {low} or behind it and before {high}", next_step="name a later end: --to")
    return ValueRange(column, first, last)


def _split(text: str | None) -> tuple[str | None, str | None]:
    if text is None:
        return None, None
    name, sign, value = (part.strip() for part in text.partition("="))
    if sign and not name:
        raise UsageError(f"{text!r} names no column; valid: a time, COLUMN=VALUE, or {SNAPSHOT}=ID")
    return (name, value) if sign else (None, name)


def _of_commits(low: str | None, high: str | None, table: Table, read_up_to: int) -> CommitRange:
    upto = _snapshot(high, table) if high is not None else read_up_to
    end = snapshot_at(table, snapshot_id=upto)
    start = None if low is None else snapshot_at(table, snapshot_id=_snapshot(low, table))
    assert end is not None, "it raises for one that is not there"
    after = (start.sequence_number or 0) if start is not None else 0
    if after >= (end.sequence_number or 0):
        raise UsageError(f"snapshot {upto} of {'.'.join(table.name())} is not after snapshot {low}")
    return CommitRange(upto, after, end.sequence_number or 0)


def _snapshot(text: str, table: Table) -> int:
    if not (text.isascii() and text.isdigit()):
        raise UsageError(
            f"{SNAPSHOT}={text} names no snapshot; valid: its id, a whole number",
            next_step=f"lakeflow tables show {'.'.join(table.name())}",
        )
    return int(text)


def _named_column(name: str, table: Table) -> str:
    """The column of that name, or that a field of the table's partitioning of that name is of."""
    columns = arrow_schema(table).names
    if name in columns:
        return name
    parted = partition_columns(table)
    if name in parted:
        return parted[name]
    raise UnknownName(f"column of {'.'.join(table.name())}", name, [*columns, *parted, SNAPSHOT])


def _default_column(job: Job, table: Table, declared: TableSpec | None) -> str:
    """The column of time that a moment without a name is of: that of the job's windows, of the table's watermark, of its
    partitioning, or the only one that there is."""
    schema = arrow_schema(table)
    timed = [field.name for field in schema if pa.types.is_timestamp(field.type) or pa.types.is_date(field.type)]
    if job.windowed is not None:
        return job.windowed.window.column
    if declared is not None and declared.watermark is not None:
        return declared.watermark.column
    found = {name for name in partition_columns(table).values() if name in timed} or set(timed)
    if len(found) != 1:
        raise UsageError(
            f"table {'.'.join(table.name())} has {len(timed)} columns of time ({', '.join(timed)}): which one --from and --to "
            "are of cannot be told",
            next_step="name it: --from COLUMN=VALUE --to COLUMN=VALUE; of commits: --from snapshot=ID",
        )
    return found.pop()


def value_of(text: str, kind: pa.DataType, column: str) -> Value:
    """The value that a text means for a column of this type. A moment without a zone is UTC; a year or a month is its first
    moment. Raises UsageError."""
    try:
        if pa.types.is_timestamp(kind) and kind.unit == "us":
            return (_moment(text) - _EPOCH) // timedelta(microseconds=1)
        if pa.types.is_date(kind):
            return _whole_days(_moment(text) - _EPOCH)
        if pa.types.is_integer(kind):
            return int(text)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{text!r} is no value of column {column!r}, which is {kind}: {error}") from error
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return text
    raise UsageError(
        f"column {column!r} is {kind}, of which no range is taken; valid: TIMESTAMP(6), TIMESTAMP_LTZ(6), DATE, whole numbers "
        "and STRING"
    )


def _moment(text: str) -> datetime:
    if (part := _PART_OF_DATE.fullmatch(text)) is not None:
        return datetime(int(part[1]), int(part[2] or 1), 1, tzinfo=UTC)
    found = datetime.fromisoformat(text)
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _whole_days(since: timedelta) -> int:
    days, rest = divmod(since, timedelta(days=1))
    if rest:
        raise ValueError("it is within a day, in UTC; wanted a day, such as 2013-01-01")
    return days


def text_of(value: Value, kind: pa.DataType) -> str:
    """The inverse of `value_of`."""
    if pa.types.is_timestamp(kind) and isinstance(value, int):
        return (_EPOCH + timedelta(microseconds=value)).replace(tzinfo=None if kind.tz is None else UTC).isoformat()
    if pa.types.is_date(kind) and isinstance(value, int):
        return (date(1970, 1, 1) + timedelta(days=value)).isoformat()
    return str(value)


def chunks_of(within: Range, chunk: str | None, table: Table, splits: Sequence[Split]) -> tuple[Range, ...]:
    """The range, cut: by a length of time, by a number of files, or into about CHUNK_BYTES of files. Each row is in one.

    `splits` are the files that may hold its rows. Raises UsageError for a chunk that means nothing here, and for too many.
    """
    full = _full(chunk)
    if isinstance(within, CommitRange):
        if full is None:
            raise UsageError(f"--chunk is {chunk!r}, and commits are cut by files; valid: a number of files, such as 8")
        ordered = sorted(splits, key=lambda split: (split.sequence, split.path))
        edges: Sequence[Value] = list(_cut(ordered, full, lambda split: split.sequence - 1, within.after))
    elif full is None:
        edges = list(_steps(within, chunk or "", table, splits))
    else:
        edges = list(_by_files(within, full, table, splits))
    if len(edges) + 1 > MOST_CHUNKS:
        raise UsageError(
            f"--chunk {chunk or ''} makes {len(edges) + 1} chunks; valid: {MOST_CHUNKS} at the most",
            next_step="name a longer chunk: --chunk 1d",
        )
    return tuple(_between(within, edges))


def _between(within: Range, edges: Sequence[Value]) -> Iterator[Range]:
    if isinstance(within, CommitRange):
        numbers = [within.after, *(int(edge) for edge in edges), within.upto]
        for after, upto in pairwise(numbers):
            yield replace(within, after=after, upto=upto)
        return
    bounds = [within.low, *edges, within.high]
    for low, high in pairwise(bounds):
        yield ValueRange(within.column, low, high)


def _full(chunk: str | None) -> Callable[[int, int], bool] | None:
    """Whether a chunk of so many files and bytes takes no more; None where it is cut by a length of time."""
    if chunk is None:
        return lambda files, size: size >= CHUNK_BYTES
    found = _FILES.fullmatch(chunk.strip())
    if found is None:
        return None
    most = int(found[1])
    if most == 0:
        raise UsageError("--chunk is 0 files; valid: 1 and more, or a length of time such as 1d")
    return lambda files, size: files >= most


def _by_files(within: ValueRange, full: Callable[[int, int], bool], table: Table, splits: Sequence[Split]) -> Iterator[Value]:
    """Edges at the least values of files."""
    bounds = column_bounds(table, within.column)
    known = [(bounds(split.task.file).low, split) for split in splits]
    ordered = sorted((one for one in known if one[0] is not None), key=lambda one: (one[0], one[1].path))
    lows = {split.path: low for low, split in ordered}
    for edge in _cut([split for _, split in ordered], full, lambda split: lows[split.path], within.low):
        if within.high is None or edge < within.high:  # type: ignore[operator]  # both are of the column's type
            yield edge


def _cut(
    splits: Sequence[Split], full: Callable[[int, int], bool], begins: Callable[[Split], Value], low: Value | None
) -> Iterator[Value]:
    """Where the next chunk begins, each time that one is full. Edges ascend and are behind `low`."""
    files = size = 0
    for split in splits:
        value = begins(split)
        if files and full(files, size) and (low is None or value > low):  # type: ignore[operator]
            yield value
            low, files, size = value, 0, 0
        files, size = files + 1, size + split.bytes


def _steps(within: ValueRange, chunk: str, table: Table, splits: Sequence[Split]) -> Iterator[Value]:
    """Edges at multiples of a length of time: from the start of the range where it has one, else from 1970 on."""
    kind = arrow_schema(table).field(within.column).type
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise UsageError(
            f"--chunk is {chunk!r}, and column {within.column!r} is {kind} and no time; valid: a number of files, such as 8"
        )
    length = microseconds(chunk, "--chunk")
    if pa.types.is_date(kind):
        if length % _DAY:
            raise UsageError(f"--chunk is {chunk!r}, and column {within.column!r} is a DATE; valid: whole days, such as 1d")
        length //= _DAY
    if length <= 0:
        raise UsageError(f"--chunk is {chunk!r}; valid: a length of time such as 1d, or a number of files")
    bounds = column_bounds(table, within.column)
    held = [bounds(split.task.file) for split in splits]
    lows = [int(one.low) for one in held if one.low is not None]
    highs = [int(one.high) + 1 for one in held if one.high is not None]
    if not lows or not highs:
        return
    begin = min(lows) // length * length if within.low is None else int(within.low)
    end = max(highs) if within.high is None else min(int(within.high), max(highs))
    first = max(1, (min(lows) - begin) // length)
    for number in range(first, first + MOST_CHUNKS + 1):
        if (edge := begin + number * length) >= end:
            return
        yield edge
