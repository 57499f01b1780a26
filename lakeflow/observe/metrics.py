"""What landings do, as metrics for Prometheus, served while they follow their topics. Needs the extra `metrics`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import fields
from types import TracebackType

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from lakeflow.errors import UsageError
from lakeflow.landing.counts import Counts, Landed

OUTCOMES = tuple(field.name for field in fields(Counts) if field.name != "read")


class LandingMeters:
    """What landings do, counted in a registry of its own. May be told from several threads.

    | name | labels | what |
    |---|---|---|
    | lakeflow_landing_records_total | table, outcome | records that were committed, by what became of them (as in Counts) |
    | lakeflow_landing_commits_total | table | snapshots that were made |
    | lakeflow_landing_last_commit_timestamp_seconds | table | when the last one was, seconds since the epoch |
    | lakeflow_landing_lag_records | table | records that wait in the topics, as of the last look, at the most |
    | lakeflow_landing_running | table | 1 while the landing runs, 0 once it has ended |
    | lakeflow_landing_suspended | table | 1 where it ended at a record that it must not pass |
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._before: dict[str, Counts] = {}
        self.registry = CollectorRegistry()
        place = {"namespace": "lakeflow", "subsystem": "landing", "registry": self.registry}
        self._records = Counter("records", "Records that were committed.", ["table", "outcome"], **place)  # type: ignore[arg-type]
        self._commits = Counter("commits", "Snapshots that were made.", ["table"], **place)  # type: ignore[arg-type]
        self._last = Gauge("last_commit_timestamp_seconds", "When the last snapshot was made.", ["table"], **place)  # type: ignore[arg-type]
        self._lag = Gauge("lag_records", "Records that wait in the topics, at the most.", ["table"], **place)  # type: ignore[arg-type]
        self._running = Gauge("running", "Whether the landing runs.", ["table"], **place)  # type: ignore[arg-type]
        self._suspended = Gauge("suspended", "Whether it ended at a record that it must not pass.", ["table"], **place)  # type: ignore[arg-type]

    def opened(self, table: str) -> None:
        """A landing of the table begins, for the first time or anew."""
        self._before.pop(table, None)
        self._running.labels(table).set(1)
        self._suspended.labels(table).set(0)
        for outcome in OUTCOMES:
            self._records.labels(table, outcome)

    def committed(self, landed: Landed) -> None:
        """A commit took a landing to `landed`."""
        table = landed.table
        before = self._before.get(table, Counts())
        self._before[table] = landed.counts
        for outcome in OUTCOMES:
            self._records.labels(table, outcome).inc(getattr(landed.counts, outcome) - getattr(before, outcome))
        self._commits.labels(table).inc()
        self._last.labels(table).set(self._clock())

    def waits(self, table: str, records: int) -> None:
        self._lag.labels(table).set(records)

    def ended(self, table: str, *, suspended: bool) -> None:
        self._running.labels(table).set(0)
        self._suspended.labels(table).set(int(suspended))


class LandingMetrics(LandingMeters):
    """The same, served at http://host:port/metrics while it is open."""

    def __init__(self, host: str, port: int, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(clock=clock)
        try:
            self._server, self._thread = start_http_server(port, addr=host, registry=self.registry)
        except (OSError, OverflowError) as error:
            raise UsageError(
                f"metrics cannot be served at {host}:{port}: {error}", next_step="choose another --metrics"
            ) from error

    def __enter__(self) -> LandingMetrics:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """The port that is served, where 0 was asked for."""
        return int(self._server.server_port)


def address(text: str) -> tuple[str, int]:
    """Host and port of `host:port`, or of a port alone on loopback. Raises UsageError."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise UsageError(f"--metrics is {text!r}; valid: a port, or host:port, such as 127.0.0.1:9464")
    return host.strip("[]") or "127.0.0.1", int(port)
