"""What `lakeflow start` tells of: one event a thing done, and the process as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lakeflow.observe.runs import Run
from lakeflow.start.parts import Part, Standing, State
from lakeflow.start.work import Committed

PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing done: by what (`kind`, `name`), how it went, and figures; `error` is what it failed of."""

    kind: str
    name: str
    status: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def row(self) -> dict[str, Any]:
        """The event as one object."""
        row = {"at": self.at, "kind": self.kind, "name": self.name, "status": self.status, **self.facts}
        return row if self.error is None else {**row, "error": self.error}


def of_commit(message: Committed) -> Event:
    """A landing committed."""
    counts = message.counts
    facts = {name: getattr(counts, name) for name in ("read", "written", "dead_lettered", "skipped", "filtered")}
    return Event(str(message.part.kind), message.part.name, "committed", facts)


def of_run(run: Run, status: str, **more: Any) -> Event:
    """A run of a job or an index ended."""
    facts = {
        "read": run.read,
        "written": run.written,
        "dead_lettered": run.dead_lettered,
        "skipped": run.skipped,
        "filtered": run.filtered,
        "commits": len(run.snapshot_ids),
        "seconds": round(run.seconds, 2),
    }
    return Event(run.kind, run.name, status, {**facts, **more})


def of_part(part: Part, status: str, error: str | None = None, **facts: Any) -> Event:
    """Something came over a part."""
    return Event(str(part.kind), part.name, status, facts, error)


@dataclass(frozen=True, slots=True)
class Report:
    """The process as it stands: its parts, why it is not ready (nothing where it is), and when it last moved, in seconds."""

    standings: tuple[Standing, ...]
    unready: tuple[str, ...]
    moved: float

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row a part."""
        return [
            {"kind": str(one.part.kind), "name": one.part.name, "state": str(one.state), "error": one.error}
            for one in self.standings
        ]

    def count(self, state: State) -> int:
        """Parts in a state."""
        return sum(one.state is state for one in self.standings)
