"""When to cut a batch: by rows, bytes, or the age of its oldest record. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Limits:
    """What one commit of a landing may hold; the age in seconds."""

    rows: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Filling:
    """A batch that is being read: its records, their bytes, and when its first record came (None: it has none)."""

    records: int = 0
    bytes: int = 0
    since: float | None = None

    def take(self, records: int, size: int, now: float) -> Filling:
        """The batch after more records."""
        if records == 0:
            return self
        since = now if self.since is None else self.since
        return replace(self, records=self.records + records, bytes=self.bytes + size, since=since)


def is_due(filling: Filling, limits: Limits, now: float) -> bool:
    """Whether the batch must be committed now. An empty one never is."""
    if filling.since is None:
        return False
    return filling.records >= limits.rows or filling.bytes >= limits.bytes or now - filling.since >= limits.seconds


def room(filling: Filling, limits: Limits, most: int) -> int:
    """How many records to ask for next, `most` at the most: no more than the batch still has rows for."""
    return max(1, min(most, limits.rows - filling.records))


def wait(filling: Filling, limits: Limits, now: float, longest: float) -> float:
    """Seconds to wait for records, `longest` at the most: no longer than until the batch is due by age."""
    if filling.since is None:
        return longest
    return max(0.0, min(longest, filling.since + limits.seconds - now))
