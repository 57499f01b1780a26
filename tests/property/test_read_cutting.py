"""Reading in batches reads each file once, whatever is appended in between, merged, expired, and however it is cut."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.manifest import DataFile

from lakeflow.job import Caps
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer, Progress
from lakeflow.lake.read import appended, cut
from lakeflow.progress import SnapshotPosition
from tests.lakes import NAME, ids, live_paths, made, open_lake, written

caps = st.builds(
    Caps, files=st.none() | st.integers(1, 4), rows=st.none() | st.integers(1, 9), bytes=st.none() | st.integers(1, 3000)
)

# What happens in turn: a commit of so many files, or a batch read within some caps.
steps = st.lists(st.integers(0, 4) | caps, min_size=1, max_size=30)


def commit_files(lake: Lake, keep: int, template: DataFile, count: int, made_so_far: list[str]) -> None:
    """A commit of `count` files that exist in name only: planning opens manifests, never data files."""
    add = []
    for _ in range(count):
        path = f"{template.file_path}.{(len(made_so_far) * 7919) % 1000:03}.{len(made_so_far)}"
        made_so_far.append(path)
        add.append(renamed(template, path))
    committer = Committer(lake, keep_snapshots=keep)
    start = committer.progress(NAME, "landing")
    committer.commit(Change(NAME, tuple(add), progress=Progress("landing", start, str(len(made_so_far)))))


def renamed(template: DataFile, path: str) -> DataFile:
    values = list(template._data)
    values[values.index(template.file_path)] = path
    copy = DataFile(*values)
    copy.spec_id = template.spec_id
    return copy


def read_batch(lake: Lake, position: SnapshotPosition | None, limits: Caps) -> tuple[list[str], SnapshotPosition | None]:
    table = lake.table(NAME)
    batch = next(cut(appended(table, position), limits, table), None)
    if batch is None:
        return [], position
    assert limits.files is None or len(batch.splits) <= limits.files
    return [split.path for split in batch.splits], SnapshotPosition.loads(batch.end.dumps())


@settings(max_examples=15)
@given(steps=steps, rest=caps, keep=st.integers(2, 5), merge_at=st.sampled_from(["2", "3", "20"]))
def test_each_file_is_read_exactly_once(steps: Sequence[int | Caps], rest: Caps, keep: int, merge_at: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake = open_lake(Path(folder))
        table = made(lake, properties={"commit.manifest.min-count-to-merge": merge_at})
        (template,) = written(table, ids(1, 2, 3))
        appended_paths: list[str] = []
        seen: list[str] = []
        position: SnapshotPosition | None = None
        for step in [*steps, 1]:
            if isinstance(step, Caps):
                paths, position = read_batch(lake, position, step)
                seen += paths
            else:
                commit_files(lake, keep, template, step, appended_paths)
        for _ in appended_paths:
            paths, position = read_batch(lake, position, replace(rest, files=rest.files or 3))
            seen += paths
        assert read_batch(lake, position, rest) == ([], position)
        assert sorted(seen) == sorted(appended_paths) == live_paths(lake.table(NAME))
        assert len(set(seen)) == len(seen)
        assert len(lake.table(NAME).metadata.snapshots) <= keep
