"""Rows to data files: where they go, how large, what their statistics say, and what another reader finds in them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from threading import Event
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.conversions import from_bytes
from pyiceberg.types import PrimitiveType

from lakeflow.declare import PartitionField
from lakeflow.errors import SchemaMismatch, StorageFull
from lakeflow.lake import write
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.iceberg import ParquetFile
from lakeflow.lake.read import appended, read
from lakeflow.lake.write import DataWriter
from tests.lakes import NAME, append, batches_of, id_rows, ids, made, open_lake, path_of, query, stored_files, written


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path)


def test_rows_come_back_from_another_reader_in_order(lake: Lake) -> None:
    made(lake, pa.schema([("id", pa.int64()), ("s", pa.string())]))
    append(lake, pa.table({"id": [3, 1, 2], "s": ["c", None, "b"]}))
    assert query(lake.table(NAME)) == [(3, "c"), (1, None), (2, "b")]


def test_no_rows_make_no_file(lake: Lake) -> None:
    table = made(lake)
    assert written(table, ids()) == ()
    assert stored_files(table) == set()


def test_a_writer_can_be_used_again_after_finish(lake: Lake) -> None:
    writer = DataWriter(made(lake))
    writer.write(ids(1).to_batches()[0])
    assert (writer.rows, writer.buffered_bytes()) == (1, 8)
    first = writer.finish()
    assert (writer.rows, writer.buffered_bytes()) == (0, 0)
    writer.write(ids(2, 3))
    second = writer.finish()
    assert [data_file.record_count for data_file in (*first, *second)] == [1, 2]


def test_small_writes_wait_for_a_row_group(lake: Lake) -> None:
    writer = DataWriter(made(lake))
    for rows in batches_of(ids(*range(200)), 2):
        writer.write(rows)
    (data_file,) = writer.finish()
    assert pq.ParquetFile(path_of(data_file)).num_row_groups == 1


def test_a_file_is_closed_at_its_target_size(lake: Lake) -> None:
    table = made(lake)
    writer = DataWriter(table, target_file_bytes=20_000, buffer_bytes=8_000)
    for start in range(0, 50_000, 500):
        writer.write(pa.table({"id": [(value * 2654435761) % 2**40 for value in range(start, start + 500)]}))
        assert writer.buffered_bytes() <= 8_000
    files = writer.finish()
    assert sum(data_file.record_count for data_file in files) == 50_000
    assert len(files) > 5
    sizes = [data_file.file_size_in_bytes for data_file in files]
    assert sizes == [path_of(data_file).stat().st_size for data_file in files]
    assert all(20_000 <= size < 35_000 for size in sizes[:-1])


def test_abort_deletes_what_was_closed_and_what_is_open(lake: Lake) -> None:
    table = made(lake)
    writer = DataWriter(table, target_file_bytes=1, buffer_bytes=1)
    writer.write(ids(1))
    writer.write(ids(2))
    rest = DataWriter(table, buffer_bytes=1)
    rest.write(ids(3))
    assert len(stored_files(table)) == 3
    writer.abort()
    rest.abort()
    assert stored_files(table) == set()
    assert (writer.rows, writer.buffered_bytes(), writer.finish()) == (0, 0, ())


def test_rows_that_do_not_fit_are_refused_before_a_file_is_made(lake: Lake) -> None:
    table = made(lake)
    with pytest.raises(SchemaMismatch):
        DataWriter(table).write(pa.table({"id": ["x"]}))
    assert stored_files(table) == set()


@contextmanager
def held_encoding(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """No row group is encoded until the event is set, at the latest behind the block."""
    go_on, encode = Event(), ParquetFile.write

    def write_later(file: ParquetFile, rows: pa.Table) -> None:
        assert go_on.wait(10)
        encode(file, rows)

    monkeypatch.setattr(ParquetFile, "write", write_later)
    try:
        yield go_on
    finally:
        go_on.set()


def encoding_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("lakeflow-encode")]


class TestEncoding:
    """A row group is encoded in a thread while the next rows are taken."""

    def test_rows_are_taken_meanwhile_and_count_as_memory(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        writer = DataWriter(made(lake), buffer_bytes=800)
        with held_encoding(monkeypatch):
            writer.write(ids(*range(50)))
            writer.write(ids(*range(50, 60)))
            assert writer.buffered_bytes() == 60 * 8
        (data_file,) = writer.finish()
        assert pq.ParquetFile(path_of(data_file)).read()["id"].to_pylist() == list(range(60))

    def test_rows_past_the_buffer_wait_for_the_row_group(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        writer = DataWriter(made(lake, partitioning=[PartitionField("id")]), buffer_bytes=800)
        with held_encoding(monkeypatch) as go_on:
            writer.write(ids(*[1] * 50))
            writer.write(ids(*[2] * 40))
            threading.Timer(0.05, go_on.set).start()
            writer.write(ids(*[3] * 30))
            assert go_on.is_set()
            assert writer.buffered_bytes() == 70 * 8
        assert [data_file.record_count for data_file in writer.finish()] == [50, 40, 30]

    def test_what_fails_is_raised_by_every_call_until_abort(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        table = made(lake)
        writer = DataWriter(table, buffer_bytes=800)

        def no_room(file: ParquetFile, rows: pa.Table) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(ParquetFile, "write", no_room)
            writer.write(ids(*range(50)))
            with pytest.raises(StorageFull):
                writer.write(ids(*range(50)))
            for _ in range(2):
                with pytest.raises(StorageFull):
                    writer.finish()
        writer.abort()
        assert (stored_files(table), writer.buffered_bytes(), encoding_threads()) == (set(), 0, [])
        writer.write(ids(1))
        assert [data_file.record_count for data_file in writer.finish()] == [1]

    def test_abort_waits_and_then_deletes(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        table = made(lake)
        writer = DataWriter(table, buffer_bytes=800)
        with held_encoding(monkeypatch) as go_on:
            writer.write(ids(*range(50)))
            threading.Timer(0.05, go_on.set).start()
            writer.abort()
            assert go_on.is_set()
        assert (stored_files(table), writer.buffered_bytes()) == (set(), 0)

    def test_no_thread_is_left(self, lake: Lake) -> None:
        writer = DataWriter(made(lake), buffer_bytes=8)
        for end in (writer.finish, writer.abort):
            writer.write(ids(1, 2))
            assert encoding_threads()
            end()
            assert not encoding_threads()


MOMENTS = [datetime(2013, 1, 1, 5), datetime(2013, 1, 1, 23, 59), datetime(2013, 1, 2), None, datetime(1969, 12, 31, 23)]


class TestPartitions:
    def rows_by_partition(self, lake: Lake, rows: pa.Table, *parts: PartitionField) -> dict[tuple[Any, ...], list[Any]]:
        table = made(lake, rows.schema, parts)
        files = written(table, rows)
        Committer(lake).commit(Change(NAME, files))
        found: dict[tuple[Any, ...], list[Any]] = {}
        for data_file in files:
            key = tuple(data_file.partition[place] for place in range(len(parts)))
            found.setdefault(key, []).extend(pq.read_table(path_of(data_file), partitioning=None).to_pylist())
        assert Counter(map(str, rows.to_pylist())) == Counter(str(row) for part in found.values() for row in part)
        scanned = lake.table(NAME).scan().to_arrow().to_pylist()
        assert Counter(map(str, scanned)) == Counter(map(str, rows.to_pylist()))
        return found

    def test_by_day_with_nulls_and_days_before_1970(self, lake: Lake) -> None:
        found = self.rows_by_partition(lake, pa.table({"t": pa.array(MOMENTS, pa.timestamp("us"))}), PartitionField("t", "day"))
        assert {key: len(rows) for key, rows in found.items()} == {(15706,): 2, (15707,): 1, (None,): 1, (-1,): 1}

    @pytest.mark.parametrize(("transform", "expected"), [("year", 3), ("month", 3), ("hour", 5)])
    def test_by_other_times(self, lake: Lake, transform: str, expected: int) -> None:
        rows = pa.table({"t": pa.array(MOMENTS, pa.timestamp("us", "UTC"))})
        assert len(self.rows_by_partition(lake, rows, PartitionField("t", transform))) == expected

    def test_by_bucket(self, lake: Lake) -> None:
        rows = pa.table({"s": [*(f"carrier {value}" for value in range(50)), None]})
        found = self.rows_by_partition(lake, rows, PartitionField("s", "bucket", 4))
        assert set(found) == {(0,), (1,), (2,), (3,), (None,)}

    def test_by_truncated_text_and_by_identity_together(self, lake: Lake) -> None:
        rows = pa.table({"s": ["abc", "abd", "b", None], "d": pa.array([date(2024, 1, 1), None, None, date(2024, 1, 1)])})
        found = self.rows_by_partition(lake, rows, PartitionField("s", "truncate", 2), PartitionField("d"))
        assert set(found) == {("ab", 19723), ("ab", None), ("b", None), (None, 19723)}

    def test_by_identity_of_odd_values(self, lake: Lake) -> None:
        rows = pa.table({"s": ["a/b", "ü", "", " ", "null", "..", "a=b", None]})
        assert len(self.rows_by_partition(lake, rows, PartitionField("s"))) == 8

    @pytest.mark.parametrize("kind", [pa.bool_(), pa.int32(), pa.decimal128(5, 2), pa.binary()])
    def test_by_identity_of_other_types(self, lake: Lake, kind: pa.DataType) -> None:
        values = {pa.bool_(): [True, False, None], pa.binary(): [b"\xff", b"a", None]}.get(kind, [1, 2, None])
        rows = pa.table({"c": pa.array(values, kind)})
        assert len(self.rows_by_partition(lake, rows, PartitionField("c"))) == 3

    def test_nan_belongs_to_no_partition_and_is_refused_rather_than_lost(self, lake: Lake) -> None:
        table = made(lake, pa.schema([("f", pa.float64())]), [PartitionField("f")])
        with pytest.raises(SchemaMismatch, match=r"1 of 3 rows for table bronze\.flights belong to no partition"):
            DataWriter(table).write(pa.table({"f": [1.0, float("nan"), None]}))

    def test_many_partitions_stay_within_the_bounds_of_memory_and_open_files(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(write, "OPEN_FILES", 4)
        writer = DataWriter(made(lake, partitioning=[PartitionField("id")]), buffer_bytes=400)
        for turn in range(6):
            writer.write(ids(*[(value * 7 + turn) % 40 for value in range(40)]))
            assert writer.buffered_bytes() <= 400
            assert sum(part.file is not None for part in writer._parts.values()) <= 4
        files = writer.finish()
        Committer(lake).commit(Change(NAME, files))
        assert Counter(id_rows(lake.table(NAME))) == dict.fromkeys(range(40), 6)
        assert not writer._parts

    def test_partitions_that_were_written_are_forgotten(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(write, "OPEN_FILES", 2)
        writer = DataWriter(made(lake, partitioning=[PartitionField("id")]), buffer_bytes=1)
        for value in range(20):
            writer.write(ids(value))
            assert len(writer._parts) <= 2


ODD_NAMES = ["a-b", "c d", "ü", "1st", "x.y", "select", "läng_er/und'so\"weiter", "名前", "a%b"]


class TestOddNames:
    @pytest.fixture
    def table_of_odd_names(self, lake: Lake) -> Lake:
        inner = pa.struct([("in-ner", pa.int64()), ("o.ut", pa.string())])
        made(lake, pa.schema([*((name, pa.int64()) for name in ODD_NAMES), ("st-ruct", inner)]))
        values = {name: [place, None] for place, name in enumerate(ODD_NAMES)}
        append(lake, pa.table({**values, "st-ruct": pa.array([{"in-ner": 5, "o.ut": "z"}, None], inner)}))
        return lake

    def test_pyiceberg_reads_them(self, table_of_odd_names: Lake) -> None:
        rows = table_of_odd_names.table(NAME).scan().to_arrow().to_pylist()
        assert rows[0] == dict(zip(ODD_NAMES, range(9), strict=True)) | {"st-ruct": {"in-ner": 5, "o.ut": "z"}}

    def test_a_reader_by_name_finds_the_names_of_the_table(self, table_of_odd_names: Lake) -> None:
        assert query(table_of_odd_names.table(NAME), 'SELECT "a-b", "c d", "x.y", "名前", "st-ruct"."in-ner" FROM rows') == [
            (0, 1, 4, 7, 5),
            (None, None, None, None, None),
        ]

    def test_lakeflow_reads_them(self, table_of_odd_names: Lake) -> None:
        from lakeflow.lake.read import read, splits_at

        table = table_of_odd_names.table(NAME)
        (batch,) = read(table, splits_at(table, table.current_snapshot()), ["x.y", "a-b", "st-ruct"])
        assert batch.to_pylist()[0] == {"x.y": 4, "a-b": 0, "st-ruct": {"in-ner": 5, "o.ut": "z"}}

    def test_they_can_be_partition_columns(self, lake: Lake) -> None:
        parts = [PartitionField(name) for name in ("a-b", "c d", "名前")] + [PartitionField("t.s", "day")]
        schema = pa.schema([("a-b", pa.int64()), ("c d", pa.string()), ("名前", pa.string()), ("t.s", pa.timestamp("us"))])
        made(lake, schema, parts)
        append(lake, pa.table({"a-b": [1], "c d": ["x"], "名前": [None], "t.s": [datetime(2024, 1, 1)]}, schema=schema))
        table = lake.table(NAME)
        assert table.scan('"a-b" == 1').to_arrow().num_rows == 1
        assert query(table, 'SELECT "a-b", "c d" FROM rows') == [(1, "x")]


STATISTICS = pa.schema(
    [
        ("i", pa.int32()),
        ("l", pa.int64()),
        ("f", pa.float64()),
        ("s", pa.string()),
        ("b", pa.bool_()),
        ("d", pa.date32()),
        ("t", pa.timestamp("us", "UTC")),
    ]
)


def test_statistics_are_those_of_the_parquet_footer(lake: Lake) -> None:
    table = made(lake, STATISTICS)
    writer = DataWriter(table, buffer_bytes=1)
    for turn in range(3):
        moment = datetime(2024, 1, 1 + turn, tzinfo=UTC)
        row = [turn, -turn, turn / 4, f"s{turn}", turn > 0, date(2024, 1, 1 + turn), moment]
        writer.write(
            pa.table(
                [pa.array([value, None], field.type) for value, field in zip(row, STATISTICS, strict=True)], schema=STATISTICS
            )
        )
    (data_file,) = writer.finish()
    footer = pq.ParquetFile(path_of(data_file)).metadata
    assert (footer.num_row_groups, data_file.record_count) == (3, footer.num_rows)
    assert data_file.file_size_in_bytes == path_of(data_file).stat().st_size
    for place, name in enumerate(STATISTICS.names):
        field = table.schema().find_field(name)
        groups = [footer.row_group(group).column(place) for group in range(3)]
        assert data_file.value_counts[field.field_id] == 6
        assert data_file.null_value_counts[field.field_id] == 3 == sum(group.statistics.null_count for group in groups)
        assert data_file.column_sizes[field.field_id] == sum(group.total_compressed_size for group in groups)
        bounds = [
            from_bytes(cast(PrimitiveType, field.field_type), side[field.field_id])
            for side in (data_file.lower_bounds, data_file.upper_bounds)
        ]
        ends = [min(group.statistics.min for group in groups), max(group.statistics.max for group in groups)]
        if name == "d":
            ends = [(end - date(1970, 1, 1)).days for end in ends]
        if name == "t":
            ends = [round(end.timestamp() * 1e6) for end in ends]
        assert bounds == ends


def test_columns_of_a_file_carry_the_field_ids_of_the_table(lake: Lake) -> None:
    table = made(lake, pa.schema([("a", pa.int64()), ("s", pa.struct([("x", pa.int32())])), ("l", pa.list_(pa.int8()))]))
    (data_file,) = written(
        table,
        pa.table({"a": [1], "s": [{"x": 1}], "l": [[1]]}, schema=None).cast(
            pa.schema([("a", pa.int64()), ("s", pa.struct([("x", pa.int32())])), ("l", pa.list_(pa.int8()))])
        ),
    )
    schema = pq.ParquetFile(path_of(data_file)).schema_arrow
    ids_in_file = {field.name: int(field.metadata[b"PARQUET:field_id"]) for field in schema}
    assert ids_in_file == {field.name: field.field_id for field in table.schema().fields}
    assert int(schema.field("s").type.field("x").metadata[b"PARQUET:field_id"]) == table.schema().find_field("s.x").field_id
    assert (
        int(schema.field("l").type.value_field.metadata[b"PARQUET:field_id"]) == table.schema().find_field("l.element").field_id
    )


def test_files_of_one_commit_are_read_in_the_order_that_their_rows_came_in(lake: Lake) -> None:
    table = made(lake)
    later = DataWriter(table, target_file_bytes=1, part=1)
    first = DataWriter(table, target_file_bytes=1, part=0)
    for writer, numbers in ((later, range(50, 100)), (first, range(50))):
        for number in numbers:
            writer.write(ids(number))
            writer._flush(writer._parts[None])
    Committer(lake).commit(Change(NAME, (*later.finish(), *first.finish())))
    rows = [row for batch in read(lake.table(NAME), appended(lake.table(NAME), None)) for row in batch.column(0).to_pylist()]
    assert rows == list(range(100))


def test_a_small_file_is_written_without_a_thread(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(write, "ThreadPoolExecutor")
    made(lake)
    append(lake, ids(1, 3))
    assert id_rows(lake.table(NAME)) == [1, 3]


def test_what_failed_without_a_thread_goes_on_to_fail_until_it_is_aborted(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    table = made(lake)
    writer = DataWriter(table)
    writer.write(ids(1))
    with monkeypatch.context() as patch:
        patch.setattr(ParquetFile, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StorageFull):
            writer.finish()
    with pytest.raises(StorageFull):
        writer.finish()
    writer.abort()
    assert stored_files(table) == set()
    writer.write(ids(2))
    assert [data_file.record_count for data_file in writer.finish()] == [1]


@pytest.mark.parametrize("partitioning", [(), (PartitionField("at", "day"),)])
@pytest.mark.parametrize("at", [1 << 60, -(1 << 60)])
def test_a_moment_of_no_year_that_is_known_is_told_and_leaves_no_file(
    lake: Lake, at: int, partitioning: tuple[PartitionField, ...]
) -> None:
    table = made(lake, pa.schema([("at", pa.timestamp("us"))]), partitioning)
    writer = DataWriter(table)
    writer.write(pa.table({"at": pa.array([at], pa.timestamp("us"))}))
    with pytest.raises(SchemaMismatch, match=f"{NAME} hold a DATE or TIMESTAMP that is not of the years 0001 to 9999"):
        writer.finish()
    writer.abort()
    assert stored_files(table) == set()
