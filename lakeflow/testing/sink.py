"""A Sink into a list: a transaction is what is written until its commit, and a second sink of the topic fences the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lakeflow.errors import Fenced, LakeflowError
from lakeflow.topics.sink import Outgoing, Place


@dataclass(slots=True)
class ListTopic:
    """What readers of committed records see, the position that came with the last of them, and who may write."""

    records: list[Outgoing] = field(default_factory=list)
    position: str | None = None
    epoch: int = 0
    commits: int = 0


class ListSink:
    """Writes to a ListTopic. `fails_after` raises `failure` once so many records were written to it, committed or not."""

    def __init__(self, topic: ListTopic, *, fails_after: int | None = None, failure: LakeflowError | None = None) -> None:
        topic.epoch += 1
        self._topic, self._epoch = topic, topic.epoch
        self._waiting: list[Outgoing] = []
        self._left, self._failure = fails_after, failure

    def place(self) -> Place:
        """See the protocol."""
        topic = self._topic
        return Place(topic.position, topic.position is not None or bool(topic.records))

    def write(self, records: Sequence[Outgoing]) -> None:
        """See the protocol."""
        self._check()
        for record in records:
            if self._left is not None:
                self._left -= 1
            if self._left is not None and self._left < 0 and self._failure is not None:
                raise self._failure
            self._waiting.append(record)

    def commit(self, position: str, number: int) -> None:
        """See the protocol."""
        self._check()
        self._topic.records += self._waiting
        self._topic.position = position
        self._topic.commits += 1
        self._waiting = []

    def close(self) -> None:
        """See the protocol."""
        self._waiting = []

    def _check(self) -> None:
        if self._epoch != self._topic.epoch:
            raise Fenced("another sink of this topic was opened")
