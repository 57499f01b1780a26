"""Reads lakeflow.dead_letters in bounded memory: the newest letters, and one of them whole."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import UnknownName, UsageError
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import CommitProtocol
from lakeflow.lake.letters import OF_JOBS
from lakeflow.lake.read import Split, read, snapshot_at, splits_at
from lakeflow.landing.dead_letters import DEAD_LETTERS, Place, Taken, letters_writer
from lakeflow.landing.replays import WRITER, Claims, Replays
from lakeflow.topics.source import TopicPartition

LISTED = ("table", "topic", "partition", "offset", "timestamp", "kind", "error", "rejected_at")
NAMED_NEARBY = 20
"""Letters that are named where one is asked for that is not there."""

Row = dict[str, Any]


class State(StrEnum):
    """What became of a letter: it waits for a replay, its row has been landed after all, or it is of an earlier table of
    its table's name, which nothing lands any more.
    """

    WAITING = "waiting"
    REPLAYED = "replayed"
    EARLIER = "earlier"
    KEPT = "kept"
    """Of a job: a row that a model gave no answer to. No replay lands it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters: of these tables (none: of all), of this kind, rejected at this time or later."""

    tables: tuple[str, ...] = ()
    kind: str | None = None
    since: datetime | None = None

    def among(self, letters: pa.RecordBatch) -> pa.RecordBatch:
        """The letters that are wanted. The batch has the columns that this looks at."""
        if self.tables:
            letters = letters.filter(pc.is_in(letters.column("table"), pa.array(self.tables)))
        if self.kind is not None:
            letters = letters.filter(pc.equal(letters.column("kind"), self.kind))
        if self.since is not None:
            at = letters.column("rejected_at")
            letters = letters.filter(pc.greater_equal(at, pa.scalar(self.since, at.type)))
        return letters


def newest_letters(lake: Lake, commits: CommitProtocol, wanted: Wanted, limit: int) -> list[Row]:
    """The `limit` newest letters, the newest first, each with its `state`. The newest files are read, no more than needed.

    Raises CatalogUnavailable, StorageUnavailable.
    """
    if not lake.exists(DEAD_LETTERS):
        return []
    table = lake.table(DEAD_LETTERS)
    newest = _Newest(limit)
    for _, commit in groupby(reversed(splits_at(table, snapshot_at(table))), key=lambda split: split.sequence):
        for split in commit:
            for batch in read(table, [split], LISTED):
                newest.take(split.sequence, wanted.among(batch).to_pylist())
        if newest.is_full():
            break
    return _with_states(lake, commits, newest.rows())


def letter_at(lake: Lake, commits: CommitProtocol, table: str, place: Place) -> Row:
    """All of a letter, with its `state`; of several that a table's name had at the place, the newest.

    Raises UnknownName, with the newest letters of the table.
    """
    wanted = Wanted((table,))
    for split in _newest_first(lake):
        there = lake.table(DEAD_LETTERS)
        if any(len(_at(wanted.among(batch), place)) for batch in read(there, [split], ("table", *PLACE))):
            rows = [row for batch in read(there, [split]) for row in _at(wanted.among(batch), place).to_pylist()]
            rows = [{**row, SEQUENCE: split.sequence} for row in rows]
            return _with_states(lake, commits, rows)[-1]
    near = newest_letters(lake, commits, wanted, NAMED_NEARBY)
    raise UnknownName(
        f"dead letter of table {table}",
        place_text(place),
        [place_text((row["topic"], row["partition"], row["offset"])) for row in near],
        next_step=f"lakeflow deadletters list {table}",
    )


PLACE = ("topic", "partition", "offset")
SEQUENCE = "#sequence"
"""The key under which a row carries the sequence number of its commit; no column has a name with `#`."""


def place_text(place: Place) -> str:
    """`topic:partition:offset`; a topic's name has no `:`."""
    topic, partition, offset = place
    return f"{topic}:{partition}:{offset}"


def place_of(text: str) -> Place:
    """The inverse of `place_text`. Raises UsageError."""
    topic, *numbers = text.split(":")
    if not topic or len(numbers) != 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        raise UsageError(
            f"{text!r} names no dead letter; valid: TOPIC:PARTITION:OFFSET, as in orders:0:17", next_step="lakeflow deadletters"
        )
    return topic, int(numbers[0]), int(numbers[1])


def partition_of(text: str) -> TopicPartition:
    """The partition that `TOPIC:PARTITION` names. Raises UsageError."""
    topic, _, number = text.rpartition(":")
    if not topic or ":" in topic or not (number.isascii() and number.isdigit()):
        raise UsageError(
            f"{text!r} names no partition; valid: TOPIC:PARTITION, as in orders:0", next_step="lakeflow deadletters"
        )
    return topic, int(number)


def first_letter_after(commits: CommitProtocol, table: str, table_uuid: str) -> int | None:
    """The sequence number in lakeflow.dead_letters behind which the letters of this very table stand; None: it has none."""
    text = commits.progress(DEAD_LETTERS, letters_writer(table, table_uuid))
    return None if text is None else Taken.loads(text).since


@dataclass(slots=True)
class _Newest:
    """The `limit` letters that were rejected last, of all that are taken. Of those of one moment, later offsets are newer."""

    limit: int
    _kept: list[tuple[Any, Any, int, Row]] = field(default_factory=list)
    _taken: int = 0

    def take(self, sequence: int, rows: Iterable[Row]) -> None:
        for row in rows:
            self._taken += 1
            place = tuple(row[name] for name in PLACE)
            heapq.heappush(self._kept, (row["rejected_at"], place, self._taken, {**row, SEQUENCE: sequence}))
            if len(self._kept) > self.limit:
                heapq.heappop(self._kept)

    def is_full(self) -> bool:
        return len(self._kept) == self.limit

    def rows(self) -> list[Row]:
        return [row for *_, row in sorted(self._kept, key=lambda entry: entry[:3], reverse=True)]


def _newest_first(lake: Lake) -> Iterator[Split]:
    if lake.exists(DEAD_LETTERS):
        table = lake.table(DEAD_LETTERS)
        yield from reversed(splits_at(table, snapshot_at(table)))


def _at(letters: pa.RecordBatch, place: Place) -> pa.RecordBatch:
    for name, value in zip(PLACE, place, strict=True):
        letters = letters.filter(pc.equal(letters.column(name), value))
    return letters


def _with_states(lake: Lake, commits: CommitProtocol, rows: Sequence[Row]) -> list[Row]:
    """The rows with their states, without their sequence numbers."""
    states: dict[int, State] = {}
    by_table: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_table.setdefault(row["table"], []).append(number)
    for table, numbers in by_table.items():
        of_now, replayed = _standing(lake, commits, table, [rows[number] for number in numbers])
        for number in numbers:
            place = tuple(rows[number][name] for name in PLACE)
            is_of_now = of_now is not None and rows[number][SEQUENCE] > of_now
            states[number] = (State.REPLAYED if place in replayed else State.WAITING) if is_of_now else State.EARLIER
            if rows[number]["topic"].startswith(OF_JOBS):
                states[number] = State.KEPT
    return [
        {**{name: value for name, value in row.items() if name != SEQUENCE}, "state": str(states[number])}
        for number, row in enumerate(rows)
    ]


def _standing(lake: Lake, commits: CommitProtocol, table: str, rows: Sequence[Row]) -> tuple[int | None, set[Place]]:
    """Behind which sequence number the letters of the table of now stand, and which of `rows` have been replayed."""
    if not lake.exists(table):
        return None, set()
    table_uuid = str(lake.table(table).metadata.table_uuid)
    replays = Replays(lake, table, table_uuid, Claims.loads(commits.progress(table, WRITER)))
    places = [(row["topic"], row["partition"], row["offset"]) for row in rows]
    return first_letter_after(commits, table, table_uuid), replays.among(places)
