"""`lakeflow start` under load with faults, and killed: nothing lost, nothing twice, the others on time, memory flat.

    python -m tests.chaos.start --minutes 30 --results tests/chaos/start_results.md
    python -m tests.chaos.start --kills 30 --seed 7

With minutes, records come all the time, and one after the other the model's server is killed, the catalog is locked, a job
is poisoned, a file is broken and the brokers go away. With kills, the whole process is killed by SIGKILL at random moments and
started again. The seed repeats the choices, not the moments that the machine makes of them. test_start.py is the short form.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from lakeflow.topics.embedded import EmbeddedBroker
from tests.chaos.processes import TERMINATED, Nursery, wait_for
from tests.chaos.start_project import LANDED, LARGE, NOTED, POINTS, Service, Started

CHUNK = 0.5
"""Seconds between two writes to the topic."""
POISON = f"""
import lakeflow as lf
import polars as pl


@lf.job(target="gold.poisoned")
def poisoned(events=lf.Read("{LANDED}")):
    return events.select(pl.col("id").cast(pl.String).str.to_decimal(scale=2).alias("id"), pl.col("no_such_column"))
"""
PATIENCE = 180.0
MOST_SECONDS = 10.0
"""That the end may take once SIGTERM came."""


def kill_and_count(folder: Path, seed: int, kills: int) -> str:
    """Kill the process so often, then let it catch up and stop it, and check every table. Raises AssertionError."""
    roll, began, struck = random.Random(seed), time.monotonic(), Counter[str]()
    with EmbeddedBroker(partitions=4) as broker, ExitStack() as held:
        started = Started(folder / "project", broker)
        started.write(follow=0.3, maintain=2.0)
        nursery = held.enter_context(Nursery(started.root, folder / "logs"))
        for _ in range(kills):
            service = Service.start(nursery)
            started.produce(roll.randrange(50, 400))
            moment, pause = roll.choice(("committed", "done", "ready", None)), roll.uniform(0.0, 1.5)
            if moment is not None:
                service.wait_for(status=moment)
            started.produce(roll.randrange(50, 400))
            time.sleep(pause)
            assert service.child.kill(), service.child.said()
            struck[f"killed {pause:.0f} s after it was {moment}" if moment else "killed as it started"] += 1
        service = Service.start(nursery)
        service.wait_for(status="ready")  # before that there may be no catalog, and a signal ends it without a word
        caught_up(started, service)
        stopped = stop(service)
        started.check()
    lines = [f"{what:<60}{count:>8,}" for what, count in sorted(struck.items())]
    seconds = time.monotonic() - began
    head = f"seed {seed}: {seconds:.0f} s, {kills} kills, {started.made:,} records, each once; ended within {stopped:.1f} s"
    return "\n".join([head, *lines])


def caught_up(started: Started, service: Service) -> None:
    """Wait until all tables and the index hold all. Raises Misbehaved where they do not come to."""
    wait_for(lambda: started.is_caught_up, "all rows", PATIENCE, pause=0.5)
    wait_for(lambda: started.indexed() == len(started.expected[POINTS]), "the index", PATIENCE, pause=1.0)


def stop(service: Service) -> float:
    """SIGTERM; the seconds that the end takes. Raises AssertionError where it ends otherwise than by the signal."""
    began = time.monotonic()
    service.child.end()
    seconds = time.monotonic() - began
    assert service.child.process.returncode == TERMINATED, service.child.said()
    left = service.wait_for(status="stopped")["left"]
    assert left == [], f"what was still under way after {seconds:.1f} s: {left}\n{service.child.said()[-3000:]}"
    assert seconds < MOST_SECONDS, f"it took {seconds:.1f} s to end"
    return seconds


@dataclass(slots=True)
class Sample:
    """One look: seconds since the start, the fault that held, resident bytes, how old the newest row of each table was."""

    at: float
    fault: str
    memory: int
    age: dict[str, float]


@dataclass(slots=True)
class Load:
    """A run under load: what is written, which fault holds, what was seen."""

    started: Started
    service: Service
    rate: int
    begun: float = field(default_factory=time.monotonic)
    fault: str = "none"
    samples: list[Sample] = field(default_factory=list)
    faults: list[tuple[str, float]] = field(default_factory=list)

    def go_on(self, seconds: float, during: str = "none", each: Callable[[], None] = lambda: None) -> None:
        """Write records for so long; `each` is called between two writes."""
        self.fault, end = during, time.monotonic() + seconds
        if during != "none":
            self.faults.append((during, seconds))
        while (now := time.monotonic()) < end:
            self.started.produce(int(self.rate * CHUNK), at=time.time())
            each()
            if not self.samples or now - self.begun - self.samples[-1].at >= 2.0:
                self._look()
            assert self.service.child.is_live(), self.service.child.said()
            time.sleep(max(0.0, CHUNK - (time.monotonic() - now)))

    def _look(self) -> None:
        """Memory, and how far each table is behind. While the catalog is locked nobody can tell."""
        resident = int(Path(f"/proc/{self.service.child.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        age = {} if self.fault == LOCKED else {table: self._age(table) for table in (LANDED, LARGE, NOTED)}
        self.samples.append(Sample(time.monotonic() - self.begun, self.fault, resident, age))

    def _age(self, table: str) -> float:
        """Seconds since the newest row was written to the topic."""
        if table == NOTED:  # which keeps no times: rows that are missing, as seconds of the rate
            missing = len(self.started.expected[NOTED]) - self.started.rows(NOTED)
            return missing / (self.rate * 0.02)
        newest = self.started.newest(table, "at")
        return time.time() - newest if newest else 0.0


SERVER_GONE, LOCKED, POISONED, UNREADABLE, BROKERS = (
    "model server killed",
    "catalog locked",
    "poisoned job",
    "file that cannot be loaded",
    "brokers away",
)


def run_load(folder: Path, minutes: float, rate: int) -> str:
    """Load and faults for so long, then catch up, stop and check. The report. Raises AssertionError."""
    part = minutes * 60 / 20
    with EmbeddedBroker(partitions=16) as broker, ExitStack() as held:
        started = Started(folder / "project", broker)
        port = free_port()
        started.write(model=f"http://127.0.0.1:{port}", maintain=max(5.0, part), start="attempts = 1000")
        nursery = held.enter_context(Nursery(started.root, folder / "logs"))
        model = held.enter_context(ModelServer(port))
        service = Service.start(nursery)
        service.wait_for(status="ready")
        load = Load(started, service, rate)
        load.go_on(2 * part)
        model.kill()
        load.go_on(2 * part, SERVER_GONE)
        model.start()
        load.go_on(2 * part)
        with locking(started.root / ".lakeflow" / "catalog.db") as turn:
            load.go_on(2 * part, LOCKED, turn)
        load.go_on(2 * part)
        started.put("jobs/poison.py", POISON)
        load.go_on(2 * part, POISONED)
        (started.root / "jobs/poison.py").unlink()
        load.go_on(part)
        started.put("jobs/broken.py", "def (")
        load.go_on(part, UNREADABLE)
        (started.root / "jobs/broken.py").unlink()
        load.go_on(part)
        broker.stop()
        time.sleep(min(20.0, part))
        broker.start()
        load.faults.append((BROKERS, min(20.0, part)))
        load.go_on(2 * part)
        load.go_on(part)
        ended = stop(service)
        again = Service.start(nursery)
        caught_up(started, again)
        stop(again)
        started.check()
    return report(load, ended)


def told_within(service: Service) -> float:
    """Seconds from the event that it stops to the one that it has."""
    first, last = (datetime.fromisoformat(service.wait_for(status=status)["at"]) for status in ("stopping", "stopped"))
    return (last - first).total_seconds()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class ModelServer:
    """The model's service as a process of its own, which can be killed and started again at its port."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ModelServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        code = (
            "import sys, time; from tests.services.http import Server; from tests.services.openai import OpenAI\n"
            "with Server(OpenAI(latency=0.01), int(sys.argv[1])):\n    time.sleep(1e6)"
        )
        self._process = subprocess.Popen([sys.executable, "-c", code, str(self._port)], cwd=Path(__file__).parents[2])
        wait_for(self._answers, "the model's server", pause=0.1)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", self._port)) == 0


@contextmanager
def locking(catalog: Path) -> Iterator[Callable[[], None]]:
    """What is called in turns locks the catalog for 6 s, longer than a process waits for it, and gives it free for 2 s."""
    with closing(sqlite3.connect(catalog, timeout=60.0, isolation_level=None)) as one:
        state = {"locked": False, "until": 0.0}

        def turn() -> None:
            if time.monotonic() < state["until"]:
                return
            one.execute("COMMIT" if state["locked"] else "BEGIN EXCLUSIVE")
            state["locked"] = not state["locked"]
            state["until"] = time.monotonic() + (6.0 if state["locked"] else 2.0)

        yield turn
        if state["locked"]:
            one.execute("COMMIT")


def report(load: Load, stopped: float) -> str:
    """What was counted and measured, as lines of a page."""
    events = Counter((event["kind"], event["status"]) for event in load.service.events())
    worst: dict[str, dict[str, float]] = {}
    for sample in load.samples[5:]:
        at = worst.setdefault(sample.fault, {})
        for table, age in sample.age.items():
            at[table] = max(at.get(table, 0.0), age)
    share = max(1, len(load.samples) // 8)
    parts = [load.samples[place : place + share] for place in range(0, len(load.samples), share)]
    memory = [max(sample.memory for sample in part) >> 20 for part in parts]
    return "\n".join(
        [
            f"{load.samples[-1].at / 60:.1f} minutes, {load.rate} records a second; {os.cpu_count()} processors, shared",
            "",
            f"{load.started.made:,} records, each once in {LANDED}; in {LARGE}, {POINTS}, {NOTED}, index what belongs there",
            f"seconds from SIGTERM to the end: {stopped:.1f}, of which until all commits: {told_within(load.service):.1f}",
            f"resident memory, most of each eighth of the time, MiB: {', '.join(map(str, memory))}",
            f"faults, seconds: {', '.join(f'{what} {seconds:.0f}' for what, seconds in load.faults)}",
            "",
            "seconds behind the topic at the most, by the fault that held:",
            *(
                f"  {fault:<28}" + ", ".join(f"{table} {age:.1f}" for table, age in ages.items())
                for fault, ages in worst.items()
            ),
            "",
            "what it told of:",
            *(f"  {kind} {status:<44}{count:>8,}" for (kind, status), count in sorted(events.items())),
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--rate", type=int, default=100, help="records a second")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--results", type=Path, help="append the report to this page")
    told = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lakeflow-chaos-") as folder:
        reports = []
        if told.minutes:
            reports.append((f"--minutes {told.minutes:g}", run_load(Path(folder) / "load", told.minutes, told.rate)))
        if told.kills:
            reports.append(
                (f"--kills {told.kills} --seed {told.seed}", kill_and_count(Path(folder) / "kills", told.seed, told.kills))
            )
    for words, text in reports:
        print(text)
        if told.results is not None:
            with told.results.open("a", encoding="utf-8") as page:
                page.write(f"\n`python -m tests.chaos.start {words}`:\n\n```\n{text}\n```\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
