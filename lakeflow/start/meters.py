"""What `lakeflow start` does, as metrics for Prometheus. Needs the extra `metrics`."""

from __future__ import annotations

import threading

from prometheus_client import Counter, Gauge, generate_latest

from lakeflow.errors import Suspended
from lakeflow.observe.metrics import LandingMeters
from lakeflow.start.events import Report
from lakeflow.start.parts import Kind, State
from lakeflow.start.work import Committed, Ended, Lag, Message, Opened


class Meters:
    """Those of landings (`LandingMeters`), and beside them

    | name | labels | what |
    |---|---|---|
    | lakeflow_part_state | kind, name, state | 1 for the state in which a landing, job or index is, 0 for the others |
    | lakeflow_runs_total | kind, name, status | runs of jobs and indexes that ended; those that found nothing to do as empty |
    | lakeflow_run_rows_total | kind, name, outcome | rows that they read, wrote, dead-lettered, skipped and filtered |
    | lakeflow_run_last_end_timestamp_seconds | kind, name | when the last run that did not fail ended |
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._landings = LandingMeters()
        place = {"namespace": "lakeflow", "registry": self._landings.registry}
        by_part = ["kind", "name"]
        self._state = Gauge("part_state", "How a part stands.", [*by_part, "state"], **place)  # type: ignore[arg-type]
        self._runs = Counter("runs", "Runs that ended.", [*by_part, "status"], **place)  # type: ignore[arg-type]
        self._rows = Counter("run_rows", "Rows of runs.", [*by_part, "outcome"], **place)  # type: ignore[arg-type]
        self._end = Gauge("run_last_end_timestamp_seconds", "When the last run that worked ended.", by_part, **place)  # type: ignore[arg-type]

    def take(self, message: Message) -> None:
        """Count what a thread told."""
        match message:
            case Opened(part):
                self._landings.opened(part.name)
            case Committed():
                self._landings.committed(message.landed)
            case Lag(part, records):
                self._landings.waits(part.name, records)
            case Ended(part) if part.kind is Kind.LANDING:
                self._landings.ended(part.name, suspended=isinstance(message.error, Suspended))
            case Ended():
                self._run(message)
            case _:
                pass

    def _run(self, ended: Ended) -> None:
        run, part = ended.run, ended.part
        if run is None:
            return
        self._runs.labels(part.kind, part.name, "failed" if ended.error else run.status).inc()
        for outcome in ("read", "written", "dead_lettered", "skipped", "filtered"):
            self._rows.labels(part.kind, part.name, outcome).inc(max(0, getattr(run, outcome)))
        if ended.error is None and run.ended_at is not None:
            self._end.labels(part.kind, part.name).set(run.ended_at.timestamp())

    def text(self, report: Report) -> bytes:
        """All of it, in Prometheus' text format."""
        with self._lock:
            self._state.clear()
            for one in report.standings:
                for state in State:
                    self._state.labels(one.part.kind, one.part.name, state).set(int(one.state is state))
            return generate_latest(self._landings.registry)
