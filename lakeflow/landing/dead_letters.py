"""Rejected records on their way to the system table lakeflow.dead_letters.

They land before the rows of their batch, in a commit of their own with a progress of their own: up to which offset of
each partition the table has taken the rejects of this landing. A landing that dies in between reads the batch again,
and `DeadLetters` leaves out what the table holds already. So each reject is there once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.lake.catalog import SYSTEM_NAMESPACE, Lake
from lakeflow.lake.commit import Change, CommitProtocol, Progress
from lakeflow.lake.write import DataWriter
from lakeflow.progress import KafkaOffsets

DEAD_LETTERS = f"{SYSTEM_NAMESPACE}.dead_letters"

SCHEMA = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.timestamp("us", "UTC")),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("rejected_at", pa.timestamp("us", "UTC"), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that gave no row: its coordinates, its raw bytes, and why. `timestamp` in ms since the epoch, -1 unknown."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    kind: str
    error: str


class DeadLetters:
    """The dead letters of one landing. The table is made when the first one is written.

    The progress is kept under the identity of the landed table: one that is dropped and made anew starts anew here too.
    """

    def __init__(self, lake: Lake, commits: CommitProtocol, table: str, table_uuid: str) -> None:
        self._lake = lake
        self._commits = commits
        self._table = table
        self._writer = f"landing.{table}.{table_uuid}"
        self._progress = KafkaOffsets.loads(commits.progress(DEAD_LETTERS, self._writer))

    def write(self, letters: list[DeadLetter], upto: KafkaOffsets) -> int:
        """Land the letters that the table does not hold yet, as the rejects of all records before `upto`; how many they were.

        Raises Fenced where another process lands the same table.
        """
        fresh = [letter for letter in letters if self._is_fresh(letter)]
        if not fresh:
            return 0
        end = self._progress.advance((topic, part, offset - 1) for (topic, part), offset in upto.offsets.items())
        table = self._lake.ensure(TableSpec(DEAD_LETTERS, SCHEMA, comment="records that no landing could make a row of"))
        writer = DataWriter(table)
        writer.write(self._rows(fresh))
        start = self._progress.dumps() if self._progress.offsets else None
        progress = Progress(self._writer, start, end.dumps())
        self._commits.commit(
            Change(DEAD_LETTERS, writer.finish(), progress=progress, table_uuid=str(table.metadata.table_uuid))
        )
        self._progress = end
        return len(fresh)

    def _is_fresh(self, letter: DeadLetter) -> bool:
        taken = self._progress.next_offset(letter.topic, letter.partition)
        return taken is None or letter.offset >= taken

    def _rows(self, letters: list[DeadLetter]) -> pa.Table:
        now = datetime.now(UTC)
        stamps = [letter.timestamp * 1000 if letter.timestamp >= 0 else None for letter in letters]
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
        }
        return pa.table(columns, schema=SCHEMA)
