"""Lands topics in one table: poll, decode, cut, commit, resume.

The table is the only ledger. A landing starts from the offsets that the table shows, reads, and commits rows and new
offsets as one snapshot; dead letters land just before, with a ledger of their own (dead_letters.py). Whatever dies in
between has landed nothing, and the next start reads it again.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from lakeflow.errors import Suspended
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import CommitProtocol
from lakeflow.landing.counts import Counts, Landed, Sizes
from lakeflow.landing.cut import Filling, is_due, room, wait
from lakeflow.landing.dead_letters import DeadLetter, DeadLetters, Letters, letter_of
from lakeflow.landing.decode import RecordDecoder
from lakeflow.landing.discard import discarded_on_error
from lakeflow.landing.expected import fate, findings
from lakeflow.landing.ledger import Ledger
from lakeflow.landing.reading import Reading
from lakeflow.landing.rows import next_offsets
from lakeflow.landing.spec import LandingSpec, OnError
from lakeflow.landing.taking import Taken, take
from lakeflow.landing.target import Target
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.source import size_of

logger = logging.getLogger("lakeflow.landing")

POLL_RECORDS = 16_384
ENDS_SECONDS = 600.0
"""Without a commit, until offsets that hold no record are put on record."""


@dataclass(slots=True)
class _Batch:
    """The batch in hand: what was read and not yet committed."""

    filling: Filling = field(default_factory=Filling)
    counts: Counts = field(default_factory=Counts)
    letters: list[DeadLetter] = field(default_factory=list)
    letter_bytes: int = 0
    violations: Counter[str] = field(default_factory=Counter)


class Landing:
    """One landing, from the table's progress on. `run` may be called once. `letters` takes the place of
    lakeflow.dead_letters.
    """

    def __init__(
        self,
        spec: LandingSpec,
        reading: Reading,
        decoder: RecordDecoder,
        lake: Lake,
        commits: CommitProtocol,
        *,
        letters: Letters | None = None,
        sizes: Sizes = Sizes(),
        clock: Callable[[], float] = time.monotonic,
        on_progress: Callable[[Counts, int], None] = lambda counts, left: None,
        on_commit: Callable[[Landed], None] = lambda landed: None,
    ) -> None:
        self._spec = spec
        self._reading = reading
        self._decoder = decoder
        self._sizes = sizes
        self._clock = clock
        self._on_progress = on_progress
        self._on_commit = on_commit
        self._target = Target(spec, decoder, lake, commits, sizes)
        self._ledger = Ledger(commits, spec.table, shared=reading.is_shared)
        self._letters = letters or DeadLetters(
            lake,
            commits,
            spec.table,
            self._target.table_uuid,
            buffer_bytes=sizes.buffer_bytes,
            shared=reading.is_shared,
        )
        self._batch = _Batch()
        self._landed_at = clock()
        self._snapshots: list[int] = []
        self._seen = Counts()
        self._counts = Counts()
        self._violations: Counter[str] = Counter()
        self._start = self._ledger.progress
        reading.open(self._ledger, commit=self._commit, drop=self._drop)

    @property
    def landed(self) -> Landed:
        """What has been committed so far."""
        found = findings(self._spec.declared.expectations, self._violations)
        return Landed(self._spec.table, self._counts, tuple(self._snapshots), self._start, self._ledger.progress, found)

    def run(self, *, follow: bool = False, stop: Callable[[], bool] = lambda: False) -> Landed:
        """Land what the topics hold now, or with `follow` until `stop()`; what is in hand then is committed first.

        Raises Suspended at a record that gives no row where the table says so, with all before it landed; Fenced where
        another process lands the same table; SourceUnavailable, CatalogUnavailable, StorageFull as they come.
        """
        suspended: Suspended | None = None
        with discarded_on_error(self._target, self._spec.table):
            self._record_start()
            self._reading.begin()
            while not (stop() or suspended or (not follow and self._reading.has_caught_up())):
                suspended = self._take()
                if self._is_due():
                    self._commit()
                if follow and not suspended:
                    self._reading.look()
                    if self._batch.counts.read == 0 and self._clock() - self._landed_at >= ENDS_SECONDS:
                        self._land_ends()
            self._commit()
            self._land_ends()
        if suspended:
            raise suspended
        return self.landed

    def _is_due(self) -> bool:
        is_full = self._batch.letter_bytes >= self._sizes.buffer_bytes
        return is_full or is_due(self._batch.filling, self._spec.limits, self._clock())

    def _take(self) -> Suspended | None:
        """Read what comes next; where a record must not be passed, what to raise once all before it has landed."""
        limits, now = self._spec.limits, self._clock()
        records = self._reading.poll(
            room(self._batch.filling, limits, POLL_RECORDS),
            wait(self._batch.filling, limits, now, self._sizes.poll_seconds),
        )
        if len(records) == 0:
            self._reading.reach(next_offsets(records))
            return None
        taken = take(records, self._spec, self._decoder, self._target.fitting)
        if taken.evolved is not None:
            # What is in hand has the columns of before; it lands with those, and the new ones with the first row that has them.
            # By what the table is then, the records are taken once more: another writer may have given it columns too.
            self._commit()
            taken = take(records, self._spec, self._decoder, self._target.fitting)
            if taken.evolved is not None:
                self._target.evolve(taken.evolved)
        self._account(taken, self._target.write(taken))
        return taken.suspended

    def _account(self, taken: Taken, written: int) -> None:
        batch, rejects = self._batch, taken.decoded.rejects
        self._reading.reach(next_offsets(taken.records))
        kept = [reject for reject in rejects if fate(reject, self._spec) is OnError.DEAD_LETTER]
        letters = [letter_of(taken.mine, reject) for reject in kept]
        batch.letters += letters
        batch.letter_bytes += sum(letter.size for letter in letters)
        batch.violations.update(taken.decoded.violations)
        counts = Counts(
            read=len(taken.records),
            written=written,
            dead_lettered=len(kept),
            skipped=len(rejects) - len(kept),
            filtered=taken.filtered,
        )
        batch.counts += counts
        batch.filling = batch.filling.take(len(taken.records), size_of(taken.records), self._clock())
        self._seen += counts
        self._on_progress(self._seen, self._reading.left())

    def _commit(self) -> None:
        """Land the batch in hand, if there is anything in it."""
        if self._batch.counts.read == 0:
            return
        self._reading.verify()
        batch = self._batch
        if batch.letters:
            self._letters.write(batch.letters, KafkaOffsets(dict(self._reading.reached)))
        self._violations += batch.violations
        self._land(batch.counts)
        for name, count in sorted(batch.violations.items()):
            logger.warning("table %s: expectation %r is violated by %d records", self._spec.table, name, count)
        self._batch = _Batch()

    def _land_ends(self) -> None:
        """Offsets that hold no record were passed too (markers of transactions): else, once retention has passed them, records
        would seem to be gone that never were.
        """
        shown = self._ledger.progress.offsets
        moved = any(offset > shown.get(place, 0) for place, offset in self._reading.reached.items() if place in shown)
        if moved:
            self._reading.verify()
            self._land(Counts())

    def _land(self, counts: Counts) -> None:
        reached, topic_ids = dict(self._reading.reached), self._reading.topic_ids
        self._snapshots.append(self._target.commit(self._ledger.advance(reached, topic_ids), counts))
        self._ledger.moved(reached, topic_ids)
        self._landed_at = self._clock()
        self._counts += counts
        self._target.renew()
        self._on_commit(self.landed)
        self._reading.acknowledge(self._ledger.progress)

    def _drop(self) -> None:
        """Forget the batch in hand: others may have read it since."""
        self._target.abort()
        self._batch = _Batch()

    def _record_start(self) -> None:
        """A first start that is not the earliest is progress of its own: the next run must not choose again."""
        if self._reading.chose_start():
            self._land(Counts())
