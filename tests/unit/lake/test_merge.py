"""Merges by key: which rows win, which files are touched, and what is counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.types import LongType

from lakeflow.declare import PartitionField
from lakeflow.errors import CommitConflict, SchemaMismatch, UnknownName
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.merge import KeyedMerge, Merged, Ordering
from lakeflow.lake.write import DataWriter
from tests.lakes import NAME, append, live_paths, made, open_lake, path_of, query, stored_files

SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.string())])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = open_lake(tmp_path)
    made(lake, SCHEMA)
    return lake


def rows(*pairs: tuple[int | None, str | None]) -> pa.Table:
    return pa.Table.from_pylist([{"k": k, "v": v} for k, v in pairs], schema=SCHEMA)


@contextmanager
def merging(lake: Lake, *key: str) -> Iterator[KeyedMerge]:
    with closing(KeyedMerge(lake.table(NAME), key)) as merge:
        yield merge


def merge_in(lake: Lake, *new: pa.Table, key: tuple[str, ...] = ("k",)) -> Merged:
    with merging(lake, *key) as merge:
        for part in new:
            merge.write(part)
        merged = merge.merge(DataWriter(lake.table(NAME)))
        Committer(lake).commit(Change(NAME, merged.add, merged.remove, base=merged.base))
        return merged


def contents(lake: Lake) -> list[tuple[Any, ...]]:
    return sorted(query(lake.table(NAME)), key=str)


def counts(merged: Merged) -> tuple[int, int, int]:
    return merged.inserted, merged.updated, merged.superseded


def test_into_an_empty_table_all_are_inserted(lake: Lake) -> None:
    assert counts(merge_in(lake, rows((1, "a"), (2, "b")))) == (2, 0, 0)
    assert contents(lake) == [(1, "a"), (2, "b")]


def test_present_keys_are_updated_and_absent_ones_inserted(lake: Lake) -> None:
    append(lake, rows((1, "a"), (2, "b"), (3, "c")))
    assert counts(merge_in(lake, rows((2, "B"), (9, "z")))) == (1, 1, 0)
    assert contents(lake) == [(1, "a"), (2, "B"), (3, "c"), (9, "z")]
    assert len(lake.table(NAME).metadata.snapshots) == 2


def test_of_several_new_rows_of_one_key_the_last_wins(lake: Lake) -> None:
    append(lake, rows((1, "a")))
    merged = merge_in(lake, rows((1, "x"), (2, "x"), (1, "y")), rows((2, "z"), (3, None)), rows((1, "last")))
    assert counts(merged) == (2, 1, 3)
    assert contents(lake) == [(1, "last"), (2, "z"), (3, None)]


def test_without_rows_nothing_is_touched(lake: Lake) -> None:
    append(lake, rows((1, "a")))
    merged = merge_in(lake)
    assert (merged.add, merged.remove, counts(merged)) == ((), (), (0, 0, 0))
    assert contents(lake) == [(1, "a")]


def test_a_null_key_is_refused_and_leaves_the_table(lake: Lake) -> None:
    with (
        merging(lake, "k") as merge,
        pytest.raises(SchemaMismatch, match=r"key column 'k' of table bronze\.flights holds 2 nulls"),
    ):
        merge.write(rows((1, "a"), (None, "b"), (None, "c")))


def test_an_unknown_key_column_is_named(lake: Lake) -> None:
    with pytest.raises(UnknownName, match="'kk'"):
        KeyedMerge(lake.table(NAME), ["kk"])


def test_rows_of_the_table_whose_key_is_null_stay(lake: Lake) -> None:
    append(lake, rows((None, "n"), (1, "a")))
    merge_in(lake, rows((1, "A")))
    assert contents(lake) == [(1, "A"), (None, "n")]


def test_a_key_that_is_there_several_times_is_replaced_by_one_row(lake: Lake) -> None:
    append(lake, rows((1, "a"), (1, "b"), (2, "c")))
    append(lake, rows((1, "d")))
    assert counts(merge_in(lake, rows((1, "new"), (5, "e")))) == (1, 1, 0)
    assert contents(lake) == [(1, "new"), (2, "c"), (5, "e")]


def test_untouched_files_stay_the_same_bytes(lake: Lake) -> None:
    for start in (0, 100, 200):
        append(lake, rows(*((start + value, "old") for value in range(10))))
    before = {path: path_of(path).read_bytes() for path in live_paths(lake.table(NAME))}
    merged = merge_in(lake, rows((105, "new"), (150, "between the files")))
    (gone,) = [data_file.file_path for data_file in merged.remove]
    after = {path: path_of(path).read_bytes() for path in live_paths(lake.table(NAME))}
    assert {path: after[path] for path in before if path != gone} == {path: before[path] for path in before if path != gone}
    assert len(contents(lake)) == 31


def test_a_file_whose_key_range_overlaps_without_a_common_key_stays(lake: Lake) -> None:
    append(lake, rows((1, "a"), (100, "b")))
    assert merge_in(lake, rows((50, "m"))).remove == ()


def test_composite_keys(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    schema = pa.schema([("carrier", pa.string()), ("flight", pa.int32()), ("v", pa.int64())])
    made(lake, schema)
    append(lake, pa.table({"carrier": ["AA", "AA", "UA"], "flight": [1, 2, 1], "v": [1, 2, 3]}))
    merged = merge_in(lake, pa.table({"carrier": ["AA", "UA"], "flight": [2, 2], "v": [20, 40]}), key=("carrier", "flight"))
    assert counts(merged) == (1, 1, 0)
    assert contents(lake) == [("AA", 1, 1), ("AA", 2, 20), ("UA", 1, 3), ("UA", 2, 40)]


LONG = "a very long key that statistics cut off after sixteen characters: "


def test_string_keys_are_pruned_by_bounds_that_are_cut_off(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    made(lake, pa.schema([("k", pa.string())]))
    for last in ("1", "5"):
        append(lake, pa.table({"k": [LONG + last, "ü" * 30 + last]}))
    append(lake, pa.table({"k": ["zebra"]}))
    append(lake, pa.table({"k": ["\U0010ffff" * 20]}))
    assert counts(merge_in(lake, pa.table({"k": [LONG + "5", "ü" * 30 + "1", "\U0010ffff" * 20, "new"]}))) == (1, 3, 0)
    assert len(contents(lake)) == 7


KEYS: list[tuple[pa.DataType, Any, Any]] = [
    (pa.float64(), 1.0, float("nan")),
    (pa.bool_(), True, False),
    (pa.decimal128(9, 2), Decimal("1.00"), Decimal("-2.50")),
    (pa.binary(), b"\x00", b"\xff"),
    (pa.date32(), datetime(2024, 1, 1).date(), datetime(1960, 1, 1).date()),
    (pa.timestamp("us", "UTC"), datetime(2024, 1, 1, tzinfo=UTC), datetime(1960, 1, 1, tzinfo=UTC)),
    (pa.int32(), 1, -1),
    (pa.string(), "a", ""),
]


@pytest.mark.parametrize(("kind", "one", "other"), KEYS, ids=[str(kind) for kind, _, _ in KEYS])
def test_keys_of_any_type(tmp_path: Path, kind: pa.DataType, one: Any, other: Any) -> None:
    lake = open_lake(tmp_path)
    schema = pa.schema([("k", kind), ("v", pa.int64())])
    made(lake, schema)
    append(lake, pa.table({"k": [one, other], "v": [1, 2]}, schema=schema))
    merged = merge_in(lake, pa.table({"k": [other, one], "v": [20, 10]}, schema=schema))
    assert counts(merged) == (0, 2, 0)
    assert query(lake.table(NAME), "SELECT v FROM rows ORDER BY v") == [(10,), (20,)]


def test_nan_keys_are_found_outside_of_the_bounds(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    schema = pa.schema([("k", pa.float64()), ("v", pa.int64())])
    made(lake, schema)
    append(lake, pa.table({"k": [1.0, float("nan")], "v": [1, 2]}, schema=schema))
    assert counts(merge_in(lake, pa.table({"k": [100.0, float("nan")], "v": [3, 4]}, schema=schema))) == (1, 1, 0)
    assert query(lake.table(NAME), "SELECT v FROM rows ORDER BY v") == [(1,), (3,), (4,)]


def test_partitioned_tables(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    made(lake, SCHEMA, [PartitionField("v")])
    append(lake, rows((1, "a"), (2, "a"), (3, "b")))
    merge_in(lake, rows((2, "b"), (4, None)))
    assert contents(lake) == [(1, "a"), (2, "b"), (3, "b"), (4, None)]


def test_keys_of_files_written_before_a_column_was_widened(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    made(lake, pa.schema([("k", pa.int32()), ("v", pa.string())]))
    append(lake, pa.table({"k": pa.array([1, 2], pa.int32()), "v": ["a", "b"]}))
    with lake.table(NAME).update_schema() as update:
        update.update_column("k", LongType())
    assert counts(merge_in(lake, rows((2, "B"), (2**40, "far")))) == (1, 1, 0)
    assert contents(lake) == [(1, "a"), (1099511627776, "far"), (2, "B")]


def test_a_merge_is_computed_again_from_its_spool_after_a_conflict(lake: Lake, tmp_path: Path) -> None:
    append(lake, rows((1, "a"), (2, "b")))
    table = lake.table(NAME)
    committer = Committer(lake)
    with closing(KeyedMerge(table, ["k"], tmp_path)) as merge:
        merge.write(rows((2, "B"), (3, "c")))
        first = merge.merge(DataWriter(table))
        append(lake, rows((3, "rival"), (4, "rival")))
        with pytest.raises(CommitConflict):
            committer.commit(Change(NAME, first.add, first.remove, base=first.base))
        table.refresh()
        again = merge.merge(DataWriter(table))
        committer.commit(Change(NAME, again.add, again.remove, base=again.base))
    assert counts(first) == (1, 1, 0)
    assert counts(again) == (0, 2, 0)
    assert contents(lake) == [(1, "a"), (2, "B"), (3, "c"), (4, "rival")]
    assert stored_files(lake.table(NAME)) >= {path_of(path) for path in live_paths(lake.table(NAME))}
    assert not list(tmp_path.glob("lakeflow-merge-*"))


def keyed(*keys: int) -> pa.Table:
    return pa.table({"k": pa.array(keys, pa.int64())})


def merged_of(lake: Lake, merge: KeyedMerge) -> Merged:
    merged = merge.merge(DataWriter(lake.table(NAME)))
    change = Change(NAME, merged.add, merged.remove, replace_all=merged.replaces_all, base=merged.base, on_base=True)
    Committer(lake).commit(change)
    return merged


def test_a_delete_takes_the_row_of_its_key_away(lake: Lake) -> None:
    append(lake, rows((1, "a"), (2, "b")))
    with merging(lake, "k") as merge:
        merge.delete(keyed(1, 7))
        merged = merged_of(lake, merge)
    assert contents(lake) == [(2, "b")]
    assert (merged.deleted, *counts(merged)) == (1, 0, 0, 0)


def test_of_rows_and_deletes_of_one_key_the_last_to_come_wins(lake: Lake) -> None:
    append(lake, rows((1, "a"), (2, "b"), (3, "c")))
    with merging(lake, "k") as merge:
        merge.write(rows((1, "x"), (2, "x"), (4, "x")))
        merge.delete(keyed(1, 4))
        merge.write(rows((3, "y"), (1, "last")))
        merged = merged_of(lake, merge)
    assert contents(lake) == [(1, "last"), (2, "x"), (3, "y")]
    assert (merged.deleted, *counts(merged)) == (0, 0, 3, 3)


def test_what_was_cleared_goes_and_what_came_after_stays(lake: Lake) -> None:
    append(lake, rows((1, "a"), (2, "b")))
    with merging(lake, "k") as merge:
        merge.write(rows((5, "before"), (6, "before")))
        merge.clear()
        merge.write(rows((6, "after"), (2, "after")))
        merged = merged_of(lake, merge)
    assert contents(lake) == [(2, "after"), (6, "after")]
    assert merged.replaces_all


def test_clearing_alone_empties_the_table(lake: Lake) -> None:
    append(lake, rows((1, "a"), (2, "b")))
    with merging(lake, "k") as merge:
        merge.clear()
        merged_of(lake, merge)
    assert contents(lake) == []


def ordering(ordinals: list[int], sources: list[int], ranks: list[int]) -> Ordering:
    return Ordering(pa.array(ordinals, pa.int64()), pa.array(sources, pa.int32()), pa.array(ranks, pa.int64()))


def test_between_sources_the_change_of_the_greater_rank_wins_however_late_the_other_came(lake: Lake) -> None:
    with merging(lake, "k") as merge:
        merge.write(rows((1, "new"), (2, "new")), ordering([0, 1], [1, 1], [200, 200]))
        merge.write(rows((1, "old"), (2, "newer")), ordering([2, 3], [0, 0], [100, 300]))
        merged_of(lake, merge)
    assert contents(lake) == [(1, "new"), (2, "newer")]


def test_within_a_source_the_order_of_records_holds_whatever_their_ranks(lake: Lake) -> None:
    with merging(lake, "k") as merge:
        merge.write(rows((1, "first")), ordering([0], [3], [900]))
        merge.write(rows((1, "other")), ordering([2], [4], [50]))
        merge.write(rows((1, "second")), ordering([1], [3], [100]))
        merged_of(lake, merge)
    assert contents(lake) == [(1, "second")]


def test_a_delete_may_come_before_the_row_that_it_is_ordered_behind(lake: Lake) -> None:
    append(lake, rows((1, "a")))
    with merging(lake, "k") as merge:
        merge.delete(keyed(1), ordering([5], [0], [0]))
        merge.write(rows((1, "x")), ordering([4], [0], [0]))
        merged_of(lake, merge)
    assert contents(lake) == []


def test_a_delete_of_a_null_key_is_refused(lake: Lake) -> None:
    with merging(lake, "k") as merge, pytest.raises(SchemaMismatch, match="key column 'k'"):
        merge.delete(pa.table({"k": pa.array([None], pa.int64())}))
