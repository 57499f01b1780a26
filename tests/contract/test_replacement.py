"""What a replacement writes, by a reader that shares no code with it, and what it relies on of PyIceberg."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from pyiceberg.table.snapshots import Operation, Summary, update_snapshot_summaries

from lakeflow.declare import PartitionField
from lakeflow.lake.commit import Committer
from lakeflow.lake.compact import compact, merge_manifests, plan_compaction
from lakeflow.lake.compact_plan import Readers, Sizes
from tests.independent_reader import multiset, read_table
from tests.lakes import NAME, append, ids, made, open_lake
from tests.unit.test_independent_reader import SCHEMA, rows

SIZES = Sizes(below_bytes=1 << 20, target_bytes=4 << 20, least_files=2)


@pytest.mark.parametrize("partitioned", [False, True])
def test_another_reader_finds_the_same_rows_of_every_type_in_fewer_files(tmp_path: Path, partitioned: bool) -> None:
    lake = open_lake(tmp_path)
    made(lake, SCHEMA, [PartitionField("kind")] if partitioned else [])
    for turn in range(5):
        append(lake, rows(20 * turn, 20))
    before = read_table(tmp_path / "catalog.db", NAME)
    was = before.rows()
    compact(lake, Committer(lake), NAME, plan_compaction(lake.table(NAME), Readers(), SIZES), SIZES)
    after = read_table(tmp_path / "catalog.db", NAME)
    assert multiset(after.rows()) == multiset(was)
    assert (len(before.files()), len(after.files())) == ((20, 4) if partitioned else (5, 1))
    if not partitioned:
        assert after.rows().column("id").to_pylist() == was.column("id").to_pylist()
    paths = [str(file.path) for file in after.files()]
    with duckdb.connect() as connection:
        counted = connection.read_parquet(paths, hive_partitioning=False).aggregate("count(*), sum(id)").fetchall()
    assert counted == [(100, sum(range(100)))]


def test_the_sequence_numbers_of_new_files_survive_the_merging_of_manifests_and_later_appends(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    made(lake, properties={"commit.manifest.min-count-to-merge": "2"})
    for value in range(4):
        append(lake, ids(value))
    compact(lake, Committer(lake), NAME, plan_compaction(lake.table(NAME), Readers(), SIZES), SIZES)
    append(lake, ids(9))
    merge_manifests(lake, Committer(lake), NAME, most=0)
    append(lake, ids(10))
    table = read_table(tmp_path / "catalog.db", NAME)
    assert [(file.sequence, file.rows) for file in table.files()] == [(4, 4), (6, 1), (8, 1)]
    assert [snapshot.operation for snapshot in table.snapshots][4:] == ["replace", "append", "replace", "append"]


def test_pyiceberg_computes_no_summary_of_a_replacement() -> None:
    """Why the totals are computed as an overwrite's."""
    with pytest.raises(ValueError, match="Operation not implemented"):
        update_snapshot_summaries(Summary(Operation.REPLACE))
