"""A SharedSource made of lists: a group in one process, whose members come and go when they poll."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lakeflow.progress import KafkaOffsets
from lakeflow.testing.source import ListSource, Row
from lakeflow.topics.source import Handover, Records, TopicPartition


class ListGroup:
    """Members that share `partitions`, whose rows stand at their offsets.

    The partitions are dealt out in turn, in the order in which the members joined. As with a cooperative assignor, one
    that moves is given only after the member that held it has polled and let it go.
    """

    def __init__(self, partitions: Mapping[TopicPartition, Sequence[Row]]) -> None:
        self.partitions = partitions
        self._members: list[SharedListSource] = []
        self._holder: dict[TopicPartition, SharedListSource] = {}

    def member(self, *, topic_ids: Mapping[str, str] | None = None) -> SharedListSource:
        """A source for one more process; it takes part once it has joined."""
        return SharedListSource(self, topic_ids)

    def expel(self, member: SharedListSource) -> None:
        """As a member that gives no sign of life: others get its partitions at once, and it learns when it polls."""
        self.leave(member)
        member.expelled = True

    def enter(self, member: SharedListSource) -> None:
        self._members.append(member)

    def leave(self, member: SharedListSource) -> None:
        self._members = [other for other in self._members if other is not member]
        self._holder = {place: holder for place, holder in self._holder.items() if holder is not member}

    def meant_for(self, member: SharedListSource) -> set[TopicPartition]:
        """The partitions that are the member's once all have let go of theirs."""
        places = sorted(self.partitions)
        return {place for number, place in enumerate(places) if self._members[number % len(self._members)] is member}

    def take(self, member: SharedListSource) -> list[TopicPartition]:
        """Gives the member what is meant for it and held by nobody."""
        free = sorted(self.meant_for(member) - self._holder.keys())
        self._holder.update(dict.fromkeys(free, member))
        return free

    def free(self, places: Sequence[TopicPartition]) -> None:
        for place in places:
            del self._holder[place]


class SharedListSource(ListSource):
    """One member of a ListGroup. Not made by hand: `ListGroup.member`."""

    def __init__(self, group: ListGroup, topic_ids: Mapping[str, str] | None) -> None:
        super().__init__(group.partitions, topic_ids=topic_ids)
        self._group = group
        self._handover: Handover | None = None
        self._failure: BaseException | None = None
        self.expelled = False

    def join(self, handover: Handover) -> None:
        self._handover = handover
        self._group.enter(self)

    def poll(self, limit: int, timeout: float) -> Records:
        """Rebalances, then gives records as ListSource does."""
        if self._failure is not None:
            raise self._failure
        if self._handover is not None:
            try:
                self._rebalance(self._handover)
            except BaseException as error:
                self._failure = error
                raise
        return super().poll(limit, timeout)

    def acknowledge(self, progress: KafkaOffsets) -> None:
        self.acknowledged = KafkaOffsets({place: at for place, at in progress.offsets.items() if place in self._next})

    def close(self) -> None:
        self._group.leave(self)
        super().close()

    def _rebalance(self, handover: Handover) -> None:
        if self.expelled:
            self.expelled = False
            gone = sorted(self._next)
            self._forget(gone)
            handover.lost(gone)
            self._group.enter(self)
        moving = sorted(self._next.keys() - self._group.meant_for(self))
        if moving:
            self._forget(moving)
            handover.revoked(moving)
            self._group.free(moving)
        given = self._group.take(self)
        if given:
            start = handover.gained(given)
            self._next.update({place: start[place] for place in given})

    def _forget(self, places: Sequence[TopicPartition]) -> None:
        for place in places:
            del self._next[place]
            self._ended.discard(place)
