"""How long `lakeflow --help` takes, beside a Python that does nothing."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time

from benchmarks.harness import Bar, Result, Settings

RUNS = 10
LIMIT_MS = 250
COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "lakeflow --help": ("-m", "lakeflow", "--help"),
    "lakeflow land --help": ("-m", "lakeflow", "land", "--help"),
}


def run(settings: Settings) -> Result:
    """Each command in turn, so that what else the machine does falls on all of them alike."""
    taken: dict[str, list[float]] = {command: [] for command in COMMANDS}
    used: dict[str, list[float]] = {command: [] for command in COMMANDS}
    for _ in range(1 + RUNS):
        for command, words in COMMANDS.items():
            wall, cpu = _timed(words)
            taken[command].append(wall)
            used[command].append(cpu)
    rows = [
        (command, *(f"{figure:.0f} ms" for figure in (min(walls), statistics.median(walls), min(used[command][1:]))))
        for command, walls in ((command, walls[1:]) for command, walls in taken.items())
    ]
    median = statistics.median(taken["lakeflow --help"][1:])
    return Result(
        title="Start of the command line",
        data=f"Best and median of {RUNS} runs by the clock after one that is not counted, and the best CPU time.",
        columns=("command", "best", "median", "CPU"),
        rows=tuple(rows),
        bars=(Bar("lakeflow --help, median", median, LIMIT_MS, at_least=False, unit=" ms"),),
    )


def _timed(words: tuple[str, ...]) -> tuple[float, float]:
    """Milliseconds by the clock, and of CPU, of one run of this Python."""
    before, started = _children_cpu(), time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - started) * 1000, (_children_cpu() - before) * 1000


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
