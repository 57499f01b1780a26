"""The commit protocol between real processes, and over many commits."""

from __future__ import annotations

import multiprocessing
from multiprocessing.synchronize import Barrier as ProcessBarrier
from pathlib import Path
from typing import Any

import pytest

from lakeflow.declare import PartitionField
from lakeflow.errors import Fenced, LakeflowError
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer, Fence, Progress, ProgressFence, SnapshotFence
from lakeflow.lake.history import progress_in
from tests.commit_systems import REAL
from tests.lakes import NAME, catalog_in, id_rows, ids, made, open_lake, path_of, rest_like, written

ROUNDS = 3


def land_in_process(options: dict[str, str], kind: str, who: int, barrier: ProcessBarrier, outcomes: Any) -> None:
    """A process that commits ROUNDS times, each time from the progress that both processes have seen."""
    lake = Lake.open(options)
    fence: Fence = ProgressFence() if kind == "progress fence" else SnapshotFence()
    committer = Committer(rest_like(lake) if kind == "rest catalog" else lake, fence)
    for turn in range(ROUNDS):
        start = committer.progress(NAME, "landing")
        change = Change(NAME, written(lake.table(NAME), ids(turn)), progress=Progress("landing", start, f"{turn}-{who}"))
        barrier.wait(60)
        try:
            committer.commit(change)
            outcomes.put((turn, "landed"))
        except Fenced:
            outcomes.put((turn, "fenced"))
        barrier.wait(60)


@pytest.mark.parametrize("kind", REAL)
def test_of_two_processes_from_one_start_one_lands(kind: str, tmp_path: Path) -> None:
    race_in_processes(catalog_in(tmp_path), kind)


def race_in_processes(options: dict[str, str], kind: str) -> None:
    made(Lake.open(options))
    context = multiprocessing.get_context("spawn")
    barrier, outcomes = context.Barrier(2), context.Queue()
    rivals = [context.Process(target=land_in_process, args=(options, kind, who, barrier, outcomes)) for who in range(2)]
    for rival in rivals:
        rival.start()
    seen = sorted(outcomes.get(timeout=60) for _ in range(2 * ROUNDS))
    for rival in rivals:
        rival.join(60)
    assert seen == sorted((turn, outcome) for turn in range(ROUNDS) for outcome in ("landed", "fenced"))
    assert id_rows(Lake.open(options).table(NAME)) == list(range(ROUNDS))


def ensure_in_process(folder: str, partitioned: bool, barrier: ProcessBarrier, outcomes: Any) -> None:
    barrier.wait(60)
    try:
        lake = open_lake(Path(folder))
        table = made(lake, partitioning=(PartitionField("id", "bucket", 4),) if partitioned else ())
        outcomes.put(str(table.metadata.table_uuid))
    except LakeflowError as error:
        outcomes.put(f"failed: {error}")


@pytest.mark.parametrize("partitioned", [False, True])
def test_two_processes_that_make_one_table_in_a_new_lake_share_it(partitioned: bool, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, outcomes = context.Barrier(2), context.Queue()
    both = [context.Process(target=ensure_in_process, args=(str(tmp_path), partitioned, barrier, outcomes)) for _ in range(2)]
    for process in both:
        process.start()
    seen = {outcomes.get(timeout=60) for _ in both}
    for process in both:
        process.join(60)
    assert seen == {str(open_lake(tmp_path).table(NAME).metadata.table_uuid)}


def test_snapshots_stay_bounded_over_250_commits_and_progress_survives(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    made(lake)
    committer = Committer(lake, keep_snapshots=10)
    committer.commit(Change(NAME, progress=Progress("job.quiet", None, "q")))
    (data_file,) = written(lake.table(NAME), ids(1))
    start: str | None = None
    for turn in range(250):
        add = (data_file,) if turn == 0 else ()
        committer.commit(Change(NAME, add, progress=Progress("landing", start, str(turn))))
        start = str(turn)
    metadata = lake.table(NAME).metadata
    assert len(metadata.snapshots) == 10
    assert (progress_in(metadata, "landing"), progress_in(metadata, "job.quiet")) == ("249", "q")
    assert id_rows(lake.table(NAME)) == [1]
    assert len(list(path_of(metadata.location).rglob("*.metadata.json"))) <= 12
