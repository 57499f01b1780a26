"""Which small files of a table become one. Pure.

Readers go by (sequence number, path) of files, so a run of files is taken only where what replaces it stands at the same
place: whole commits, one after the other with nothing between, which every known reader has behind it. The new files take
the run's last sequence number.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from lakeflow.lake.compact_spans import Span
from lakeflow.progress import SnapshotPosition


@dataclass(frozen=True, slots=True)
class Piece:
    """A live data file. `movable` says whether its rows may be written elsewhere: no row-level deletes, the table's layout."""

    sequence: int
    path: str
    bytes: int
    partition: Hashable
    movable: bool = True


@dataclass(frozen=True, slots=True)
class Run:
    """Files of one partition to be written anew as one, in the order of their rows."""

    pieces: tuple[Piece, ...]

    @property
    def span(self) -> Span:
        return Span(self.pieces[0].sequence, self.pieces[-1].sequence)

    @property
    def bytes(self) -> int:
        return sum(piece.bytes for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Readers:
    """What is known of those who read a table incrementally.

    `positions` are theirs. `unread` names those that have not begun: until they have, no position of theirs can be told,
    and nothing is compacted. With `by_key`, one of them goes by the order of rows in the whole table, and not only within
    each partition. No run reaches over one of the `borders`, which are sequence numbers that something else goes by.
    """

    positions: tuple[SnapshotPosition, ...] = ()
    unread: tuple[str, ...] = ()
    by_key: bool = False
    borders: frozenset[int] = frozenset()

    def behind_all(self) -> int | None:
        """The sequence number up to which every reader has read everything; None where there is no reader."""
        done = [one.sequence if one.path is None else one.sequence - 1 for one in self.positions]
        if self.unread:
            return -1
        return min(done, default=None)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Files under `below_bytes` are compacted into files of about `target_bytes`, where `least_files` of them come together."""

    below_bytes: int
    target_bytes: int
    least_files: int = 4


def runs(pieces: Iterable[Piece], readers: Readers, sizes: Sizes) -> tuple[Run, ...]:
    """The runs to be written anew, in the order of the table."""
    ordered = sorted(pieces, key=lambda piece: (piece.sequence, piece.path))
    lines: dict[Hashable, list[Piece]] = {}
    for piece in ordered:
        lines.setdefault(None if readers.by_key else (piece.partition,), []).append(piece)
    found = [run for line in lines.values() for run in _runs_of(line, readers, sizes)]
    return tuple(sorted(found, key=lambda run: (run.span, run.pieces[0].path)))


def _runs_of(line: Sequence[Piece], readers: Readers, sizes: Sizes) -> Iterator[Run]:
    """Runs of whole commits of the line: within one, the order of new and old files would be that of their names."""
    last = readers.behind_all()
    pending: list[Piece] = []
    for sequence, group in groupby(line, key=lambda piece: piece.sequence):
        commit = tuple(group)
        fits = (last is None or sequence <= last) and all(_is_small(piece, commit[0], sizes) for piece in commit)
        if pending and not (fits and _goes_on(pending, commit, readers, sizes)):
            yield from _worth(pending, sizes)
            pending = []
        if fits:
            pending.extend(commit)
    yield from _worth(pending, sizes)


def _is_small(piece: Piece, first: Piece, sizes: Sizes) -> bool:
    return piece.movable and piece.bytes < sizes.below_bytes and piece.partition == first.partition


def _goes_on(pending: Sequence[Piece], commit: Sequence[Piece], readers: Readers, sizes: Sizes) -> bool:
    size = sum(piece.bytes for piece in (*pending, *commit))
    over = any(pending[0].sequence <= border < commit[0].sequence for border in readers.borders)
    return pending[0].partition == commit[0].partition and size <= sizes.target_bytes and not over


def _worth(pending: Sequence[Piece], sizes: Sizes) -> Iterator[Run]:
    run = Run(tuple(pending))
    files_after = -(-run.bytes // sizes.target_bytes)
    if len(pending) >= sizes.least_files and files_after < len(pending):
        yield run
