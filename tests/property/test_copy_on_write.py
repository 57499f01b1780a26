"""Merges and replacements over random files end as plain Python has it, whatever statistics and partitions exclude."""

from __future__ import annotations

import math
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.declare import PartitionField
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Committer
from lakeflow.lake.merge import KeyedMerge
from lakeflow.lake.on_base import land
from lakeflow.lake.replace import GroupReplacement
from lakeflow.lake.write import DataWriter
from tests.lakes import NAME, append, made, open_lake, query

EXAMPLES = int(os.environ.get("LAKEFLOW_EXAMPLES", "6"))
SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.float64()), ("c", pa.string()), ("v", pa.int64())])
PARTITIONS = st.sampled_from(
    [
        (),
        (PartitionField("a", "bucket", 3),),
        (PartitionField("c", "truncate", 1),),
        (PartitionField("c"), PartitionField("a", "bucket", 2)),
    ]
)
A = st.integers(-2, 3)
B = st.sampled_from([0.0, -0.0, 1.5, math.nan, -math.inf])
C = st.sampled_from(["", "a", "ab", "ü"])
KEYS = st.tuples(A, B, C)
GROUPS = st.tuples(st.none() | A, st.none() | B, st.none() | C)
Row = tuple[Any, ...]


def same(row: Row) -> Row:
    """NaN is equal to NaN here, and 0.0 to -0.0."""
    return tuple("nan" if isinstance(value, float) and math.isnan(value) else value for value in row[:3])


def table_of(rows: list[Row], columns: tuple[str, ...] = tuple(SCHEMA.names)) -> pa.Table:
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    return pa.table([pa.array([row[place] for row in rows], field.type) for place, field in enumerate(schema)], schema=schema)


def numbered(keys: list[list[Row]], first: int) -> list[list[Row]]:
    number = iter(range(first, 10**6))
    return [[(*key, next(number)) for key in group] for group in keys]


def lake_with(folder: str, files: list[list[Row]], partitioning: tuple[PartitionField, ...]) -> Lake:
    lake = open_lake(Path(folder))
    made(lake, SCHEMA, partitioning)
    for rows in files:
        append(lake, table_of(rows))
    return lake


def values(lake: Lake) -> list[int]:
    return sorted(row[0] for row in query(lake.table(NAME), "SELECT v FROM rows"))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.lists(GROUPS, min_size=1, max_size=4), max_size=3), st.lists(GROUPS, max_size=5), PARTITIONS)
def test_a_replacement_is_a_filter_and_an_append(
    held: list[list[Row]], gone: list[Row], partitioning: tuple[PartitionField, ...]
) -> None:
    files, new = numbered(held, 0), numbered([gone], 1000)[0]
    with tempfile.TemporaryDirectory() as folder:
        lake = lake_with(folder, files, partitioning)
        table = lake.table(NAME)
        with closing(GroupReplacement(table, ["a", "b", "c"])) as replacement:
            replacement.replace(table_of(gone, ("a", "b", "c")))
            replacement.write(table_of(new))
            _, done = land(replacement, table, lambda: DataWriter(table), Committer(lake).commit)
        groups = {same(group) for group in gone}
        kept = [row[3] for rows in files for row in rows if same(row) not in groups]
        assert values(lake) == sorted(kept + [row[3] for row in new])
        assert done.removed == sum(map(len, files)) - len(kept)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(st.lists(GROUPS, min_size=1, max_size=4), max_size=3), st.lists(KEYS, max_size=6), PARTITIONS)
def test_a_merge_replaces_the_rows_of_each_key_by_its_last(
    held: list[list[Row]], changed: list[Row], partitioning: tuple[PartitionField, ...]
) -> None:
    files, new = numbered(held, 0), numbered([changed], 1000)[0]
    with tempfile.TemporaryDirectory() as folder:
        lake = lake_with(folder, files, partitioning)
        table = lake.table(NAME)
        with closing(KeyedMerge(table, ["a", "b", "c"])) as merge:
            merge.write(table_of(new))
            land(merge, table, lambda: DataWriter(table), Committer(lake).commit)
        last = {same(row): row[3] for row in new}
        kept = [row[3] for rows in files for row in rows if same(row) not in last]
        assert values(lake) == sorted([*kept, *last.values()])
