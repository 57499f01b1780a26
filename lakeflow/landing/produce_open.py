"""Opens the sink that a table declares, with the real Kafka behind it, keeps it going, and says what it would send."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from lakeflow.config import Settings, fill
from lakeflow.declare import TableSpec
from lakeflow.errors import LakeflowError, SourceUnavailable, Terminal, Transient
from lakeflow.job import Caps
from lakeflow.lake.catalog import Lake
from lakeflow.landing.produce import Produced, Producing, batches, loads, start_of
from lakeflow.landing.produce_spec import Delivery, SinkSpec, sink_spec
from lakeflow.progress import SnapshotPosition
from lakeflow.retry import Backoff
from lakeflow.topics.kafka_sink import KafkaSink
from lakeflow.topics.sink import Place
from lakeflow.topics.sink_place import KafkaPlace

logger = logging.getLogger("lakeflow.landing")

REOPEN = Backoff(attempts=8, base=1.0, cap=30.0)
CLAIM_SECONDS = 3600.0
"""How often a sink that has nothing to send commits its position anew: brokers forget one that is days old."""
PATIENCE = 60.0
"""Seconds that brokers have to take records, and to commit."""

Open = Callable[[], tuple[Producing, Callable[[], None]]]
"""Opens a sink, and gives what closes it."""


def declared_sink(table: TableSpec, settings: Settings) -> SinkSpec:
    """The sink of a table. Raises DeclarationError, UnknownName, ConfigError for a missing secret."""
    return sink_spec(table, fill(table.options, settings.environment, str(table.origin)))


def sink_name(spec: SinkSpec, settings: Settings) -> str:
    """The transactional id of a table's sink, and the consumer group that holds its position."""
    return f"lakeflow.sink.{settings.project.name}.{spec.table}"


def run_name(table: str) -> str:
    """What runs of a table's sink are called."""
    return f"produce.{table}"


def warn_of_delivery(spec: SinkSpec) -> None:
    """Say aloud where records may come twice."""
    if spec.delivery is Delivery.AT_LEAST_ONCE:
        logger.warning("%s is sent at least once: after a failure records may come twice in topic %s", spec.table, spec.topic)


def caps_of(spec: SinkSpec, settings: Settings) -> Caps:
    """What bounds a batch, which is a transaction: it holds one data file at the least."""
    return Caps(settings.run.max_files, spec.rows, settings.run.max_bytes)


def open_producing(
    spec: SinkSpec,
    settings: Settings,
    lake: Lake,
    *,
    again: str | None = None,
    told: Callable[[Produced], None] = lambda produced: None,
) -> tuple[Producing, Callable[[], None]]:
    """The sink of a table, and what closes it. Opening it fences whoever else has it open. `again` is as `start_of` has it.

    Raises ConfigError for what brokers refuse and for a topic that is not there, SourceUnavailable where none answers, and what
    `Producing` raises.
    """
    sink = KafkaSink(
        {**settings.kafka_options(), **spec.properties},
        spec.topic,
        sink_name(spec, settings),
        exactly_once=spec.delivery is Delivery.EXACTLY_ONCE,
        request_timeout=settings.run.connect_seconds,
        patience=PATIENCE,
        buffer_bytes=settings.run.buffer_bytes,
    )
    try:
        return Producing(spec, sink, lake, caps_of(spec, settings), again=again, told=told), sink.close
    except BaseException:
        sink.close()
        raise


def produce_once(opened: Open, *, stop: Callable[[], bool], told: Callable[[Produced], None]) -> None:
    """Open a sink, send what there is, close it. `told` is given what was sent, however it ends. Raises what both raise."""
    producing, close = opened()
    try:
        producing.catch_up(stop)
    finally:
        close()
        told(producing.produced)


def keep_producing(
    opened: Open,
    *,
    every: float,
    stop: Callable[[], bool],
    told: Callable[[Produced], None],
    sleep: Callable[[float], None],
    backoff: Backoff = REOPEN,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Send what comes until `stop()`, looking every so many seconds. After a Transient the sink is opened anew.

    Raises the error once `backoff.attempts` of them came with nothing sent in between, and others at once.
    """
    failures = 0
    while not stop():
        try:
            producing, close = opened()
            before = producing.produced
            try:
                _follow(producing, every, stop, sleep, clock)
                return
            finally:
                close()
                told(producing.produced)
                failures = 0 if producing.produced != before else failures
        except Transient as error:
            failures += 1
            if failures >= backoff.attempts:
                raise
            wait = backoff.wait(failures - 1)
            logger.warning("a sink is opened again in %.1f s: %s", wait, error.message)
            sleep(wait)


def _follow(
    producing: Producing, every: float, stop: Callable[[], bool], sleep: Callable[[float], None], clock: Callable[[], float]
) -> None:
    claimed = clock()
    while not stop():
        producing.catch_up(stop)
        if clock() - claimed >= CLAIM_SECONDS:
            claimed = clock()
            producing.claim()
        if not stop():
            sleep(every)


@dataclass(frozen=True, slots=True)
class SinkPlan:
    """A sink as of now: what waits to be sent, in how many transactions. Files that went count beside those that came.

    `rows` are those of the files that came: of changed files, rows that did not change are among them. Where it cannot be
    told, `problem` says why, `would_fail` whether it stands in the way, and `is_away` that brokers do not answer.
    """

    spec: SinkSpec
    position: SnapshotPosition | None = None
    is_new: bool = False
    rows: int | None = None
    files: int = 0
    removed: int = 0
    transactions: int = 0
    problem: str | None = None
    would_fail: bool = False
    is_away: bool = False


def plan_sink(spec: SinkSpec, settings: Settings, lake: Lake, *, timeout: float, again: str | None = None) -> SinkPlan:
    """What `lakeflow produce` would send of a table; brokers get `timeout` seconds for an answer. Nobody is fenced."""
    try:
        found = _place_of(spec, settings, timeout)
        if not lake.exists(spec.table):
            return SinkPlan(spec, is_new=found.position is None, problem=f"waits for {spec.table}, not there yet")
        opened = lake.table(spec.table)
        start = start_of(spec, found, again, lambda: opened)
        waiting = list(batches(spec, opened, start, caps_of(spec, settings)))
    except LakeflowError as error:
        away = isinstance(error, SourceUnavailable)
        return SinkPlan(spec, problem=error.message, would_fail=isinstance(error, Terminal), is_away=away)
    splits = [split for batch in waiting for split in batch.splits]
    rows, removed = sum(split.rows for split in splits), sum(len(batch.removed) for batch in waiting)
    return SinkPlan(spec, start, found.position is None, rows, len(splits), removed, len(waiting))


def position_of(spec: SinkSpec, settings: Settings, timeout: float) -> SnapshotPosition | None:
    """How far the sink of a table has come; None at its very beginning. Raises SourceUnavailable, ConfigError."""
    found = _place_of(spec, settings, timeout)
    return None if found.position is None else loads(found.position)


def _place_of(spec: SinkSpec, settings: Settings, timeout: float) -> Place:
    options = {**settings.kafka_options(), **spec.properties}
    place = KafkaPlace(options, spec.topic, sink_name(spec, settings), patience=timeout)
    try:
        return place.place()
    finally:
        place.close()
