"""Who carries out which chunk of a backfill, and which are done: in the target, and in lakeflow.backfills.

    begin   lakeflow.backfills gets a row a chunk, under a new number, and progress that names the number
    claim   the progress there names the process that has a chunk
    done    the target gets the chunk's rows, and its progress of `backfill.NAME` says that the chunk is done

A chunk is done if and only if its rows are in the target, since both are one commit; that commit is refused where the chunk is
done already, or where a backfill with a later number has begun. So claims are there to spare work, and never decide what the
target holds. A claim of a process that has died is taken over: on the same machine at once, else when its holder has given no
sign for LEASE seconds, by the clock of the one that looks.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.declare import TableSpec
from lakeflow.errors import Fenced, SourceChanged, Terminal
from lakeflow.job import Job
from lakeflow.lake.catalog import SYSTEM_NAMESPACE, Lake
from lakeflow.lake.commit import Change, CommitProtocol, Progress, fenced
from lakeflow.lake.history import PROGRESS, ancestors
from lakeflow.lake.ranges import ValueRange
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.lake.write import DataWriter
from lakeflow.runner.backfill_range import CommitRange, Range, text_of, value_of
from lakeflow.runner.plan import backfill_writer

BACKFILLS: Final = f"{SYSTEM_NAMESPACE}.backfills"
BEAT: Final = 15.0
LEASE: Final = 120.0
"""Seconds: how often a process that has a chunk gives a sign, and after how many without one it is taken for dead."""

_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        pa.field("job", pa.string(), nullable=False),
        pa.field("table", pa.string(), nullable=False),
        pa.field("table_uuid", pa.string(), nullable=False),
        pa.field("backfill", pa.int64(), nullable=False),
        pa.field("chunk", pa.int32(), nullable=False),
        pa.field("column", pa.string()),
        pa.field("snapshot", pa.int64()),
        pa.field("low", pa.string()),
        pa.field("high", pa.string()),
        pa.field("begun_at", _TIME, nullable=False),
    ]
)
TABLE = TableSpec(BACKFILLS, SCHEMA, comment="the chunks of backfills: which rows of the table that a job reads each is about")


@dataclass(frozen=True, slots=True)
class Done:
    """The progress of `backfill.NAME` in a target: which of the `of` chunks of the backfill `number` are done.

    `spans` are numbers of chunks, first and last, that ascend and do not touch.
    """

    number: int = 0
    of: int = 0
    spans: tuple[tuple[int, int], ...] = ()

    def __contains__(self, chunk: int) -> bool:
        return any(first <= chunk <= last for first, last in self.spans)

    @property
    def count(self) -> int:
        return sum(last - first + 1 for first, last in self.spans)

    @property
    def is_whole(self) -> bool:
        return self.number > 0 and self.count == self.of

    def with_chunk(self, chunk: int) -> Done:
        """With one more chunk, which is not among those that are done."""
        spans: list[tuple[int, int]] = []
        for first, last in sorted([*self.spans, (chunk, chunk)]):
            if spans and spans[-1][1] == first - 1:
                spans[-1] = (spans[-1][0], last)
            else:
                spans.append((first, last))
        return replace(self, spans=tuple(spans))

    def dumps(self) -> str:
        """`{"backfill":3,"of":12,"done":[[0,4],[7,7]]}`."""
        return json.dumps({"backfill": self.number, "of": self.of, "done": self.spans}, separators=(",", ":"))

    @staticmethod
    def loads(text: str | None) -> Done:
        """The inverse of `dumps`; None is that of no backfill. Raises Terminal where the string is of another form."""
        if text is None:
            return Done()
        try:
            fields = json.loads(text)
            spans = tuple((int(first), int(last)) for first, last in fields["done"])
            return Done(int(fields["backfill"]), int(fields["of"]), spans)
        except (ValueError, KeyError, TypeError) as error:
            raise Terminal(f"progress of a backfill is not readable: {text[:200]!r}") from error


@dataclass(frozen=True, slots=True)
class ChunkDone:
    """The Advance of a chunk's commit into the target. Raises Fenced where the chunk is done, or a later backfill began."""

    writer: str
    number: int
    of: int
    chunk: int

    def onto(self, found: str | None, table: str) -> str:
        done = Done.loads(found)
        if done.number < self.number:
            done = Done(self.number, self.of)
        if done.number > self.number or self.chunk in done:
            raise fenced(table, self.writer, f"chunk {self.chunk} of backfill {self.number}, not done", found)
        return done.with_chunk(self.chunk).dumps()


@dataclass(frozen=True, slots=True)
class Claims:
    """The progress in lakeflow.backfills: the last backfill of a job, and who has which of its chunks.

    `what` is a fingerprint of what was asked for. A claim is a worker and how many signs it has given.
    """

    number: int = 0
    of: int = 0
    what: str = ""
    asked: str = ""
    held: Mapping[int, tuple[str, int]] = field(default_factory=dict)

    def dumps(self) -> str:
        """A JSON object with the fields."""
        held = {str(chunk): claim for chunk, claim in sorted(self.held.items())}
        fields = {"backfill": self.number, "of": self.of, "what": self.what, "asked": self.asked, "held": held}
        return json.dumps(fields, separators=(",", ":"))

    @staticmethod
    def loads(text: str | None) -> Claims:
        """The inverse of `dumps`; None is that of no backfill. Raises Terminal where the string is of another form."""
        if text is None:
            return Claims()
        try:
            fields = json.loads(text)
            held = {int(chunk): (str(worker), int(beat)) for chunk, (worker, beat) in fields["held"].items()}
            return Claims(int(fields["backfill"]), int(fields["of"]), str(fields["what"]), str(fields["asked"]), held)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Terminal(f"progress in {BACKFILLS} is not readable: {text[:200]!r}") from error


@dataclass(frozen=True, slots=True)
class Worker:
    """A process, as others know it."""

    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    nonce: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}/{self.nonce}"

    def knows_dead(self, other: str) -> bool:
        """Whether another is known to have died: one of this machine whose process is not there, or was this one's before."""
        host, pid, _ = other.rsplit("/", 2)
        if host != self.host or other == str(self):
            return False
        return int(pid) == self.pid or not _is_alive(int(pid))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True, slots=True)
class Backfill:
    """A backfill that has begun: its number, and its chunks, which are known by their place."""

    number: int
    chunks: tuple[Range, ...]


class Ledger:
    """The backfills of a job into its target, as one process sees them."""

    def __init__(
        self,
        job: Job,
        lake: Lake,
        commits: CommitProtocol,
        *,
        worker: Worker | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._job = job
        self._lake = lake
        self._commits = commits
        self._worker = worker or Worker()
        self._sleep = sleep
        self._clock = clock
        self._table_uuid = str(lake.table(job.target).metadata.table_uuid)
        self._writer = f"{backfill_writer(job)}.{self._table_uuid}"
        self._seen: dict[int, tuple[tuple[str, int], float]] = {}

    def claims(self) -> Claims:
        """The last backfill of the job into this target."""
        return Claims.loads(self._commits.progress(BACKFILLS, self._writer))

    def done(self) -> Done:
        """What of it, or of an earlier one, the target holds."""
        return Done.loads(self._commits.progress(self._job.target, backfill_writer(self._job)))

    def finished_since(self, moment: float) -> bool:
        """Whether the last commit of a backfill came at or after a moment, in seconds since the epoch."""
        key = PROGRESS + backfill_writer(self._job)
        for snapshot in ancestors(self._lake.table(self._job.target).metadata):
            if snapshot.summary is not None and key in snapshot.summary.additional_properties:
                return snapshot.timestamp_ms >= int(moment * 1000)
        return False

    def begin(self, before: Claims, what: str, asked: str, chunks: Sequence[Range], kind: pa.DataType | None) -> Backfill:
        """Begin a backfill where `before` is still the last. Raises Fenced where another process began one since."""
        metadata = self._lake.table(self._job.target).metadata
        shown = Done.loads(metadata.properties.get(PROGRESS + backfill_writer(self._job)))
        number = max(before.number, self.done().number, shown.number) + 1
        table = self._lake.ensure(TABLE, evolve=True)
        writer = DataWriter(table)
        try:
            writer.write(self._rows(number, chunks, kind))
            files = writer.finish()
        except BaseException:
            writer.abort()
            raise
        claims = Claims(number, len(chunks), what, asked)
        self._commit(before.dumps() if before.number else None, claims, Change(BACKFILLS, files))
        return Backfill(number, tuple(chunks))

    def join(self, claims: Claims, kind: pa.DataType | None) -> Backfill:
        """The backfill that has begun, as its rows tell it. Raises SourceChanged where they are gone."""
        rows = self._rows_of(claims.number)
        if [row["chunk"] for row in rows] != list(range(claims.of)):
            raise SourceChanged(
                f"{BACKFILLS} does not hold the {claims.of} chunks of backfill {claims.number} of job {self._job.name!r}",
                next_step=f"bring {BACKFILLS} back, or begin anew with another --chunk",
            )
        return Backfill(claims.number, tuple(_range_of(row, kind) for row in rows))

    def next_chunk(self, backfill: Backfill, stop: Callable[[], bool]) -> int | None:
        """Claim a chunk that is not done, and that no living process has; wait where all of those are had by others.

        None once all are done, or `stop()`. Raises Fenced where a later backfill has begun.
        """
        while not stop():
            claims, done = self.claims(), self.done()
            if claims.number != backfill.number or done.number > backfill.number:
                raise fenced(self._job.target, backfill_writer(self._job), f"backfill {backfill.number}", claims.dumps())
            is_ours = done.number == backfill.number
            open_ones = [chunk for chunk in range(claims.of) if not (is_ours and chunk in done)]
            if not open_ones:
                return None
            held = {chunk: claim for chunk, claim in claims.held.items() if chunk in open_ones}
            free = next((chunk for chunk in open_ones if chunk not in held or self._is_gone(chunk, held[chunk])), None)
            if free is None:
                self._sleep(min(1.0, LEASE / 100))
            elif self._hold(claims, replace(claims, held={**held, free: (str(self._worker), 0)})):
                return free
        return None

    def beat(self, chunk: int) -> None:
        """Give a sign of life, unless another has taken the chunk over."""
        claims = self.claims()
        worker, beats = claims.held.get(chunk, ("", 0))
        if worker == str(self._worker):
            self._hold(claims, replace(claims, held={**claims.held, chunk: (worker, beats + 1)}))

    def release(self, chunk: int) -> None:
        """Give a chunk back that was not carried out, so that others need not wait."""
        claims = self.claims()
        while claims.held.get(chunk, ("", 0))[0] == str(self._worker):
            if self._hold(claims, replace(claims, held={k: one for k, one in claims.held.items() if k != chunk})):
                return
            claims = self.claims()

    def _is_gone(self, chunk: int, claim: tuple[str, int]) -> bool:
        """Whether who has a chunk is dead, or gave no sign for as long as this process has looked, LEASE at the least."""
        if claim[0] == str(self._worker) or self._worker.knows_dead(claim[0]):
            return True
        seen, since = self._seen.get(chunk, (None, 0.0))
        if seen != claim:
            self._seen[chunk] = (claim, self._clock())
            return False
        return self._clock() - since > LEASE

    def _hold(self, before: Claims, after: Claims) -> bool:
        """Commit claims; whether no other process did so first."""
        try:
            self._commit(before.dumps(), after, Change(BACKFILLS))
        except Fenced:
            return False
        return True

    def _commit(self, found: str | None, claims: Claims, change: Change) -> None:
        self._commits.commit(replace(change, progress=Progress(self._writer, found, claims.dumps())))

    def _rows(self, number: int, chunks: Sequence[Range], kind: pa.DataType | None) -> pa.Table:
        now = datetime.now(UTC)
        shared = {"job": self._job.name, "table": self._job.target, "table_uuid": self._table_uuid, "backfill": number}
        rows = [{**shared, "chunk": place, "begun_at": now, **_texts(one, kind)} for place, one in enumerate(chunks)]
        return pa.Table.from_pylist(rows, schema=SCHEMA)

    def _rows_of(self, number: int) -> list[dict[str, Any]]:
        table = self._lake.table(BACKFILLS)
        found: list[dict[str, Any]] = []
        for batch in read(table, splits_at(table, snapshot_at(table))):
            mine = pc.and_(pc.equal(batch.column("job"), self._job.name), pc.equal(batch.column("backfill"), number))
            found += batch.filter(pc.and_(mine, pc.equal(batch.column("table_uuid"), self._table_uuid))).to_pylist()
        return sorted(found, key=lambda row: int(row["chunk"]))


def _texts(one: Range, kind: pa.DataType | None) -> dict[str, Any]:
    if isinstance(one, CommitRange):
        return {"snapshot": one.snapshot_id, "low": str(one.after), "high": str(one.upto)}
    assert kind is not None, "a column has a type"
    low, high = (None if value is None else text_of(value, kind) for value in (one.low, one.high))
    return {"column": one.column, "low": low, "high": high}


def _range_of(row: Mapping[str, Any], kind: pa.DataType | None) -> Range:
    if row["snapshot"] is not None:
        return CommitRange(int(row["snapshot"]), int(row["low"]), int(row["high"]))
    assert kind is not None, "a column has a type"
    low, high = (None if row[end] is None else value_of(row[end], kind, row["column"]) for end in ("low", "high"))
    return ValueRange(row["column"], low, high)
