"""That a process that stays keeps nothing of what it has done, and which allocators it chooses."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow import Project
from lakeflow.declare import TableSpec
from lakeflow.lake.commit import Change
from lakeflow.lake.write import DataWriter
from lakeflow.observe.runs import Status
from lakeflow.start.generation import Generation, load
from lakeflow.start.memory import ARROW_POOL, HEAPS, keep_memory_flat
from lakeflow.start.upkeep import maintained
from lakeflow.start.work import Stop, run_node

SETTINGS = """
[project]
name = "kept"

[run]
max_snapshots = 3

[maintain]
compact_files = 2
keep_snapshots = 3
"""
JOBS = {
    "large.py": """
import lakeflow as lf
import polars as pl


@lf.job(target="gold.large")
def large(events=lf.Read("bronze.events")):
    return events.filter(pl.col("id") % 2 == 0)
""",
    "counts.sql": "INSERT INTO gold.counts SELECT id % 3 AS kind, count(*) AS events FROM bronze.events GROUP BY id % 3;",
}
TABLES = {"pyiceberg.table.Table", "pyiceberg.table.Transaction", "pyiceberg.table.metadata.TableMetadataV2"}
EVENTS = TableSpec("bronze.events", pa.schema([("id", pa.int64())]))


def project_in(folder: Path) -> Generation:
    (folder / "jobs").mkdir()
    (folder / "lakeflow.toml").write_text(SETTINGS, encoding="utf-8")
    for name, text in JOBS.items():
        (folder / "jobs" / name).write_text(text, encoding="utf-8")
    Project.open(folder).lake.ensure(EVENTS)
    return load(folder, None)


def round_of(now: Generation, number: int) -> None:
    """New rows, a run of each job, and maintenance; as the threads of `lakeflow start` carry it out."""
    writer = DataWriter(now.project.lake.ensure(EVENTS))
    writer.write(pa.table({"id": [number * 2, number * 2 + 1]}))
    now.project.commits.commit(Change(EVENTS.name, writer.finish()))
    stop = Stop(threading.Event(), threading.Event())
    for part in now.parts:
        project = now.take()
        ended = run_node(project, part, now.nodes[part.label], stop, now.looked)
        now.give_back(project)
        assert ended.error is None
        assert ended.run is not None
        assert ended.run.status is Status.DONE
    done = list(maintained(now.project, False, stop.requested))
    assert all(event.error is None for event in done)


def kept() -> Counter[str]:
    """Live objects of our classes, tables, their metadata and databases, and threads.

    How much a table's metadata holds, a line for each of its last hundred commits, and manifests in PyIceberg, end where they
    are bounded, which is later than here.
    """
    gc.collect()
    names = (f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
    found = Counter(name for name in names if name.startswith(("lakeflow.", "duckdb.", "_duckdb.")) or name in TABLES)
    return found + Counter(f"thread {one.name}" for one in threading.enumerate() if one.name.startswith("lakeflow"))


def test_rounds_leave_nothing_behind(tmp_path: Path) -> None:
    now = project_in(tmp_path)
    for number in range(3):
        round_of(now, number)
    before, arrow = kept(), pa.total_allocated_bytes()
    for number in range(3, 7):
        round_of(now, number)
    assert kept() == before
    assert pa.total_allocated_bytes() <= arrow + (64 << 10)


def test_what_the_environment_says_stays() -> None:
    said = {ARROW_POOL: "system", HEAPS[0]: "7"}
    keep_memory_flat(said, "linux")
    assert said == {ARROW_POOL: "system", HEAPS[0]: "7"}


def test_other_systems_are_left_as_they_are() -> None:
    said: dict[str, str] = {}
    keep_memory_flat(said, "darwin")
    assert said == {}


@pytest.mark.skipif(sys.platform != "linux", reason="the allocators of Linux")
def test_the_verb_has_arrow_take_the_chosen_pool() -> None:
    """The pool is chosen as pyarrow is loaded, so nothing that the command line imports before may load it."""
    code = (
        "import os, sys; os.environ.pop('ARROW_DEFAULT_MEMORY_POOL', None); import lakeflow.cli.app, lakeflow.cli.start\n"
        "assert 'pyarrow' not in sys.modules\n"
        "from lakeflow.start.memory import keep_memory_flat; keep_memory_flat()\n"
        "import pyarrow; print(pyarrow.default_memory_pool().backend_name)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (said.stdout.strip(), said.stderr) == ("jemalloc", "")
