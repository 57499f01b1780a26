"""The reader of the chaos tests agrees with PyIceberg, and refuses what it would read wrong."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakeflow.declare import PartitionField
from lakeflow.lake.commit import Change, Committer, Progress
from tests.independent_reader import (
    Unreadable,
    frozen,
    local_path,
    locations,
    multiset,
    read_table,
    stored_table,
    unreferenced,
)
from tests.lakes import NAME, append, ids, made, open_lake, path_of, stored_files, written

SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("kind", pa.string()),
        pa.field("amount", pa.float64()),
        pa.field("at", pa.timestamp("us", "UTC")),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("spot", pa.struct([pa.field("lat", pa.float64()), pa.field("names", pa.list_(pa.string()))])),
        pa.field("raw", pa.binary()),
    ]
)


def rows(start: int, count: int) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "id": number,
                "kind": None if number % 7 == 0 else f"k{number % 3}",
                "amount": float("nan") if number % 5 == 0 else number / 3,
                "at": datetime(2024, 1, 1, 0, 0, number % 60, number, UTC),
                "tags": None if number % 4 == 0 else ["ä", None, str(number)],
                "spot": None if number % 6 == 0 else {"lat": number / 7, "names": []},
                "raw": bytes([number % 256, 0, 255]),
            }
            for number in range(start, start + count)
        ],
        schema=SCHEMA,
    )


def test_agrees_with_pyiceberg_after_appends_overwrites_and_expiry(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    table = made(lake, SCHEMA, [PartitionField("kind")])
    committer = Committer(lake, keep_snapshots=5)
    for turn in range(30):
        progress = Progress("w", None if turn == 0 else str(turn - 1), str(turn))
        committer.commit(Change(NAME, add=written(table, rows(10 * turn, 10)), progress=progress))
    table = lake.table(NAME)
    removed = next(iter(table.scan().plan_files())).file
    base = table.metadata.current_snapshot_id
    committer.commit(Change(NAME, add=written(table, rows(0, 3)), remove=(removed,), base=base, summary={"why": "a test"}))

    table = lake.table(NAME)
    mine = read_table(tmp_path / "catalog.db", NAME)
    assert mine.rows().num_rows == 303 - removed.record_count
    assert multiset(mine.rows()) == multiset(table.scan().to_arrow())
    assert {str(file.path) for file in mine.files()} == {str(path_of(task.file)) for task in table.scan().plan_files()}
    assert [snapshot.snapshot_id for snapshot in mine.snapshots] == [s.snapshot_id for s in table.metadata.snapshots]
    assert mine.head is not None
    assert mine.head.operation == "overwrite"
    assert mine.head.summary["why"] == "a test"
    assert mine.snapshots[-2].summary["lakeflow.progress.w"] == mine.properties["lakeflow.progress.w"] == "29"
    assert {file.sequence for file in mine.files()} == set(range(1, 32))


def test_an_empty_table_has_its_columns_and_no_rows(tmp_path: Path) -> None:
    made(open_lake(tmp_path), SCHEMA)
    table = read_table(tmp_path / "catalog.db", NAME)
    assert table.head is None
    assert table.rows().column_names == SCHEMA.names
    assert table.rows().num_rows == 0


def test_columns_are_found_by_field_id(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    table = made(lake)
    append(lake, ids(1, 2))
    with lake.table(NAME).update_schema() as update:
        update.rename_column("id", "number")
    assert read_table(tmp_path / "catalog.db", NAME).rows().to_pydict() == {"number": [1, 2]}
    assert table.schema().column_names == ["id"]


def test_an_older_metadata_file_tells_the_older_table(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    made(lake)
    append(lake, ids(1))
    before = locations(tmp_path / "catalog.db")[NAME]
    append(lake, ids(2))
    assert stored_table(NAME, before).rows().to_pydict() == {"id": [1]}


def test_counts_what_no_snapshot_leads_to(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    table = made(lake)
    append(lake, ids(1))
    assert unreferenced(tmp_path / "catalog.db", tmp_path / "warehouse") == set()
    [left] = written(table, ids(2))
    assert unreferenced(tmp_path / "catalog.db", tmp_path / "warehouse") == {path_of(left)}


def test_a_file_that_is_not_what_the_manifest_says_is_refused(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    made(lake)
    append(lake, ids(1, 2, 3))
    [path] = stored_files(lake.table(NAME))
    pq.write_table(pq.read_table(path).slice(0, 2), path)
    with pytest.raises(Unreadable, match="bytes"):
        read_table(tmp_path / "catalog.db", NAME).rows()


def test_rows_are_counted_not_only_compared() -> None:
    once = pa.table({"a": [1.0, float("nan")], "b": [[{"c": 1}], None]})
    assert multiset(once) == multiset(once.take([1, 0]))
    assert multiset(once) != multiset(pa.concat_tables([once, once]))
    assert frozen({"a": [float("nan")]}) == frozen({"a": [float("nan")]})


def test_only_local_files_are_read() -> None:
    assert local_path("file:///a/part=b%2Fc") == local_path("/a/part=b%2Fc")
    with pytest.raises(Unreadable, match="s3"):
        local_path("s3://bucket/key")
