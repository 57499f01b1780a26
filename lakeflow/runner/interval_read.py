"""What a step of a join within a bound has to read: new rows say by their keys and times which known rows they can meet, and
the bounds of files which of them may hold such rows.

Of an inner join these are new rows of the one table and known ones of the other. Where rows of the first table stay without a
match, all of them that are alike in the columns of the join and in time come and go together, as a group: a step makes the
groups anew that new rows of the first table are in, or that new rows of the second meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import polars as pl

from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.prune import Pruner
from lakeflow.lake.ranges import ValueRange
from lakeflow.lake.read import RowGroups, Split, read
from lakeflow.lake.time_bounds import Range, TimeBounds
from lakeflow.runner.frames import polars_schema
from lakeflow.runner.interval_plan import Joined
from lakeflow.runner.plan import Source, Step
from lakeflow.runner.window_frames import frame_of
from lakeflow.runner.windows import END, START, moments, ranges_of
from lakeflow.within import TIME

KEYS_AT_ONCE: Final = 1 << 20
"""So many keys are held against others at once; of more of them files are chosen by time alone."""
_LAST: Final = "__last"


@dataclass(frozen=True, slots=True)
class Meeting:
    """What a step reads of both tables, in their order. `groups` are those of the first table, by the columns of the join and
    time, whose rows in the target go; None: none goes. `is_empty` tells that no row can come of it."""

    reads: tuple[Source, Source]
    groups: pl.DataFrame | None
    is_empty: bool


def meeting(step: Step) -> Meeting:
    """What the step reads. Raises what reading raises."""
    joined = step.joined
    assert joined is not None, "the caller looked"
    return _Reader(joined, step.reads).groups() if joined.within.keeps else _Reader(joined, step.reads).pairs()


@dataclass(frozen=True, slots=True)
class _Columns:
    """A table of the join: its columns of the join, its time, and how far a row of it reaches: rows of the other table meet it
    from `low` to `high` of its time, in microseconds."""

    table: Table
    on: tuple[str, ...]
    time: str
    low: int
    high: int

    @property
    def group(self) -> list[str]:
        return list(dict.fromkeys((*self.on, self.time)))

    def groups(self, splits: Sequence[Split], row_groups: RowGroups | None = None) -> Iterator[pl.DataFrame]:
        """The distinct keys and times of files, a part of one at a time."""
        for batch in read(self.table, splits, self.group, row_groups):
            yield frame_of(batch).select(self.group).unique()


class _Reader:
    def __init__(self, joined: Joined, reads: tuple[Source, ...]) -> None:
        within = joined.within
        left, right = joined.sides
        self._joined = joined
        self._reads = reads
        self._left = _Columns(left.table, within.left_on, within.left_time, -within.before, within.after)
        self._right = _Columns(right.table, within.right_on, within.right_time, -within.after, within.before)

    def pairs(self) -> Meeting:
        """New rows of the one table, and the known files of the other that may hold rows which meet them."""
        sides = (self._left, self._right)
        new, other = sides[self._joined.new], sides[1 - self._joined.new]
        mine, theirs = self._reads[self._joined.new], self._reads[1 - self._joined.new]
        known, reach = self._joined.sides[1 - self._joined.new].known, None
        if known:
            rows = _all(new, mine.splits)
            known, reach = _reached(rows, new, other, known), _reach(rows, new, other)
        theirs = replace(theirs, splits=known, within=reach)
        return Meeting((mine, theirs) if self._joined.new == 0 else (theirs, mine), None, not known)

    def groups(self) -> Meeting:
        """The groups that the step touches: all rows of theirs of the first table, and of the second what they may meet."""
        new, (left, right) = self._reads[self._joined.new], self._joined.sides
        of_first = self._joined.new == 0
        found = _all(self._left, new.splits) if of_first else self._met(_all(self._right, new.splits), left.known)
        held = _holding(left.table, left.known, found)
        all_new = of_first and {one.path for one in held} <= {one.path for one in new.splits}
        first = replace(self._reads[0], splits=held, keys=None if all_new else found)
        known = _reached(found, self._left, self._right, right.known)
        second = replace(self._reads[1], splits=known, within=_reach(found, self._left, self._right))
        return Meeting((first, second), found, found.is_empty())

    def _met(self, new: pl.DataFrame, known: Sequence[Split]) -> pl.DataFrame:
        """The groups of known rows of the first table that rows of the second meet, at the least."""
        nothing = _all(self._left, ())
        if not known or new.is_empty():
            return nothing
        ranges = _ranges(new, self._right)
        bounds = TimeBounds(self._left.table, self._left.time)
        splits = _reached(new, self._right, self._left, known)
        found, waiting = [nothing], [nothing]
        for rows in self._left.groups(splits, lambda file: bounds.row_groups(file, ranges)):
            waiting.append(rows)
            if sum(one.height for one in waiting) > max(KEYS_AT_ONCE, new.height):
                found.append(_meets(pl.concat(waiting), self._left, new, self._right))
                waiting = [nothing]
        return pl.concat([*found, _meets(pl.concat(waiting), self._left, new, self._right)]).unique()


def _all(side: _Columns, splits: Sequence[Split]) -> pl.DataFrame:
    """The distinct keys and times of files, null ones among them."""
    schema = polars_schema(arrow_schema(side.table))
    nothing = pl.DataFrame(schema={name: schema[name] for name in side.group})
    return pl.concat([nothing, *side.groups(splits)]).unique()


def _meets(rows: pl.DataFrame, side: _Columns, new: pl.DataFrame, other: _Columns) -> pl.DataFrame:
    """Those of `rows` of one side that a row of `new` of the other meets. The latest row that is not past the end of a row's
    reach is looked at: if it is before its beginning, none is within. Columns of types that are not told to be alike here are
    left out, so that there may be too many."""
    pairs = [pair for pair in zip(side.on, other.on, strict=True) if _alike(rows.schema[pair[0]], new.schema[pair[1]])]
    keys = [f"__key{place}" for place in range(len(pairs))]
    theirs = new.select(
        *(pl.col(name).cast(rows.schema[own], strict=False).alias(key) for (own, name), key in zip(pairs, keys, strict=True)),
        moments(other.time).alias(TIME),
    )
    theirs = theirs.drop_nulls().unique().sort(TIME).with_columns(pl.col(TIME).alias(_LAST))
    mine = rows.drop_nulls().with_columns(
        *(pl.col(own).alias(key) for (own, _), key in zip(pairs, keys, strict=True)),
        (moments(side.time) + side.high).alias(TIME),
    )
    found = mine.sort(TIME).join_asof(theirs, on=TIME, by=keys or None, strategy="backward", check_sortedness=False)
    return found.filter(pl.col(_LAST) >= pl.col(TIME) - side.high + side.low).select(rows.columns)


def _alike(one: pl.DataType, other: pl.DataType) -> bool:
    """Whether values of two types are equal as SQL has it where they are after a cast."""
    return (one == other and not one.is_float()) or (one.is_integer() and other.is_integer())


def _ranges(new: pl.DataFrame, side: _Columns) -> tuple[Range, ...]:
    """The time in which rows meet those of `new`."""
    time = moments(side.time)
    return ranges_of(new.drop_nulls().select((time + side.low).alias(START), (time + side.high + 1).alias(END)).unique())


def _reach(new: pl.DataFrame, side: _Columns, other: _Columns) -> ValueRange | None:
    """The time from the first to the last row of the other table that may meet one of `new`; None: there is none."""
    ranges = _ranges(new, side)
    return ValueRange(other.time, ranges[0][0], ranges[-1][1]) if ranges else None


def _reached(new: pl.DataFrame, side: _Columns, other: _Columns, known: Sequence[Split]) -> tuple[Split, ...]:
    """The known files of the other table that may hold a row which meets one of `new`, by their bounds."""
    met, ranges = new.drop_nulls(), _ranges(new, side)
    bounds, schema = TimeBounds(other.table, other.time), polars_schema(arrow_schema(other.table))
    pairs = [pair for pair in zip(side.on, other.on, strict=True) if _alike(met.schema[pair[0]], schema[pair[1]])]
    by_name = {name: own for own, name in pairs}
    keys = met.select(pl.col(own).cast(schema[name], strict=False).alias(name) for name, own in by_name.items())
    keys = keys.drop_nulls().unique()
    pruner = Pruner(other.table, keys) if pairs and keys.height <= KEYS_AT_ONCE else None
    return tuple(
        split
        for split in known
        if bounds.may_hold(split.task.file, ranges) and (pruner is None or len(pruner.in_file(split.task.file)))
    )


def _holding(table: Table, known: Sequence[Split], groups: pl.DataFrame) -> tuple[Split, ...]:
    """The known files that may hold a row of one of the groups."""
    pruner = Pruner(table, groups)
    return tuple(split for split in known if len(pruner.in_file(split.task.file)))
