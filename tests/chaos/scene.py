"""What the tracks of one round share: the project, the broker's waves, who is alive, and what was done to whom."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lakeflow.topics.embedded import EmbeddedBroker
from tests.chaos.processes import Nursery
from tests.chaos.project import Project
from tests.chaos.records import Records
from tests.chaos.watch import Phase
from tests.independent_reader import locations

MOST_ORDERS = 40_000
"""Records after which waves only trickle: the embedded broker keeps 5 MiB a partition."""


@dataclass(slots=True)
class Tally:
    """What was done, and what came of it. Counters are by (role, ..)."""

    kills: Counter[tuple[str, Phase]] = field(default_factory=Counter)
    zombies: Counter[tuple[str, str]] = field(default_factory=Counter)
    terminated: Counter[str] = field(default_factory=Counter)
    fenced: Counter[str] = field(default_factory=Counter)
    started: Counter[str] = field(default_factory=Counter)
    rivals: Counter[str] = field(default_factory=Counter)

    def kills_of(self, role: str) -> int:
        return sum(count for (of, _), count in self.kills.items() if of == role)

    @property
    def all_kills(self) -> int:
        return self.kills.total()

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.kills + other.kills,
            self.zombies + other.zombies,
            self.terminated + other.terminated,
            self.fenced + other.fenced,
            self.started + other.started,
            self.rivals + other.rivals,
        )


@dataclass(slots=True)
class Scene:
    """One round. `over` ends it early, when something failed or all quotas are filled."""

    project: Project
    nursery: Nursery
    records: Records
    tally: Tally = field(default_factory=Tally)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)
    quotas: Mapping[str, int] = field(default_factory=dict)
    live: dict[str, int] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)

    def locations(self) -> Mapping[str, Path]:
        return locations(self.project.catalog)

    def is_filled(self) -> bool:
        """Whether every role has had its kills. Until then all go on: jobs need rows that land."""
        return all(self.tally.kills_of(role) >= quota for role, quota in self.quotas.items())

    def is_two_against_two(self) -> bool:
        return len(self.live) > 1 and all(count > 1 for count in self.live.values())


class Waves:
    """A thread that produces to both topics, in waves of random size, until the round is over."""

    def __init__(self, scene: Scene, broker: EmbeddedBroker, seed: int) -> None:
        self.failure: BaseException | None = None
        self._scene, self._broker = scene, broker
        self._roll = random.Random(seed)
        self._thread = threading.Thread(target=self._run, name="waves", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._scene.over.is_set():
                self._wave()
                time.sleep(self._roll.uniform(0.05, 0.3))
        except BaseException as error:  # noqa: BLE001  # raised in the thread that waits for this one
            self.failure = error
            self._scene.over.set()

    def _wave(self) -> None:
        records, roll = self._scene.records, self._roll
        full = len(records.orders.records) > MOST_ORDERS
        orders, pings = (2, 2) if full else (roll.randrange(5, 90), roll.randrange(5, 40))
        self._broker.produce("orders", [sent.to_produce() for sent in records.order_wave(orders)])
        self._broker.produce("pings", [sent.to_produce() for sent in records.ping_wave(pings)])
