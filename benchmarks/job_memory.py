"""The memory of a job does not depend on how large its table is, nor much on how many keys it merges."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks import graphs
from benchmarks.check import live_rows
from benchmarks.harness import GIB, Bar, Done, Result, Settings, Spent, in_child, mib, spending, thousands
from benchmarks.projects import WAREHOUSE, project_in
from lakeflow import Project
from lakeflow.declare import TableSpec
from lakeflow.lake.commit import Change
from lakeflow.lake.write import DataWriter

ROWS = 20_000_000
MERGED = 1_000_000
CHUNK = 500_000
LIMIT_GIB = 1.5
SOURCE, CHANGES, LATEST = "bench.features", "bench.changes", "bench.latest"
SCORES, SCORES_IN_SQL = "bench.scores", "bench.scores_in_sql"
NAMES = [f"feature_{number}" for number in range(graphs.FEATURES)]

MODEL = f"""
CREATE MODEL linear
INPUT ({", ".join(f"{name} DOUBLE" for name in NAMES)})
OUTPUT (score FLOAT)
WITH ('provider' = 'onnx', 'task' = 'classification', 'model_path' = 'linear.onnx', 'outputs' = 'scores[1]:score');
"""
JOBS = f"""
import polars as pl

import lakeflow as lf


@lf.job(target="{SCORES}")
def score(features=lf.Read("{SOURCE}")):
    busy = features.filter(pl.col("feature_0") > 25.0)
    return lf.ml_predict(busy, "linear", {NAMES}).select("id", "feature_0", "score")


@lf.job(target="{LATEST}", key="id")
def keep_latest(changes=lf.Read("{CHANGES}")):
    return changes
"""
QUERY = f"""
SET 'pipeline.name' = 'score_in_sql';

INSERT INTO {SCORES_IN_SQL}
SELECT id, feature_0, score
FROM ML_PREDICT(TABLE {SOURCE}, MODEL linear, DESCRIPTOR({", ".join(NAMES)}))
WHERE feature_0 > 25.0;
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run of a job took and told."""

    spent: Spent
    read: int
    written: int


def run(settings: Settings) -> Result:
    """Each job in a process of its own; the tables are made in others."""
    rows, merged = settings.count(ROWS), settings.count(MERGED)
    folder = in_child(large_table, settings.cache, rows).value
    scored = in_child(run_job, folder, "score", "snapshot")
    in_sql = in_child(run_job, folder, "score_in_sql", "snapshot")
    expected = int(live_rows(Project.open(folder).lake.table(SOURCE), "SELECT count(*) FROM rows WHERE feature_0 > 25.0")[0])
    for table, done in ((SCORES, scored), (SCORES_IN_SQL, in_sql)):
        kept = _counted(folder, table)
        assert kept == done.value.written == expected, f"{kept} rows are stored in {table}, {expected} expected"
    merging = settings.place("merge")
    in_child(changes, merging, 0, merged)
    in_child(run_job, merging, "keep_latest", "incremental")
    in_child(changes, merging, merged // 2, merged)
    latest = in_child(run_job, merging, "keep_latest", "incremental")
    assert _counted(merging, LATEST) == merged // 2 + merged, "rows after the merge"
    return Result(
        title="Jobs: memory",
        data=(
            f"A table of {rows:,} rows of a key and {graphs.FEATURES} DOUBLE columns: a filter that keeps three quarters, "
            "and a logistic regression by ml_predict over what is left, as a snapshot run, in Polars and in SQL. Then an "
            f"incremental run that merges {merged:,} rows by key into a table of {merged:,}, half of which it replaces. "
            "Settings are those that a project has by default. Rows are counted by DuckDB."
        ),
        columns=("run", "read", "written", "rows / CPU-s", "rows / s", "peak memory"),
        rows=(
            _row("filter, ml_predict, snapshot", scored),
            _row("the same in SQL", in_sql),
            _row("update by key, incremental", latest),
        ),
        bars=(
            Bar("peak memory of the snapshot run", scored.peak_bytes / GIB, LIMIT_GIB, at_least=False, unit=" GiB"),
            Bar("peak memory of the same in SQL", in_sql.peak_bytes / GIB, LIMIT_GIB, at_least=False, unit=" GiB"),
            Bar("peak memory of the update by key", latest.peak_bytes / GIB, LIMIT_GIB, at_least=False, unit=" GiB"),
        ),
    )


def _row(what: str, done: Done[Ran]) -> tuple[str, ...]:
    ran = done.value
    rates = (thousands(ran.spent.rate(ran.read)), thousands(ran.spent.wall_rate(ran.read)))
    return (what, f"{ran.read:,}", f"{ran.written:,}", *rates, mib(done.peak_bytes))


def _counted(folder: Path, table: str) -> int:
    return int(live_rows(Project.open(folder).lake.table(table))[0])


def large_table(cache: Path, rows: int) -> Path:
    """The project with the table that is scored, made where the cache does not hold it; without the scores of a run before."""
    folder = cache / f"job_memory-{rows}"
    ready = folder / "complete"
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    project = _project(folder)
    if not ready.exists():
        _append(project, SOURCE, 0, rows)
        ready.touch()
    for table in (SCORES, SCORES_IN_SQL):
        if project.lake.exists(table):
            project.lake.drop(table)
            shutil.rmtree(folder / WAREHOUSE / table.replace(".", "/"))
    return folder


def changes(folder: Path, first: int, rows: int) -> None:
    """Append rows of the keys from `first` on to the table that is merged."""
    _append(_project(folder), CHANGES, first, rows)


def run_job(folder: Path, job: str, mode: str) -> Ran:
    """One run of a job."""
    project = Project.open(folder)
    with spending() as spent:
        counts = project.run(job, mode=mode).counts
    return Ran(spent, counts.read, counts.written)


def _project(folder: Path) -> Project:
    graphs.linear(folder / "linear.onnx")
    return project_in(folder, {"tables/models.sql": MODEL, "jobs/jobs.py": JOBS, "jobs/scores.sql": QUERY})


def _append(project: Project, name: str, first: int, rows: int) -> None:
    schema = pa.schema([("id", pa.int64()), *((feature, pa.float64()) for feature in NAMES)])
    writer = DataWriter(project.lake.ensure(TableSpec(name, schema)))
    random = np.random.default_rng(first)
    for begin in range(first, first + rows, CHUNK):
        count = min(CHUNK, first + rows - begin)
        features = [random.integers(0, 1000, count) / 10 for _ in NAMES]
        writer.write(pa.table([np.arange(begin, begin + count), *features], schema=schema))
    project.commits.commit(Change(name, writer.finish()))
