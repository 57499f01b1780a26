"""What a landing counts and what bounds it: plain values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lakeflow.expect import Finding
from lakeflow.progress import KafkaOffsets


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the records that were read: read = written + dead_lettered + skipped + filtered.

    `written` counts rows that were added, and for a table by key the changes that were taken, deletes included.
    `filtered` are records that the table's route leaves to others, and those that change nothing by the rules of their
    format (the tombstone behind a delete of Debezium).
    """

    read: int = 0
    written: int = 0
    dead_lettered: int = 0
    skipped: int = 0
    filtered: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.read + other.read,
            self.written + other.written,
            self.dead_lettered + other.dead_lettered,
            self.skipped + other.skipped,
            self.filtered + other.filtered,
        )

    def summary(self) -> dict[str, str]:
        """As facts of a commit's summary."""
        return {
            "lakeflow.records-read": str(self.read),
            "lakeflow.rows-written": str(self.written),
            "lakeflow.rows-dead-lettered": str(self.dead_lettered),
            "lakeflow.rows-skipped": str(self.skipped),
            "lakeflow.rows-filtered": str(self.filtered),
        }


@dataclass(frozen=True, slots=True)
class Landed:
    """What a landing did: counts, the snapshots it made, its progress before and after, how its expectations fared."""

    table: str
    counts: Counts
    snapshots: tuple[int, ...]
    start: KafkaOffsets
    end: KafkaOffsets
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Sizes:
    """How a landing uses memory and files; seconds and bytes. `spool` is where rows wait on disk, None: the system's folder."""

    buffer_bytes: int = 64 << 20
    target_file_bytes: int = 128 << 20
    poll_seconds: float = 0.5
    spool: Path | None = None
