"""What every benchmark shares: its settings, child processes that are measured by themselves, bars, results."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Settings:
    """How a benchmark is run. `scale` is the share of the full amount of data; `folder` is empty and goes away afterwards,
    `cache` stays for the next run."""

    folder: Path
    cache: Path
    scale: float = 1.0
    rounds: int = 3

    def count(self, full: int) -> int:
        """An amount of rows at this scale."""
        return max(1, round(full * self.scale))

    def place(self, name: str) -> Path:
        """A folder of one's own, made here."""
        place = self.folder / name
        place.mkdir(parents=True)
        return place


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure that must reach a limit, or stay under it."""

    what: str
    measured: float
    limit: float
    at_least: bool = True
    unit: str = ""

    @property
    def holds(self) -> bool:
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


@dataclass(frozen=True, slots=True)
class Result:
    """What a benchmark found. `data` says in a sentence or two what it was measured on; `notes` what is to be known."""

    title: str
    data: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[Bar, ...]
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Spent:
    """Seconds of a measured section: by the clock, and of all threads of this process on a processor (user and system)."""

    wall: float = 0.0
    cpu: float = 0.0

    def rate(self, rows: int) -> float:
        """Rows a CPU-second."""
        return rows / max(self.cpu, 1e-9)

    def wall_rate(self, rows: int) -> float:
        return rows / max(self.wall, 1e-9)


@contextmanager
def spending() -> Iterator[Spent]:
    """Measures the block; the seconds stand in the value once the block has ended."""
    spent = Spent()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield spent
    finally:
        spent.wall, spent.cpu = time.perf_counter() - wall, time.process_time() - cpu


@dataclass(frozen=True, slots=True)
class Done(Generic[Value]):
    """What a function gave in a process of its own, and the most memory that the process held."""

    value: Value
    peak_bytes: int


def in_child(function: Callable[Parameters, Value], *arguments: Parameters.args, **named: Parameters.kwargs) -> Done[Value]:
    """Call a module's function in a new process, so that its memory and CPU time are its own. What it raises is raised here."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_watched, function, arguments, named).result()


def _watched(function: Callable[..., Value], arguments: tuple[object, ...], named: dict[str, object]) -> Done[Value]:
    value = function(*arguments, **named)
    return Done(value, peak_bytes())


def peak_bytes() -> int:
    """The most resident memory of this process since it was started.

    Linux hands ru_maxrss of the parent on to a child, so it is read from /proc there, which begins anew.
    """
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@dataclass(slots=True)
class Best:
    """The best of several rounds, by CPU time: what else the machine does only ever makes a round slower."""

    spent: Spent = field(default_factory=lambda: Spent(float("inf"), float("inf")))
    peak_bytes: int = 0

    def take(self, spent: Spent, peak_bytes: int = 0) -> None:
        self.spent = Spent(min(self.spent.wall, spent.wall), min(self.spent.cpu, spent.cpu))
        self.peak_bytes = max(self.peak_bytes, peak_bytes)


def thousands(rate: float) -> str:
    """A rate to three digits: 412k, 1.31M."""
    if rate >= 1e6:
        return f"{rate / 1e6:.2f}M" if rate < 1e7 else f"{rate / 1e6:.1f}M"
    return f"{rate / 1e3:.0f}k" if rate >= 1e4 else f"{rate:,.0f}"


def mib(size: int) -> str:
    return f"{size / MIB:,.0f} MiB"
