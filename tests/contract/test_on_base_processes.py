"""What is computed against main's head, between real processes: nothing is lost and nothing comes twice."""

from __future__ import annotations

import multiprocessing
from contextlib import closing
from multiprocessing.synchronize import Barrier as ProcessBarrier
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

import lakeflow as lf
from lakeflow.errors import Fenced
from lakeflow.lake.commit import Committer
from lakeflow.lake.on_base import land
from lakeflow.lake.replace import GroupReplacement
from lakeflow.lake.write import DataWriter
from tests.jobs import SOURCE, TARGET, open_world
from tests.lakes import append, made, open_lake, query

GROUPED = "gold.grouped"
ROUNDS = 3
SCHEMA = pa.schema([("g", pa.int64()), ("v", pa.int64())])
SAID = pa.schema([("id", pa.int64()), ("name", pa.string()), ("at", pa.int64())])


@lf.job(target=TARGET, key="id", history=lf.History(by="at"), max_files=1)
def kept(said: pl.LazyFrame = lf.Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]  # the decorator reads defaults
    return said


def replace_in_process(folder: str, who: int, barrier: ProcessBarrier, outcomes: Any) -> None:
    """Replaces its own group ROUNDS times, beside a process that replaces another of the same file; then runs the same job."""
    lake = open_lake(Path(folder))
    table = lake.table(GROUPED)
    for turn in range(ROUNDS):
        barrier.wait(60)
        table.refresh()
        with closing(GroupReplacement(table, ["g"])) as replacement:
            replacement.replace(pa.table({"g": [who]}))
            replacement.write(pa.table({"g": [who, who], "v": [turn, turn]}))
            land(replacement, table, lambda: DataWriter(table), Committer(lake).commit)
    world = open_world(Path(folder))
    barrier.wait(60)
    try:
        world.run(kept)
        outcomes.put("done")
    except Fenced:
        outcomes.put("fenced")


def test_replacements_and_histories_of_two_processes(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    made(lake, SCHEMA, name=GROUPED)
    append(lake, pa.table({"g": [0, 1, 2], "v": [-1, -1, -1]}), name=GROUPED)
    made(lake, SAID, name=SOURCE)
    for at, name in ((0, "a"), (4, "a"), (6, "b"), (2, "x")):
        append(lake, pa.table({"id": [1, 2], "name": [name, name], "at": [at, at]}), name=SOURCE)
    context = multiprocessing.get_context("spawn")
    barrier, outcomes = context.Barrier(2), context.Queue()
    both = [context.Process(target=replace_in_process, args=(str(tmp_path), who, barrier, outcomes)) for who in range(2)]
    for process in both:
        process.start()
    seen = {outcomes.get(timeout=120) for _ in both}
    for process in both:
        process.join(60)
    last = ROUNDS - 1
    assert sorted(query(lake.table(GROUPED))) == [(0, last), (0, last), (1, last), (1, last), (2, -1)]
    assert "done" in seen
    open_world(tmp_path).run(kept)
    versions = query(lake.table(TARGET), "SELECT name, valid_from, valid_to FROM rows WHERE id = 1 ORDER BY valid_from")
    assert versions == [("a", 0, 2), ("x", 2, 4), ("a", 4, 6), ("b", 6, None)]
    assert query(lake.table(TARGET), "SELECT count(*) FROM rows") == [(8,)]
