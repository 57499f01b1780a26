"""A reader of a SharedSource that keeps rows and progress in a folder, and the same as a process of its own.

The folder stands for a table: a commit takes rows and the progress of the partitions that they come from, or neither, and
only where that progress is what the reader started from.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lakeflow.errors import Fenced
from lakeflow.topics.source import Offsets, SharedSource, TopicPartition

COMMIT_ROWS = 300
COMMIT_SECONDS = 0.3

Row = tuple[str, int, int, bytes]
"""Topic, partition, offset, value."""


class Ledger:
    """The rows and the progress in `folder`, made by commits that are files with rising numbers.

    The next number is taken by a link, which only one gets; nothing is locked, so that a process may be stopped anywhere.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(exist_ok=True)
        self._commits: list[list[Row]] = []
        self._progress: dict[TopicPartition, int] = {}

    def next_offset(self, place: TopicPartition) -> int:
        self._refresh()
        return self._progress.get(place, 0)

    def commit(self, rows: Collection[Row], begin: Offsets, end: Offsets) -> None:
        """Raises Fenced where the progress is no longer at `begin`."""
        while True:
            for place, offset in begin.items():
                if self.next_offset(place) != offset:
                    raise Fenced(f"{place} is at {self._progress[place]}, and {offset} was expected")
            made = self._folder / f"{uuid.uuid4()}.tmp"
            made.write_bytes(pickle.dumps((list(rows), dict(end))))
            try:
                os.link(made, self._folder / str(len(self._commits)))
            except FileExistsError:
                continue
            finally:
                made.unlink()
            return

    def rows(self) -> list[Row]:
        self._refresh()
        return sorted(row for rows in self._commits for row in rows)

    def _refresh(self) -> None:
        while (path := self._folder / str(len(self._commits))).exists():
            rows, end = pickle.loads(path.read_bytes())
            self._commits.append(rows)
            self._progress.update(end)


@dataclass(slots=True)
class Member:
    """A Handover that reads `source` into `ledger`. `told` is what it was told, in order."""

    source: SharedSource
    ledger: Ledger
    held: dict[TopicPartition, int] = field(default_factory=dict)
    reached: dict[TopicPartition, int] = field(default_factory=dict)
    hand: list[Row] = field(default_factory=list)
    told: list[tuple[str, list[TopicPartition]]] = field(default_factory=list)

    def gained(self, places: Collection[TopicPartition]) -> Offsets:
        self.told.append(("gained", sorted(places)))
        start = {place: self.ledger.next_offset(place) for place in places}
        self.held.update(start)
        self.reached.update(start)
        return start

    def revoked(self, places: Collection[TopicPartition]) -> None:
        self.told.append(("revoked", sorted(places)))
        self.commit()
        self._forget(places)

    def lost(self, places: Collection[TopicPartition]) -> None:
        self.told.append(("lost", sorted(places)))
        self.hand = []
        self._forget(list(self.held))

    def take(self, timeout: float = 0.2) -> int:
        """One poll; how many records it gave."""
        records = self.source.poll(100, timeout)
        for place in zip(records.topics, records.partitions, records.offsets, records.values, strict=True):
            topic, partition, offset, value = place
            assert offset >= self.reached[topic, partition], "an offset came twice, or of a partition that is not held"
            self.reached[topic, partition] = offset + 1
            self.hand.append((topic, partition, offset, value or b""))
        return len(records)

    def commit(self) -> None:
        if self.hand:
            moved = {place: offset for place, offset in self.reached.items() if offset != self.held[place]}
            self.ledger.commit(self.hand, {place: self.held[place] for place in moved}, moved)
            self.held.update(moved)
            self.hand = []

    def _forget(self, places: Collection[TopicPartition]) -> None:
        for place in places:
            self.held.pop(place, None)
            self.reached.pop(place, None)


def main(bootstrap: str, topic: str, group: str, path: str, settings: Mapping[str, str]) -> None:
    """Reads until it is killed, or until the file `path`.stop is there. Begins anew where it is fenced. Says what it holds."""
    from lakeflow.topics.kafka_shared import SharedKafkaSource

    ledger = Ledger(Path(path))
    stop = Path(f"{path}.stop")
    while not stop.exists():
        with SharedKafkaSource({**settings, "bootstrap.servers": bootstrap}, [topic], group) as source:
            member = Member(source, ledger)
            source.join(member)
            try:
                read(member, stop)
            except Fenced as error:
                say(fenced=str(error))


def read(member: Member, stop: Path) -> None:
    committed, told = time.monotonic(), 0
    while not stop.exists():
        member.take()
        if len(member.hand) >= COMMIT_ROWS or time.monotonic() - committed > COMMIT_SECONDS:
            member.commit()
            committed = time.monotonic()
        if len(member.told) > told:
            told = len(member.told)
            say(holds=sorted(partition for _, partition in member.held), told=member.told[-1][0])
    member.commit()


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    _, bootstrap, topic, group, path, settings = sys.argv
    main(bootstrap, topic, group, path, json.loads(settings))
