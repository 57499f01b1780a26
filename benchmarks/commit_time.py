"""The time of a commit stays flat over many commits of a landing: one data file and its progress each, snapshots bounded."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import pyarrow as pa

from benchmarks.harness import Bar, Result, Settings, in_child
from benchmarks.projects import project_in
from lakeflow.declare import TableSpec
from lakeflow.lake.commit import Change, Progress
from lakeflow.lake.write import DataWriter

TABLE = "bench.commits"
COMMITS = 1_000
GROUP = 100
LIMIT = 2.0
SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("value", pa.float64())])


def run(settings: Settings) -> Result:
    """All commits in one process, one after the other."""
    count = max(2 * GROUP, settings.count(COMMITS))
    walls, cpus = in_child(timed_commits, settings.place("table"), count).value
    groups = [slice(begin, begin + GROUP) for begin in range(0, count, GROUP)]
    medians = [statistics.median(walls[group]) for group in groups]
    used = [sum(cpus[group]) for group in groups]
    return Result(
        title="Commits: time",
        data=(
            f"{count:,} commits of a landing, each of one small data file with its progress, to a table in a SQLite catalog, "
            "with the settings that a project has by default (100 snapshots kept). Only the commit is timed; its file is "
            "written before."
        ),
        columns=("commits", "median", "mean", "95th percentile", "mean CPU"),
        rows=tuple(
            (
                f"{group.start + 1:,} to {group.stop:,}",
                f"{median:.1f} ms",
                f"{statistics.mean(walls[group]):.1f} ms",
                f"{sorted(walls[group])[int(len(walls[group]) * 0.95)]:.1f} ms",
                f"{statistics.mean(cpus[group]):.1f} ms",
            )
            for group, median in zip(groups, medians, strict=True)
        ),
        bars=(
            Bar(f"last {GROUP} over first {GROUP}, median", medians[-1] / medians[0], LIMIT, at_least=False, unit=" x"),
            Bar(f"last {GROUP} over first {GROUP}, CPU of all", used[-1] / used[0], LIMIT, at_least=False, unit=" x"),
        ),
    )


def timed_commits(folder: Path, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each commit, by the clock and of CPU."""
    project = project_in(folder, {})
    table = project.lake.ensure(TableSpec(TABLE, SCHEMA))
    walls: list[float] = []
    cpus: list[float] = []
    start: str | None = None
    for number in range(count):
        writer = DataWriter(table)
        writer.write(pa.table([[number], [f"row {number}"], [number / 2]], schema=SCHEMA))
        end = f'{{"bench":{{"0":{number + 1}}}}}'
        change = Change(TABLE, writer.finish(), progress=Progress("landing", start, end))
        wall, cpu = time.perf_counter(), time.process_time()
        project.commits.commit(change)
        walls.append((time.perf_counter() - wall) * 1000)
        cpus.append((time.process_time() - cpu) * 1000)
        start = end
    return walls, cpus
