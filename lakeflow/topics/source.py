"""Where records come from: the values and the protocols that a landing knows of a topic."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import Any, Protocol, assert_never

from lakeflow.errors import DeclarationError, SourceChanged, UnknownName, did_you_mean
from lakeflow.progress import KafkaOffsets

TopicPartition = tuple[str, int]
Offsets = Mapping[TopicPartition, int]
Headers = list[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Records:
    """The records of one poll as columns of equal length, in the order they came; offsets rise within a partition.

    `timestamps` are milliseconds since the epoch, -1 where unknown; `timestamp_types` 0 unknown, 1 set by the producer,
    2 by the broker. `headers` is None where they were not asked for, and holds None for a record without any.
    `leader_epochs` is None where they were not asked for, and holds None where the broker did not say (before Kafka 0.11).
    `ends` has for each partition whose end this poll reached the offset that is read next. It can lie beyond the last
    record's successor: transaction markers and compacted records take offsets and are never handed out. It never lies
    before a record of the same poll: an end that records came behind is none (`without_passed_ends`).
    """

    topics: list[str] = field(default_factory=list)
    partitions: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    timestamp_types: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[Headers | None] | None = None
    leader_epochs: list[int | None] | None = None
    ends: Offsets = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.offsets)

    def chosen(self, keep: Sequence[bool], ends: Offsets | None = None) -> Records:
        """The records of which `keep` is true, with `ends`."""
        return self._each(lambda column: list(compress(column, keep)), ends or {})

    def between(self, begin: int, end: int, ends: Offsets | None = None) -> Records:
        """The records from place `begin` to before `end`, with `ends`."""
        return self._each(lambda column: column[begin:end], ends or {})

    def _each(self, part: Callable[[list[Any]], list[Any]], ends: Offsets) -> Records:
        return Records(
            topics=part(self.topics),
            partitions=part(self.partitions),
            offsets=part(self.offsets),
            timestamps=part(self.timestamps),
            timestamp_types=part(self.timestamp_types),
            keys=part(self.keys),
            values=part(self.values),
            headers=None if self.headers is None else part(self.headers),
            leader_epochs=None if self.leader_epochs is None else part(self.leader_epochs),
            ends=ends,
        )


def last_offsets(records: Records) -> dict[TopicPartition, int]:
    """For each partition the last of its offsets. Those of a single topic are told apart by number, for a third of the cost."""
    topics, partitions, offsets = records.topics, records.partitions, records.offsets
    if topics and topics.count(topics[0]) == len(topics):
        last = dict(zip(partitions, offsets, strict=True))
        return {(topics[0], partition): offset for partition, offset in last.items()}
    return dict(zip(zip(topics, partitions, strict=True), offsets, strict=True))


def without_passed_ends(records: Records) -> Records:
    """`records` without the ends that records of the same poll came behind: they were written while it went on."""
    if not records.ends:
        return records
    last = last_offsets(records)
    return replace(records, ends={place: end for place, end in records.ends.items() if end > last.get(place, -1)})


def size_of(records: Records, begin: int = 0) -> int:
    """Bytes of the values and keys of the records from the place `begin` on."""
    return sum(map(len, filter(None, records.values[begin:]))) + sum(map(len, filter(None, records.keys[begin:])))


@dataclass(frozen=True, slots=True)
class Bounds:
    """A partition's records at one moment: `begin` is the first offset that is kept, `end` the next to be written."""

    begin: int
    end: int


class Source(Protocol):
    """Records of one or several topics, from where it is told to start. Used by one thread."""

    def bounds(self) -> Mapping[TopicPartition, Bounds]:
        """The bounds of every partition now.

        Raises UnknownName for a topic that is not there and SourceUnavailable where no broker answers in time.
        """
        ...

    def assign(self, start: Offsets) -> None:
        """Reads on from these offsets, and from no other partition. Replaces what was assigned before."""
        ...

    def poll(self, limit: int, timeout: float) -> Records:
        """At most `limit` records; waits `timeout` seconds at most for the first, and gives none after that.

        Stops early where keys and values pass the bytes that the source was made to give at once; records of one size go
        past them by one record at the most, once the source has seen the size.

        Raises SourceChanged where an assigned offset is no longer, or not yet, in its partition (it never moves to
        another by itself) and SourceUnavailable where the brokers have been away for longer than the source bears.
        """
        ...

    def close(self) -> None:
        """Lets go of all resources. May be called twice; nothing else may be called afterwards."""
        ...


class IdentifiedSource(Protocol):
    """What a source knows of its topics beside their names."""

    def topic_ids(self) -> Mapping[str, str | None]:
        """For each topic that is read now, the cluster's id of it: a topic that is deleted and created anew has another.

        None where the cluster gives none (Kafka before 2.8, the embedded broker). Raises as `Source.bounds` does.
        """
        ...


class Handover(Protocol):
    """What the reader of a SharedSource does as partitions come and go.

    `SharedSource.poll` calls these, in its thread, while the group waits for them to return. What one raises, that poll
    and every later one raise. Records that a poll has not given out yet are never in the reader's hand: the source drops
    those of partitions that go.
    """

    def gained(self, places: Collection[TopicPartition]) -> Offsets:
        """The offset to read each of these on from, by what the table says now; nobody else holds them."""
        ...

    def revoked(self, places: Collection[TopicPartition]) -> None:
        """These go to others as soon as this returns. What is in hand of them is to be committed before, or dropped.

        There is time up to `max.poll.interval.ms`, with what the commit before took; past it they are lost.
        """
        ...

    def lost(self, places: Collection[TopicPartition]) -> None:
        """These may be others' since some time: all that is in hand is to be dropped.

        Partitions that remain (as a rule there are none) are asked for by `gained` right after, to be read again.
        """
        ...


class SharedSource(Protocol):
    """Records of topics that several processes read together, each some of the partitions. Used by one thread.

    A consumer group deals the partitions out; where each is read from is asked of the Handover, never of the group. The
    group is no fence: a process that stood still through a rebalance learns of it at its next poll only, so a commit must
    depend on the progress of the partitions that it moves.
    """

    def bounds(self) -> Mapping[TopicPartition, Bounds]:
        """As `Source.bounds`, of all partitions, whoever reads them. Topics that are new are shared from the next poll on."""
        ...

    def join(self, handover: Handover) -> None:
        """Takes part from the next poll on. To be called once."""
        ...

    def poll(self, limit: int, timeout: float) -> Records:
        """As `Source.poll`, from the partitions that are held; none before the first are given. Calls the Handover."""
        ...

    def close(self) -> None:
        """Leaves the group. Calls no Handover: what is in hand is to be committed before. May be called twice."""
        ...


class GroupSource(Protocol):
    """What only a source with times and consumer groups can do."""

    def offsets_at(self, timestamp: int) -> Offsets:
        """For each partition the first offset whose record is of `timestamp` (ms since the epoch) or later, else its end.

        Raises as `Source.bounds` does.
        """
        ...

    def acknowledge(self, progress: KafkaOffsets) -> None:
        """Shows the group's lag as of `progress`. Nothing is ever read from it, so a failure is logged and not raised."""
        ...


@dataclass(frozen=True, slots=True)
class Earliest:
    """Begin with the first record that is kept."""


@dataclass(frozen=True, slots=True)
class Latest:
    """Begin with the first record that is written from now on."""


@dataclass(frozen=True, slots=True)
class AtTimestamp:
    """Begin with the first record of `milliseconds` since the epoch or later."""

    milliseconds: int


@dataclass(frozen=True, slots=True)
class AtOffsets:
    """Begin at the given offset of each given partition, at the beginning of the others."""

    offsets: Mapping[int, int]


Start = Earliest | Latest | AtTimestamp | AtOffsets

MODE = "scan.startup.mode"
TIMESTAMP = "scan.startup.timestamp-millis"
SPECIFIC = "scan.startup.specific-offsets"
MODES = ("earliest-offset", "latest-offset", "timestamp", "specific-offsets")
SPECIFIC_EXAMPLE = "'partition:0,offset:42;partition:1,offset:300'"
SPECIFIC_ENTRY = re.compile(r"partition:([0-9]+),offset:([0-9]+)")


def start_of(options: Mapping[str, str]) -> Start:
    """The Start that a table's WITH pairs name (those of Flink's Kafka connector); without any, Earliest.

    Raises UnknownName for another `scan.startup.` option, DeclarationError for a value that is none of the valid ones
    and for an option that the mode does not read.
    """
    for name in options:
        if name.startswith("scan.startup.") and name not in (MODE, TIMESTAMP, SPECIFIC):
            raise UnknownName("option", name, (MODE, TIMESTAMP, SPECIFIC))
    mode = options.get(MODE, MODES[0])
    for name, reader in ((TIMESTAMP, "timestamp"), (SPECIFIC, "specific-offsets")):
        if (name in options) != (mode == reader) and mode in MODES:
            verb = "has no effect" if name in options else "is missing"
            raise DeclarationError(f"option {name!r} {verb} with {MODE!r} = {mode!r}; it goes with {reader!r}")
    match mode:
        case "earliest-offset":
            return Earliest()
        case "latest-offset":
            return Latest()
        case "timestamp":
            return AtTimestamp(_milliseconds(options[TIMESTAMP]))
        case "specific-offsets":
            return AtOffsets(_specific(options[SPECIFIC]))
        case _:
            raise DeclarationError(f"option {MODE!r} is {mode!r}{did_you_mean(mode, MODES)}")


LATEST_MOMENT = 253_402_300_799_999
"""The last millisecond of the year 9999."""
LARGEST_OFFSET = 2**63 - 1


def _milliseconds(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > LATEST_MOMENT:
        raise DeclarationError(
            f"option {TIMESTAMP!r} is {text!r}; valid: milliseconds since 1970 in UTC, such as 1356998400000"
        )
    return int(text)


def _specific(text: str) -> dict[int, int]:
    offsets: dict[int, int] = {}
    for entry in text.split(";"):
        found = SPECIFIC_ENTRY.fullmatch(entry.strip())
        if not found:
            raise DeclarationError(f"option {SPECIFIC!r} holds {entry!r}; valid: {SPECIFIC_EXAMPLE}")
        partition, offset = map(int, found.groups())
        if partition >= 2**31 or offset > LARGEST_OFFSET:
            raise DeclarationError(f"option {SPECIFIC!r} holds {entry!r}, which is beyond all partitions and offsets")
        if partition in offsets:
            raise DeclarationError(f"option {SPECIFIC!r} gives partition {partition} twice: {text!r}")
        offsets[partition] = offset
    return offsets


def start_offsets(
    start: Start,
    bounds: Mapping[TopicPartition, Bounds],
    progress: KafkaOffsets,
    at: Offsets | None = None,
    *,
    topic_ids: Mapping[str, str | None] | None = None,
    later: bool = False,
) -> dict[TopicPartition, int]:
    """Where each partition of `bounds` is read from; `at` is `offsets_at` of an AtTimestamp, `topic_ids` those of now.

    Progress wins. A partition that a progress of its topic does not know was added later and is read from its beginning,
    so the first commit of a landing must carry an offset for every partition: start from `KafkaOffsets(start_offsets(..))`
    and advance that. `start` only counts for topics without progress; with `later` not even for those: they came into
    being after the landing did (a pattern found them), and are read from their beginning too.

    Raises SourceChanged where a topic is not the one that was read, or the progress lies outside a partition,
    DeclarationError where given offsets do. An id that either side does not know is no difference.
    """
    begun = {topic for topic, _ in progress.offsets}
    check_identity(progress, topic_ids or {})
    gone = sorted(set(progress.offsets) - set(bounds))
    if gone:
        topic, partition = gone[0]
        raise SourceChanged(
            f"topic {topic!r} has no partition {partition}, which was read up to offset {progress.offsets[gone[0]]}: "
            "the topic was removed or created anew",
            next_step=ANEW,
        )
    fresh = {place: bound for place, bound in bounds.items() if place[0] not in begun}
    offsets = _fresh_offsets(Earliest() if later else start, fresh, at or {})
    for place, bound in bounds.items():
        if place not in fresh:
            offsets[place] = _resumed(place, bound, progress.offsets.get(place))
    return offsets


def check_identity(progress: KafkaOffsets, topic_ids: Mapping[str, str | None]) -> None:
    """Raises SourceChanged where a topic of the progress has another id now. One that either side lacks is no difference.

    A reader is not told of it: after a topic was made anew, its records come from the same offset on as if nothing was.
    So this is to be asked after the last poll of what is committed, with ids of now.
    """
    for topic, read in sorted(progress.topic_ids.items()):
        now = topic_ids.get(topic)
        if now is not None and read != now:
            raise SourceChanged(
                f"topic {topic!r} was deleted and created anew since: the table holds records of the topic with id {read}, "
                f"and the one of now has id {now}; none of its offsets are those of before",
                next_step=ANEW,
            )


ANEW = "declare a new table over the topic, or take the topic's records from a copy, then run: lakeflow land"


def _resumed(place: TopicPartition, bound: Bounds, offset: int | None) -> int:
    topic, partition = place
    if offset is None:
        return bound.begin
    if offset < bound.begin:
        raise SourceChanged(
            f"topic {topic!r} partition {partition}: {bound.begin - offset:,} records from offset {offset} on are gone; "
            f"the first that is kept is at {bound.begin}",
            left_behind=f"the table holds the records before offset {offset}",
            next_step=ANEW,
        )
    if offset > bound.end:
        raise SourceChanged(
            f"topic {topic!r} partition {partition} ends at offset {bound.end}, before {offset} where the table goes on: "
            "the topic was created anew or lost records",
            next_step=ANEW,
        )
    return offset


def _fresh_offsets(start: Start, bounds: Mapping[TopicPartition, Bounds], at: Offsets) -> dict[TopicPartition, int]:
    match start:
        case Earliest():
            return {place: bound.begin for place, bound in bounds.items()}
        case Latest():
            return {place: bound.end for place, bound in bounds.items()}
        case AtTimestamp():
            return {place: at.get(place, bound.end) for place, bound in bounds.items()}
        case AtOffsets(offsets):
            return _given_offsets(offsets, bounds)
        case _:
            assert_never(start)


def _given_offsets(given: Mapping[int, int], bounds: Mapping[TopicPartition, Bounds]) -> dict[TopicPartition, int]:
    if not bounds:
        return {}
    topics = {topic for topic, _ in bounds}
    if len(topics) > 1:
        raise DeclarationError(
            f"option {SPECIFIC!r} is for one topic, and there are {len(topics)}: {', '.join(sorted(topics))}"
        )
    (topic,) = topics
    for partition, offset in given.items():
        bound = bounds.get((topic, partition))
        if bound is None:
            valid = ", ".join(str(number) for _, number in sorted(bounds))
            raise DeclarationError(f"option {SPECIFIC!r}: topic {topic!r} has no partition {partition}; valid: {valid}")
        if not bound.begin <= offset <= bound.end:
            raise DeclarationError(
                f"option {SPECIFIC!r}: partition {partition} of topic {topic!r} has no offset {offset}; "
                f"valid: {bound.begin} to {bound.end}"
            )
    return {place: given.get(place[1], bound.begin) for place, bound in bounds.items()}
