"""Writes runs of small files anew as few, without changing a row or its place in the order of readers.

A run is read a row group at a time and written by the DataWriter, so memory holds one row group and the writer's buffer. A
commit takes some runs, and lands wherever their files are still live: appends that come first only make it try again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pyiceberg.manifest import DataFile, FileFormat
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Snapshot

from lakeflow.errors import CatalogUnavailable, CommitConflict, LakeflowError, SchemaMismatch, Terminal
from lakeflow.lake.catalog import Lake, arrow_schema
from lakeflow.lake.commit import Change, CommitProtocol
from lakeflow.lake.compact_change import Rewrite
from lakeflow.lake.compact_plan import Piece, Readers, Run, Sizes, runs
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.iceberg import delete_files, have_deletes, live_files, manifests_of
from lakeflow.lake.manifests import LiveFile, small_manifests
from lakeflow.lake.read import Split, is_read_by_id, read
from lakeflow.lake.write import DataWriter

logger = logging.getLogger("lakeflow.lake")

COMMIT_FILES = 1000
COMMIT_BYTES = 1 << 30
"""Of files that one commit takes away, so that little is lost where it cannot land."""
WRITTEN_FORMAT = 2
"""The version of Iceberg's format whose manifests PyIceberg writes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be compacted, of a table that stood at the sequence number `planned_at`. `left` says what is left, and why."""

    runs: tuple[Run, ...] = ()
    planned_at: int = 0
    left: tuple[str, ...] = ()

    @property
    def files(self) -> int:
        return sum(len(run.pieces) for run in self.runs)


@dataclass(frozen=True, slots=True)
class Compacted:
    """What was compacted: files and bytes before and after, and the snapshots that were made."""

    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    snapshots: tuple[int, ...] = ()
    left: tuple[str, ...] = ()

    def __add__(self, other: Compacted) -> Compacted:
        return Compacted(
            self.files_before + other.files_before,
            self.files_after + other.files_after,
            self.bytes_before + other.bytes_before,
            self.bytes_after + other.bytes_after,
            self.snapshots + other.snapshots,
            self.left + other.left,
        )


def plan_compaction(table: Table, readers: Readers, sizes: Sizes) -> Plan:
    """Which files are compacted now. Memory holds a few words of every live file.

    Files with row-level deletes of other engines, of another partition spec than the table's, that are no Parquet or
    are encrypted stay as they are.
    """
    head = table.current_snapshot()
    if head is None:
        return Plan()
    if (reason := _unwritable(table)) is not None:
        return Plan(left=(reason,))
    name = ".".join(table.name())
    with lake_errors(f"table {name}"):
        deleted = _with_deletes(table, head)
        if deleted is None:
            return Plan(left=("rows are deleted by keys, which cannot be read here",))
        pieces = [_piece(table, live, deleted) for live in live_files(table, head)]
    found = runs(pieces, readers, sizes)
    left = tuple(f"nothing is compacted before {reader} has read the table" for reader in readers.unread)
    return Plan(found, head.sequence_number or 0, left)


def _unwritable(table: Table) -> str | None:
    version = table.metadata.format_version
    return None if version == WRITTEN_FORMAT else f"it is of Iceberg's format version {version}; only 2 is written"


def _with_deletes(table: Table, head: Snapshot) -> set[str] | None:
    """The data files of which rows are deleted by delete files; None where PyIceberg cannot tell."""
    if not have_deletes(manifests_of(table, head)):
        return set()
    try:
        tasks = table.scan(snapshot_id=head.snapshot_id).plan_files()
        return {task.file.file_path for task in tasks if task.delete_files}
    except ValueError as error:
        logger.info("table %s: %s", ".".join(table.name()), error)
        return None


def _piece(table: Table, live: LiveFile, deleted: set[str]) -> Piece:
    file = live.data_file
    movable = (
        file.file_path not in deleted
        and file.file_format is FileFormat.PARQUET
        and file.spec_id == table.metadata.default_spec_id
        and not file.key_metadata
    )
    return Piece(live.sequence, file.file_path, file.file_size_in_bytes, (file.spec_id, *file.partition._data), movable)


def compact(
    lake: Lake,
    commits: CommitProtocol,
    name: str,
    plan: Plan,
    sizes: Sizes,
    *,
    buffer_bytes: int = 64 << 20,
    stop: Callable[[], bool] = lambda: False,
) -> Compacted:
    """Carry a plan out, some runs a commit. What another commit took first is left for the next time, and said.

    Raises CatalogUnavailable, StorageUnavailable and StorageFull; the table is then as its last commit left it.
    """
    done = Compacted(left=plan.left)
    for some in batches(plan.runs):
        if stop():
            break
        done += _Rewriting(lake, commits, name, plan.planned_at, sizes, buffer_bytes, stop).carry_out(some)
    return done


def batches(found: Sequence[Run], most_files: int = COMMIT_FILES, most_bytes: int = COMMIT_BYTES) -> Iterator[tuple[Run, ...]]:
    """The runs in groups of a commit each, one at the least."""
    pending: list[Run] = []
    files = size = 0
    for run in found:
        if pending and (files + len(run.pieces) > most_files or size + run.bytes > most_bytes):
            yield tuple(pending)
            pending, files, size = [], 0, 0
        pending.append(run)
        files, size = files + len(run.pieces), size + run.bytes
    if pending:
        yield tuple(pending)


@dataclass(frozen=True, slots=True)
class _Rewriting:
    """One commit of a compaction."""

    lake: Lake
    commits: CommitProtocol
    name: str
    planned_at: int
    sizes: Sizes
    buffer_bytes: int
    stop: Callable[[], bool]

    def carry_out(self, some: Sequence[Run]) -> Compacted:
        table = self.lake.table(self.name)
        live = self._live(table, some)
        left: list[str] = []
        made: dict[str, tuple[int, DataFile]] = {}
        taken: list[Run] = []
        try:
            for run in some:
                if self.stop():
                    break
                if (reason := _not_exact(table, run, live)) is not None:
                    left.append(reason)
                    continue
                for file in self._rewritten(table, run, live):
                    made[file.file_path] = (run.span.high, file)
                taken.append(run)
        except BaseException:
            self._discard(table, list(made))
            raise
        return self._committed(table, taken, live, made, left) if taken else Compacted(left=tuple(left))

    def _live(self, table: Table, some: Sequence[Run]) -> dict[str, LiveFile]:
        wanted = {piece.path for run in some for piece in run.pieces}
        head = table.current_snapshot()
        with lake_errors(f"table {self.name}"):
            found = [live for live in live_files(table, head) if live.data_file.file_path in wanted] if head else []
        return {live.data_file.file_path: live for live in found}

    def _rewritten(self, table: Table, run: Run, live: dict[str, LiveFile]) -> tuple[DataFile, ...]:
        """The files that hold the rows of the run, in the order of their rows."""
        splits = _splits(run, live)
        writer = DataWriter(table, target_file_bytes=self.sizes.target_bytes, buffer_bytes=self.buffer_bytes)
        files: tuple[DataFile, ...] = ()
        try:
            for batch in read(table, splits):
                writer.write(batch)
            files = writer.finish()
            _require_same(self.name, splits, files)
        except BaseException:
            self._discard(table, [file.file_path for file in files])
            writer.abort()
            raise
        return files

    def _committed(
        self,
        table: Table,
        taken: Sequence[Run],
        live: dict[str, LiveFile],
        made: dict[str, tuple[int, DataFile]],
        left: list[str],
    ) -> Compacted:
        sequences = {path: high for path, (high, _) in made.items()}
        added = tuple(file for _, file in made.values())
        removed = tuple(live[piece.path].data_file for run in taken for piece in run.pieces)
        spans = tuple(dict.fromkeys(run.span for run in taken))
        change = Change(
            self.name,
            added,
            removed,
            rewrite=Rewrite(sequences, spans, self.planned_at),
            table_uuid=str(table.metadata.table_uuid),
        )
        try:
            landed = self.commits.commit(change)
        except CommitConflict as error:
            return Compacted(left=(*left, f"{len(removed)} files are left for next time: {error.message}"))
        except SchemaMismatch as error:
            self._discard(table, list(made))
            return Compacted(left=(*left, f"{len(removed)} files are left for next time: {error.message}"))
        except CatalogUnavailable as error:
            logger.warning("a compaction of %s is not known to have landed: %s", self.name, error.message)
            return Compacted(left=(*left, f"{len(removed)} files are left for next time: {error.message}"))
        before = sum(file.file_size_in_bytes for file in removed)
        after = sum(file.file_size_in_bytes for file in added)
        return Compacted(len(removed), len(added), before, after, (landed.snapshot_id,), tuple(left))

    def _discard(self, table: Table, paths: Sequence[str]) -> None:
        """Take away files that no commit was asked to take. The error that led here says more than one of its own."""
        try:
            with lake_errors(f"table {self.name}"):
                delete_files(table.io, paths)
        except LakeflowError as error:
            logger.warning("%d files of a compaction of %s are left behind: %s", len(paths), self.name, error.message)


def _not_exact(table: Table, run: Run, live: dict[str, LiveFile]) -> str | None:
    """Why a run cannot be written anew as it is."""
    if missing := [piece.path for piece in run.pieces if piece.path not in live]:
        return f"{len(run.pieces)} files are left for next time: {len(missing)} of them are no longer in the table"
    # Where columns are not found by id, PyIceberg's reader maps them, and reads a list of structs that is null as an empty one.
    if not any(_holds_list(field.type) for field in arrow_schema(table)):
        return None
    if all(is_read_by_id(table, split) for split in _splits(run, live)):
        return None
    return f"{len(run.pieces)} files are left: their columns are not found by field id, and they hold lists of structs"


def _splits(run: Run, live: dict[str, LiveFile]) -> list[Split]:
    return [Split(piece.sequence, FileScanTask(live[piece.path].data_file)) for piece in run.pieces]


def _holds_list(kind: pa.DataType) -> bool:
    if pa.types.is_map(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return True
    return pa.types.is_struct(kind) and any(_holds_list(field.type) for field in kind)


def _require_same(name: str, splits: Sequence[Split], files: Sequence[DataFile]) -> None:
    """The new files hold as many rows of the same partition as the old ones, and are named in the order of their rows."""
    read_rows, written_rows = sum(split.rows for split in splits), sum(file.record_count for file in files)
    places = {tuple(split.task.file.partition._data) for split in splits} | {tuple(file.partition._data) for file in files}
    paths = [file.file_path for file in files]
    if read_rows != written_rows or len(places) != 1 or paths != sorted(paths):
        raise Terminal(
            f"a compaction of table {name} made {written_rows} rows in {len(files)} files of {read_rows} in {len(splits)}, "
            f"in {len(places)} partitions",
            left_behind="the table, as it was",
            next_step=f"lakeflow tables show {name}; a data file may be damaged",
        )


def merge_manifests(lake: Lake, commits: CommitProtocol, name: str, most: int) -> tuple[int, ...]:
    """Merge the manifests of a table where more than `most` are small; the snapshot that was made, if one was."""
    table = lake.table(name)
    head = table.current_snapshot()
    if head is None or _unwritable(table) is not None:
        return ()
    with lake_errors(f"table {name}"):
        if small_manifests(table, head) <= most:
            return ()
    change = Change(name, rewrite=Rewrite({}, (), head.sequence_number or 0), table_uuid=str(table.metadata.table_uuid))
    try:
        return (commits.commit(change).snapshot_id,)
    except CommitConflict as error:
        logger.info("manifests of %s are left for next time: %s", name, error.message)
        return ()
