"""The ledger of replays: which dead letters have been landed after all, in lakeflow.replays and in the landed table.

Rows of lakeflow.replays and rows of the landed table cannot land in one commit. So a replay of some letters makes three:

    claim   the landed table's progress of `replay` names a new number, and no data
    mark    lakeflow.replays gets a row for each of the letters, under that number
    land    the landed table gets their rows, and its progress says that the number has landed

A letter is replayed if and only if a mark of it has a number that has landed. What dies before the last commit leaves
marks that count for nothing; what wakes up after another replay has claimed is fenced, as the progress is no longer what it
started from. A landed table that is rolled back forgets the numbers with the rows. Numbers are never given again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.declare import TableSpec
from lakeflow.errors import SourceChanged, Terminal
from lakeflow.lake.catalog import SYSTEM_NAMESPACE, Lake
from lakeflow.lake.commit import Change, CommitProtocol
from lakeflow.lake.history import PROGRESS
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.lake.write import DataWriter
from lakeflow.landing.dead_letters import Place
from lakeflow.landing.discard import discarded_on_error

REPLAYS = f"{SYSTEM_NAMESPACE}.replays"
WRITER = "replay"

SCHEMA = pa.schema(
    [
        pa.field("table", pa.string(), nullable=False),
        pa.field("table_uuid", pa.string(), nullable=False),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("claim", pa.int64(), nullable=False),
        pa.field("claimed_at", pa.timestamp("us", "UTC"), nullable=False),
    ]
)
TABLE = TableSpec(REPLAYS, SCHEMA, comment="dead letters that were replayed, where their claim has landed in their table")


@dataclass(frozen=True, slots=True)
class Claims:
    """The progress of `replay` in a landed table: the last number that was claimed, and which have landed.

    `landed` are spans, first and last number, that ascend and do not touch.
    """

    claim: int = 0
    landed: tuple[tuple[int, int], ...] = ()

    def claimed(self, number: int) -> Claims:
        """With a new number, above all that were."""
        assert number > self.claim
        return Claims(number, self.landed)

    def land(self) -> Claims:
        """With the number that was claimed last among those that have landed."""
        if self.landed and self.landed[-1][1] == self.claim - 1:
            return Claims(self.claim, (*self.landed[:-1], (self.landed[-1][0], self.claim)))
        return Claims(self.claim, (*self.landed, (self.claim, self.claim)))

    def have_landed(self, numbers: pa.Array | pa.ChunkedArray) -> pa.Array:
        """For each claim number (int64) whether it has landed."""
        values = numbers.to_numpy(zero_copy_only=False)
        if not self.landed:
            return pa.array(np.zeros(len(values), bool))
        first, last = np.array(self.landed, np.int64).T
        at = np.searchsorted(first, values, side="right") - 1
        return pa.array((at >= 0) & (values <= last[at]))

    def dumps(self) -> str:
        """`{"claim":7,"landed":[[1,4],[7,7]]}`."""
        return json.dumps({"claim": self.claim, "landed": self.landed}, separators=(",", ":"))

    @staticmethod
    def loads(text: str | None) -> Claims:
        """The inverse of `dumps`. Raises Terminal where the string is of another form."""
        if text is None:
            return Claims()
        try:
            fields = json.loads(text)
            spans = tuple((int(first), int(last)) for first, last in fields["landed"])
            return Claims(int(fields["claim"]), spans)
        except (ValueError, KeyError, TypeError) as error:
            raise Terminal(f"progress of replays is not readable: {text[:200]!r}") from error


class Replays:
    """The marks of one landed table, known by its identity, as of when this was made."""

    def __init__(self, lake: Lake, table: str, table_uuid: str, claims: Claims) -> None:
        """Raises SourceChanged where lakeflow.replays is gone, though letters were replayed."""
        self._lake = lake
        self._table = table
        self._table_uuid = table_uuid
        self._claims = claims
        self._last_number: int | None = None
        self._there = lake.table(REPLAYS) if lake.exists(REPLAYS) else None
        if self._there is None and claims.landed:
            raise SourceChanged(
                f"table {REPLAYS} is not there, and table {table} holds rows of dead letters that were replayed: which ones "
                "cannot be told",
                next_step=f"bring {REPLAYS} back, or land the topic into a new table",
            )

    def among(self, places: Collection[Place]) -> set[Place]:
        """Those of the places whose letters have been replayed."""
        wanted = set(places)
        if not wanted or not self._claims.landed:
            return set()
        offsets = [offset for _, _, offset in wanted]
        first, last = min(offsets), max(offsets)
        found: set[Place] = set()
        for marks in self._marks(["topic", "partition", "offset", "claim"]):
            near = pc.and_(pc.greater_equal(marks.column("offset"), first), pc.less_equal(marks.column("offset"), last))
            landed = marks.filter(pc.and_(near, self._claims.have_landed(marks.column("claim"))))
            columns = (landed.column(name).to_pylist() for name in ("topic", "partition", "offset"))
            found.update(wanted.intersection(zip(*columns, strict=True)))
        return found

    def last_number(self) -> int:
        """The highest number that any mark has, of claims that landed and of others; 0 without one."""
        if self._last_number is None:
            numbers = (pc.max(marks.column("claim")).as_py() for marks in self._marks(["claim"]))
            self._last_number = max((number for number in numbers if number is not None), default=0)
        return self._last_number

    def _marks(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        if self._there is None:
            return
        splits = splits_at(self._there, snapshot_at(self._there))
        for batch in read(self._there, splits, ["table", "table_uuid", *columns]):
            is_ours = pc.and_(
                pc.equal(batch.column("table"), self._table), pc.equal(batch.column("table_uuid"), self._table_uuid)
            )
            yield batch.filter(is_ours)


def next_number(claims: Claims, properties: Mapping[str, str], replays: Replays) -> int:
    """A number that no replay of the table had before, not even one of a history that was rolled back.

    `properties` are those of the landed table: they tell of commits that the history does not show any more.
    """
    beyond = Claims.loads(properties.get(PROGRESS + WRITER)).claim
    return max(claims.claim, beyond, replays.last_number()) + 1


def mark(
    lake: Lake, commits: CommitProtocol, table: str, table_uuid: str, places: Sequence[Place], number: int, *, buffer_bytes: int
) -> int:
    """Append a mark for each of the places under a claim's number; the snapshot's id. Raises as CommitProtocol does."""
    there = lake.ensure(TABLE, evolve=True)
    writer = DataWriter(there, buffer_bytes=buffer_bytes)
    topics, partitions, offsets = zip(*places, strict=True)
    columns = {
        "table": [table] * len(places),
        "table_uuid": [table_uuid] * len(places),
        "topic": topics,
        "partition": partitions,
        "offset": offsets,
        "claim": [number] * len(places),
        "claimed_at": [datetime.now(UTC)] * len(places),
    }
    with discarded_on_error(writer, REPLAYS):
        writer.write(pa.table(columns, schema=SCHEMA))
        files = writer.finish()
    change = Change(REPLAYS, files, table_uuid=str(there.metadata.table_uuid))
    return commits.commit(change).snapshot_id
