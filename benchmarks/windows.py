"""What hourly windows cost as 1 % of a table arrives, some of it late, beside the same over all of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.check import live_rows
from benchmarks.harness import Bar, Done, Result, Settings, Spent, in_child, mib, spending
from benchmarks.projects import project_in
from lakeflow import Project
from lakeflow.declare import PartitionField, TableSpec
from lakeflow.lake.commit import Change
from lakeflow.lake.write import DataWriter

ROWS = 20_000_000
DAYS = 400
PAGES = 100
SHARE = 100
"""One row of so many arrives after the others."""
LATE = 20
"""Of those, one of so many is from the day before them."""
DAY = 86_400_000_000
SOURCE = "bench.clicks"
SCHEMA = pa.schema([("at", pa.timestamp("us", "UTC")), ("page", pa.int64()), ("cents", pa.int64()), ("score", pa.float64())])
JOB = f"""
import polars as pl

import lakeflow as lf


@lf.job(target="bench.hours", window=lf.Tumble("at", "1h"))
def hours(clicks=lf.Read("{SOURCE}")):
    score = pl.col("score")
    return clicks.group_by("window_start", "window_end", "page").agg(
        pl.len().cast(pl.Int64).alias("clicks"),
        pl.col("cents").sum(),
        score.mean(),
        score.std().alias("spread"),
        score.max().alias("most"),
    )
"""
QUERY = f"""
INSERT INTO bench.hours_in_sql
SELECT window_start, window_end, page, count(*) AS clicks, sum(cents)::BIGINT AS cents, avg(score) AS score,
  stddev_samp(score) AS spread, max(score) AS most
FROM TUMBLE(TABLE {SOURCE}, DESCRIPTOR(at), INTERVAL '1' HOUR) GROUP BY window_start, window_end, page;
"""
COLUMNS = """(
  window_start TIMESTAMP_LTZ(6), window_end TIMESTAMP_LTZ(6), page BIGINT, clicks BIGINT, cents BIGINT, score DOUBLE,
  spread DOUBLE, most DOUBLE
) PARTITIONED BY (day(window_start))"""
JOBS = {"hours": "bench.hours", "hours_in_sql": "bench.hours_in_sql"}
MODULES = ("lakeflow.runner.window_step", "lakeflow.runner.sql_functions", "lakeflow.sql.compile")
"""They are read when they are first needed, whatever is run."""
MEANT = "count(*), sum(clicks), sum(cents), sum(cents * (epoch_us(window_start) % 1000003))::VARCHAR, round(sum(most), 3)"


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run took: `bytes` are those that the process read from files."""

    spent: Spent
    read: int
    written: int
    bytes: int


def run(settings: Settings) -> Result:
    """Each run in a process of its own; the rows are made in others."""
    rows = settings.count(ROWS)
    folder = in_child(project_with, settings.cache, rows).value
    for job in JOBS:
        in_child(run_job, folder, job, "incremental")
    in_child(arriving, folder, rows)
    lines: list[tuple[str, ...]] = []
    bars: list[Bar] = []
    for job, target in JOBS.items():
        added = best_run(folder, job, "incremental", settings.rounds)
        found = live_rows(Project.open(folder).lake.table(target), f"SELECT {MEANT} FROM rows")
        whole = best_run(folder, job, "snapshot", settings.rounds)
        expected = live_rows(Project.open(folder).lake.table(target), f"SELECT {MEANT} FROM rows")
        assert found == expected, f"the incremental run made {found}, the snapshot {expected}"
        said = "in SQL" if job == "hours_in_sql" else "in Polars"
        lines += [_row(f"snapshot, {said}", whole), _row(f"incremental, 1 %, {said}", added)]
        bars += _bars(said, added.value, whole.value)
    return Result(
        title="Windows: what 1 % of the rows cost",
        data=(
            f"A table of {rows:,} rows over {DAYS} days, partitioned by day as the target is. One row of {SHARE} arrives after "
            f"the others, of the last {DAYS // SHARE} days, and of those one of {LATE} is late, from the day before. Count, "
            f"sum, mean, deviation and maximum of each hour and page ({PAGES}), incrementally and over all rows. The faster of "
            f"each in {settings.rounds} rounds from the same tables, by the clock. Bytes are "
            "those that the process read from files (/proc/self/io). What both runs wrote is compared by DuckDB."
        ),
        columns=("run", "rows read", "rows written", "bytes read", "seconds", "CPU seconds", "peak memory"),
        rows=tuple(lines),
        bars=tuple(bars),
    )


def best_run(folder: Path, job: str, mode: str, rounds: int) -> Done[Ran]:
    """The fastest run of a job by the clock, each in a process of its own and from the same tables; the last one's stay."""
    catalog, kept = folder / ".lakeflow" / "catalog.db", folder / "catalog.kept"
    shutil.copy(catalog, kept)
    runs = []
    for _ in range(rounds):
        shutil.copy(kept, catalog)
        runs.append(in_child(run_job, folder, job, mode))
    return min(runs, key=lambda done: done.value.spent.wall)


def _bars(said: str, added: Ran, whole: Ran) -> Iterator[Bar]:
    yield Bar(f"bytes read {said}, share of the snapshot's", 100 * added.bytes / whole.bytes, 3, at_least=False, unit=" %")
    share = 100 * added.spent.wall / whole.spent.wall
    yield Bar(f"time {said}, share of the snapshot's", share, 10, at_least=False, unit=" %")


def _row(what: str, done: Done[Ran]) -> tuple[str, ...]:
    ran = done.value
    figures = (f"{ran.read:,}", f"{ran.written:,}", mib(ran.bytes), f"{ran.spent.wall:.2f}", f"{ran.spent.cpu:.2f}")
    return (what, *figures, mib(done.peak_bytes))


def project_with(cache: Path, rows: int) -> Path:
    """A project whose table has all rows but the last, in the order of their times, made anew."""
    folder = cache / f"windows-{rows}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    targets = "".join(f"CREATE TABLE {target} {COLUMNS};" for target in JOBS.values())
    project = project_in(folder, {"tables/targets.sql": targets, "jobs/hours.py": JOB, "jobs/hours_in_sql.sql": QUERY})
    last = DAYS - DAYS // SHARE
    for first in range(0, last, 20):
        days = range(first, min(first + 20, last))
        append(project, [_moments(day, rows // DAYS) for day in days])
    return folder


def arriving(folder: Path, rows: int) -> None:
    """Add the last rows, some of them late, in one commit."""
    first = DAYS - DAYS // SHARE
    late = rows // SHARE // LATE
    given = [_moments(day, rows // DAYS) for day in range(first, DAYS)]
    given[0] = np.concatenate([given[0][late:], _moments(first - 1, late)])
    append(Project.open(folder), given)


def _moments(day: int, rows: int) -> np.ndarray:
    """Times of a day, ascending."""
    return day * DAY + np.sort(np.random.default_rng(day).integers(0, DAY, rows))


def append(project: Project, days: list[np.ndarray]) -> None:
    """Add rows in one commit."""
    table = project.lake.ensure(TableSpec(SOURCE, SCHEMA, partitioning=(PartitionField("at", "day"),)))
    writer = DataWriter(table)
    for moments in days:
        random, count = np.random.default_rng(len(moments)), len(moments)
        times = pa.array(moments, pa.timestamp("us", "UTC"))
        writer.write(
            pa.table(
                [times, random.integers(0, PAGES, count), random.integers(1, 100_000, count), random.random(count)],
                schema=SCHEMA,
            )
        )
    project.commits.commit(Change(SOURCE, writer.finish()))


def run_job(folder: Path, job: str, mode: str) -> Ran:
    """One run of a job, in a process that has its modules and has read the project's files."""
    project = Project.open(folder)
    assert job in project.declarations.jobs
    for module in MODULES:
        import_module(module)
    before = _bytes_read()
    with spending() as spent:
        counts = project.run(job, mode=mode).counts
    return Ran(spent, counts.read, counts.written, _bytes_read() - before)


def _bytes_read() -> int:
    """What this process has read from files so far, of those that were in memory too."""
    [line] = [line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar:")]
    return int(line.split()[1])
