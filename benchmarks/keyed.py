"""What a query of groups costs as 1 % of a table arrives, beside the same over all of it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.check import live_rows
from benchmarks.harness import Bar, Done, Result, Settings, Spent, in_child, mib, spending
from benchmarks.projects import project_in
from lakeflow import Project
from lakeflow.declare import TableSpec
from lakeflow.lake.commit import Change
from lakeflow.lake.write import DataWriter

ROWS = 20_000_000
KEYS = 100_000
CHUNK = 500_000
SHARE = 100
"""One row of so many arrives after the others."""
SOURCE, TARGET, WHOLE = "bench.payments", "bench.accounts", "bench.accounts_whole"
FIRST = "INSERT INTO bench.first SELECT account, count(*) AS payments FROM bench.few GROUP BY account;"
SCHEMA = pa.schema([("id", pa.int64()), ("account", pa.int64()), ("cents", pa.int64()), ("score", pa.float64())])
QUERY = f"SELECT account, count(*) AS payments, sum(cents) AS cents, avg(cents) AS mean FROM {SOURCE} GROUP BY account"
MEANT = "count(*), sum(payments), sum(cents), sum(round(mean, 3)::DECIMAL(18, 3)), sum(hash(account, cents))"


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run took: `bytes` are those that the process read from files."""

    spent: Spent
    read: int
    written: int
    bytes: int


def run(settings: Settings) -> Result:
    """Each run in a process of its own; the rows are made in others. In each round one row of SHARE more arrives."""
    rows, keys = settings.count(ROWS), settings.count(KEYS)
    share, rounds = rows // SHARE, settings.rounds
    folder = in_child(project_with, settings.cache, rows, rows - rounds * share, keys).value
    in_child(run_job, folder, "accounts", "incremental")
    both = [_round(folder, rows - left * share, share, keys) for left in range(rounds, 0, -1)]
    added, whole = (min(runs, key=lambda done: done.value.spent.wall) for runs in zip(*both, strict=True))
    lake = Project.open(folder).lake
    found, expected = (live_rows(lake.table(name), f"SELECT {MEANT} FROM rows") for name in (TARGET, WHOLE))
    assert found == expected, f"the incremental run made {found}, the snapshot {expected}"
    table_bytes = sum(task.file.file_size_in_bytes for task in lake.table(SOURCE).scan().plan_files())
    taken = whole.value.spent.wall
    return Result(
        title="Groups: what 1 % of the rows cost",
        data=(
            f"A table of {rows:,} rows ({mib(table_bytes)}) and {keys:,} keys, of which one row of {SHARE} arrives after the "
            f"others and touches {added.value.written:,} keys: count, sum and mean of each key, incrementally and over all "
            f"rows. The faster of each in {rounds} rounds, by the clock; both have run a small job in the same process before. "
            "Bytes are those that the process read from files (/proc/self/io). Both tables are compared by DuckDB."
        ),
        columns=("run", "rows read", "rows written", "bytes read", "seconds", "CPU seconds", "peak memory"),
        rows=(_row("snapshot", whole), _row("incremental, 1 %", added)),
        bars=(
            Bar("bytes read, share of the table's", 100 * added.value.bytes / table_bytes, 3, at_least=False, unit=" %"),
            Bar("time, share of the snapshot's", 100 * added.value.spent.wall / taken, 10, at_least=False, unit=" %"),
        ),
    )


def _round(folder: Path, first: int, share: int, keys: int) -> tuple[Done[Ran], Done[Ran]]:
    """So many rows more: what brings the target up to date took, and what computes it anew."""
    in_child(append, folder, first, share, keys)
    return in_child(run_job, folder, "accounts", "incremental"), in_child(run_job, folder, "accounts_whole", "snapshot")


def _row(what: str, done: Done[Ran]) -> tuple[str, ...]:
    ran = done.value
    figures = (f"{ran.read:,}", f"{ran.written:,}", mib(ran.bytes), f"{ran.spent.wall:.2f}", f"{ran.spent.cpu:.2f}")
    return (what, *figures, mib(done.peak_bytes))


def project_with(cache: Path, rows: int, before: int, keys: int) -> Path:
    """A project whose table has the rows from `before` the rounds, made anew."""
    folder = cache / f"keyed-{rows}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    statements = {name: f"INSERT INTO {target} {QUERY};" for name, target in (("accounts", TARGET), ("accounts_whole", WHOLE))}
    project = project_in(folder, {"jobs/first.sql": FIRST, **{f"jobs/{name}.sql": text for name, text in statements.items()}})
    few = pa.schema([("account", pa.int64())])
    writer = DataWriter(project.lake.ensure(TableSpec("bench.few", few)))
    writer.write(pa.table([[1, 2]], schema=few))
    project.commits.commit(Change("bench.few", writer.finish()))
    append(folder, 0, before, keys)
    return folder


def append(folder: Path, first: int, rows: int, keys: int) -> None:
    """Add rows in one commit."""
    project = Project.open(folder)
    writer = DataWriter(project.lake.ensure(TableSpec(SOURCE, SCHEMA)))
    random = np.random.default_rng(first)
    for begin in range(first, first + rows, CHUNK):
        count = min(CHUNK, first + rows - begin)
        ids, accounts = np.arange(begin, begin + count), random.integers(0, keys, count)
        writer.write(pa.table([ids, accounts, random.integers(1, 100_000, count), random.random(count)], schema=SCHEMA))
    project.commits.commit(Change(SOURCE, writer.finish()))


def run_job(folder: Path, job: str, mode: str) -> Ran:
    """One run of a job, in a process that has run one before: modules are files too."""
    project = Project.open(folder)
    project.run("first", mode="snapshot")
    before = _bytes_read()
    with spending() as spent:
        counts = project.run(job, mode=mode).counts
    return Ran(spent, counts.read, counts.written, _bytes_read() - before)


def _bytes_read() -> int:
    """What this process has read from files so far, of those that were in memory too."""
    [line] = [line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar:")]
    return int(line.split()[1])
