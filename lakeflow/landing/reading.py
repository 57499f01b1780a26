"""From where a landing reads: all partitions by itself, or those that a consumer group gives it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from lakeflow.errors import SourceChanged, SourceUnavailable, UnknownName
from lakeflow.landing.ledger import Ledger
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.names import TopicPattern, Topics, includes
from lakeflow.topics.source import (
    AtTimestamp,
    Bounds,
    Earliest,
    GroupSource,
    IdentifiedSource,
    Offsets,
    Records,
    SharedSource,
    Source,
    Start,
    TopicPartition,
    check_identity,
    start_offsets,
)

logger = logging.getLogger("lakeflow.landing")

STALLED_SECONDS = 60.0
"""Without a record or an end of partitions that are behind, until it is asked whether their brokers are there."""
GIVEN_UP_SECONDS = 300.0
LOOK_SECONDS = 30.0
"""Between two looks for new partitions, while following."""
SHARED_LOOK_SECONDS = 1.0
"""Between two looks how far the others are that share the topics."""

Act = Callable[[], None]


class Reading(Protocol):
    """Which records come next, and how far that is. Used by one thread."""

    is_shared: bool
    reached: dict[TopicPartition, int]
    topic_ids: Mapping[str, str | None]

    def open(self, ledger: Ledger, *, commit: Act, drop: Act) -> None:
        """Find out where to begin. `commit` lands what is in hand, `drop` forgets it. Raises as `start_offsets` does."""
        ...

    def chose_start(self) -> bool:
        """Whether `reached` is a first start that must be on record before anything is read."""
        ...

    def begin(self) -> None: ...

    def poll(self, limit: int, timeout: float) -> Records: ...

    def reach(self, offsets: Offsets) -> None:
        """These were read up to here."""
        ...

    def has_caught_up(self) -> bool:
        """Whether all that the topics held at the start was read."""
        ...

    def left(self) -> int:
        """How many records are left of what the topics held at the last look, at the most."""
        ...

    def look(self) -> None:
        """Looks now and then whether the topics' partitions are still those that are read."""
        ...

    def verify(self) -> None:
        """Before a commit: that what was read is of the topics that it began with. Raises SourceChanged, SourceUnavailable."""
        ...

    def acknowledge(self, progress: KafkaOffsets) -> None:
        """Shows the lag of the consumer group, where there is one."""
        ...


class Stall:
    """Tells how long partitions have stood where they are."""

    def __init__(self, reached: Mapping[TopicPartition, int], now: float) -> None:
        self._reached = dict(reached)
        self._moved = now

    def seconds(self, behind: Collection[TopicPartition], reached: Mapping[TopicPartition, int], now: float) -> float:
        """For how long none of `behind` has moved; 0 where none is behind."""
        if not behind or any(reached.get(place) != self._reached.get(place) for place in behind):
            self._reached, self._moved = dict(reached), now
        return now - self._moved


@dataclass(frozen=True, slots=True)
class Topical:
    """The topics of a landing as of one look: which are meant, the bounds of their partitions, their ids."""

    topics: Topics
    bounds: Mapping[TopicPartition, Bounds]
    topic_ids: Mapping[str, str | None]


def begin_offsets(
    found: Topical, start: Start, progress: KafkaOffsets, offsets_at: Callable[[int], Offsets] | None
) -> dict[TopicPartition, int]:
    """Where each partition is read from, by a table's `progress` in these topics: it may have had others.

    `offsets_at` is asked where topics without progress start at a time. Raises as `start_offsets` does.
    """
    own = progress.only(lambda topic: includes(found.topics, topic))
    later = isinstance(found.topics, TopicPattern) and bool(own.offsets)
    at = None
    if isinstance(start, AtTimestamp) and offsets_at is not None and not later:
        is_new = {topic for topic, _ in found.bounds} - {topic for topic, _ in own.offsets}
        at = offsets_at(start.milliseconds) if is_new else None
    return start_offsets(start, found.bounds, own, at, topic_ids=found.topic_ids, later=later)


class _Topics:
    """What both readings know of the topics."""

    def __init__(
        self,
        topics: Topics,
        source: Source | SharedSource,
        start: Start,
        *,
        group: GroupSource | None = None,
        identity: IdentifiedSource | None = None,
        on_gained: Act = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_gained = on_gained
        self._topics = topics
        self._source = source
        self._start = start
        self._group = group
        self._identity = identity
        self._clock = clock
        self._looked = clock()
        self._bounds: Mapping[TopicPartition, Bounds] = {}
        self.reached: dict[TopicPartition, int] = {}
        self.topic_ids: Mapping[str, str | None] = {}
        self._stalled = Stall({}, self._looked)
        self._asked = self._looked

    def poll(self, limit: int, timeout: float) -> Records:
        return self._source.poll(limit, timeout)

    def verify(self) -> None:
        """A client reads on at the old offset of a topic that was deleted and created anew, and says nothing of it.

        Of one that was deleted alone, what was read is the last there is: it lands, and the next look tells of it.
        """
        if self._identity is None:
            return
        try:
            now = self._identity.topic_ids()
        except (UnknownName, SourceChanged) as error:
            logger.warning("%s", error.message)
            return
        check_identity(KafkaOffsets(self.reached).identified(self.topic_ids), now)

    def acknowledge(self, progress: KafkaOffsets) -> None:
        if self._group is not None:
            self._group.acknowledge(progress)

    def left(self) -> int:
        known = ((self.reached.get(place), bound.end) for place, bound in self._bounds.items())
        return sum(max(0, end - reached) for reached, end in known if reached is not None)

    def _looked_again(self, commit: Act) -> bool:
        """Refresh what is known of the topics; False where no broker answers. Where one is gone, what is in hand lands."""
        try:
            self._refreshed()
        except SourceUnavailable as error:
            self._looked = self._clock()
            logger.warning("no look for new partitions: %s", error.message)
            return False
        except (SourceChanged, UnknownName):
            commit()
            raise
        return True

    def _require_motion(self, behind: Collection[TopicPartition]) -> None:
        """Where partitions that are behind have stood still for long, their bounds are asked for, and at last it is the end.

        A client says nothing of a partition whose broker is away while others answer; the bounds do. Raises as
        `Source.bounds` does, and SourceUnavailable where nothing comes for GIVEN_UP_SECONDS all the same.
        """
        now = self._clock()
        still = self._stalled.seconds(behind, self.reached, now)
        if still >= GIVEN_UP_SECONDS:
            raise SourceUnavailable(
                f"nothing came of partitions {sorted(behind)} for {still:.0f} s, though they hold records behind what was read",
                next_step="lakeflow doctor; then run the same command again",
            )
        if still >= STALLED_SECONDS and now - self._asked >= STALLED_SECONDS:
            self._asked = now
            logger.warning("nothing came of partitions %s for %.0f s, though they hold records", sorted(behind), still)
            self._source.bounds()

    def _refreshed(self) -> None:
        self._looked = self._clock()
        self._bounds = self._source.bounds()
        self.topic_ids = {} if self._identity is None else self._identity.topic_ids()

    def _begin_at(self, progress: KafkaOffsets) -> dict[TopicPartition, int]:
        """The start of every partition of the last look, by `progress`."""
        found = Topical(self._topics, self._bounds, self.topic_ids)
        return begin_offsets(found, self._start, progress, None if self._group is None else self._group.offsets_at)

    def _chosen_starts(self, progress: KafkaOffsets) -> dict[TopicPartition, int]:
        """The starts of topics without progress, where these are to be on record before anything is read."""
        own = progress.only(lambda topic: includes(self._topics, topic))
        if isinstance(self._start, Earliest) or (isinstance(self._topics, TopicPattern) and own.offsets):
            return {}
        begun = {topic for topic, _ in own.offsets}
        return {place: offset for place, offset in self._begin_at(progress).items() if place[0] not in begun}


class OwnReading(_Topics):
    """All partitions, by one process."""

    is_shared = False
    _source: Source

    def open(self, ledger: Ledger, *, commit: Act, drop: Act) -> None:
        self._commit = commit
        self._refreshed()
        self._chose = bool(self._chosen_starts(ledger.progress))
        self.reached = self._begin_at(ledger.progress)
        self._stalled = Stall(self.reached, self._clock())

    def chose_start(self) -> bool:
        return self._chose

    def begin(self) -> None:
        self._source.assign(self.reached)

    def reach(self, offsets: Offsets) -> None:
        self.reached.update(offsets)

    def has_caught_up(self) -> bool:
        behind = [place for place, bound in self._bounds.items() if self.reached[place] < bound.end]
        self._require_motion(behind)
        return not behind

    def look(self) -> None:
        """Where partitions came, commits what is in hand, and goes on with the new ones too, from their beginning.

        Where one went, commits what is in hand and raises SourceChanged; but where a topic was made anew the records in
        hand may be the new one's already, and are dropped.
        """
        if self._clock() - self._looked < LOOK_SECONDS:
            return
        read = KafkaOffsets(self.reached).identified(self.topic_ids)
        if not self._looked_again(self._commit):
            return
        added = self._bounds.keys() - self.reached.keys()
        try:
            begin = start_offsets(self._start, self._still_held(), read, topic_ids=self.topic_ids, later=True)
        except SourceChanged:
            if all(self.topic_ids.get(topic) in (None, known) for topic, known in read.topic_ids.items()):
                self._commit()
            raise
        if added:
            self._commit()
            self.reached = begin
            logger.info("reads the new partitions %s", sorted(added))
            self._source.assign(begin)

    def _still_held(self) -> dict[TopicPartition, Bounds]:
        """The bounds, from what was read on: records that expired may have been fetched already. If not, a poll says so."""
        return {
            place: Bounds(min(bound.begin, self.reached.get(place, bound.begin)), bound.end)
            for place, bound in self._bounds.items()
        }


class SharedReading(_Topics):
    """The partitions that the group gives to this process; the Handover of a SharedSource."""

    is_shared = True
    _source: SharedSource

    def open(self, ledger: Ledger, *, commit: Act, drop: Act) -> None:
        self._ledger = ledger
        self._commit = commit
        self._drop = drop
        self._refreshed()
        self.reached = self._chosen_starts(ledger.progress)

    def chose_start(self) -> bool:
        return bool(self.reached)

    def begin(self) -> None:
        self.reached = {}
        self._source.join(self)

    def reach(self, offsets: Offsets) -> None:
        self.reached.update({place: offset for place, offset in offsets.items() if place in self.reached})

    def gained(self, places: Collection[TopicPartition]) -> Offsets:
        """By what the table says now: the process that held them before has moved it up to its last commit."""
        self._ledger.look()
        self._on_gained()
        ends = self._bounds
        self._refreshed()
        begin = self._begin_at(self._ledger.progress)
        self._bounds = {**self._bounds, **ends}
        found = {place: begin[place] for place in places}
        self.reached.update(found)
        logger.info("was given partitions %s", sorted(places))
        return found

    def revoked(self, places: Collection[TopicPartition]) -> None:
        """Lands what is in hand, those of the partitions that remain too. Raises Fenced where another was ahead already."""
        logger.info("gives partitions %s back", sorted(places))
        self._commit()
        for place in places:
            self.reached.pop(place, None)

    def lost(self, places: Collection[TopicPartition]) -> None:
        logger.warning("lost partitions %s: this process did not answer its group in time", sorted(places))
        self._drop()
        self.reached.clear()

    def has_caught_up(self) -> bool:
        """The partitions of others are looked at in the table."""
        behind = [place for place, offset in self.reached.items() if offset < self._bounds[place].end]
        self._require_motion(behind)
        if behind:
            return False
        others = [place for place in self._bounds if place not in self.reached]
        if not others:
            return True
        if self._clock() - self._looked < SHARED_LOOK_SECONDS:
            return False
        self._looked = self._clock()
        shown = self._ledger.shown().offsets
        return all(shown.get(place, self._bounds[place].begin) >= self._bounds[place].end for place in others)

    def look(self) -> None:
        """The group finds partitions by itself; topics that a pattern means are found by asking for the bounds."""
        if self._clock() - self._looked < LOOK_SECONDS:
            return
        held = dict(self._bounds)
        if self._looked_again(self._commit) and (added := self._bounds.keys() - held.keys()):
            logger.info("there are new partitions %s", sorted(added))
