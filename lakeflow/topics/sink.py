"""Where rows leave a table: records into a topic, together with the position in the table that they came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lakeflow.topics.source import Headers


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to be written: `timestamp` in ms since the epoch, -1 for now; `origin` is what messages call it."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp: int
    origin: str


@dataclass(frozen=True, slots=True)
class Place:
    """How far a sink has come: the position of its last commit, None without one, and whether its topic was ever written."""

    position: str | None
    was_written: bool


class Sink(Protocol):
    """A topic that one writer fills. Opening it takes it over: another process that has it open is fenced."""

    def place(self) -> Place:
        """What the brokers hold. Raises SourceUnavailable, ConfigError where they refuse to say."""
        ...

    def write(self, records: Sequence[Outgoing]) -> None:
        """Hand records over, which readers see once they are committed, if the sink is one that writes exactly once.

        Raises Fenced, SourceUnavailable where the brokers take none in time, Terminal for a record that they do not take,
        ConfigError where they refuse to be written to. Then nothing since the last commit counts, and the sink is to be closed.
        """
        ...

    def commit(self, position: str, number: int) -> None:
        """Make what was written since the last commit seen, with `position`: both, or neither.

        `number`, 0 or more, is shown as the offset of the sink's group. Raises as `write` does, and ConfigError where the
        brokers turn out to keep no position with a transaction.
        """
        ...

    def close(self) -> None:
        """Gives up what is not committed. May be called twice."""
        ...
