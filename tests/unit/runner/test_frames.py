from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from lakeflow.errors import StorageUnavailable
from lakeflow.lake.catalog import Table
from lakeflow.lake.read import Split, read, snapshot_at, splits_at
from lakeflow.runner import frames
from lakeflow.runner.frames import arrow_schema_of, polars_schema, read_up_to, scan
from tests.jobs import SOURCE, World, flights
from tests.lakes import path_of

ENGINES = ["in-memory", "streaming"]
NESTED = pa.schema(
    [
        ("id", pa.int64()),
        ("place", pa.struct([("lat", pa.float64()), ("names", pa.list_(pa.string()))])),
        ("stops", pa.list_(pa.struct([("at", pa.timestamp("us", "UTC")), ("minutes", pa.int32())]))),
        ("tags", pa.map_(pa.string(), pa.int32())),
        ("price", pa.decimal128(12, 2)),
        ("day", pa.date32()),
        ("raw", pa.binary()),
        ("local", pa.timestamp("us")),
        ("clock", pa.time64("us")),
    ]
)


def splits_of(table: Table) -> tuple[Split, ...]:
    return splits_at(table, snapshot_at(table))


def scanned(world: World, **hooks: Any) -> pl.LazyFrame:
    table = world.table(SOURCE)
    return scan(table, splits_of(table), **hooks)


@pytest.fixture
def three_files(world: World) -> World:
    for first in (0, 10, 20):
        world.append(flights(*((first + place, f"C{place}", place / 2) for place in range(5))))
    return world


@pytest.fixture
def columns_read(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str] | None]:
    """What each scan asked of the files."""
    asked: list[Sequence[str] | None] = []
    original = read

    def reading(table: Table, splits: Sequence[Split], columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        asked.append(columns)
        return original(table, splits, columns)

    monkeypatch.setattr(frames, "read", reading)
    return asked


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_come_in_the_order_of_the_commits_and_of_the_file(three_files: World, engine: Any) -> None:
    rows = scanned(three_files).collect(engine=engine)
    assert rows["id"].to_list() == [first + place for first in (0, 10, 20) for place in range(5)]
    assert rows.columns == ["id", "carrier", "delay"]


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_columns_that_a_query_needs_are_read(
    three_files: World, columns_read: list[Sequence[str] | None], engine: Any
) -> None:
    query = scanned(three_files).filter(pl.col("delay") > 1.5).select("id")
    assert query.collect(engine=engine)["id"].to_list() == [4, 14, 24]
    assert sorted(columns_read[0] or ()) == ["delay", "id"]


@pytest.mark.parametrize("engine", ENGINES)
def test_columns_come_in_the_order_that_was_asked(three_files: World, engine: Any) -> None:
    rows = scanned(three_files).select("delay", "id").collect(engine=engine)
    assert (rows.columns, rows.row(1)) == (["delay", "id"], (0.5, 1))


QUERIES: dict[str, tuple[Any, list[int]]] = {
    "first rows": (lambda f: f.head(7), [0, 1, 2, 3, 4, 10, 11]),
    "no rows": (lambda f: f.head(0), []),
    "first of filtered": (lambda f: f.filter(pl.col("delay") > 0.6).head(4), [2, 3, 4, 12]),
    "filtered of first": (lambda f: f.head(4).filter(pl.col("delay") > 0.6), [2, 3]),
    "filtered of first over files": (lambda f: f.head(8).filter(pl.col("delay") > 0.6), [2, 3, 4, 12]),
    "filtered of sorted first": (lambda f: f.head(4).sort("id").filter(pl.col("delay") > 0.6), [2, 3]),
    "slice": (lambda f: f.slice(3, 4), [3, 4, 10, 11]),
    "last": (lambda f: f.tail(2), [23, 24]),
    "nothing fits": (lambda f: f.filter(pl.col("delay") > 100), []),
    "joined with itself": (
        lambda f: f.join(f, on="id", how="semi", maintain_order="left"),
        [*range(5), *range(10, 15), *range(20, 25)],
    ),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("query", QUERIES)
def test_a_query_gives_what_it_gives_on_a_frame_in_memory(three_files: World, query: str, engine: Any) -> None:
    ask, expected = QUERIES[query]
    assert ask(scanned(three_files)).select("id").collect(engine=engine)["id"].to_list() == expected
    memory = scanned(three_files).collect().lazy()
    assert ask(memory).select("id").collect(engine=engine)["id"].to_list() == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_are_counted_where_no_column_is_needed(three_files: World, engine: Any) -> None:
    assert scanned(three_files).select(pl.len()).collect(engine=engine).item() == 15
    assert scanned(three_files).with_row_index().select("index").collect(engine=engine)["index"].to_list() == list(range(15))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_table_without_rows_has_its_columns(world: World, engine: Any) -> None:
    world.append(flights())
    rows = scanned(world).collect(engine=engine)
    assert (rows.height, rows.columns) == (0, ["id", "carrier", "delay"])
    assert scanned(world).select(pl.len()).collect(engine=engine).item() == 0


def test_the_schema_is_told_without_reading(three_files: World, columns_read: list[Sequence[str] | None]) -> None:
    frame = scanned(three_files).with_columns(double=pl.col("delay") * 2)
    assert frame.collect_schema().names() == ["id", "carrier", "delay", "double"]
    assert arrow_schema_of(frame).field("double").type == pa.float64()
    assert columns_read == []


def nested_row(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "place": {"lat": 1.5, "names": ["a", None]},
        "stops": [{"at": datetime(2013, 1, 1, tzinfo=UTC), "minutes": 5}, {"at": None, "minutes": None}],
        "tags": [("x", 1)],
        "price": Decimal("12.30"),
        "day": date(2013, 1, 1),
        "raw": b"\x00\xff",
        "local": datetime(2013, 1, 1, 5),
        "clock": time(5, 30),
    }


NOTHING: dict[str, Any] = {**dict.fromkeys(NESTED.names), "stops": []}


@pytest.mark.parametrize("engine", ENGINES)
def test_nested_and_rare_types_keep_their_values(world: World, engine: Any) -> None:
    rows = pa.Table.from_pylist([nested_row(1), NOTHING], schema=NESTED)
    world.append(rows)
    frame = scanned(world).collect(engine=engine)
    assert frame.schema == polars_schema(NESTED)
    assert frame.drop("tags").to_arrow().to_pylist() == rows.drop(["tags"]).to_pylist()


def test_on_rows_is_told_what_is_read_before_any_filter(three_files: World) -> None:
    told: list[int] = []
    scanned(three_files, on_rows=told.append).filter(pl.col("id") == 11).collect()
    assert told == [5, 5, 5]


def test_no_file_is_read_after_the_first_rows_were_found(three_files: World) -> None:
    told: list[int] = []
    assert scanned(three_files, on_rows=told.append).head(5).collect().height == 5
    assert told == [5]


def test_a_file_is_begun_only_when_the_one_before_is_consumed(three_files: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Polars calls the source: a frame at a time, with one file's rows each."""
    made: list[Any] = []
    monkeypatch.setattr(frames, "register_io_source", lambda source, **_: made.append(source))
    told: list[int] = []
    scanned(three_files, on_rows=told.append)
    parts = made[0](None, None, None, None)
    for number in range(1, 4):
        assert next(parts).height == 5
        assert told == [5] * number
    assert next(parts, None) is None


def test_large_row_groups_are_handed_over_in_parts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "FRAME_BYTES", 1000)
    world.append(flights(*((place, "carrier", 0.5) for place in range(500))))
    made: list[Any] = []
    monkeypatch.setattr(frames, "register_io_source", lambda source, **_: made.append(source))
    scanned(world)
    parts = list(made[0](None, None, None, None))
    assert pl.concat(parts)["id"].to_list() == list(range(500))
    assert len(parts) > 10
    assert max(int(part.estimated_size()) for part in parts) <= 1500


def test_a_missing_file_is_an_error_of_the_tree(three_files: World) -> None:
    path_of(splits_of(three_files.table(SOURCE))[1].path).unlink()
    with pytest.raises(StorageUnavailable, match=SOURCE):
        scanned(three_files).collect(engine="streaming")


def test_small_tables_are_read_whole_and_large_ones_are_not(three_files: World) -> None:
    table = three_files.table(SOURCE)
    rows = read_up_to(table, splits_of(table), 1 << 20)
    assert rows is not None
    assert rows.equals(scanned(three_files).collect())
    assert read_up_to(table, splits_of(table), 200) is None


def test_reading_up_to_a_size_ends_there(three_files: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read_files: list[str] = []
    original = read

    def reading(table: Table, splits: Sequence[Split], columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        for split in splits:
            read_files.append(split.path)
            yield from original(table, [split], columns)

    monkeypatch.setattr(frames, "read", reading)
    table = three_files.table(SOURCE)
    assert read_up_to(table, splits_of(table), 10) is None
    assert len(read_files) == 1


def test_an_empty_table_read_whole_has_its_columns(world: World) -> None:
    world.append(flights())
    table = world.table(SOURCE)
    rows = read_up_to(table, splits_of(table), 0)
    assert rows is not None
    assert rows.schema == scanned(world).collect_schema()
