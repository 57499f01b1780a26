"""A Source made of lists, for tests: no broker, a crash on demand, pauses, topics of any length without the memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import overload

from lakeflow.errors import LakeflowError, SourceChanged, UnknownName
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.names import NamedTopics, TopicPattern, Topics, resolved
from lakeflow.topics.source import Bounds, Headers, Offsets, Records, TopicPartition, size_of

Row = tuple[bytes | None, bytes | None, int]
"""Key, value, timestamp in ms since the epoch."""


class Crash(BaseException):
    """The process dies here. No Exception, so that nothing on the way catches it."""


class Generated(Sequence[Row]):
    """`count` records, each made by `make(offset)` when it is read."""

    def __init__(self, count: int, make: Callable[[int], Row]) -> None:
        self._count = count
        self._make = make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self._make(offset) for offset in range(self._count)[place]]
        return self._make(range(self._count)[place])

    def __iter__(self) -> Iterator[Row]:
        return map(self._make, range(self._count))


class ListSource:
    """Source, IdentifiedSource and GroupSource over `partitions`, whose rows stand at their offsets; rows added later are seen.

    `crash_after` records the next poll raises Crash. The polls whose numbers (from 0) are in `pauses` give nothing.
    `begins` are the first offsets that are kept, 0 where not given. `topics` names topics that must be there, or is a
    pattern, of whose topics only the partitions are there. `topic_ids` are those that the cluster would give.
    `poll_bytes` is what a poll gives at the most, and one record more. `away` has an error for calls of `bounds` by number.
    `headers` by (topic, partition, offset) and `leader_epochs` by partition are given only where the maps are.
    `acknowledged` is the last progress that was acknowledged, `closed` whether `close` was called.
    """

    def __init__(
        self,
        partitions: Mapping[TopicPartition, Sequence[Row]],
        *,
        crash_after: int | None = None,
        pauses: Collection[int] = (),
        begins: Offsets | None = None,
        topics: Topics | Sequence[str] = (),
        topic_ids: Mapping[str, str] | None = None,
        poll_bytes: int | None = None,
        away: Mapping[int, LakeflowError] | None = None,
        headers: Mapping[tuple[str, int, int], Headers] | None = None,
        leader_epochs: Mapping[TopicPartition, int] | None = None,
    ) -> None:
        self._partitions = partitions
        self._crash_after = crash_after
        self._pauses = pauses
        self._begins = begins or {}
        self._topics = topics if isinstance(topics, NamedTopics | TopicPattern) else NamedTopics(tuple(topics))
        self._topic_ids = topic_ids or {}
        self._poll_bytes = poll_bytes
        self._away = away or {}
        self._headers = headers
        self._leader_epochs = leader_epochs
        self._asked = 0
        self._next: dict[TopicPartition, int] = {}
        self._ended: set[TopicPartition] = set()
        self._polls = 0
        self._handed_out = 0
        self.acknowledged: KafkaOffsets | None = None
        self.closed = False

    def bounds(self) -> Mapping[TopicPartition, Bounds]:
        number, self._asked = self._asked, self._asked + 1
        if number in self._away:
            raise self._away[number]
        topics = self._there()
        return {
            place: Bounds(self._begins.get(place, 0), len(rows))
            for place, rows in self._partitions.items()
            if place[0] in topics
        }

    def topic_ids(self) -> Mapping[str, str | None]:
        return {topic: self._topic_ids.get(topic) for topic in self._there()}

    def _there(self) -> set[str]:
        known = {topic for topic, _ in self._partitions}
        meant = resolved(self._topics, known)
        return set(meant) if isinstance(self._topics, TopicPattern) else known

    def assign(self, start: Offsets) -> None:
        for topic, partition in start:
            if (topic, partition) not in self._partitions:
                raise UnknownName(
                    "partition", f"{topic}/{partition}", [f"{name}/{number}" for name, number in self._partitions]
                )
        self._next = dict(start)
        self._ended = set()

    def poll(self, limit: int, timeout: float) -> Records:
        """Never waits. Takes from each partition in turn, the one that was read least recently first."""
        number, self._polls = self._polls, self._polls + 1
        if self._crash_after is not None:
            if self._handed_out >= self._crash_after:
                raise Crash(f"after {self._handed_out} records")
            limit = min(limit, self._crash_after - self._handed_out)
        if number in self._pauses:
            return self._empty({})
        ends: dict[TopicPartition, int] = {}
        records = self._empty(ends)
        for place in list(self._next):
            if self._poll_bytes is None or size_of(records) < self._poll_bytes:
                self._take(place, limit - len(records), records, ends)
        self._handed_out += len(records)
        return records

    def _empty(self, ends: Offsets) -> Records:
        return Records(
            headers=None if self._headers is None else [],
            leader_epochs=None if self._leader_epochs is None else [],
            ends=ends,
        )

    def _take(self, place: TopicPartition, limit: int, records: Records, ends: dict[TopicPartition, int]) -> None:
        rows, offset = self._partitions[place], self._next[place]
        if not self._begins.get(place, 0) <= offset <= len(rows):
            raise SourceChanged(
                f"topic {place[0]!r} partition {place[1]} has no offset {offset}; "
                f"valid: {self._begins.get(place, 0)} to {len(rows)}"
            )
        taken = rows[offset : offset + limit]
        if self._poll_bytes is not None:
            taken = _first_bytes(taken, self._poll_bytes - size_of(records))
        after = offset + len(taken)
        if taken:
            del self._next[place]  # to the end of the queue
            self._next[place] = after
            self._ended.discard(place)
            _append(records, place, offset, taken)
            if records.headers is not None and self._headers is not None:
                records.headers.extend(self._headers.get((*place, number)) for number in range(offset, after))
            if records.leader_epochs is not None and self._leader_epochs is not None:
                records.leader_epochs.extend([self._leader_epochs.get(place)] * len(taken))
        if after == len(rows) and place not in self._ended:
            self._ended.add(place)
            ends[place] = after

    def close(self) -> None:
        self.closed = True

    def offsets_at(self, timestamp: int) -> Offsets:
        return {
            place: next((offset for offset, row in enumerate(rows) if row[2] >= timestamp), len(rows))
            for place, rows in self._partitions.items()
        }

    def acknowledge(self, progress: KafkaOffsets) -> None:
        self.acknowledged = progress


def _first_bytes(rows: Sequence[Row], most: int) -> Sequence[Row]:
    """The first rows up to the one whose key and value pass `most` bytes."""
    for place, (key, value, _) in enumerate(rows):
        most -= len(key or b"") + len(value or b"")
        if most <= 0:
            return rows[: place + 1]
    return rows


def _append(records: Records, place: TopicPartition, offset: int, rows: Sequence[Row]) -> None:
    topic, partition = place
    keys, values, timestamps = zip(*rows, strict=True)
    records.topics.extend([topic] * len(rows))
    records.partitions.extend([partition] * len(rows))
    records.offsets.extend(range(offset, offset + len(rows)))
    records.timestamps.extend(timestamps)
    records.timestamp_types.extend([1] * len(rows))
    records.keys.extend(keys)
    records.values.extend(values)
