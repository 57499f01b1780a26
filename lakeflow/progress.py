"""How far a writer has read its source, as the strings that ride in commits.

`KafkaOffsets` is a landing's progress in its topics, `SnapshotPosition` an index's in a table, `JobProgress` a job's in
all tables that it reads. Each is total: nothing else is needed to go on from where the last commit ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from lakeflow.errors import Terminal

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""A value that JSON can hold."""

IDS = "#ids"
"""The key of the topics' ids among the topics; no topic has a name with `#`."""


@dataclass(frozen=True, slots=True)
class KafkaOffsets:
    """For each (topic, partition) the offset of the next record to read, which is one past the last that was read.

    `topic_ids` has the cluster's id of each topic whose id is known: one that is made anew under its name has another.
    """

    offsets: Mapping[tuple[str, int], int] = field(default_factory=dict)
    topic_ids: Mapping[str, str] = field(default_factory=dict)

    def advance(self, seen: Iterable[tuple[str, int, int]]) -> KafkaOffsets:
        """The progress after the records `(topic, partition, offset)` have been read, in any order."""
        moved = dict(self.offsets)
        for topic, partition, offset in seen:
            place = (topic, partition)
            moved[place] = max(moved.get(place, 0), offset + 1)
        return KafkaOffsets(moved, self.topic_ids)

    def moved_to(self, offsets: Mapping[tuple[str, int], int]) -> KafkaOffsets:
        """The progress with these places at these offsets, the others as they are."""
        return KafkaOffsets({**self.offsets, **offsets}, self.topic_ids)

    def identified(self, topic_ids: Mapping[str, str | None]) -> KafkaOffsets:
        """The progress with the ids that are known of the topics it is in."""
        topics = {topic for topic, _ in self.offsets}
        known = {topic: number for topic, number in topic_ids.items() if number is not None and topic in topics}
        return KafkaOffsets(self.offsets, {**self.topic_ids, **known})

    def only(self, includes: Callable[[str], bool]) -> KafkaOffsets:
        """The progress in the topics whose names `includes` is true of."""
        return KafkaOffsets(
            {place: offset for place, offset in self.offsets.items() if includes(place[0])},
            {topic: number for topic, number in self.topic_ids.items() if includes(topic)},
        )

    def next_offset(self, topic: str, partition: int) -> int | None:
        """Where to go on in a partition; None where nothing of it was read yet."""
        return self.offsets.get((topic, partition))

    def dumps(self) -> str:
        """`{"topic":{"0":12},"#ids":{"topic":"<id>"}}`, keys sorted: equal progress is an equal string."""
        topics: dict[str, dict[str, int]] = {}
        for (topic, partition), offset in self.offsets.items():
            topics.setdefault(topic, {})[str(partition)] = offset
        ordered: dict[str, dict[str, Any]] = {topic: dict(sorted(topics[topic].items())) for topic in sorted(topics)}
        if self.topic_ids:
            ordered[IDS] = dict(sorted(self.topic_ids.items()))
        return json.dumps(ordered, separators=(",", ":"))

    @staticmethod
    def loads(text: str | None) -> KafkaOffsets:
        """The inverse of `dumps`, with ids or without; None is the very beginning.

        Raises Terminal where the string is not of this form.
        """
        if text is None:
            return KafkaOffsets()
        try:
            topics = json.loads(text)
            ids = topics.pop(IDS, {})
            if not all(isinstance(number, str) for number in ids.values()):
                raise TypeError(f"{IDS} holds what is no text")
            return KafkaOffsets(
                {
                    (topic, int(partition)): int(offset)
                    for topic, parts in topics.items()
                    for partition, offset in parts.items()
                },
                ids,
            )
        except (ValueError, AttributeError, TypeError) as error:
            raise Terminal(f"progress of a landing is not readable: {text[:200]!r}; expected {KAFKA_EXAMPLE}") from error


KAFKA_EXAMPLE = '{"topic":{"0":12}}'


@dataclass(frozen=True, slots=True, order=False)
class SnapshotPosition:
    """How far a reader is in a table's appended files, which are ordered by (sequence number, path).

    Every file up to `sequence` has been read when `path` is None; otherwise the files of `sequence` up to and with
    `path` have, and all before. `snapshot_id` is the snapshot whose files were being read: what the table became after
    it must be appends for the reader to go on. `run` marks a run that replaced its target: of two that read the same
    snapshots of this table, but not of others, the positions differ, so that the one left behind is fenced.
    """

    table_uuid: str
    snapshot_id: int
    sequence: int
    path: str | None = None
    run: str | None = None

    def covers(self, sequence: int, path: str) -> bool:
        """Whether the file at (sequence, path) has been read."""
        if sequence != self.sequence:
            return sequence < self.sequence
        return self.path is None or path <= self.path

    def dumps(self) -> str:
        """A JSON object with the fields; `path` only where a snapshot was read in part, `run` where a run set it."""
        return json.dumps(self.fields(), separators=(",", ":"))

    def fields(self) -> dict[str, Json]:
        """What `dumps` writes."""
        fields: dict[str, Json] = {"table": self.table_uuid, "snapshot": self.snapshot_id, "sequence": self.sequence}
        if self.path is not None:
            fields["path"] = self.path
        if self.run is not None:
            fields["run"] = self.run
        return fields

    @staticmethod
    def loads(text: str | None) -> SnapshotPosition | None:
        """The inverse of `dumps`; None is the very beginning. Raises Terminal where the string is not of this form."""
        if text is None:
            return None
        try:
            return _position(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise Terminal(f"progress of a job is not readable: {text[:200]!r}; expected {POSITION_EXAMPLE}") from error


def _position(fields: Any) -> SnapshotPosition:
    return SnapshotPosition(
        str(fields["table"]), int(fields["snapshot"]), int(fields["sequence"]), fields.get("path"), fields.get("run")
    )


POSITION_EXAMPLE = '{"table":"<uuid>","snapshot":1,"sequence":1}'


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is in each table that it reads, by the table's name, and what else it must know to go on.

    `state` has a JSON value for each part of the runner that keeps one, under that part's name; it is read back as it was
    written, but for tuples, which become lists. Without positions and state it is the very beginning.
    """

    positions: Mapping[str, SnapshotPosition] = field(default_factory=dict)
    state: Mapping[str, Json] = field(default_factory=dict)

    def of(self, table: str, table_uuid: str | None = None) -> SnapshotPosition | None:
        """The position in a table; None where nothing of it was read yet.

        A table that was renamed is known again by `table_uuid`. A table made anew under the name has the position in the
        one before it, whose identity tells them apart.
        """
        for position in self.positions.values():
            if position.table_uuid == table_uuid:
                return position
        return self.positions.get(table)

    def at(self, table: str, position: SnapshotPosition) -> JobProgress:
        """The progress with this position in a table, the others and the state as they are."""
        return JobProgress({**self.positions, table: position}, self.state)

    def dumps(self) -> str:
        """For one table without state its position alone, else `{"tables":{"bronze.flights":{..}},"state":{..}}`.

        Keys are sorted: equal progress is an equal string.
        """
        if len(self.positions) == 1 and not self.state:
            return next(iter(self.positions.values())).dumps()
        tables: dict[str, Json] = {name: self.positions[name].fields() for name in sorted(self.positions)}
        state = json.loads(json.dumps(self.state, sort_keys=True))
        return json.dumps({"tables": tables, **({"state": state} if state else {})}, separators=(",", ":"))

    @staticmethod
    def loads(text: str | None, table: str) -> JobProgress:
        """The inverse of `dumps`; None is the very beginning. `table` is the table that a position without a name is in.

        Raises Terminal where the string is not of this form.
        """
        if text is None:
            return JobProgress()
        try:
            fields = json.loads(text)
            if "tables" not in fields:
                return JobProgress({table: _position(fields)})
            positions = {str(name): _position(position) for name, position in fields["tables"].items()}
            state = fields.get("state", {})
            if not isinstance(state, dict):
                raise TypeError("state is no object")
            return JobProgress(positions, state)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Terminal(f"progress of a job is not readable: {text[:200]!r}; expected {JOB_EXAMPLE}") from error


JOB_EXAMPLE = f'{POSITION_EXAMPLE} or {{"tables":{{"namespace.table":{POSITION_EXAMPLE}}}}}'
