"""Decodes a table's dead letters again with today's declaration, and lands the rows of those that give one now. Exactly once.

Letters come in the order of topic, partition and offset. Those that give rows are claimed, marked and landed, a batch at a
time (replays.py); the others stay as they are. A landing of the table may run beside: each has a progress of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace

import pyarrow as pa

from lakeflow.errors import SourceChanged, UsageError
from lakeflow.lake.catalog import Lake, arrow_schema
from lakeflow.lake.commit import Change, CommitProtocol, Progress
from lakeflow.lake.evolution import evolve
from lakeflow.lake.read import snapshot_at, splits_at
from lakeflow.landing.counts import Counts, Sizes
from lakeflow.landing.dead_letters import DEAD_LETTERS, Place
from lakeflow.landing.decode import RecordDecoder
from lakeflow.landing.discard import discarded_on_error
from lakeflow.landing.fitting import Fitting, Unfit
from lakeflow.landing.ledger import WRITER as LANDING
from lakeflow.landing.letters_ordered import OrderedLetters
from lakeflow.landing.letters_read import Wanted, first_letter_after
from lakeflow.landing.replays import WRITER, Claims, Replays, mark, next_number
from lakeflow.landing.spec import ChangelogMode, LandingSpec
from lakeflow.landing.taking import Taken
from lakeflow.landing.target import Target, fitting_of
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.formats.format import Reject, RejectKind
from lakeflow.topics.source import Records, TopicPartition

NAMED = 5
"""Letters that are named, with the reason, of those that still give no row."""


@dataclass(frozen=True, slots=True)
class Left:
    """A letter that gives no row with today's declaration either, and why."""

    place: Place
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """What letters came to: `taken` has the rows of some, `settled` are these and those that need none by the rules of their
    format, `left` the others.
    """

    taken: Taken
    settled: tuple[Place, ...]
    left: tuple[Left, ...]

    @property
    def counts(self) -> Counts:
        passed = len(self.taken.decoded.passed)
        read = len(self.settled) + len(self.left)
        return Counts(read, len(self.settled) - passed, dead_lettered=len(self.left), filtered=passed)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay did: counts, of which `dead_lettered` are the letters that stay; the snapshots of the landed table; its
    progress of `replay` before and after; and the first of the letters that stay.
    """

    table: str
    counts: Counts = field(default_factory=Counts)
    snapshots: tuple[int, ...] = ()
    start: str | None = None
    end: str | None = None
    left: tuple[Left, ...] = ()


@dataclass(frozen=True, slots=True)
class Which:
    """The letters to be replayed: of this kind, in this partition; None: of any."""

    kind: str | None = None
    partition: TopicPartition | None = None


def attempted(records: Records, decoder: RecordDecoder, fitting: Fitting) -> Attempt:
    """What `records` come to for a table that grows. Pure, but for a schema registry.

    Raises SourceUnavailable where the registry is away.
    """
    left: list[Left] = []
    while True:
        decoded = fitting.checked(decoder.decode(records))
        decoded = replace(decoded, parts=tuple(part for part in decoded.parts if part.rows.num_rows))
        evolved = fitting.evolution(decoded.parts)
        if not isinstance(evolved, Unfit):
            break
        left += [_left(records, Reject(place, RejectKind.MISFIT, evolved.message)) for place in evolved.places]
        unfit = set(evolved.places)
        records = records.chosen([place not in unfit for place in range(len(records))])
    rejects = [*decoded.rejects, *(Reject(place, RejectKind.MISFIT, TRUNCATES) for place in decoded.truncates)]
    gone = {reject.index for reject in rejects}
    settled = tuple(_place(records, place) for place in range(len(records)) if place not in gone)
    left += [_left(records, reject) for reject in rejects]
    taken = Taken(records, records, replace(decoded, rejects=(), truncates=()), evolved, None)
    return Attempt(taken, settled, tuple(sorted(left, key=lambda one: one.place)))


class Replay:
    """One replay of a table's letters: `run` or `preview` may be called, once. `on_progress` is told the counts so far, and
    `done` is what has been done by then.

    Raises UsageError for a table by key, UnknownName for one that is not there, SchemaMismatch where its declaration does
    not fit it.
    """

    def __init__(
        self,
        spec: LandingSpec,
        decoder: RecordDecoder,
        lake: Lake,
        commits: CommitProtocol,
        *,
        which: Which = Which(),
        sizes: Sizes = Sizes(),
        on_progress: Callable[[Counts], None] = lambda counts: None,
    ) -> None:
        require_appends(spec)
        self._spec = spec
        self._decoder = decoder
        self._lake = lake
        self._commits = commits
        self._sizes = sizes
        self._on_progress = on_progress
        self._table_uuid = str(lake.table(spec.table).metadata.table_uuid)
        # The progress is read before all that is decided by it: a replay that lands in between is met at the claim.
        self._text = commits.progress(spec.table, WRITER)
        self._claims = Claims.loads(self._text)
        self._passed = KafkaOffsets.loads(commits.progress(spec.table, LANDING))
        self._replays = Replays(lake, spec.table, self._table_uuid, self._claims)
        self._letters = _letters_of(lake, commits, spec, self._table_uuid, which, sizes)
        self.done = Replayed(spec.table, start=self._text, end=self._text)

    def preview(self, stop: Callable[[], bool] = lambda: False) -> Replayed:
        """What `run` would do now. Changes nothing."""
        table = self._lake.table(self._spec.table)
        columns = declared_columns(self._spec, arrow_schema(table))
        for records in self._windows(stop):
            attempt = attempted(records, self._decoder, fitting_of(self._spec, columns))
            if attempt.taken.evolved is not None:
                columns = attempt.taken.evolved.schema
            self._account(attempt)
        return self.done

    def run(self, stop: Callable[[], bool] = lambda: False) -> Replayed:
        """Land what gives rows now, until `stop()`; the batch in hand then is finished first.

        Raises Fenced where another replay of the table began meanwhile; CatalogUnavailable, StorageFull, SourceUnavailable as
        they come. Then the batches before are in the table, and the one in hand is in it whole or not at all.
        """
        target: Target | None = None
        for records in self._windows(stop):
            target = target or Target(self._spec, self._decoder, self._lake, self._commits, self._sizes)
            self._require_same(target)
            with discarded_on_error(target, self._spec.table):
                attempt = attempted(records, self._decoder, target.fitting)
                if attempt.settled:
                    self._land(attempt, target)
            self._account(attempt)
        return self.done

    def _windows(self, stop: Callable[[], bool]) -> Iterator[Records]:
        if self._letters is None:
            return
        for records in self._letters.windows(self._waiting):
            if stop():
                return
            yield records

    def _waiting(self, places: Collection[Place]) -> Collection[Place]:
        """Those that no replay has landed, and that the landing has behind it: it would come to the others itself."""
        behind = {place for place in places if place[2] < (self._passed.next_offset(*place[:2]) or 0)}
        return behind - self._replays.among(behind)

    def _land(self, attempt: Attempt, target: Target) -> None:
        if attempt.taken.evolved is not None:
            target.evolve(attempt.taken.evolved)
        target.write(attempt.taken)
        number = self._claim()
        places = list(attempt.settled)
        name, buffer_bytes = self._spec.table, self._sizes.buffer_bytes
        mark(self._lake, self._commits, name, self._table_uuid, places, number, buffer_bytes=buffer_bytes)
        landed = self._claims.land()
        counts = replace(attempt.counts, read=len(attempt.settled), dead_lettered=0)
        snapshot = target.commit(Progress(WRITER, self._text, landed.dumps()), counts)
        self._moved(landed)
        target.renew()
        self.done = replace(self.done, snapshots=(*self.done.snapshots, snapshot), end=self._text)

    def _claim(self) -> int:
        """Take a number, which fences every replay that is under way. Raises Fenced where another has done so since."""
        properties = self._lake.table(self._spec.table).metadata.properties
        number = next_number(self._claims, properties, self._replays)
        claimed = self._claims.claimed(number)
        progress = Progress(WRITER, self._text, claimed.dumps())
        self._commits.commit(Change(self._spec.table, progress=progress, table_uuid=self._table_uuid))
        self._moved(claimed)
        return number

    def _moved(self, claims: Claims) -> None:
        self._claims, self._text = claims, claims.dumps()

    def _account(self, attempt: Attempt) -> None:
        done = self.done
        left = (*done.left, *attempt.left)[:NAMED]
        self.done = replace(done, counts=done.counts + attempt.counts, left=left)
        self._on_progress(self.done.counts)

    def _require_same(self, target: Target) -> None:
        if target.table_uuid != self._table_uuid:
            raise SourceChanged(
                f"table {self._spec.table} was dropped and made anew while its dead letters were read",
                next_step=f"lakeflow deadletters list {self._spec.table}",
            )


def declared_columns(spec: LandingSpec, present: pa.Schema) -> pa.Schema:
    """The columns that a landing would give a table of `present` before it takes any record. Pure.

    Raises SchemaMismatch where no evolution leads from there to what is declared.
    """
    if spec.columns is None:
        columns = pa.schema([column for column in present if column.name not in spec.metadata_columns])
    else:
        columns = spec.columns
    evolved = evolve(present, spec.stored(columns).schema, f"table {spec.table}")
    return present if evolved is None else evolved.schema


TRUNCATES = "it empties the table, which 'changelog.mode' = 'append' cannot show"


def require_appends(spec: LandingSpec) -> None:
    """Raises UsageError for a table by key: a letter is older than what came after it, and the last change alone is kept."""
    if spec.mode is ChangelogMode.UPSERT:
        raise UsageError(
            f"table {spec.table} is kept by key: a dead letter that is replayed would overwrite what came after it",
            left_behind=f"the dead letters, as they were: lakeflow deadletters list {spec.table}",
            next_step=f"mend the declaration ({spec.declared.origin}), and land the topic into a new table",
        )


def _letters_of(
    lake: Lake, commits: CommitProtocol, spec: LandingSpec, table_uuid: str, which: Which, sizes: Sizes
) -> OrderedLetters | None:
    since = first_letter_after(commits, spec.table, table_uuid)
    if since is None:
        return None
    table = lake.table(DEAD_LETTERS)
    splits = tuple(split for split in splits_at(table, snapshot_at(table)) if split.sequence > since)
    wanted = Wanted((spec.table,), which.kind)
    return OrderedLetters(table, splits, wanted, which.partition, most_bytes=sizes.buffer_bytes)


def _place(records: Records, index: int) -> Place:
    return records.topics[index], records.partitions[index], records.offsets[index]


def _left(records: Records, reject: Reject) -> Left:
    return Left(_place(records, reject.index), str(reject.kind), reject.reason)
