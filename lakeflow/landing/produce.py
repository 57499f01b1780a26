"""Brings the rows of a table into its sink's topic: batch by batch, each with the position in the table that it ends at.

What comes next is decided by the position that the brokers hold, and by nothing else. Each batch, and the claim at the start
that shows whether brokers hold positions at all, is one commit of the sink.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from lakeflow.errors import SourceChanged, Terminal, UsageError
from lakeflow.job import Caps
from lakeflow.lake.catalog import Lake, Table, arrow_schema
from lakeflow.lake.changes import batches_after
from lakeflow.lake.read import Batch, position_at, snapshot_at
from lakeflow.landing.produce_changes import pieces
from lakeflow.landing.produce_rows import RecordWriter
from lakeflow.landing.produce_spec import SinkSpec
from lakeflow.progress import SnapshotPosition
from lakeflow.topics.sink import Place, Sink

BEGINNING = "beginning"
NOW = "now"
"""Where a sink goes on from, in place of its position: the whole table again, or what comes after all that is there now; else
a snapshot's id."""


@dataclass(frozen=True, slots=True)
class Produced:
    """What went to the topic: read = written + unchanged, in rows and in keys whose row went; `tombstones` of `written`.

    `start` and `end` are positions as the brokers hold them.
    """

    read: int = 0
    written: int = 0
    tombstones: int = 0
    unchanged: int = 0
    commits: int = 0
    start: str | None = None
    end: str | None = None


def number_of(position: SnapshotPosition | None) -> int:
    """What the sink's group shows as its offset: the sequence number of the last commit that was begun."""
    return 0 if position is None else position.sequence


def dumps(position: SnapshotPosition | None) -> str:
    """The position as the brokers hold it; None is the very beginning."""
    return BEGINNING if position is None else position.dumps()


def loads(text: str) -> SnapshotPosition | None:
    """The inverse of `dumps`. Raises Terminal where the text is not of this form."""
    return None if text == BEGINNING else SnapshotPosition.loads(text)


def start_of(spec: SinkSpec, place: Place, again: str | None, table: Callable[[], Table]) -> SnapshotPosition | None:
    """From where the sink goes on: `again` (BEGINNING, NOW or a snapshot's id) where it is given, else its position.

    Raises Terminal where there is none although the topic was written: brokers forget positions that nobody moves for long.
    """
    if again is not None:
        return None if again == BEGINNING else _asked(spec, again, table())
    if place.position is not None:
        return loads(place.position)
    if place.was_written:
        raise Terminal(
            f"{spec.where}: topic {spec.topic!r} was written to, and the brokers hold no position of this sink: others write "
            "to the topic, or the position has expired (offsets.retention.minutes of the brokers)",
            left_behind="the topic as it is",
            next_step=f"lakeflow produce {spec.table} --from beginning, --from now, or --from and a snapshot's id",
        )
    return None


def _asked(spec: SinkSpec, again: str, table: Table) -> SnapshotPosition:
    if again == NOW:
        return position_at(table, table.current_snapshot())
    if not again.isdecimal():
        raise UsageError(f"--from of {spec.table} is {again!r}; valid: {BEGINNING}, {NOW}, or a snapshot's id")
    return position_at(table, snapshot_at(table, snapshot_id=int(again)))


def batches(spec: SinkSpec, table: Table, position: SnapshotPosition | None, caps: Caps) -> Iterator[Batch]:
    """What is to be sent after a position, a transaction each. Raises SourceChanged where the sink cannot go on."""
    try:
        yield from batches_after(table, position, spec.on_change.reading, caps)
    except SourceChanged as error:
        raise stuck(spec, error) from error


def stuck(spec: SinkSpec, error: SourceChanged) -> SourceChanged:
    """The same of a sink: what to do is other than for a job."""
    followed = "" if spec.is_keyed else "'sink.key' in its WITH lets changed and removed rows be followed by key; or "
    return SourceChanged(
        f"{spec.where}: the sink cannot go on: {error.message}",
        left_behind=f"what topic {spec.topic} holds, as of the last commit",
        next_step=f"{followed}lakeflow produce {spec.table} --from now leaves out what changed until now, --from beginning "
        "sends all rows again",
    )


class Producing:
    """A sink that is open; `caps` bound a batch. `told` is given the counts after each commit. Raises as `start_of` does."""

    def __init__(
        self,
        spec: SinkSpec,
        sink: Sink,
        lake: Lake,
        caps: Caps,
        *,
        again: str | None = None,
        told: Callable[[Produced], None] = lambda produced: None,
    ) -> None:
        self._spec, self._sink, self._lake, self._caps, self._told = spec, sink, lake, caps, told
        self._position = start_of(spec, sink.place(), again, lambda: lake.table(spec.table))
        start = dumps(self._position)
        self.produced = Produced(start=start, end=start)
        self._commit()

    def claim(self) -> None:
        """Commit the position that the brokers hold anew, so that they forget it later. Raises as `start_of` does."""
        self._take_up()
        self._commit()

    def _commit(self) -> None:
        """The position as it is: whoever else has the sink open is found out."""
        self._sink.commit(dumps(self._position), number_of(self._position))

    def _take_up(self) -> None:
        """Go on from what the brokers hold now: a topic that was made anew has lost the position with its records."""
        self._position = start_of(self._spec, self._sink.place(), None, lambda: self._lake.table(self._spec.table))

    def catch_up(self, stop: Callable[[], bool]) -> None:
        """Send what the table holds now, or until a stop is asked for. A table that is not there yet has nothing.

        Raises what `start_of`, `Sink.write` and `Sink.commit` raise, SourceChanged, and Terminal for a row that makes no
        record.
        """
        if not self._lake.exists(self._spec.table):
            return
        table = self._lake.table(self._spec.table)
        if next(batches(self._spec, table, self._position, self._caps), None) is None:
            return
        self._take_up()
        writer = RecordWriter(self._spec, arrow_schema(table))
        for batch in batches(self._spec, table, self._position, self._caps):
            if stop():
                return
            self._send(table, writer, batch)

    def _send(self, table: Table, writer: RecordWriter, batch: Batch) -> None:
        read = written = tombstones = 0
        try:
            for piece in pieces(self._spec, writer, table, batch):
                self._sink.write(piece.records)
                read, written, tombstones = read + piece.read, written + len(piece.records), tombstones + piece.tombstones
        except SourceChanged as error:
            raise stuck(self._spec, error) from error
        self._sink.commit(dumps(batch.end), number_of(batch.end))
        self._position, done = batch.end, self.produced
        self.produced = replace(
            done,
            read=done.read + read,
            written=done.written + written,
            tombstones=done.tombstones + tombstones,
            unchanged=done.unchanged + read - written,
            commits=done.commits + 1,
            end=dumps(batch.end),
        )
        self._told(self.produced)
