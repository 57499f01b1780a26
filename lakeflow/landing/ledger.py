"""A landing's progress as the table shows it, and how a commit moves it.

A landing that has its topics for itself moves the whole progress. One of several that share them moves the offsets of
the partitions that it holds, and is fenced where another process moved one of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lakeflow.errors import Terminal
from lakeflow.lake.commit import Advance, CommitProtocol, Progress, fenced
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.source import TopicPartition

WRITER = "landing"


@dataclass(frozen=True, slots=True)
class OwnPartitions:
    """The Advance of one of several processes: from `start` (None: not read yet) to `end`, in its partitions only."""

    start: Mapping[TopicPartition, int | None]
    end: KafkaOffsets
    writer: str = WRITER

    def onto(self, found: str | None, table: str) -> str:
        shown = KafkaOffsets.loads(found)
        for place, offset in self.start.items():
            if (now := shown.offsets.get(place)) != offset:
                topic, partition = place
                raise fenced(table, f"{self.writer} in topic {topic!r} partition {partition}", _said(offset), _said(now))
        return shown.moved_to(self.end.offsets).identified(self.end.topic_ids).dumps()


def _said(offset: int | None) -> str | None:
    return None if offset is None else f"offset {offset}"


class Ledger:
    """What the table shows of the landing's progress, as of the last look."""

    def __init__(self, commits: CommitProtocol, table: str, *, shared: bool) -> None:
        self._commits = commits
        self._table = table
        self._shared = shared
        self._text: str | None = None
        self.progress = KafkaOffsets()
        self.look()

    def look(self) -> None:
        """Read the progress from the table."""
        self._text = self._commits.progress(self._table, WRITER)
        self.progress = KafkaOffsets.loads(self._text)

    def shown(self) -> KafkaOffsets:
        """The progress that the table shows now, whatever this landing has seen of it."""
        return KafkaOffsets.loads(self._commits.progress(self._table, WRITER))

    def advance(self, reached: Mapping[TopicPartition, int], topic_ids: Mapping[str, str | None]) -> Advance:
        """The move to `reached`, from what was last looked at or moved to. Raises Terminal where that would be a move back."""
        self._require_forward(reached)
        if self._shared:
            start = {place: self.progress.offsets.get(place) for place in reached}
            return OwnPartitions(start, KafkaOffsets(dict(reached)).identified(topic_ids))
        return Progress(WRITER, self._text, self._moved(reached, topic_ids).dumps())

    def moved(self, reached: Mapping[TopicPartition, int], topic_ids: Mapping[str, str | None]) -> None:
        """The move landed."""
        self.progress = self._moved(reached, topic_ids)
        self._text = self.progress.dumps()

    def _require_forward(self, reached: Mapping[TopicPartition, int]) -> None:
        """No topic and no user moves a landing back: rows would be there twice, so a fault of the reading ends here."""
        for (topic, partition), offset in reached.items():
            shown = self.progress.next_offset(topic, partition)
            if shown is not None and offset < shown:
                raise Terminal(
                    f"a landing of {self._table} read topic {topic!r} partition {partition} up to offset {offset}, and the "
                    f"table shows {shown} already: this is a fault of lakeflow",
                    left_behind="nothing of this process's batch is in the table",
                    next_step="run the same command again; it goes on from where the table stands; please report this",
                )

    def _moved(self, reached: Mapping[TopicPartition, int], topic_ids: Mapping[str, str | None]) -> KafkaOffsets:
        return self.progress.moved_to(reached).identified(topic_ids)
