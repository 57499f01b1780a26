"""What a reader must read anew after a table changed: files added and files removed, net of what came and went. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Protocol, TypeVar, assert_never

from lakeflow.job import Caps
from lakeflow.lake.compact_spans import Span


class ChangeKind(StrEnum):
    """What a commit did: files came; files came in place of others; rows went; the same rows stand in other files."""

    APPEND = "append"
    OVERWRITE = "overwrite"
    DELETE = "delete"
    REPLACE = "replace"


class Sized(Protocol):
    """A data file: the commit that its rows are of, by sequence number, and how large it is."""

    @property
    def sequence(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def bytes(self) -> int: ...


File = TypeVar("File", bound=Sized)


@dataclass(frozen=True, slots=True)
class TableChange(Generic[File]):
    """One commit: its snapshot, its sequence number, the data files that it added and removed.

    `delete_files` is how many files came with it that delete single rows of others.
    """

    snapshot_id: int
    sequence: int
    kind: ChangeKind
    added: tuple[File, ...] = ()
    removed: tuple[File, ...] = ()
    delete_files: int = 0

    @property
    def keeps_rows(self) -> bool:
        """Whether no row went: an append, or the same rows in other files."""
        match self.kind:
            case ChangeKind.APPEND | ChangeKind.REPLACE:
                return True
            case ChangeKind.OVERWRITE | ChangeKind.DELETE:
                return False
            case _:
                assert_never(self.kind)


@dataclass(frozen=True, slots=True)
class NetChange(Generic[File]):
    """What became of a table between two of its snapshots, up to `snapshot_id` with the sequence number `sequence`.

    Both kinds of files are in the order of the table. A file that came and went in between is in neither.
    """

    snapshot_id: int
    sequence: int
    added: tuple[File, ...]
    removed: tuple[File, ...]


class SplitFiles(Exception):
    """A snapshot put files together of which a reader has read some and not the others, where it has passed already."""

    def __init__(self, snapshot_id: int, span: Span) -> None:
        super().__init__(snapshot_id, span)
        self.snapshot_id = snapshot_id
        self.span = span


@dataclass(slots=True)
class _Net(Generic[File]):
    """What came and went after the commit `since`, all of which and of what was before it has been read."""

    since: int
    added: dict[str, File] = field(default_factory=dict)
    removed: dict[str, File] = field(default_factory=dict)

    def after(self, change: TableChange[File]) -> _Net[File]:
        if change.kind is ChangeKind.REPLACE and self._passes(change):
            return self
        net = _Net(self.since, dict(self.added), dict(self.removed))
        for file in change.removed:
            if net.added.pop(file.path, None) is None:
                net.removed[file.path] = file
        net.added.update((file.path, file) for file in change.added)
        return net

    def _passes(self, change: TableChange[File]) -> bool:
        """Whether rows that have been read stand in other files now, at a place that has been read.

        Those of both kinds, at a place that has been read, would be taken in before rows that came earlier.
        """
        behind = {file.sequence <= self.since for file in change.added}
        if behind == {False}:
            return False
        unread = any(file.path in self.added for file in change.removed)
        if unread or len(behind) > 1:
            numbers = [file.sequence for file in (*change.removed, *change.added)]
            raise SplitFiles(change.snapshot_id, Span(min(numbers), max(numbers)))
        return True

    def exceeds(self, caps: Caps) -> bool:
        files = (*self.added.values(), *self.removed.values())
        return (
            (caps.files is not None and len(files) > caps.files)
            or (caps.rows is not None and sum(file.rows for file in files) > caps.rows)
            or (caps.bytes is not None and sum(file.bytes for file in files) > caps.bytes)
        )

    def up_to(self, last: TableChange[File]) -> NetChange[File]:
        return NetChange(last.snapshot_id, last.sequence, _ordered(self.added), _ordered(self.removed))


def _ordered(files: dict[str, File]) -> tuple[File, ...]:
    return tuple(sorted(files.values(), key=lambda file: (file.sequence, file.path)))


def net_changes(changes: Sequence[TableChange[File]], since: int, caps: Caps) -> Iterator[NetChange[File]]:
    """Changes in commit order, after the commit `since`, as few net changes within the caps as may be.

    Each ends with a commit and holds one at the least, so that after it the reader has what the table held then. Those that
    come to nothing are left out. Raises SplitFiles.
    """
    net: _Net[File] = _Net(since)
    for place, change in enumerate(changes):
        grown = net.after(change)
        if (net.added or net.removed) and grown is not net and grown.exceeds(caps):
            before = changes[place - 1]
            yield net.up_to(before)
            grown = _Net[File](before.sequence).after(change)
        net = grown
    if net.added or net.removed:
        yield net.up_to(changes[-1])
