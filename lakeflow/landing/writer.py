"""Lands one topic in one table: poll, decode, cut, commit, resume.

The table is the only ledger. A landing starts from the offsets that the table shows, reads, and commits rows and new
offsets as one snapshot; dead letters land just before, with a ledger of their own (dead_letters.py). Whatever dies in
between has landed nothing, and the next start reads it again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lakeflow.errors import Suspended
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, CommitProtocol, Progress
from lakeflow.lake.write import DataWriter
from lakeflow.landing.cut import Filling, is_due, room, wait
from lakeflow.landing.dead_letters import DeadLetter, DeadLetters
from lakeflow.landing.rows import before, next_offsets, size_of, with_metadata
from lakeflow.landing.spec import LandingSpec, OnError
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.formats.format import Decoded, Format, Reject
from lakeflow.topics.source import AtTimestamp, Earliest, GroupSource, Records, Source, Start, TopicPartition, start_offsets

logger = logging.getLogger("lakeflow.landing")

WRITER = "landing"
POLL_RECORDS = 16_384


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the records that were read: read = written + dead_lettered + skipped."""

    read: int = 0
    written: int = 0
    dead_lettered: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.read + other.read,
            self.written + other.written,
            self.dead_lettered + other.dead_lettered,
            self.skipped + other.skipped,
        )

    def summary(self) -> dict[str, str]:
        """As facts of a commit's summary."""
        return {
            "lakeflow.records-read": str(self.read),
            "lakeflow.rows-written": str(self.written),
            "lakeflow.rows-dead-lettered": str(self.dead_lettered),
            "lakeflow.rows-skipped": str(self.skipped),
        }


@dataclass(frozen=True, slots=True)
class Landed:
    """What a landing did: counts, the snapshots it made, and its progress before and after."""

    table: str
    counts: Counts
    snapshots: tuple[int, ...]
    start: KafkaOffsets
    end: KafkaOffsets


@dataclass(frozen=True, slots=True)
class Sizes:
    """How a landing uses memory and files; seconds and bytes."""

    buffer_bytes: int = 64 << 20
    target_file_bytes: int = 128 << 20
    poll_seconds: float = 0.5


@dataclass(slots=True)
class _Batch:
    """The batch in hand: what was read and not yet committed."""

    filling: Filling = field(default_factory=Filling)
    counts: Counts = field(default_factory=Counts)
    letters: list[DeadLetter] = field(default_factory=list)
    suspended: Suspended | None = None


class Landing:
    """One landing, from the table's progress on. `run` may be called once.

    `group` finds a start by time and is shown each new progress; the real source is one, a fake need not be.
    """

    def __init__(
        self,
        spec: LandingSpec,
        source: Source,
        decoder: Format,
        lake: Lake,
        commits: CommitProtocol,
        *,
        start: Start,
        group: GroupSource | None = None,
        sizes: Sizes = Sizes(),
        clock: Callable[[], float] = time.monotonic,
        on_progress: Callable[[Counts, int], None] = lambda counts, left: None,
    ) -> None:
        self._spec = spec
        self._source = source
        self._decoder = decoder
        self._commits = commits
        self._sizes = sizes
        self._clock = clock
        self._on_progress = on_progress
        self._table = lake.ensure(spec.stored)
        self._ledger = commits.progress(spec.table, WRITER)
        self._committed = KafkaOffsets.loads(self._ledger)
        self._letters = DeadLetters(lake, commits, spec.table, str(self._table.metadata.table_uuid))
        self._writer = DataWriter(self._table, buffer_bytes=sizes.buffer_bytes, target_file_bytes=sizes.target_file_bytes)
        self._bounds = source.bounds()
        self._group = group
        self._first_start = start
        self._begin = start_offsets(start, self._bounds, self._progress_in_topic(), self._offsets_at(start))
        self._reached: dict[TopicPartition, int] = dict(self._begin)
        self._snapshots: list[int] = []
        self._seen = Counts()
        self._counts = Counts()
        self._start = self._committed

    @property
    def landed(self) -> Landed:
        """What has been committed so far."""
        return Landed(self._spec.table, self._counts, tuple(self._snapshots), self._start, self._committed)

    def run(self, *, follow: bool = False, stop: Callable[[], bool] = lambda: False) -> Landed:
        """Land what the topic holds now, or with `follow` until `stop()`; what is in hand then is committed first.

        Raises Suspended at a record that gives no row where the table says so, with all before it landed; Fenced where
        another process lands the same table; SourceUnavailable, CatalogUnavailable, StorageFull as they come.
        """
        self._source.assign(self._begin)
        batch = _Batch()
        self._record_start()
        try:
            while not (stop() or batch.suspended or (not follow and self._has_caught_up())):
                self._take(batch)
                if is_due(batch.filling, self._spec.limits, self._clock()):
                    self._commit(batch)
                    batch = _Batch(suspended=batch.suspended)
            self._commit(batch)
        except BaseException:
            self._writer.abort()
            raise
        if batch.suspended:
            raise batch.suspended
        return self.landed

    def _has_caught_up(self) -> bool:
        return all(self._reached[place] >= bounds.end for place, bounds in self._bounds.items())

    def _take(self, batch: _Batch) -> None:
        limits, now = self._spec.limits, self._clock()
        records = self._source.poll(
            room(batch.filling, limits, POLL_RECORDS), wait(batch.filling, limits, now, self._sizes.poll_seconds)
        )
        if len(records) == 0:
            self._reached.update(next_offsets(records))
            return
        decoded = self._decoder.decode(records.values)
        if decoded.rejects and self._spec.on_error is OnError.SUSPEND:
            batch.suspended = self._suspension(records, decoded.rejects[0])
            records = before(records, _first_rejected(records, decoded.rejects))
            decoded = self._decoder.decode(records.values)
        self._writer.write(with_metadata(decoded.rows, records, decoded.kept, self._spec.metadata))
        self._account(batch, records, decoded)

    def _account(self, batch: _Batch, records: Records, decoded: Decoded) -> None:
        self._reached.update(next_offsets(records))
        keep_letters = self._spec.on_error is OnError.DEAD_LETTER
        if keep_letters:
            batch.letters.extend(_letter(records, reject) for reject in decoded.rejects)
        rejects = len(decoded.rejects)
        taken = Counts(
            read=len(records),
            written=decoded.rows.num_rows,
            dead_lettered=rejects if keep_letters else 0,
            skipped=0 if keep_letters else rejects,
        )
        batch.counts += taken
        batch.filling = batch.filling.take(len(records), size_of(records), self._clock())
        self._seen += taken
        self._on_progress(self._seen, self._left())

    def _left(self) -> int:
        return sum(max(0, bounds.end - self._reached[place]) for place, bounds in self._bounds.items())

    def _commit(self, batch: _Batch) -> None:
        if batch.counts.read == 0:
            return
        end = KafkaOffsets({**self._committed.offsets, **self._reached})
        if batch.letters:
            self._letters.write(batch.letters, end)
        self._land(end, batch.counts)

    def _land(self, end: KafkaOffsets, counts: Counts) -> None:
        progress = Progress(WRITER, self._ledger, end.dumps())
        change = Change(
            self._spec.table,
            self._writer.finish(),
            progress=progress,
            summary=counts.summary(),
            table_uuid=str(self._table.metadata.table_uuid),
        )
        self._snapshots.append(self._commits.commit(change).snapshot_id)
        self._committed, self._ledger = end, progress.end
        self._counts += counts
        if self._group is not None:
            self._group.acknowledge(end)

    def _progress_in_topic(self) -> KafkaOffsets:
        """The table's progress without topics that it was landed from before and is no more."""
        return KafkaOffsets(
            {place: offset for place, offset in self._committed.offsets.items() if place[0] == self._spec.topic}
        )

    def _offsets_at(self, start: Start) -> Mapping[TopicPartition, int] | None:
        if isinstance(start, AtTimestamp) and self._group is not None:
            return self._group.offsets_at(start.milliseconds)
        return None

    def _record_start(self) -> None:
        """A first start that is not the earliest is progress of its own: the next run must not choose again."""
        if not self._progress_in_topic().offsets and not isinstance(self._first_start, Earliest):
            self._land(KafkaOffsets({**self._committed.offsets, **self._begin}), Counts())

    def _suspension(self, records: Records, reject: Reject) -> Suspended:
        at = reject.index
        return Suspended(
            f"landing of {self._spec.table} is suspended at topic {records.topics[at]!r}, partition {records.partitions[at]}, "
            f"offset {records.offsets[at]}: {reject.reason}",
            left_behind="every record before it is in the table; this one and those after it in its partition are not",
            next_step=f"mend the declaration, or set 'on_error' = 'dead_letter' or 'skip' ({self._spec.declared.origin}), "
            f"then: lakeflow land {self._spec.table}",
        )


def _first_rejected(records: Records, rejects: tuple[Reject, ...]) -> dict[TopicPartition, int]:
    """For each partition with a reject, the offset of the first."""
    first: dict[TopicPartition, int] = {}
    for reject in rejects:
        first.setdefault((records.topics[reject.index], records.partitions[reject.index]), records.offsets[reject.index])
    return first


def _letter(records: Records, reject: Reject) -> DeadLetter:
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
    )
