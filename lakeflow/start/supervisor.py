"""What `lakeflow start` does next: what is started now, what waits for what, what is given up. Pure; the clocks are passed in.

A landing runs on. A job or an index runs when it is due: by its schedule, or else at an interval and as soon as a table that it
reads was written; not while what makes the tables that it reads and the indexes that it searches runs or is due before it,
nor while one of those has failed.
What fails for something that passes is tried again, later each time, and given up after so many failures in a row; what fails
for good is given up at once. The others go on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lakeflow.errors import Fenced, LakeflowError, Transient
from lakeflow.retry import Backoff
from lakeflow.runner.due import Timetable
from lakeflow.start.parts import Kind, Part, Standing, State

NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Limits:
    """How many jobs and indexes run at the same time, how often each looks for news (seconds), and how failures are borne."""

    at_once: int = 2
    every: float = 10.0
    backoff: Backoff = field(default_factory=lambda: Backoff(attempts=20, base=1.0, cap=60.0))


@dataclass(slots=True)
class _Record:
    """What is known of a part. Times are seconds of the clock that is passed in."""

    part: Part
    running: bool = False
    begun: float = NEVER
    due: float = NEVER
    failures: int = 0
    retry: float = NEVER
    given_up: bool = False
    error: str | None = None
    opened: bool = False

    @property
    def failing(self) -> bool:
        return self.given_up or self.failures > 0


class Supervisor:
    """The decisions. `now` is seconds of a clock that only moves forward; the timetable has a clock of its own."""

    def __init__(
        self,
        parts: Sequence[Part],
        limits: Limits,
        timetable: Timetable,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._limits = limits
        self._timetable = timetable
        self._uniform = uniform
        self._records: dict[str, _Record] = {}
        self._leaving: set[str] = set()
        self.replace(parts, limits)

    def replace(self, parts: Sequence[Part], limits: Limits) -> None:
        """The parts from now on. What was given up gets another chance, and all are due, as if nothing had run."""
        self._limits = limits
        before, self._records = self._records, {}
        for part in parts:
            old = before.pop(part.label, _Record(part, part.label in self._leaving))
            self._records[part.label] = _Record(part, old.running, old.begun if old.running else NEVER, opened=old.opened)
        self._leaving = (self._leaving | {label for label, old in before.items() if old.running}) - self._records.keys()

    def startable(self, now: float) -> list[Part]:
        """What to start now, in this order. Each is to be told by `began`."""
        found = [record.part for record in self._landings() if self._may_start(record, now)]
        held = self._held_up()
        nodes = [record for record in self._nodes() if record.part.label not in held]
        due = [record for record in nodes if self._may_start(record, now) and self._is_due(record, now)]
        room = self._limits.at_once - sum(record.running for record in self._nodes())
        free = [record for record in due if not self._comes_after(record, due)]
        return found + [record.part for record in sorted(free, key=lambda one: one.begun)[: max(0, room)]]

    def began(self, part: Part, now: float) -> None:
        """The part was started."""
        record = self._records[part.label]
        record.running, record.begun, record.due = True, now, now + self._limits.every
        if part.job is not None:
            self._timetable.take(part.job)

    def moved(self, part: Part, now: float) -> None:
        """The part wrote its table: what reads it is due, and failures before that are forgotten."""
        if (record := self._records.get(part.label)) is not None:
            record.failures, record.error = 0, None
        for reader in self._nodes():
            if part.writes in reader.part.reads:
                reader.due = min(reader.due, now)

    def opened(self, part: Part) -> None:
        """A landing has found its topic and its table."""
        if (record := self._records.get(part.label)) is not None:
            record.opened = True

    def ended(self, part: Part, error: LakeflowError | None, now: float) -> State:
        """The part's run ended; how it stands now. One that is no longer a part stands as waiting."""
        self._leaving.discard(part.label)
        if (record := self._records.get(part.label)) is None:
            return State.WAITING
        record.running = False
        if error is None:
            record.failures, record.retry, record.error = 0, NEVER, None
            return State.WAITING
        record.error = error.message
        record.failures += 1
        if part.job is not None:
            self._timetable.failed(part.job.name)
        if not isinstance(error, Transient | Fenced) or record.failures >= self._limits.backoff.attempts:
            record.given_up = True
            return State.GIVEN_UP
        record.retry = now + self._limits.backoff.wait(record.failures - 1, self._uniform)
        record.due = record.retry
        return State.BACKING_OFF

    def held_up_by(self, part: Part) -> list[str]:
        """The jobs and indexes that wait until the part works again, or for ever where it is given up."""
        held = _downstream(list(self._nodes()), {part.label})
        return [record.part.name for record in self._nodes() if record.part.label in held and record.part != part]

    def standings(self) -> tuple[Standing, ...]:
        """How each part stands."""
        held = self._held_up()
        return tuple(Standing(record.part, _state(record, held), record.error) for record in self._records.values())

    def unready(self) -> list[str]:
        """Why the project is not up, a reason a part; none where it is."""
        given_up = [f"{record.part.label} is given up: {record.error}" for record in self._records.values() if record.given_up]
        closed = (record for record in self._landings() if not record.opened and not record.given_up)
        return given_up + [f"{record.part.label} is not open yet" for record in closed]

    @property
    def gave_up(self) -> bool:
        """Whether a part is given up."""
        return any(record.given_up for record in self._records.values())

    @property
    def running(self) -> list[Part]:
        """What runs now."""
        return [record.part for record in self._records.values() if record.running]

    @property
    def is_over(self) -> bool:
        """Whether nothing runs or ever will, before the files change."""
        given_up = {record.part.label for record in self._records.values() if record.given_up}
        gone = given_up | _downstream(list(self._nodes()), given_up)
        return bool(given_up) and gone >= self._records.keys() and not self.running

    def _landings(self) -> list[_Record]:
        return [record for record in self._records.values() if record.part.kind is Kind.LANDING]

    def _nodes(self) -> list[_Record]:
        return [record for record in self._records.values() if record.part.kind is not Kind.LANDING]

    def _may_start(self, record: _Record, now: float) -> bool:
        return not record.running and not record.given_up and record.retry <= now

    def _is_due(self, record: _Record, now: float) -> bool:
        job = record.part.job
        if job is not None and job.schedule is not None:
            return self._timetable.is_due(job)
        return record.due <= now

    def _comes_after(self, record: _Record, due: Sequence[_Record]) -> bool:
        """Whether what makes what this one needs runs now, or is due and has not run since this one did."""
        before = [other for other in self._nodes() if other.part.makes in record.part.needs]
        return any(other.running or (other in due and other.begun <= record.begun) for other in before)

    def _held_up(self) -> set[str]:
        """The labels of what needs, even by way of others, what one makes that has failed and not worked since."""
        return _downstream(self._nodes(), {record.part.label for record in self._nodes() if record.failing})


def _downstream(nodes: Sequence[_Record], failed: set[str]) -> set[str]:
    """The labels of the nodes that need what a failed one, or another such node, makes. Nodes are in the graph's order."""
    stale: set[str] = set()
    held: set[str] = set()
    for record in nodes:
        part = record.part
        if stale.intersection(part.needs):
            held.add(part.label)
        if part.makes and (part.label in failed or part.label in held):
            stale.add(part.makes)
    return held


def _state(record: _Record, held: set[str]) -> State:
    if record.running:
        return State.RUNNING
    if record.given_up:
        return State.GIVEN_UP
    if record.failures:
        return State.BACKING_OFF
    return State.HELD_UP if record.part.label in held else State.WAITING
