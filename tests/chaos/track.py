"""A track: the processes of one role, and what befalls them, one episode after the other, until a quota of kills is full."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.processes import TERMINATED, Child, judge, wait_for
from tests.chaos.project import JOB_TABLES, LANDED, LANDING_TABLES, RUNS
from tests.chaos.scene import Scene
from tests.chaos.watch import AIMS, JUST_NOW, FolderWatch, Phase, locks_of, traces
from tests.independent_reader import stored_table

KILLED = -signal.SIGKILL
FENCED_OUT = 1
UNFINISHED = (Phase.DATA, Phase.MANIFESTS, Phase.METADATA)


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of process: how it is started, what it writes, and what tells that a rival of it has committed.

    `ends_fenced`: whether a process started with the second of `commands` ends when it is fenced.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    tables: tuple[str, ...]
    committed: tuple[str, ...]
    needs: tuple[str, ...]
    ends_fenced: bool


LAND = Role(
    "land",
    (("land", "--follow"), ("land", "bronze.orders", "--follow")),
    LANDING_TABLES,
    committed=("bronze.orders",),
    needs=(),
    ends_fenced=True,
)
RUN = Role("run", (("run", "--follow", "--every", "0.2"),), JOB_TABLES, JOB_TABLES, needs=LANDED, ends_fenced=False)


class RoundOver(Exception):
    """The round was ended from elsewhere."""


class Track:
    """`run` is the body of a thread; what it raises stays in `failure`."""

    def __init__(self, role: Role, scene: Scene, seed: int) -> None:
        self.failure: BaseException | None = None
        self._role = role
        self._scene = scene
        self._roll = random.Random(seed)
        self._children: list[Child] = []
        self._leftovers: set[Path] = set()
        self._ledger = ""
        self._folders = {table: scene.project.folders_of(table) for table in (*role.tables, RUNS)}
        scene.live[role.name] = 0

    def run(self) -> None:
        folders = [folder for table in self._role.tables for folder in self._folders[table]]
        try:
            with FolderWatch([*folders, self._scene.project.catalog.parent]) as self._watch:
                self._wait(lambda: all(self._has_rows(table) for table in self._role.needs), "rows to run jobs on")
                self._raise_to(2, self._role.commands[0])
                self._strike(self._any_child())
                while not self._scene.is_filled():
                    self._episode()
                self._finish()
        except RoundOver:
            return
        except BaseException as error:  # noqa: BLE001  # raised in the thread that waits for this one
            self.failure = error
            self._scene.over.set()

    def _episode(self) -> None:
        episodes = {self._kill: 8, self._race: 6, self._resurrect: 3, self._kill_both: 2, self._terminate: 2}
        [episode] = self._roll.choices(list(episodes), list(episodes.values()))
        episode()
        self._reap()

    def _kill(self) -> None:
        self._raise_to(1)
        self._strike(self._any_child())

    def _race(self) -> None:
        """Two at once on the same tables; one of them is killed while they are at it."""
        self._raise_to(2)
        self._wait(lambda: all(child.is_ready() or not child.is_live() for child in self._children), "two rivals to be ready")
        self._strike(self._any_child())

    def _kill_both(self) -> None:
        self._raise_to(2)
        for child in list(self._children):
            self._strike(child)

    def _terminate(self) -> None:
        """SIGTERM: the commit under way is finished, nothing is left half done."""
        self._raise_to(1)
        child = self._any_child()
        self._take_aim(child, may_be_starting=False)
        child.end()
        alone = len(self._children) == 1
        if alone and child.process.returncode == TERMINATED and (phase := self._look(child)) in UNFINISHED:
            raise AssertionError(f"{child.arguments} was asked to stop and left {phase}")
        self._bury(child, TERMINATED, *self._if_ending(child))
        with self._scene.lock:
            self._scene.tally.terminated[self._role.name] += 1

    def _resurrect(self) -> None:
        """SIGSTOP at a moment that hurts; a rival starts and commits; SIGCONT. The zombie must do no harm."""
        self._raise_to(1)
        zombie = self._any_child()
        self._take_aim(zombie, may_be_starting=False)
        zombie.stop()
        phase = self._look(zombie)
        if not zombie.is_live():
            return
        if locks_of(zombie.pid, self._scene.project.catalog):
            zombie.go_on()  # nobody can commit while it holds the catalog's lock
            self._count_zombie("held the catalog's lock")
            return
        rival = self._let_a_rival_commit(zombie)
        fenced = zombie.fenced()
        zombie.go_on()
        outcome = self._outcome(zombie, rival, fenced)
        self._count_zombie(f"{outcome}, stopped {phase}")

    def _let_a_rival_commit(self, zombie: Child) -> Child:
        for other in self._children:
            if other is not zombie:
                self._strike(other)
        rival = self._start(self._role.commands[0])
        before = self._commits()
        self._wait(lambda: self._commits() != before or not rival.is_live(), "a rival of a stopped process to commit")
        return rival

    def _outcome(self, zombie: Child, rival: Child, fenced: int) -> str:
        """What became of a zombie. Of two landings one must be fenced: the rival, where the zombie was stopped before it
        had read the table's progress. A job may have been caught with nothing in hand.
        """

        def is_fenced() -> bool:
            return zombie.fenced() > fenced or not zombie.is_live()

        def is_settled() -> bool:
            return is_fenced() or rival.fenced() > 0 or not rival.is_live() or self._scene.over.is_set()

        if not self._role.ends_fenced:
            end = time.monotonic() + 3
            self._wait(lambda: is_fenced() or time.monotonic() > end, "a zombie job")
            return "fenced" if is_fenced() else "unharmed"
        zombie.wait_until(is_settled, "a zombie landing or its rival to be fenced")
        if not is_fenced():
            return "its rival fenced"
        if zombie.arguments == self._role.commands[1]:
            zombie.wait()
            self._bury(zombie)
        return "fenced"

    def _strike(self, child: Child) -> None:
        """Kill one: half of them at once, half stopped first so that what they hold can be looked at in peace."""
        self._take_aim(child, may_be_starting=True)
        raced = self._scene.is_two_against_two()
        if self._roll.random() < 0.5 and child.is_live():
            child.stop()
            phase = self._look(child)
            killed = child.kill()
        else:
            was_ready = child.is_ready()
            killed = child.kill()
            phase = self._look(child) if was_ready else Phase.STARTING
        self._bury(child)
        self._leftovers.update(path for folders in self._folders.values() for folder in folders for path in folder.iterdir())
        if killed:
            with self._scene.lock:
                self._scene.tally.kills[self._role.name, phase] += 1
                self._scene.tally.rivals["two against two"] += raced

    def _take_aim(self, child: Child, *, may_be_starting: bool) -> None:
        """Wait for a moment to strike: any while it starts, any at all, or a certain one around a commit."""
        if may_be_starting and not child.is_ready() and self._roll.random() < 0.15:
            time.sleep(self._roll.uniform(0, 1.2))
            return
        self._wait(lambda: child.is_ready() or not child.is_live(), "a process to be ready")
        if self._roll.random() < 0.25:
            time.sleep(self._roll.uniform(0, 1.5))
            return
        aim = self._roll.choice(list(AIMS.values()))
        self._watch.forget()
        self._watch.wait(aim, seconds=3.0, given_up=lambda: not child.is_live() or self._scene.over.is_set())
        if self._roll.random() < 0.4:
            time.sleep(self._roll.uniform(0, 0.01))

    def _look(self, child: Child) -> Phase:
        """What the process was doing, by its locks and by what its tables' folders hold."""
        now = time.time()
        catalog = self._scene.project.catalog
        if child.is_live() and not child.is_ready():
            return Phase.STARTING
        if child.is_live() and "WRITE" in locks_of(child.pid, catalog):
            return Phase.LOCKED
        current = {} if child.is_live() and locks_of(child.pid, catalog) else self._scene.locations()
        seen = {
            table: traces(current.get(table), self._folders[table], self._leftovers) for table in (*self._role.tables, RUNS)
        }
        own = [seen[table] for table in self._role.tables]
        if unfinished := [trace.phase for trace in own if trace.phase is not None]:
            return unfinished[0]
        if self._role is LAND and self._letters_are_ahead(current):
            return Phase.LETTERS
        if any(now - trace.committed < JUST_NOW for trace in own):
            return Phase.SWAPPED
        return Phase.RECORDING if seen[RUNS].phase is not None else Phase.BETWEEN

    def _letters_are_ahead(self, current: Mapping[str, Path]) -> bool:
        """Whether dead letters have landed, since the last look, of records that the table has not taken yet."""
        if "lakeflow.dead_letters" not in current or "bronze.orders" not in current:
            return False
        letters = stored_table("letters", current["lakeflow.dead_letters"]).properties
        table = stored_table("orders", current["bronze.orders"])
        ledger = letters.get(f"lakeflow.progress.landing.bronze.orders.{table.metadata['table-uuid']}", "")
        fresh, self._ledger = ledger != self._ledger, ledger
        landed = json.loads(table.properties.get("lakeflow.progress.landing", "{}")).get("orders", {})
        taken = json.loads(ledger or "{}").get("orders", {})
        return fresh and any(offset > landed.get(partition, 0) for partition, offset in taken.items())

    def _raise_to(self, count: int, command: tuple[str, ...] | None = None) -> None:
        self._reap()
        while len(self._children) < count:
            self._start(command or self._roll.choice(self._role.commands))

    def _start(self, command: tuple[str, ...]) -> Child:
        child = self._scene.nursery.start(*command)
        self._children.append(child)
        with self._scene.lock:
            self._scene.tally.started[self._role.name] += 1
            self._scene.live[self._role.name] = len(self._children)
        return child

    def _any_child(self) -> Child:
        return self._roll.choice(self._children)

    def _reap(self) -> None:
        """Bury what has ended. A landing of several tables that was fenced in one would stay, and land the others only."""
        for child in list(self._children):
            if self._role.ends_fenced and child.fenced():
                child.kill()
            if not child.is_live():
                self._bury(child)

    def _bury(self, child: Child, *also_allowed: int) -> None:
        """Judge one that has ended. Besides by a kill, a landing may end because it was fenced."""
        if child not in self._children:
            return
        fenced_out = (FENCED_OUT,) if self._role.ends_fenced else ()
        judge(child, (KILLED, *fenced_out, *also_allowed))
        self._children.remove(child)
        with self._scene.lock:
            self._scene.tally.fenced[self._role.name] += child.fenced()
            self._scene.live[self._role.name] = len(self._children)

    def _finish(self) -> None:
        """Stay until the other tracks are through with their last episodes, then end what is left by SIGTERM."""
        self._raise_to(1)
        self._scene.finished.add(self._role.name)
        self._wait(lambda: self._scene.finished >= self._scene.quotas.keys(), "the other tracks")
        self._reap()
        for child in list(self._children):
            self._wait(lambda child=child: child.is_ready() or not child.is_live(), "a process to be ready")  # type: ignore[misc]
            child.end()
            self._bury(child, TERMINATED, *self._if_ending(child))

    def _if_ending(self, child: Child) -> tuple[int, ...]:
        """A landing that was fenced and is on its way out handles signals no more."""
        return (-signal.SIGTERM,) if self._role.ends_fenced and child.fenced() else ()

    def _commits(self) -> tuple[Path | None, ...]:
        current = self._scene.locations()
        return tuple(current.get(table) for table in self._role.committed)

    def _has_rows(self, table: str) -> bool:
        location = self._scene.locations().get(table)
        return location is not None and stored_table(table, location).head is not None

    def _count_zombie(self, outcome: str) -> None:
        with self._scene.lock:
            self._scene.tally.zombies[self._role.name, outcome] += 1

    def _wait(self, happened: Callable[[], bool], what: str) -> None:
        with self._unless_over():
            wait_for(lambda: self._scene.over.is_set() or happened(), what, pause=0.02)

    @contextmanager
    def _unless_over(self) -> Iterator[None]:
        yield
        if self._scene.over.is_set():
            raise RoundOver
