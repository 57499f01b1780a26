"""Maintenance of a project's tables: which, how, on which schedule, and recorded as runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from lakeflow.config import Settings
from lakeflow.errors import LakeflowError, Terminal, UnknownName
from lakeflow.job import Job
from lakeflow.lake.compact_plan import Readers, Sizes
from lakeflow.lake.history import PROGRESS, writers_in
from lakeflow.lake.maintain import Maintained, Upkeep, maintain_table, plan_maintenance
from lakeflow.landing.dead_letters import DEAD_LETTERS, Taken
from lakeflow.landing.produce_open import declared_sink, position_of
from lakeflow.landing.produce_spec import has_sink
from lakeflow.landing.replays import REPLAYS
from lakeflow.observe.runs import RUNS, Run, RunLog, Status
from lakeflow.runner.backfill_ledger import BACKFILLS
from lakeflow.runner.project import Project
from lakeflow.runner.readers import readers_of

logger = logging.getLogger("lakeflow.observe")

KIND = "maintain"
RUNS_FILE_BYTES = 1 << 20
"""Of a file of lakeflow.runs: `lakeflow runs` reads the newest ones whole."""
ORPHANS_EVERY = timedelta(days=1)
LONGEST_WAIT = 1.0
"""Seconds between two looks whether a stop was asked for."""


def upkeep_of(settings: Settings, table: str) -> Upkeep:
    """How [maintain] and [run] say that a table is kept."""
    kept = settings.maintain
    target = min(settings.run.target_file_bytes, RUNS_FILE_BYTES) if table == RUNS else settings.run.target_file_bytes
    return Upkeep(
        sizes=Sizes(min(kept.compact_below_bytes, target), target, kept.compact_files),
        most_manifests=kept.manifests,
        keep_snapshots=kept.keep_snapshots,
        snapshot_age=timedelta(hours=kept.snapshot_hours),
        orphan_age=timedelta(hours=kept.orphan_hours),
        buffer_bytes=settings.run.buffer_bytes,
    )


def tables_of(project: Project, names: Sequence[str] = ()) -> tuple[str, ...]:
    """The tables named, or those of the project that are there: declared, written by its jobs, and its system tables.

    Raises UnknownName. A table of the catalog that is not the project's is maintained only where it is named.
    """
    there = project.lake.names()
    if unknown := [name for name in names if name not in there]:
        raise UnknownName("table", unknown[0], there, next_step="lakeflow tables")
    if names:
        return tuple(dict.fromkeys(names))
    targets = [node.work.target for node in project.nodes if isinstance(node.work, Job)]
    return tuple(sorted({*project.declared_tables.tables, *targets, RUNS, DEAD_LETTERS, REPLAYS, BACKFILLS} & set(there)))


def table_readers(project: Project, table: str) -> Readers:
    """The readers of a table. Landings go by sequence numbers of lakeflow.dead_letters too: no run reaches over those.

    Raises SourceUnavailable where the brokers do not tell how far the table's sink has come.
    """
    found = _with_sink(project, table, readers_of(project, table))
    if table != DEAD_LETTERS or not project.lake.exists(table):
        return found
    metadata = project.lake.table(table).metadata
    texts = (metadata.properties.get(PROGRESS + writer) for writer in writers_in(metadata))
    return replace(found, borders=frozenset(_since(text) for text in texts))


def _with_sink(project: Project, table: str, found: Readers) -> Readers:
    """The readers with the table's sink beside them."""
    declared = project.declared_tables.tables.get(table)
    if declared is None or not has_sink(declared) or not project.lake.exists(table):
        return found
    spec = declared_sink(declared, project.settings)
    position = position_of(spec, project.settings, project.settings.run.connect_seconds)
    if position is None:
        return replace(found, unread=(*found.unread, f"the sink of {table}"), by_key=found.by_key or spec.is_keyed)
    of_this = position.table_uuid == str(project.lake.table(table).metadata.table_uuid)
    positions = (*found.positions, position) if of_this else found.positions
    return replace(found, positions=positions, by_key=found.by_key or spec.is_keyed)


def _since(text: str | None) -> int:
    """The first sequence number of a landing's letters; of progress that is of no landing, none."""
    try:
        return Taken.loads(text).since
    except Terminal:
        return 0


def plan(project: Project, table: str, upkeep: Upkeep) -> Maintained:
    """What maintenance of a table would do now."""
    return plan_maintenance(project.lake, table, upkeep, table_readers(project, table), datetime.now(UTC))


def maintain(
    project: Project, table: str, upkeep: Upkeep, *, mode: str = "available-now", stop: Callable[[], bool] = lambda: False
) -> Maintained:
    """Maintain a table, and record it in lakeflow.runs where something was done. Raises as `maintain_table` does."""
    run = Run(KIND, f"{KIND}.{table}", table, mode)
    done = Maintained(table)
    with RunLog(project.lake, project.commits, project.settings).recorded(run, even_empty=False):
        try:
            for done in maintain_table(
                project.lake, project.commits, table, upkeep, lambda: table_readers(project, table), datetime.now(UTC), stop
            ):
                run.snapshot_ids = done.snapshots
        finally:
            run.status = Status.STOPPED if stop() else Status.EMPTY if done.did_nothing else Status.DONE
    return done


@dataclass(slots=True)
class Rounds:
    """When rounds of maintenance begin, on a clock of seconds; orphans are looked for in one round a day. Pure."""

    interval: float
    next_at: float
    orphans_at: float

    def due(self, now: float) -> bool:
        return now >= self.next_at

    def begin(self, now: float) -> bool:
        """Begin a round; whether it looks for orphans."""
        self.next_at = now + self.interval
        orphans = now >= self.orphans_at
        if orphans:
            self.orphans_at = now + ORPHANS_EVERY.total_seconds()
        return orphans


def maintain_beside(
    project: Project,
    stop: Callable[[], bool],
    *,
    tables: Iterable[str] = (),
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Maintain tables (without any: the project's) in rounds of [maintain] interval_seconds, until a stop is asked for.

    For a thread beside a landing: what fails is logged, and tried again in the next round. The first round comes after
    one interval, orphans are looked for after a day. With an interval of 0 it returns at once.
    """
    interval = project.settings.maintain.interval_seconds
    if interval == 0:
        return
    rounds = Rounds(interval, clock() + interval, clock() + ORPHANS_EVERY.total_seconds())
    while not stop():
        if rounds.due(clock()):
            maintain_round(project, tuple(tables), rounds.begin(clock()), stop)
        sleep(min(LONGEST_WAIT, interval))


@contextmanager
def maintained_beside(project: Project, stop: Callable[[], bool], *, tables: Iterable[str] = ()) -> Iterator[None]:
    """Within it a thread maintains tables as `maintain_beside` does. It ends with the block, its commit under way finished."""
    over = threading.Event()

    def run() -> None:
        try:
            maintain_beside(project, lambda: over.is_set() or stop(), tables=tables, sleep=over.wait)
        except BaseException:
            logger.exception("nothing is maintained beside the landing any more")
            raise

    thread = threading.Thread(target=run, name="lakeflow-maintain", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def maintain_round(
    project: Project, names: Sequence[str], orphans: bool, stop: Callable[[], bool], *, orphan_age: timedelta | None = None
) -> list[LakeflowError]:
    """One round over the tables; its failures, which are logged and end nothing. `orphan_age` of None is the one set."""
    errors: list[LakeflowError] = []
    try:
        tables = tables_of(project, names)
    except LakeflowError as error:
        logger.warning("tables cannot be maintained: %s", error.message)
        return [error]
    for table in tables:
        if stop():
            break
        upkeep = upkeep_of(project.settings, table)
        age = (orphan_age or upkeep.orphan_age) if orphans else None
        try:
            maintain(project, table, replace(upkeep, orphan_age=age), mode="follow", stop=stop)
        except LakeflowError as error:
            logger.warning("table %s is not maintained now: %s", table, error.message)
            errors.append(error)
    return errors
