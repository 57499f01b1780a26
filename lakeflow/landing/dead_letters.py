"""Rejected records on their way to the system table lakeflow.dead_letters.

They land before the rows of their batch, in a commit of their own with a progress of their own: up to which offset of
each partition the table has taken the rejects of this landing. A landing that dies in between reads the batch again,
and `DeadLetters` leaves out what the table holds already. So each reject is there once.

Below that progress the table itself is asked: a declaration that changed since may reject records that it did not then.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import Fenced, Terminal
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, CommitProtocol, Progress
from lakeflow.lake.letters import DEAD_LETTERS as DEAD_LETTERS
from lakeflow.lake.letters import SCHEMA as SCHEMA
from lakeflow.lake.letters import TABLE as TABLE
from lakeflow.lake.read import position_at, read, splits_at
from lakeflow.lake.write import DataWriter
from lakeflow.landing.discard import discarded_on_error
from lakeflow.landing.rows import TIMESTAMP_TYPES, headers_column, microseconds
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.formats.format import Reject
from lakeflow.topics.source import Headers, Records

logger = logging.getLogger("lakeflow.landing")

OWN = "#"
"""The progress' own entry among those of the topics, which are named by letters, digits, `.`, `_` and `-`."""
CHUNK_LETTERS = 4096
"""Letters that are made into rows at once."""
LETTER_BYTES = 640
"""What a dead letter takes in memory beside its key, value, headers and error."""
SHARED_ATTEMPTS = 20

Place = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that gave no row: its coordinates, its raw bytes, and why. `timestamp` in ms since the epoch, -1 unknown.

    `timestamp_type` as in Records. `headers` and `leader_epoch` are there where the landing reads them.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    kind: str
    error: str
    timestamp_type: int = 0
    leader_epoch: int | None = None
    headers: Headers | None = None

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        headers = sum(len(name) + len(value or b"") for name, value in self.headers or ())
        return LETTER_BYTES + len(self.key or b"") + len(self.value or b"") + len(self.error) + headers


def letter_of(records: Records, reject: Reject) -> DeadLetter:
    """The dead letter of a rejected record."""
    at = reject.index
    return DeadLetter(
        records.topics[at],
        records.partitions[at],
        records.offsets[at],
        records.timestamps[at],
        records.keys[at],
        records.values[at],
        str(reject.kind),
        reject.reason,
        records.timestamp_types[at],
        None if records.leader_epochs is None else records.leader_epochs[at],
        None if records.headers is None else records.headers[at] or [],
    )


@dataclass(frozen=True, slots=True)
class Taken:
    """The dead letters' progress: the rejects of all records before `offsets` are in the table.

    They came after the commit `since` (a sequence number of lakeflow.dead_letters): what is older belongs to an earlier
    table of the same name. `letters` is how many there are; it grows with each commit, so that of two landings in the
    same place one is fenced.
    """

    offsets: KafkaOffsets = field(default_factory=KafkaOffsets)
    since: int = 0
    letters: int = 0

    def holds(self, letter: DeadLetter) -> bool:
        """Whether the rejects of the letter's place were taken."""
        taken = self.offsets.next_offset(letter.topic, letter.partition)
        return taken is not None and letter.offset < taken

    def dumps(self) -> str:
        """`{"topic":{"0":12},"#":{"letters":2,"since":7}}`."""
        own = {"letters": self.letters, "since": self.since}
        return json.dumps({**json.loads(self.offsets.dumps()), OWN: own}, separators=(",", ":"))

    @staticmethod
    def loads(text: str | None) -> Taken:
        """The inverse of `dumps`; offsets alone are read too. Raises Terminal where the string is of neither form."""
        try:
            fields = json.loads(text or "{}")
            own = fields.pop(OWN, {})
            return Taken(KafkaOffsets.loads(json.dumps(fields)), int(own.get("since", 0)), int(own.get("letters", 0)))
        except (ValueError, AttributeError, TypeError) as error:
            raise Terminal(f"progress of dead letters is not readable: {(text or '')[:200]!r}") from error


def letters_writer(table: str, table_uuid: str) -> str:
    """Under which name lakeflow.dead_letters keeps the progress of a table's letters."""
    return f"landing.{table}.{table_uuid}"


def held_places(lake: Lake, name: str, since: int, places: Collection[Place]) -> set[Place]:
    """Those of the places that lakeflow.dead_letters has a letter of the table `name` of, behind the commit `since`."""
    wanted = set(places)
    if not wanted:
        return wanted
    table = lake.table(DEAD_LETTERS)
    splits = [split for split in splits_at(table, table.current_snapshot()) if split.sequence > since]
    offsets = [offset for _, _, offset in wanted]
    first, last = min(offsets), max(offsets)
    held: set[Place] = set()
    for batch in read(table, splits, ["table", "topic", "partition", "offset"]):
        column = batch.column("offset")
        near = pc.and_(pc.greater_equal(column, first), pc.less_equal(column, last))
        mine = batch.filter(pc.and_(near, pc.equal(batch.column("table"), name)))
        found = (mine.column(one).to_pylist() for one in ("topic", "partition", "offset"))
        held.update(wanted.intersection(zip(*found, strict=True)))
    return held


class Letters(Protocol):
    """Where the rejects of a landing go."""

    def write(self, letters: Sequence[DeadLetter], upto: KafkaOffsets) -> int:
        """Keep the letters, as the rejects of all records before `upto`; how many were not kept already."""
        ...


class DeadLetters:
    """The dead letters of one landing. The table is made when the first one is written.

    The progress is kept under the identity of the landed table: one that is dropped and made anew starts anew here too.
    Several processes that land a table together share it: `shared` reads it anew for each batch, and of two that write at
    once the second tries again.
    """

    def __init__(
        self,
        lake: Lake,
        commits: CommitProtocol,
        table: str,
        table_uuid: str,
        *,
        buffer_bytes: int = 64 << 20,
        shared: bool = False,
    ) -> None:
        self._lake = lake
        self._commits = commits
        self._table = table
        self._shared = shared
        self._buffer_bytes = buffer_bytes
        self._writer = letters_writer(table, table_uuid)
        self._look()

    def write(self, letters: Sequence[DeadLetter], upto: KafkaOffsets) -> int:
        """Land the letters that the table does not hold yet, as the rejects of all records before `upto`; how many they were.

        Raises Fenced where another process lands the same table, and the two do not share it.
        """
        for _ in range(SHARED_ATTEMPTS - 1 if self._shared else 0):
            self._look()
            try:
                return self._write(letters, upto)
            except Fenced as fenced:
                logger.info("dead letters of %s: %s", self._table, fenced.message)
        if self._shared:
            self._look()
        return self._write(letters, upto)

    def _look(self) -> None:
        self._ledger = self._commits.progress(DEAD_LETTERS, self._writer)
        self._taken = Taken.loads(self._ledger)

    def _write(self, letters: Sequence[DeadLetter], upto: KafkaOffsets) -> int:
        fresh = self._missing(letters)
        if not fresh:
            return 0
        table = self._lake.ensure(TABLE, evolve=True)
        writer = DataWriter(table, buffer_bytes=self._buffer_bytes)
        with discarded_on_error(writer, DEAD_LETTERS):
            for some in _chunks(fresh):
                writer.write(self._rows(some))
            files = writer.finish()
        offsets = self._taken.offsets.advance((topic, part, offset - 1) for (topic, part), offset in upto.offsets.items())
        since = position_at(table, table.current_snapshot()).sequence if self._ledger is None else self._taken.since
        end = Taken(offsets, since, self._taken.letters + len(fresh))
        progress = Progress(self._writer, self._ledger, end.dumps())
        self._commits.commit(Change(DEAD_LETTERS, files, progress=progress, table_uuid=str(table.metadata.table_uuid)))
        self._taken, self._ledger = end, progress.end
        return len(fresh)

    def _missing(self, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        again = {_place(letter) for letter in letters if self._taken.holds(letter)}
        held = held_places(self._lake, self._table, self._taken.since, again)
        return [letter for letter in letters if _place(letter) not in held]

    def _rows(self, letters: Sequence[DeadLetter]) -> pa.Table:
        now = datetime.now(UTC)
        stamps = [microseconds(letter.timestamp) for letter in letters]
        columns = {
            "table": [self._table] * len(letters),
            "topic": [letter.topic for letter in letters],
            "partition": [letter.partition for letter in letters],
            "offset": [letter.offset for letter in letters],
            "timestamp": pa.array(stamps, pa.timestamp("us", "UTC")),
            "key": [letter.key for letter in letters],
            "value": [letter.value for letter in letters],
            "kind": [letter.kind for letter in letters],
            "error": [letter.error for letter in letters],
            "rejected_at": [now] * len(letters),
            "timestamp_type": [TIMESTAMP_TYPES.get(letter.timestamp_type) for letter in letters],
            "leader_epoch": [letter.leader_epoch for letter in letters],
            "headers": headers_column([letter.headers for letter in letters]),
            "model": [None] * len(letters),
        }
        return pa.table(columns, schema=SCHEMA)


def _place(letter: DeadLetter) -> Place:
    return letter.topic, letter.partition, letter.offset


def _chunks(letters: list[DeadLetter]) -> Iterator[list[DeadLetter]]:
    for begin in range(0, len(letters), CHUNK_LETTERS):
        yield letters[begin : begin + CHUNK_LETTERS]
