"""Rows that wait for a commit, in memory and in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.errors import StorageFull
from lakeflow.lake import spool as spools
from lakeflow.lake.spool import RowSpool

SCHEMA = pa.schema([("id", pa.int64())])


def rows(first: int, count: int) -> pa.Table:
    return pa.table({"id": list(range(first, first + count))}, schema=SCHEMA)


def ids(spool: RowSpool) -> list[int]:
    return [number for part in spool.batches() for number in part["id"].to_pylist()]


def test_few_rows_come_back_as_often_as_asked_and_are_in_no_file(tmp_path: Path) -> None:
    spool = RowSpool(SCHEMA, tmp_path)
    spool.write(rows(0, 3))
    spool.write(rows(3, 2))
    assert [ids(spool), ids(spool)] == [[0, 1, 2, 3, 4]] * 2
    assert list(tmp_path.iterdir()) == []
    spool.close()


def test_past_the_bound_all_are_in_a_file_in_their_order(tmp_path: Path) -> None:
    spool = RowSpool(SCHEMA, tmp_path, held_bytes=3 * (spools.COLUMN_BYTES + 80))
    for first in range(0, 100, 10):
        spool.write(rows(first, 10))
    assert len(list(tmp_path.iterdir())) == 1
    assert [ids(spool), ids(spool)] == [list(range(100))] * 2
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_slice_counts_as_all_that_it_keeps_in_memory(tmp_path: Path) -> None:
    spool = RowSpool(SCHEMA, tmp_path, held_bytes=1 << 16)
    spool.write(rows(0, 100_000).slice(5, 1))
    assert len(list(tmp_path.iterdir())) == 1
    assert ids(spool) == [5]
    spool.close()


def test_none_are_none(tmp_path: Path) -> None:
    spool = RowSpool(SCHEMA, tmp_path)
    assert ids(spool) == []
    spool.close()


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        def write_table(self, _rows: pa.Table) -> Iterator[None]:
            raise OSError(28, "No space left on device")

    spool = RowSpool(SCHEMA, tmp_path, held_bytes=0)
    monkeypatch.setattr(pa.ipc, "new_stream", lambda *_args, **_named: Full())
    with pytest.raises(StorageFull):
        spool.write(rows(0, 1))
    spool.close()
