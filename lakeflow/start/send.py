"""One run of a sink within `lakeflow start`: what its table holds by then goes to its topic."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lakeflow.errors import LakeflowError
from lakeflow.landing.produce import Produced
from lakeflow.landing.produce_open import CLAIM_SECONDS, open_producing, produce_once, run_name
from lakeflow.landing.produce_spec import SinkSpec
from lakeflow.observe.runs import Run, RunLog, Status
from lakeflow.runner.project import Project
from lakeflow.start.parts import Part
from lakeflow.start.work import Ended, Stop


@dataclass(slots=True)
class Sent:
    """Up to which snapshot of its table each sink has sent, and when that was told to the brokers, in seconds of `clock`."""

    clock: Callable[[], float] = time.monotonic
    known: dict[str, tuple[int | None, float]] = field(default_factory=dict)

    def is_level(self, table: str, snapshot_id: int | None) -> bool:
        """Whether the brokers need not be asked: they are, now and then, for they forget positions that are old."""
        sent = self.known.get(table)
        return sent is not None and sent[0] == snapshot_id and self.clock() - sent[1] < CLAIM_SECONDS

    def note(self, table: str, snapshot_id: int | None) -> None:
        """All up to the snapshot has been sent."""
        self.known[table] = (snapshot_id, self.clock())


def run_sink(project: Project, part: Part, spec: SinkSpec, stop: Stop, sent: Sent) -> Ended:
    """Send what came into a table since the last time. Recorded where there was something."""
    name = run_name(spec.table)
    run = Run("produce", name, spec.table, "follow", status=Status.EMPTY)

    def told(produced: Produced) -> None:
        run.read, run.written, run.filtered = produced.read, produced.written, produced.unchanged
        run.start_position, run.end_position = produced.start, produced.end

    try:
        if not project.lake.exists(spec.table):
            return Ended(part, None, waits=(spec.table,))
        head = project.lake.table(spec.table).current_snapshot()
        snapshot_id = head.snapshot_id if head else None
        if sent.is_level(spec.table, snapshot_id):
            return Ended(part, run)
        with RunLog(project.lake, project.commits, project.settings).recorded(run, even_empty=False):
            produce_once(lambda: open_producing(spec, project.settings, project.lake), stop=stop.requested, told=told)
            run.status = Status.STOPPED if stop.requested() else Status.DONE if run.read else Status.EMPTY
        if run.status is not Status.STOPPED:
            sent.note(spec.table, snapshot_id)
    except LakeflowError as error:
        return Ended(part, run, error)
    return Ended(part, run)
