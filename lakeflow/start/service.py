"""The loop of `lakeflow start`: one thread decides, others work and tell it how they fared.

The decisions are the supervisor's; here they are carried out. A landing has a thread of its own, jobs and indexes share as many
as [start] allows. A change of the project's files is loaded beside what runs, and takes its place where it can be loaded.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from lakeflow.config import Settings
from lakeflow.errors import LakeflowError, Transient, UsageError
from lakeflow.observe.past import last_begun
from lakeflow.observe.runs import Status
from lakeflow.runner.due import Timetable
from lakeflow.start.events import PROCESS, Event, Report, of_commit, of_part, of_run
from lakeflow.start.generation import Generation, load
from lakeflow.start.listen import Board
from lakeflow.start.parts import Kind, Part, State
from lakeflow.start.send import run_sink
from lakeflow.start.supervisor import Limits, Supervisor
from lakeflow.start.upkeep import keep_tables
from lakeflow.start.watch import Watch, declared_in, seen
from lakeflow.start.work import Committed, Ended, Held, Lag, Message, Opened, Stop, guarded, keep_landing, run_node

if TYPE_CHECKING:
    from lakeflow.start.meters import Meters

logger = logging.getLogger("lakeflow.start")

TICK = 0.2
"""Seconds between two decisions at the most; the main thread heeds signals in between."""
LOOK = 1.0
"""Seconds between two looks at the project's files."""
LOAD_AGAIN = 10.0
"""Seconds until a change is loaded again that could not be for something that passes."""
HURRY = 0.7
"""Of the time to end, after which a step of a job is given up, so that it can take its files away."""


@dataclass(frozen=True, slots=True)
class Over:
    """How it ended: whether a part was given up, and what was still under way when the time to end was over."""

    gave_up: bool
    left: tuple[str, ...]


@dataclass(slots=True)
class Service:
    """`folder` and `target` name the project, which stands as `now`; `tell` is given each event, in the deciding thread, and
    `on_settings` the settings whenever they are read anew."""

    folder: Path
    target: str | None
    now: Generation
    tell: Callable[[Event], None]
    board: Board
    meters: Meters | None = None
    on_settings: Callable[[Settings], None] = lambda settings: None
    stop: threading.Event = field(default_factory=threading.Event)
    late: threading.Event = field(default_factory=threading.Event)
    inbox: queue.SimpleQueue[Message | Event] = field(default_factory=queue.SimpleQueue)
    _stops: dict[str, Stop] = field(default_factory=dict)
    _pool: ThreadPoolExecutor = field(init=False)
    _supervisor: Supervisor = field(init=False)
    _timetable: Timetable = field(init=False)
    _said: dict[str, str] = field(default_factory=dict)
    _load_at: float | None = None
    _was_ready: bool = False

    def run(self, requested: Callable[[], bool]) -> Over:
        """Keep the project going until a stop is requested, or nothing is left that could go on. Raises UsageError for a
        project without parts, CatalogUnavailable."""
        if not self.now.parts:
            raise UsageError(
                "the project has no landing, job, index or sink to keep going",
                next_step="declare a table with connector 'kafka', or a job",
            )
        self._timetable = Timetable(lambda: datetime.now(UTC), _last_begun(self.now))
        self._supervisor = Supervisor(self.now.parts, limits_of(self.now.project.settings), self._timetable)
        self._pool = ThreadPoolExecutor(64, thread_name_prefix="lakeflow-job")
        watch, looked = Watch(self._seen), time.monotonic()
        upkeep = threading.Thread(target=self._keep_tables, name="lakeflow-maintain", daemon=True)
        upkeep.start()
        self._tell_process("started", parts=len(self.now.parts))
        while not requested() and not self._supervisor.is_over:
            if time.monotonic() - looked >= LOOK:
                looked = time.monotonic()
                self._reload(watch, looked)
            self._start()
            self._show()
            self._take(TICK)
        return self._end(upkeep)

    def _start(self) -> None:
        for part in self._supervisor.startable(time.monotonic()):
            self._supervisor.began(part, time.monotonic())
            stop = self._stops[part.label] = Stop(self.stop, self.late)
            if part.kind is Kind.LANDING:
                self._start_landing(part, stop)
            elif part.kind is Kind.SINK:
                self._start_sink(part, stop)
            else:
                self._start_node(part, stop)

    def _start_landing(self, part: Part, stop: Stop) -> None:
        now = self.now
        table, most_ahead = now.landed[part.name], now.project.settings.start.most_ahead

        def work() -> Ended:
            return keep_landing(now.project, part, table, stop, self.inbox.put, most_ahead=most_ahead)

        told = (part, work, self.inbox.put)
        threading.Thread(target=guarded, args=told, name=f"lakeflow-land {part.name}", daemon=True).start()

    def _start_sink(self, part: Part, stop: Stop) -> None:
        now = self.now
        self._pool.submit(
            guarded, part, lambda: run_sink(now.project, part, now.sinks[part.name], stop, now.sent), self.inbox.put
        )

    def _start_node(self, part: Part, stop: Stop) -> None:
        now, node, project = self.now, self.now.nodes[part.label], self.now.take()

        def work() -> Ended:
            try:
                return run_node(project, part, node, stop, now.looked)
            finally:
                now.give_back(project)

        self._pool.submit(guarded, part, work, self.inbox.put)

    def _take(self, timeout: float) -> None:
        """Take in what was told, waiting for the first of it."""
        try:
            self._heed(self.inbox.get(timeout=timeout))
            while True:
                self._heed(self.inbox.get_nowait())
        except queue.Empty:
            return

    def _heed(self, message: Message | Event) -> None:
        if isinstance(message, Event):
            self.tell(message)
            return
        if self.meters is not None:
            self.meters.take(message)
        match message:
            case Opened(part):
                self._supervisor.opened(part)
                self.tell(of_part(part, "opened"))
            case Committed(part, counts):
                self._supervisor.moved(part, time.monotonic())
                if counts.read:
                    self.tell(of_commit(message))
            case Lag():
                pass
            case Held(part, rows):
                self.tell(of_part(part, "waits for its readers", rows_ahead=rows))
            case Ended():
                self._ended(message)
            case _:
                assert_never(message)

    def _ended(self, ended: Ended) -> None:
        part, run = ended.part, ended.run
        self._stops.pop(part.label, None)
        if run is not None and run.snapshot_ids and part.kind is not Kind.LANDING:
            self._supervisor.moved(part, time.monotonic())
        state = self._supervisor.ended(part, ended.error, time.monotonic())
        if ended.error is not None:
            self._tell_failed(part, ended.error, state)
        elif ended.waits:
            self._tell_once(part, f"waits for {', '.join(ended.waits)}, not there yet")
        elif run is not None and part.kind is not Kind.LANDING:
            self._tell_run(ended)

    def _tell_run(self, ended: Ended) -> None:
        """A run that found nothing to do is not worth a line, and that a table is suspended is worth one."""
        run = ended.run
        assert run is not None, "a run that was not come to is told of elsewhere"
        if run.status is Status.SUSPENDED:
            self._tell_once(ended.part, "suspended")
            return
        self._said.pop(ended.part.label, None)
        if run.status is not Status.EMPTY:
            self.tell(of_run(run, str(run.status), **({"rebuilt": ended.rebuilt} if ended.rebuilt else {})))

    def _tell_failed(self, part: Part, error: LakeflowError, state: State) -> None:
        held = self._supervisor.held_up_by(part) if part.kind is not Kind.LANDING else []
        more = {"left_behind": error.left_behind, "next": error.next_step, "held_up": held or None}
        facts = {name: value for name, value in more.items() if value is not None}
        status = "given up" if state is State.GIVEN_UP else "failed"
        self.tell(of_part(part, status, error.message, **facts))

    def _tell_once(self, part: Part, said: str) -> None:
        if self._said.get(part.label) != said:
            self._said[part.label] = said
            self.tell(of_part(part, said))

    def _tell_process(self, status: str, error: str | None = None, **facts: object) -> None:
        self.tell(Event(PROCESS, self.now.project.settings.project.name, status, facts, error))

    def _show(self) -> None:
        unready = tuple(self._supervisor.unready())
        self.board.put_up(Report(self._supervisor.standings(), unready, time.monotonic()))
        if bool(unready) == self._was_ready:
            self._was_ready = not unready
            if unready:
                self._tell_process("not ready", reasons=list(unready))
            else:
                self._tell_process("ready")

    def _seen(self) -> dict[Path, tuple[int, int, int]]:
        files = {Path(module.__file__) for module in self.now.modules.values() if module.__file__}
        return dict(seen({*declared_in(self.now.project.settings.root), *files}))

    def _reload(self, watch: Watch, now: float) -> None:
        """Load the project anew where its files have changed. One that cannot be loaded changes nothing."""
        changed = watch.changed()
        if not changed and (self._load_at is None or now < self._load_at):
            return
        self._load_at = None
        root = self.now.project.settings.root
        names = sorted(str(path.relative_to(root)) if path.is_relative_to(root) else str(path) for path in changed)
        try:
            loaded = load(self.folder, self.target, self.now, self.on_settings)
            begun = _last_begun(loaded)
        except Transient as error:
            self._load_at = now + LOAD_AGAIN
            self._tell_process("not reloaded yet", error.message, changed=names)
            return
        except LakeflowError as error:
            self._tell_process("not reloaded: what ran before goes on", error.message, changed=names)
            return
        self._replace(loaded, begun)
        self._tell_process("reloaded", changed=names, parts=len(loaded.parts))

    def _replace(self, loaded: Generation, begun: Mapping[str, datetime]) -> None:
        """What is loaded takes the place of what was. Landings that are declared otherwise now end, and begin anew."""
        before, self.now = self.now, loaded
        for part in before.parts:
            stop = self._stops.get(part.label)
            if stop is not None and part.kind is Kind.LANDING and before.differs(loaded, part):
                stop.own.set()
        self._timetable.know(begun)
        self._supervisor.replace(loaded.parts, limits_of(loaded.project.settings))
        self._said.clear()
        before.close()

    def _keep_tables(self) -> None:
        try:
            keep_tables(lambda: self.now.project, self.stop.is_set, self.inbox.put, sleep=self.stop.wait)
        except BaseException:
            logger.exception("nothing is maintained any more")
            raise

    def _end(self, upkeep: threading.Thread) -> Over:
        """Ask all to end, and wait as long as they may take. What is under way then is left."""
        gave_up, seconds = self._supervisor.gave_up, self.now.project.settings.start.stop_seconds
        self._tell_process("stopping", running=len(self._supervisor.running))
        begun = time.monotonic()
        self.board.put_up(Report(self._supervisor.standings(), ("it is stopping",), begun))
        self.stop.set()
        while (self._stops or upkeep.is_alive()) and (spent := time.monotonic() - begun) < seconds:
            if spent >= HURRY * seconds:
                self.late.set()
            self._take(TICK / 4)
        left = (*self._stops, *(["maintenance"] if upkeep.is_alive() else []))
        if not left:
            self._pool.shutdown()
            self.now.close()
        over = Over(gave_up, left)
        self._tell_process("stopped", left=list(left))
        return over


def limits_of(settings: Settings) -> Limits:
    """How much runs at the same time, and how failures are borne, as [start] and [run] say."""
    start = settings.start
    return Limits(start.jobs, settings.run.follow_seconds, replace(Limits().backoff, attempts=start.attempts))


def _last_begun(now: Generation) -> dict[str, datetime]:
    """When the jobs that have a schedule ran last."""
    jobs = [part.job for part in now.parts if part.job is not None and part.job.schedule is not None]
    return last_begun(now.project.lake, jobs)
