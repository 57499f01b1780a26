"""Which files are taken for orphans, by a lake on the disk, listed in both ways that PyIceberg has."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyiceberg.table import Table
from pyiceberg.table.statistics import StatisticsFile
from pyiceberg.table.update import SetStatisticsUpdate

from lakeflow.errors import UsageError
from lakeflow.lake.catalog import Lake
from lakeflow.lake.orphans import check_age, find_orphans, remove_orphans
from lakeflow.lake.orphans_listing import stored_under
from tests.lakes import NAME, append, catalog_in, id_rows, ids, made, path_of, written

FILE_IOS = ("pyiceberg.io.pyarrow.PyArrowFileIO", "pyiceberg.io.fsspec.FsspecFileIO")
DAY = timedelta(days=1)
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(params=FILE_IOS, ids=["pyarrow", "fsspec"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    lake = Lake.open({**catalog_in(tmp_path), "py-io-impl": request.param})
    made(lake)
    for value in range(3):
        append(lake, ids(value))
    return lake


def folder_of(lake: Lake, name: str = NAME) -> Path:
    return path_of(lake.table(name).location())


def put(path: Path, *, age: timedelta = 2 * DAY, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    aged(path, age)
    return path


def aged(path: Path, age: timedelta = 2 * DAY) -> None:
    moment = (NOW - age).timestamp()
    os.utime(path, (moment, moment))


def age_all(lake: Lake, name: str = NAME) -> None:
    for path in folder_of(lake, name).rglob("*"):
        aged(path)


def found(lake: Lake) -> list[Path]:
    return [path_of(orphan.path) for orphan in find_orphans(lake, NAME, NOW - DAY).orphans]


class TestWhichAre:
    def test_nothing_that_the_table_names_is_one(self, lake: Lake) -> None:
        age_all(lake)
        assert found(lake) == []

    def test_what_nothing_names_is_one_wherever_it_lies_below_the_table(self, lake: Lake) -> None:
        age_all(lake)
        folder = folder_of(lake)
        strays = [put(folder / place) for place in ("data/a.parquet", "data/x=1/b.parquet", "metadata/c-m0.avro", "d.tmp")]
        assert found(lake) == sorted(strays)

    def test_what_is_young_is_not(self, lake: Lake) -> None:
        put(folder_of(lake) / "data" / "young.parquet", age=timedelta(hours=23))
        assert found(lake) == []

    def test_files_of_a_commit_under_way_are_young(self, lake: Lake) -> None:
        written(lake.table(NAME), ids(9))
        assert find_orphans(lake, NAME, datetime.now(UTC) - timedelta(hours=1)).orphans == ()

    def test_what_lies_outside_of_the_location_is_not(self, lake: Lake) -> None:
        folder = folder_of(lake)
        put(folder.parent / "beside.parquet")
        put(folder.parent / f"{folder.name}_2" / "data" / "other.parquet")
        assert found(lake) == []

    def test_statistics_that_are_named_are_not(self, lake: Lake) -> None:
        table = lake.table(NAME)
        named = put(folder_of(lake) / "metadata" / "stats.puffin")
        stray = put(folder_of(lake) / "metadata" / "old.puffin")
        name_statistics(table, f"file:{named}")
        assert found(lake) == [stray]

    def test_a_file_that_engines_find_by_its_name_is_not(self, lake: Lake) -> None:
        put(folder_of(lake) / "metadata" / "version-hint.text")
        assert found(lake) == []


def name_statistics(table: Table, path: str) -> None:
    head = table.current_snapshot()
    assert head is not None
    file = StatisticsFile.model_validate(
        {
            "snapshot-id": head.snapshot_id,
            "statistics-path": path,
            "file-size-in-bytes": 1,
            "file-footer-size-in-bytes": 1,
            "blob-metadata": [],
        }
    )
    named = SetStatisticsUpdate.model_validate({"statistics": file})
    table.catalog.commit_table(table, (), (named,))


class TestNestedTables:
    def test_those_of_the_catalog_are_protected(self, lake: Lake) -> None:
        inner = folder_of(lake) / "data" / "inner"
        schema = lake.table(NAME).schema()
        elsewhere = {"write.metadata.path": f"file:{folder_of(lake).parent}/metadata-of-inner"}
        table = lake.catalog.create_table("bronze.inner", schema, location=f"file:{inner}", properties=elsewhere)
        table.append(ids(1))
        put(inner / "data" / "stray.parquet")
        for path in inner.rglob("*"):
            aged(path)
        assert found(lake) == []

    def test_those_of_which_the_catalog_does_not_know_are_protected(self, lake: Lake) -> None:
        inner = folder_of(lake) / "elsewhere"
        put(inner / "metadata" / "00001-abc.metadata.json")
        put(inner / "data" / "file.parquet")
        assert found(lake) == []

    def test_a_location_that_two_tables_have_is_left(self, lake: Lake) -> None:
        table = lake.table(NAME)
        lake.catalog.create_table("bronze.twin", table.schema(), location=table.location())
        put(folder_of(lake) / "data" / "stray.parquet")
        removed = find_orphans(lake, NAME, NOW - DAY)
        assert removed.orphans == ()
        assert removed.left[0].startswith("orphans stay: table bronze.twin has the same location")


def test_removing_deletes_them_and_nothing_else(lake: Lake) -> None:
    age_all(lake)
    stray = put(folder_of(lake) / "data" / "stray.parquet", text="four")
    removed = remove_orphans(lake, NAME, NOW - DAY)
    assert [path_of(orphan.path) for orphan in removed.orphans] == [stray]
    assert removed.bytes == 4
    assert not stray.exists()
    assert id_rows(lake.table(NAME)) == [0, 1, 2]
    append(lake, ids(3))


def test_a_stop_is_heeded(lake: Lake) -> None:
    stray = put(folder_of(lake) / "data" / "stray.parquet")
    assert remove_orphans(lake, NAME, NOW - DAY, stop=lambda: True).orphans == ()
    assert stray.exists()


def test_every_file_is_listed_with_its_size_and_time(lake: Lake) -> None:
    table = lake.table(NAME)
    put(folder_of(lake) / "data" / "deep" / "er" / "a b%20c.parquet", text="123")
    listed = {stored.below: stored for stored in stored_under(table.io, table.location())}
    assert set(listed) == {str(path.relative_to(folder_of(lake))) for path in folder_of(lake).rglob("*") if path.is_file()}
    one = listed["data/deep/er/a b%20c.parquet"]
    assert (one.bytes, one.written) == (3, NOW - 2 * DAY)


def test_a_location_that_is_not_there_lists_nothing(lake: Lake) -> None:
    table = lake.table(NAME)
    assert list(stored_under(table.io, f"{table.location()}/none")) == []


@pytest.mark.parametrize(("age", "forced"), [(timedelta(hours=1), False), (timedelta(seconds=5), True)])
def test_ages_that_are_taken(age: timedelta, forced: bool) -> None:
    check_age(age, forced=forced)


def test_an_age_that_files_under_way_may_have_is_refused() -> None:
    with pytest.raises(UsageError, match="3599 seconds old may belong to a commit under way; valid: 1h or more"):
        check_age(timedelta(seconds=3599), forced=False)
