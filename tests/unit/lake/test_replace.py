"""Replacing groups of rows: which rows go, which files are touched, and what NULL, NaN and evolved files come to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.types import LongType

from lakeflow.declare import PartitionField
from lakeflow.errors import CommitConflict, SchemaMismatch, UnknownName
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committed, Committer
from lakeflow.lake.on_base import land
from lakeflow.lake.replace import GroupReplacement, Replaced
from lakeflow.lake.write import DataWriter
from tests.lakes import NAME, append, live_paths, made, open_lake, path_of, query, stored_files

NAN = float("nan")
SCHEMA = pa.schema([("g", pa.int64()), ("v", pa.string())])


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = open_lake(tmp_path)
    made(lake, SCHEMA)
    return lake


def rows(*pairs: tuple[int | None, str]) -> pa.Table:
    return pa.Table.from_pylist([{"g": g, "v": v} for g, v in pairs], schema=SCHEMA)


def groups(*values: Any, kind: pa.DataType | None = None) -> pa.Table:
    return pa.table({"g": pa.array(values, kind or pa.int64())})


@contextmanager
def replacing(lake: Lake, *columns: str) -> Iterator[GroupReplacement]:
    with closing(GroupReplacement(lake.table(NAME), columns or ("g",))) as replacement:
        yield replacement


def replace_in(lake: Lake, gone: pa.Table, new: pa.Table | None = None, columns: tuple[str, ...] = ("g",)) -> Replaced:
    table = lake.table(NAME)
    with closing(GroupReplacement(table, columns)) as replacement:
        replacement.replace(gone)
        if new is not None:
            replacement.write(new)
        _, done = land(replacement, table, lambda: DataWriter(table), Committer(lake).commit)
        return done


def contents(lake: Lake) -> list[tuple[Any, ...]]:
    return sorted(query(lake.table(NAME)), key=str)


def test_every_row_of_a_group_goes_and_the_new_ones_come_in_one_snapshot(lake: Lake) -> None:
    append(lake, rows((1, "a"), (2, "b"), (1, "c")))
    append(lake, rows((1, "d"), (3, "e")))
    done = replace_in(lake, groups(1, 9), rows((1, "new"), (1, "newer"), (9, "x")))
    assert contents(lake) == [(1, "new"), (1, "newer"), (2, "b"), (3, "e"), (9, "x")]
    assert (done.removed, done.written) == (3, 3)
    assert len(lake.table(NAME).metadata.snapshots) == 3


def test_nulls_are_a_group(lake: Lake) -> None:
    append(lake, rows((None, "a"), (2, "b"), (None, "c")))
    assert replace_in(lake, groups(None), rows((None, "new"))).removed == 2
    assert contents(lake) == [(2, "b"), (None, "new")]


def test_a_group_may_be_left_without_rows_and_rows_may_come_without_a_group(lake: Lake) -> None:
    append(lake, rows((1, "a"), (2, "b")))
    replace_in(lake, groups(1))
    assert contents(lake) == [(2, "b")]
    assert replace_in(lake, groups(), rows((2, "c"))).remove == ()
    assert contents(lake) == [(2, "b"), (2, "c")]


def test_files_without_a_row_of_a_group_stay_the_same_bytes(lake: Lake) -> None:
    for start in (0, 100, 200):
        append(lake, rows(*((start + value, "old") for value in range(0, 20, 2))))
    before = {path: path_of(path).read_bytes() for path in live_paths(lake.table(NAME))}
    done = replace_in(lake, groups(102, 111, 150), rows((102, "new")))
    (gone,) = [data_file.file_path for data_file in done.remove]
    after = {path: path_of(path).read_bytes() for path in live_paths(lake.table(NAME))}
    assert {path: after[path] for path in before if path != gone} == {path: before[path] for path in before if path != gone}
    assert len(contents(lake)) == 30


KINDS: list[tuple[pa.DataType, Any, Any, Any]] = [
    (pa.float64(), 1.0, NAN, -0.5),
    (pa.float32(), -1.5, NAN, 2.5),
    (pa.bool_(), True, False, None),
    (pa.decimal128(9, 2), Decimal("1.00"), Decimal("-2.50"), Decimal("99.99")),
    (pa.decimal128(38, 10), Decimal("12345678901234567890.5"), Decimal("-1"), Decimal("0")),
    (pa.binary(), b"\x00", b"\xff" * 40, b"a"),
    (pa.binary(16), b"\x00" * 16, b"\xff" * 16, b"\x80" * 16),
    (pa.date32(), date(2024, 1, 1), date(1960, 1, 1), date(1970, 1, 1)),
    (pa.timestamp("us", "UTC"), datetime(2024, 1, 1, tzinfo=UTC), datetime(1960, 1, 1, tzinfo=UTC), None),
    (pa.timestamp("us"), datetime(2024, 1, 1, 1, 2, 3, 4), datetime(1960, 1, 1), datetime(1970, 1, 1)),
    (pa.time64("us"), datetime(2024, 1, 1, 23, 59, 59, 999999).time(), datetime(2024, 1, 1).time(), None),
    (pa.int32(), 1, -1, 0),
    (pa.string(), "a", "", "ü" * 40),
]


@pytest.mark.parametrize(("kind", "one", "other", "third"), KINDS, ids=[str(kind) for kind, *_ in KINDS])
def test_groups_of_any_type_each_in_a_file_of_its_own(
    tmp_path: Path, kind: pa.DataType, one: Any, other: Any, third: Any
) -> None:
    lake = open_lake(tmp_path)
    schema = pa.schema([("g", kind), ("v", pa.int64())])
    made(lake, schema)
    for number, value in enumerate((one, other, third)):
        append(lake, pa.table({"g": [value, value], "v": [number, number]}, schema=schema))
    done = replace_in(lake, groups(other, None, kind=kind), pa.table({"g": [other], "v": [9]}, schema=schema))
    left = [(0,), (0,), (9,)] if third is None else [(0,), (0,), (2,), (2,), (9,)]
    assert query(lake.table(NAME), "SELECT v FROM rows ORDER BY v") == left
    assert len(done.remove) == (2 if third is None else 1)


def test_groups_of_several_columns(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    schema = pa.schema([("s", pa.timestamp("us")), ("k", pa.string()), ("v", pa.int64())])
    made(lake, schema, [PartitionField("s", "day"), PartitionField("k", "bucket", 4)])
    hours = [datetime(2024, 1, day, hour) for day in (1, 2) for hour in (0, 1)]
    append(lake, pa.table({"s": hours * 2, "k": ["a"] * 4 + [None] * 4, "v": list(range(8))}, schema=schema))
    gone = pa.table({"s": [hours[1], hours[2], None], "k": ["a", None, "a"]}, schema=pa.schema(list(schema)[:2]))
    done = replace_in(lake, gone, columns=("s", "k"))
    assert query(lake.table(NAME), "SELECT v FROM rows ORDER BY v") == [(0,), (2,), (3,), (4,), (5,), (7,)]
    assert (done.removed, len(done.remove)) == (2, 2)


def test_files_from_before_a_column_was_widened_renamed_or_added(tmp_path: Path) -> None:
    lake = open_lake(tmp_path)
    made(lake, pa.schema([("old", pa.int32()), ("v", pa.string())]))
    append(lake, pa.table({"old": pa.array([1, 2], pa.int32()), "v": ["a", "b"]}))
    with lake.table(NAME).update_schema() as update:
        update.update_column("old", LongType())
        update.rename_column("old", "g")
        update.add_column("h", LongType())
    append(lake, pa.table({"g": [1, 2**40], "v": ["c", "d"], "h": [5, 5]}))
    keys = pa.table({"g": [2, 2**40, 1], "h": [None, 5, 6]}, schema=pa.schema([("g", pa.int64()), ("h", pa.int64())]))
    assert replace_in(lake, keys, columns=("g", "h")).removed == 2
    assert sorted(lake.table(NAME).scan().to_arrow().column("v").to_pylist()) == ["a", "c"]


def test_a_replacement_is_computed_again_where_another_commit_came_first(lake: Lake) -> None:
    append(lake, rows((1, "a"), (2, "b")))
    table = lake.table(NAME)
    with closing(GroupReplacement(table, ["g"])) as replacement:
        replacement.replace(groups(1))
        replacement.write(rows((1, "new")))
        seen: list[Change] = []

        def commit(change: Change) -> Committed:
            seen.append(change)
            if len(seen) == 1:
                append(lake, rows((1, "rival"), (3, "rival")))
            return Committer(lake).commit(change)

        _, done = land(replacement, table, lambda: DataWriter(table), commit)
    assert contents(lake) == [(1, "new"), (2, "b"), (3, "rival")]
    assert (len(seen), done.removed) == (2, 2)


def test_after_its_last_attempt_the_conflict_is_raised_and_nothing_is_in_the_table(lake: Lake) -> None:
    table = lake.table(NAME)

    def commit(change: Change) -> Committed:
        append(lake, rows((2, "rival")))
        return Committer(lake).commit(change)

    with closing(GroupReplacement(table, ["g"])) as replacement:
        replacement.write(rows((1, "new")))
        with pytest.raises(CommitConflict) as raised:
            land(replacement, table, lambda: DataWriter(table), commit, attempts=2)
    assert raised.value.next_step is not None
    assert raised.value.next_step.startswith("run the same command again")
    assert contents(lake) == [(2, "rival"), (2, "rival")]
    assert stored_files(table) == {path_of(path) for path in live_paths(lake.table(NAME))}


def test_an_unknown_column_and_groups_of_another_type_are_refused(lake: Lake) -> None:
    with pytest.raises(UnknownName, match="'gg'"):
        GroupReplacement(lake.table(NAME), ["gg"])
    with replacing(lake) as replacement, pytest.raises(SchemaMismatch, match="'g'"):
        replacement.replace(groups("no number", kind=pa.string()))
