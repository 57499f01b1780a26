"""Commit time over many commits of a landing: one data file and its progress each, snapshots bounded.

    python benchmarks/commit_time.py [--commits 1000] [--keep 100]

Prints the median and the 95th percentile of each hundred in milliseconds, and the last hundred against the first.
Only the commit is timed; the data file of each is written before.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer, Progress
from lakeflow.lake.write import DataWriter

TABLE = "bench.commits"
GROUP = 100


def timed_commits(folder: Path, commits: int, keep: int) -> list[float]:
    """Milliseconds of each commit."""
    lake = Lake.open({"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{folder}/warehouse"})
    table = lake.ensure(TableSpec(TABLE, pa.schema([("id", pa.int64()), ("name", pa.string()), ("value", pa.float64())])))
    committer = Committer(lake, keep_snapshots=keep)
    times: list[float] = []
    start: str | None = None
    for number in range(commits):
        writer = DataWriter(table)
        writer.write(pa.table({"id": [number], "name": [f"row {number}"], "value": [number / 2]}))
        end = f'{{"bench":{{"0":{number + 1}}}}}'
        change = Change(TABLE, writer.finish(), progress=Progress("landing.bench", start, end))
        began = time.perf_counter()
        committer.commit(change)
        times.append((time.perf_counter() - began) * 1000)
        start = end
    return times


def report(times: list[float], keep: int) -> str:
    lines = [
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, PyIceberg {version('pyiceberg')}",
        f"{' '.join(sys.argv)}: SQLite catalog, {keep} snapshots kept",
        f"{'commits':>12}  {'median ms':>9}  {'p95 ms':>7}",
    ]
    medians = []
    for begin in range(0, len(times), GROUP):
        group = times[begin : begin + GROUP]
        medians.append(statistics.median(group))
        p95 = sorted(group)[int(len(group) * 0.95)]
        lines.append(f"{f'{begin + 1}-{begin + len(group)}':>12}  {medians[-1]:9.1f}  {p95:7.1f}")
    lines.append(f"last {GROUP} against first {GROUP}: {medians[-1] / medians[0]:.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=1000)
    parser.add_argument("--keep", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(report(timed_commits(Path(folder), arguments.commits, arguments.keep), arguments.keep))


if __name__ == "__main__":
    main()
