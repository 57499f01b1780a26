"""What befalls landings, maintenance and brokers while they run: each has a thread that strikes by dice of its own."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from tests.chaos.processes import TERMINATED, Child, Misbehaved, Nursery
from tests.chaos.real_project import SESSION_SECONDS
from tests.rig.kafka import Kafka

LANDINGS = 3
LAND = ("-v", "land", "--follow", "--share")
MAINTAIN = ("-v", "maintain", "--follow")
KILLED = -signal.SIGKILL
FAILED = 1
ASKED_TO_STOP = (TERMINATED, -signal.SIGTERM)
"""The second: before its imports were done."""
PASSING = re.compile(
    r"did not answer|was given up after|came first|No route|another process moved|the answer to a commit|is not there yet"
)
"""What a landing may end with, where what should pass has not passed for long."""
FORGIVEN = re.compile(r"^WARNING pyiceberg.*?(?=^[A-Z]+ \S+: |\Z)", re.MULTILINE | re.DOTALL)
"""What PyIceberg logs, with a stack, where it cannot delete what it has not committed."""
READS = "was given partitions"
REOPENED = re.compile(r"the landing of \S+ is opened again in")
CAUSE = re.compile(r"^(?:error: |.*is opened again in \S+ s: )(.*)$", re.MULTILINE)


@dataclass(slots=True)
class Tally:
    """What was done, and what came of it."""

    done: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    peak_rss: list[int] = field(default_factory=list)
    """Of each landing that has ended, in KiB."""
    misbehaved: list[str] = field(default_factory=list)
    """What processes ended with that they must not."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str, times: int = 1) -> None:
        with self.lock:
            self.done[what] += times

    def bury(self, child: Child) -> None:
        said = child.said()
        with self.lock:
            self.done["landings opened again"] += len(REOPENED.findall(said))
            self.done["times fenced"] += said.count("another process moved the progress")
            self.done["rebalances seen"] += said.count(READS)
            self.done["partitions lost in a session"] += said.count("this process did not answer its group in time")
            self.causes.update(kind_of(cause) for cause in CAUSE.findall(said))

    def start(self, nursery: Nursery, *arguments: str) -> Child:
        """One at a time, so that each has a log of its own."""
        with self.lock:
            return nursery.start(*arguments)

    def judge(self, child: Child, *allowed: int) -> None:
        """What is wrong is kept for the end, so that everything is counted first."""
        try:
            judge(child, *allowed)
        except Misbehaved as error:
            with self.lock:
                self.misbehaved.append(str(error))


def kind_of(cause: str) -> str:
    """A message without what is another each time."""
    return re.sub(r"http://\S+|[0-9a-f]{8}-[0-9a-f-]{27}|\{.*|\d+", "N", cause)[:110]


class Trouble(Exception):
    """The fire was ended from elsewhere."""


class Striker:
    """A thread that strikes until the fire is over. What it raises is in `failure`, and ends the fire."""

    def __init__(self, name: str, seed: int, over: threading.Event, tally: Tally) -> None:
        self.failure: BaseException | None = None
        self._roll = random.Random(f"{seed} {name}")
        self._over = over
        self._tally = tally
        self._thread = threading.Thread(target=self.run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    def run(self) -> None:
        """The body of the thread."""
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001  # raised in the thread that waits for this one
            self.failure = error
            self._over.set()

    def _run(self) -> None:
        while not self._over.is_set():
            self._strike()

    def _strike(self) -> None:
        raise NotImplementedError

    def _rest(self, low: float, high: float) -> bool:
        """Wait for some seconds; whether the fire goes on."""
        return not self._over.wait(self._roll.uniform(low, high))


class Landings(Striker):
    """Three that share the tables. Those that die are started anew, as a supervisor would."""

    def __init__(self, nursery: Nursery, seed: int, over: threading.Event, tally: Tally, pace: float) -> None:
        super().__init__("landings", seed, over, tally)
        self._nursery = nursery
        self._pace = pace
        self.children: list[Child] = []

    def _strike(self) -> None:
        self.fill_up()
        if not self._rest(0.5 * self._pace, 4.0 * self._pace):
            return
        child = self._roll.choice(self.children)
        if self._roll.random() < 0.8:
            self._wait_until_it_reads(child)
        [episode] = self._roll.choices((self._kill, self._pause, self._end, self._kill_all), (5, 3, 2, 0.5))
        episode(child)

    def _wait_until_it_reads(self, child: Child) -> None:
        """So that most are hit at work, however long their imports take."""
        while child.is_live() and READS not in child.said() and not self._over.wait(0.1):
            pass

    def fill_up(self) -> None:
        for child in list(self.children):
            if not child.is_live():
                self._judge(child, FAILED)
                self._tally.count("landings ended by themselves")
        while len(self.children) < LANDINGS:
            self.children.append(self._tally.start(self._nursery, *LAND))
            self._tally.count("landings started")

    def end_all(self) -> None:
        """SIGTERM to all, at once; each must end by it."""
        for child in self.children:
            child.process.send_signal(signal.SIGTERM)
        for child in list(self.children):
            child.wait()
            self._tally.count("landings ended by SIGTERM")
            self._judge(child, *ASKED_TO_STOP, FAILED)

    def _kill(self, child: Child) -> None:
        self._note_memory(child)
        if child.kill():
            self._tally.count("landings killed")
        self._judge(child, KILLED, FAILED)

    def _kill_all(self, _: Child) -> None:
        for child in list(self.children):
            self._kill(child)

    def _pause(self, child: Child) -> None:
        """SIGSTOP for longer than its session, sometimes for less; then it goes on, a zombie."""
        child.stop()
        is_long = self._roll.random() < 0.75
        seconds = SESSION_SECONDS + self._roll.uniform(0.5, 4.0) if is_long else self._roll.uniform(0.2, SESSION_SECONDS - 1)
        self._over.wait(seconds)
        child.go_on()
        self._tally.count("landings stopped past their session" if is_long else "landings stopped for less")

    def _end(self, child: Child) -> None:
        self._note_memory(child)
        child.end()
        self._tally.count("landings ended by SIGTERM")
        self._judge(child, *ASKED_TO_STOP, FAILED)

    def _note_memory(self, child: Child) -> None:
        if (peak := peak_rss(child.pid)) is not None:
            self._tally.peak_rss.append(peak)

    def _judge(self, child: Child, *allowed: int) -> None:
        """See `judge`; the others go on."""
        self.children.remove(child)
        self._tally.bury(child)
        self._tally.judge(child, *allowed)


class Maintenance(Striker):
    """`lakeflow maintain --follow` beside the landings, killed now and then."""

    def __init__(self, nursery: Nursery, seed: int, over: threading.Event, tally: Tally) -> None:
        super().__init__("maintenance", seed, over, tally)
        self._nursery = nursery

    def _strike(self) -> None:
        child = self._tally.start(self._nursery, *MAINTAIN)
        self._tally.count("maintenance started")
        try:
            kills = self._rest(15, 60)
            if not child.is_live():
                self._tally.judge(child, FAILED)
            elif kills and child.kill():
                self._tally.count("maintenance killed")
        finally:
            if child.is_live():
                child.end()
                self._tally.judge(child, *ASKED_TO_STOP, FAILED)


class Brokers(Striker):
    """One broker at a time is killed, or stands still for a while; the next is touched when all replicas are in step again.

    `run` it in a thread that outlives the brokers: the system kills them when the thread ends that has started them.
    """

    def __init__(self, cluster: Kafka, seed: int, over: threading.Event, tally: Tally, between: tuple[float, float]) -> None:
        super().__init__("brokers", seed, over, tally)
        self._cluster = cluster
        self._between = between

    def _strike(self) -> None:
        if not self._rest(*self._between):
            return
        broker = self._roll.choice(self._cluster.brokers)
        if self._roll.random() < 0.25:
            broker.pause(True)
            self._over.wait(self._roll.uniform(2, 12))
            broker.pause(False)
            self._tally.count("brokers paused")
        else:
            broker.kill()
            self._over.wait(self._roll.uniform(0, 6))
            broker.start()
            self._tally.count("brokers killed and restarted")
        wait_for_replicas(self._cluster)


class Partitions(Striker):
    """Adds a partition to each topic, at each of some moments (seconds from the start)."""

    def __init__(
        self, cluster: Kafka, counts: MutableMapping[str, int], over: threading.Event, tally: Tally, moments: list[float]
    ) -> None:
        super().__init__("partitions", 0, over, tally)
        self._cluster = cluster
        self._counts = counts
        self._moments = moments

    def _run(self) -> None:
        began = time.monotonic()
        for moment in self._moments:
            if self._over.wait(max(0.0, began + moment - time.monotonic())):
                return
            for topic in list(self._counts):
                self._add(topic)

    def _add(self, topic: str) -> None:
        wanted = self._counts[topic] + 1
        for future in self._cluster.admin.create_partitions([NewPartitions(topic, wanted)]).values():
            future.result(60)
        patiently(lambda: partitions_of(self._cluster.admin, topic) == wanted, f"topic {topic} to have {wanted} partitions")
        self._counts[topic] = wanted
        self._tally.count("partitions added")


def judge(child: Child, *allowed: int) -> None:
    """Raises Misbehaved where a process ended otherwise than `allowed`, or by what does not pass by itself."""
    said, code = child.said(), child.process.returncode
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    strange = [line for line in errors if not PASSING.search(line)]
    crashed = "Traceback" in FORGIVEN.sub("", said) or "Fatal Python error" in said
    if code not in allowed or strange or crashed or (code == FAILED and not errors):
        raise Misbehaved(f"lakeflow {' '.join(child.arguments)} (pid {child.pid}) ended with {code}:\n{said[-6000:]}")


def peak_rss(pid: int) -> int | None:
    """VmHWM in KiB."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    line = next((line for line in text.splitlines() if line.startswith("VmHWM:")), None)
    return None if line is None else int(line.split()[1])


def partitions_of(admin: AdminClient, topic: str) -> int:
    return len(admin.list_topics(topic, timeout=60).topics[topic].partitions)


def wait_for_replicas(cluster: Kafka) -> None:
    """Until every replica of every partition is in step."""

    def is_whole() -> bool:
        topics = cluster.admin.list_topics(timeout=60).topics.values()
        return all(
            len(partition.isrs) == len(partition.replicas) and partition.leader > 0
            for topic in topics
            for partition in topic.partitions.values()
        )

    patiently(is_whole, "all replicas to be in step")


def patiently(happened: Callable[[], bool], what: str, seconds: float = 180.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > end:
            raise Misbehaved(f"waited {seconds:g} s for {what}")
        time.sleep(0.3)
