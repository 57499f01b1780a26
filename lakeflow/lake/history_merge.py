"""Merges statements into a table that keeps every version of a key: copy on write of the files whose versions change.

What a statement changes is found among the versions of its key that end no earlier than the earliest statement of the
merge, and among the idle statements (versions_of_keys.py) of the key since then, which a table beside the target keeps. Both
are split by a hash of the key, as the statements are, so that memory holds a part of them; files are chosen by prune.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakeflow.errors import SchemaMismatch
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.latest import require_keys
from lakeflow.lake.prune import reaches
from lakeflow.lake.read import Split, snapshot_at, splits_at
from lakeflow.lake.schema import fit, require_columns
from lakeflow.lake.spool import HELD_BYTES, RowSpool
from lakeflow.lake.touch import Touching, frame
from lakeflow.lake.versions_of_keys import Names, difference, judged, statements_of
from lakeflow.lake.write import DataWriter

_PLACE = "__at"


@dataclass(frozen=True, slots=True)
class Versioned:
    """What a merge came to: files to add, files to remove, the snapshot it was computed against; versions that were not there
    before, and versions that changed or went."""

    add: tuple[DataFile, ...]
    remove: tuple[DataFile, ...]
    base: int | None
    opened: int
    changed: int
    replaces_all: bool = False

    def summary(self) -> Mapping[str, str]:
        """As facts of a commit's summary."""
        return {"lakeflow.versions-opened": str(self.opened), "lakeflow.versions-changed": str(self.changed)}


class _Parts:
    """Rows that wait, all of a key in one of `count` spools."""

    def __init__(self, schema: pa.Schema, key: Sequence[str], count: int, folder: Path) -> None:
        self._key = list(key)
        self._spools = [RowSpool(schema, folder, held_bytes=HELD_BYTES // count) for _ in range(count)]

    def write(self, rows: pa.Table) -> None:
        if len(self._spools) == 1:
            self._spools[0].write(rows)
            return
        places = frame(rows.select(self._key)).hash_rows().rename("place") % len(self._spools)
        for place, chosen in places.to_frame().with_row_index("row").group_by("place", maintain_order=True):
            self._spools[int(str(place[0]))].write(rows.take(chosen["row"].to_arrow()))

    def tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        for spool in self._spools:
            yield pa.concat_tables([schema.empty_table(), *spool.batches()])

    def close(self) -> None:
        for spool in self._spools:
            spool.close()


class HistoryMerge:
    """Collects the statements of one commit, then makes versions of them and of what the table holds.

    Statements are rows of the target; one by which a key ceases has `until` equal to `since`. `idle` is the table of idle
    statements, of the same columns; None: whatever both tables hold is replaced. `merge` may be called again after
    `table.refresh()`. Memory holds the keys of the statements, and of `parts` parts of all that is known of these keys one.
    """

    def __init__(
        self,
        table: Table,
        idle: Table | None,
        names: Names,
        idle_writer: Callable[[], DataWriter],
        folder: Path | None = None,
        parts: int = 1,
    ) -> None:
        self._table, self._idle, self._names = table, idle, names
        self._idle_writer = idle_writer
        self._name = ".".join(table.name())
        self._schema = arrow_schema(table)
        require_columns([*names.version, names.until, *names.values], self._schema, self._name)
        self._held = ExitStack()
        self._folder = Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix="lakeflow-", dir=folder)))
        self._count = parts
        self._stated = self._parts(self._held)
        self._keys: list[pl.DataFrame] = []
        self._least: pl.Series | None = None
        self.rows = 0
        self.idle: tuple[DataFile, ...] = ()
        """After `merge`: files of idle statements for the table beside the target, to be committed before the outcome."""

    def _parts(self, held: ExitStack) -> _Parts:
        parts = _Parts(self._schema, self._names.key, self._count, self._folder)
        held.callback(parts.close)
        return parts

    def write(self, rows: pa.Table) -> None:
        """Take statements. Raises SchemaMismatch for rows that do not fit, whose key holds a null, or that say no moment."""
        rows = fit(rows, self._schema, self._name)
        if not rows.num_rows:
            return
        require_keys(rows, self._names.key, self._name)
        if nulls := rows.column(self._names.since).null_count:
            raise SchemaMismatch(
                f"{nulls} rows for table {self._name} do not say from when they are valid: {self._names.since!r} is null",
                left_behind="the table, as of the last run",
                next_step="filter them out in the job, or give them a moment",
            )
        self._stated.write(rows)
        known = frame(rows.select(self._names.version))
        least = known.select(pl.col(self._names.since).min())[self._names.since]
        self._least = least if self._least is None else pl.concat([self._least, least]).sort().head(1)
        if self._idle is not None:
            self._keys.append(known.select(self._names.key).unique())
        self.rows += rows.num_rows

    def merge(self, writer: DataWriter) -> Versioned:
        """Write the files of the merge against the table's current head, as `self` was given it or refreshed since."""
        head = snapshot_at(self._table)
        base = head.snapshot_id if head else None
        splits = splits_at(self._table, head)
        whole = self._idle is None
        idle_writer = self._idle_writer()
        with ExitStack() as held:
            held.callback(idle_writer.abort)
            versions, idle = self._parts(held), self._parts(held)
            if self._idle is not None and self._least is not None:
                self._known(self._table, splits, self._names.until, versions)
                with lake_errors(f"table {'.'.join(self._idle.name())}"):
                    self._idle.refresh()
                self._known(self._idle, splits_at(self._idle, snapshot_at(self._idle)), self._names.since, idle)
            opened, gone = self._write_parts(versions, idle, writer, idle_writer)
            self.idle = idle_writer.finish()
        remove = () if whole or not gone.height else self._survive(splits, gone, writer)
        return Versioned(writer.finish(), remove, base, opened, gone.height, replaces_all=whole)

    def close(self) -> None:
        """Delete what waits on disk."""
        self._held.close()

    def _known(self, table: Table, splits: Sequence[Split], moment: str, into: _Parts) -> None:
        """The rows of the statements' keys whose `moment` is the earliest statement's or later, or null."""
        assert self._least is not None, "the caller looked"
        late = reaches(table, moment, self._least)
        keys = pl.concat(self._keys).unique()
        touching = Touching(table, self._names.key, keys, nulls_equal=False)
        column = pl.col(moment)
        for touched in touching.among([split for split in splits if late(split.task.file)]):
            for rows in touching.rows(touched):
                chosen = frame(rows.select([moment])).select((column.is_null() | (column >= self._least[0])).alias(moment))
                into.write(fit(rows.filter(chosen[moment].to_arrow()), self._schema, self._name))

    def _write_parts(
        self, versions: _Parts, idle: _Parts, writer: DataWriter, idle_writer: DataWriter
    ) -> tuple[int, pl.DataFrame]:
        """Write what comes, part by part: how many versions are opened, and which ones of before go."""
        opened, gone = 0, []
        parts = zip(*(one.tables(self._schema) for one in (idle, versions, self._stated)), strict=True)
        for known, before, stated in parts:
            rows = pa.concat_tables([known, before, stated])
            places = frame(rows).with_row_index(_PLACE)
            held = places.slice(known.num_rows, before.num_rows)
            everything = pl.concat(
                [
                    places.head(known.num_rows),
                    statements_of(held, self._names),
                    places.tail(stated.num_rows),
                ]
            )
            made = judged(everything, self._names)
            found = difference(held, made.versions, self._names)
            writer.write(self._rows(rows, found.come))
            kept = difference(places.head(known.num_rows), everything[made.idle], self._names)
            idle_writer.write(self._rows(rows, kept.come))
            opened += found.opened
            gone.append(found.gone)
        return opened, pl.concat(gone)

    def _rows(self, rows: pa.Table, chosen: pl.DataFrame) -> pa.Table:
        """The rows at the places of `chosen`, valid from and until when it says."""
        taken = rows.take(chosen[_PLACE].to_arrow())
        for name in (self._names.since, self._names.until, self._names.current):
            if name is not None:
                field = self._schema.field(name)
                taken = taken.set_column(taken.schema.get_field_index(name), field, chosen[name].to_arrow().cast(field.type))
        return taken

    def _survive(self, splits: Sequence[Split], gone: pl.DataFrame, writer: DataWriter) -> tuple[DataFile, ...]:
        """Write what is left of the files that hold versions which go: these files."""
        touching = Touching(self._table, self._names.version, gone, nulls_equal=False)
        removed = []
        for touched in touching.among(splits):
            for survivors, _ in touching.survivors(touched):
                writer.write(survivors)
            removed.append(touched.split.task.file)
        return tuple(removed)
