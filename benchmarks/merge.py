"""A merge by key costs what the files cost that hold one of its keys, whatever the table holds besides."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.check import live_rows
from benchmarks.harness import MIB, Bar, Done, Result, Settings, Spent, in_child, mib, spending
from benchmarks.projects import project_in
from lakeflow.declare import TableSpec
from lakeflow.lake.commit import Change
from lakeflow.lake.merge import KeyedMerge
from lakeflow.lake.on_base import land
from lakeflow.lake.write import DataFile, DataWriter

ROWS, CHANGES = 10_000_000, 100_000
SMALL_ROWS, SMALL_CHANGES = 1_000_000, 10_000
FILES = 20
TABLE = "bench.held"
ONE, TWO = ("id",), ("region", "id")
FILE_BYTES = 8 * MIB
LIMIT_GIB = 1.0
SCHEMA = pa.schema(
    [("id", pa.int64()), ("region", pa.string()), ("name", pa.string()), ("amount", pa.float64()), ("at", pa.int64())]
)


@dataclass(frozen=True, slots=True)
class Merging:
    """What a merge took, and how many of the table's files it wrote anew."""

    spent: Spent
    files: int
    of: int


def run(settings: Settings) -> Result:
    """Each merge in a process of its own, one after the other into one table; the peers over the same files."""
    rows, changes = settings.count(ROWS), settings.count(CHANGES)
    small, few = settings.count(SMALL_ROWS), settings.count(SMALL_CHANGES)
    folder = settings.place("large")
    in_child(make, folder, rows)
    clustered = in_child(merge, folder, rows, changes, ONE, scattered=False)
    pairs = in_child(merge, folder, rows, changes, TWO, scattered=False)
    polars = in_child(rewrite, folder, rows, changes)
    scattered = in_child(merge, folder, rows, changes, ONE, scattered=True)
    scattered_pairs = in_child(merge, folder, rows, changes, TWO, scattered=True)
    in_child(check, folder, rows)
    ours, theirs = settings.place("ours"), settings.place("theirs")
    in_child(make, ours, small)
    in_child(make, theirs, small)
    beside = in_child(merge, ours, small, few, ONE, scattered=True)
    upserted = in_child(upsert, theirs, small, few)
    merges = (
        ("one key, clustered", clustered),
        ("two columns, clustered", pairs),
        ("one key, scattered", scattered),
        ("two columns, scattered", scattered_pairs),
    )
    return Result(
        title="Merges by key",
        data=(
            f"{changes:,} changes of keys that are there, into {rows:,} rows of five columns in the order of their id, in "
            f"files of {FILE_BYTES // MIB} MiB at the most: keys that lie side by side, then keys from anywhere; by the id, "
            "and by a region and the id. Polars makes one file of all rows and the changes. "
            f"PyIceberg's upsert takes {few:,} changes from anywhere into {small:,} rows."
        ),
        columns=("merge", "files written anew", "wall", "CPU", "peak memory"),
        rows=(
            *(_row(f"lakeflow, {what}", done) for what, done in merges),
            ("Polars, the whole anew", "all", *_spent(polars.value), mib(polars.peak_bytes)),
            _row(f"lakeflow, {few:,} into {small:,}", beside),
            (f"PyIceberg, {few:,} into {small:,}", "all", *_spent(upserted.value), mib(upserted.peak_bytes)),
        ),
        bars=(
            Bar(
                "clustered over scattered, CPU",
                clustered.value.spent.cpu / scattered.value.spent.cpu,
                0.3,
                at_least=False,
            ),
            Bar(
                "two columns over one, scattered, CPU",
                scattered_pairs.value.spent.cpu / scattered.value.spent.cpu,
                2.0,
                at_least=False,
                unit=" x",
            ),
            Bar(
                "faster than PyIceberg's upsert, by the clock",
                upserted.value.wall / beside.value.spent.wall,
                5.0,
                unit=" x",
            ),
            Bar(
                "most memory of a merge",
                max(done.peak_bytes for _, done in merges) / (1024 * MIB),
                LIMIT_GIB,
                at_least=False,
                unit=" GiB",
            ),
        ),
    )


def _row(what: str, done: Done[Merging]) -> tuple[str, ...]:
    return what, f"{done.value.files} of {done.value.of}", *_spent(done.value.spent), mib(done.peak_bytes)


def _spent(spent: Spent) -> tuple[str, str]:
    return f"{spent.wall:.2f} s", f"{spent.cpu:.2f} s"


def rows_of(ids: np.ndarray[tuple[int], np.dtype[np.int64]], amount: float) -> pa.Table:
    """Rows of these ids; their region and name follow from the id."""
    number = pa.array(ids)
    regions = pc.cast(pa.array(ids % 7), pa.string())
    names = pc.binary_join_element_wise("customer ", pc.cast(pa.array(ids % 100_003), pa.string()), "")
    return pa.table([number, regions, names, pa.array(np.full(len(ids), amount)), pa.array(ids * 1000)], schema=SCHEMA)


def make(folder: Path, rows: int) -> None:
    """The table, of FILES files in the order of the id."""
    project = project_in(folder, {})
    table = project.lake.ensure(TableSpec(TABLE, SCHEMA))
    step = -(-rows // FILES)
    files: list[DataFile] = []
    for part, start in enumerate(range(0, rows, step)):
        writer = DataWriter(table, part=part, target_file_bytes=FILE_BYTES)
        for begin in range(start, min(start + step, rows), 100_000):
            writer.write(rows_of(np.arange(begin, min(begin + 100_000, start + step, rows)), 1.0))
        files += writer.finish()
    project.commits.commit(Change(TABLE, tuple(files)))


def chosen(rows: int, changes: int, *, scattered: bool, seed: int = 0) -> pa.Table:
    """Changes of ids that are there: from anywhere, or side by side from the middle of a file."""
    if scattered:
        return rows_of(np.sort(np.random.default_rng(seed).choice(rows, changes, replace=False)), 2.0)
    start = rows // 2 + rows // FILES // 4
    return rows_of(np.arange(start, start + changes), 2.0)


def merge(folder: Path, rows: int, changes: int, key: tuple[str, ...], *, scattered: bool) -> Merging:
    """A merge and its commit."""
    project = project_in(folder, {})
    table = project.lake.table(TABLE)
    new = chosen(rows, changes, scattered=scattered, seed=len(key))
    before = len(list(table.scan().plan_files()))
    with spending() as spent, closing(KeyedMerge(table, key)) as work:
        work.write(new)
        _, merged = land(work, table, lambda: DataWriter(table, target_file_bytes=FILE_BYTES), project.commits.commit)
    assert (merged.updated, merged.inserted) == (changes, 0), "every key is there"
    return Merging(spent, len(merged.remove), before)


def check(folder: Path, rows: int) -> None:
    """What the table holds, by a reader of its own."""
    found = live_rows(project_in(folder, {}).lake.table(TABLE), "SELECT count(*), count(DISTINCT id) FROM rows")
    assert tuple(found) == (rows, rows), f"{found} rows and ids after the merges"


def rewrite(folder: Path, rows: int, changes: int) -> Spent:
    """The same by Polars, which knows nothing of files: all rows but those of the keys, and the changes, as one file."""
    table = project_in(folder, {}).lake.table(TABLE)
    files = [task.file.file_path.removeprefix("file://") for task in table.scan().plan_files()]
    new = pl.LazyFrame(chosen(rows, changes, scattered=True))
    with spending() as spent:
        kept = pl.scan_parquet(files).join(new, on="id", how="anti")
        pl.concat([kept, new]).sink_parquet(folder / "rewritten.parquet")
    return spent


def upsert(folder: Path, rows: int, changes: int) -> Spent:
    """PyIceberg's own, into a table of the same rows."""
    table = project_in(folder, {}).lake.table(TABLE)
    new = chosen(rows, changes, scattered=True)
    with spending() as spent:
        table.upsert(new, join_cols=["id"])
    return spent
