"""Tables that another engine partitioned, by each transform of Iceberg: partition values, and rows read back.

The expected values follow the specification ("Partition Transforms", Appendix B) and share no code with the writer's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import mmh3
import pyarrow as pa
import pyarrow.parquet
import pytest
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import parse_transform

from lakeflow.errors import SchemaMismatch
from lakeflow.lake.catalog import Lake, arrow_schema
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.read import read, snapshot_at, splits_at
from tests.independent_reader import multiset, read_table
from tests.lakes import NAME, open_lake, path_of, query, written

EPOCH = datetime(1970, 1, 1)
STAMPS: list[Any] = [EPOCH + timedelta(microseconds=n) for n in (-1, 0, 3_600_000_000, -86_400_000_001, 1_700_000_000_000_001)]
ZONED: list[Any] = [stamp.replace(tzinfo=UTC) for stamp in STAMPS]
DAYS: list[Any] = [date(1969, 12, 31), date(1970, 1, 1), date(2024, 2, 29), date(1900, 3, 1)]


def micros(value: datetime) -> int:
    return (value.replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1)


def bucket(count: int) -> Callable[[Any], Any]:
    def apply(value: Any) -> Any:
        match value:
            case str():
                data = value.encode()
            case bytes():
                data = value
            case Decimal():
                data = _smallest_bytes(int(value.scaleb(2)))
            case datetime():
                data = micros(value).to_bytes(8, "little", signed=True)
            case date():
                data = (value - EPOCH.date()).days.to_bytes(8, "little", signed=True)
            case time():
                data = (((value.hour * 60 + value.minute) * 60 + value.second) * 10**6 + value.microsecond).to_bytes(
                    8, "little"
                )
            case _:
                data = value.to_bytes(8, "little", signed=True)
        return (mmh3.hash(data) & 0x7FFFFFFF) % count

    return apply


def _smallest_bytes(unscaled: int) -> bytes:
    return unscaled.to_bytes((unscaled if unscaled >= 0 else ~unscaled).bit_length() // 8 + 1, "big", signed=True)


def truncate(width: int) -> Callable[[Any], Any]:
    def apply(value: Any) -> Any:
        match value:
            case Decimal():
                unscaled = int(value.scaleb(2))
                return Decimal(unscaled - unscaled % width).scaleb(-2)
            case str() | bytes():
                return value[:width]
            case _:
                return value - value % width

    return apply


def years(value: date) -> int:
    return value.year - 1970


def months(value: date) -> int:
    return (value.year - 1970) * 12 + value.month - 1


def days(value: date) -> Any:
    return date(value.year, value.month, value.day)


def hours(value: datetime) -> int:
    return micros(value) // 3_600_000_000


def same(value: Any) -> Any:
    return value


INTS: list[Any] = [-(2**31), -11, -1, 0, 1, 9, 10, 2**31 - 1]
LONGS: list[Any] = [*INTS, 2**63 - 1, -(2**62)]
MONEY: list[Any] = [Decimal("-10.65"), Decimal("0.00"), Decimal("0.01"), Decimal("10.65"), Decimal("9999999.99")]
TEXTS: list[Any] = ["", "iceberg", "ice", "übergröße", "日本語テキスト", "a/b=c %"]
BYTES: list[Any] = [b"", b"\x00\x01\x02\x03", b"\xff\xfe\xfd"]
TIMES: list[Any] = [time(0), time(22, 31, 8, 1)]

CASES: list[tuple[pa.DataType, str, list[Any], Callable[[Any], Any]]] = [
    *((kind, "bucket[16]", rows, bucket(16)) for kind, rows in [(pa.int32(), INTS), (pa.int64(), LONGS), (pa.string(), TEXTS)]),
    (pa.decimal128(9, 2), "bucket[7]", MONEY, bucket(7)),
    (pa.date32(), "bucket[7]", DAYS, bucket(7)),
    (pa.timestamp("us"), "bucket[7]", STAMPS, bucket(7)),
    (pa.timestamp("us", "UTC"), "bucket[7]", ZONED, bucket(7)),
    (pa.time64("us"), "bucket[7]", TIMES, bucket(7)),
    (pa.binary(), "bucket[7]", BYTES, bucket(7)),
    (pa.binary(3), "bucket[7]", [b"abc", b"\x00\xff\x00"], bucket(7)),
    (pa.int32(), "truncate[10]", INTS[1:], truncate(10)),
    (pa.int64(), "truncate[10]", LONGS, truncate(10)),
    (pa.string(), "truncate[3]", TEXTS, truncate(3)),
    (pa.binary(), "truncate[2]", BYTES, truncate(2)),
    (pa.decimal128(9, 2), "truncate[50]", MONEY, truncate(50)),
    *((pa.date32(), name, DAYS, apply) for name, apply in [("year", years), ("month", months), ("day", days)]),
    *(
        (kind, name, rows, apply)
        for kind, rows in [(pa.timestamp("us"), STAMPS), (pa.timestamp("us", "UTC"), ZONED)]
        for name, apply in [("year", years), ("month", months), ("day", days), ("hour", hours)]
    ),
    *(
        (kind, "identity", rows, same)
        for kind, rows in [
            (pa.int32(), INTS),
            (pa.int64(), LONGS),
            (pa.string(), TEXTS),
            (pa.binary(), BYTES),
            (pa.binary(3), [b"abc", b"\x00\xff\x00"]),
            (pa.decimal128(9, 2), MONEY),
            (pa.date32(), DAYS),
            (pa.timestamp("us"), STAMPS),
            (pa.timestamp("us", "UTC"), ZONED),
            (pa.time64("us"), TIMES),
            (pa.bool_(), [True, False]),
            (pa.float64(), [0.5, -1.0, float("inf")]),
        ]
    ),
    (pa.string(), "void", TEXTS, lambda value: None),
]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path)


def partitioned(lake: Lake, columns: pa.Schema, *parts: tuple[str, str, str]) -> Table:
    """A table made without lakeflow: columns by `path`, `transform` and the partition field's `name`."""
    lake.catalog.create_namespace_if_not_exists("bronze")
    plain = lake.catalog.create_table("bronze.plain", columns)
    schema = Schema(*plain.schema().fields)
    fields = [
        PartitionField(schema.find_field(path).field_id, 1000 + place, parse_transform(transform), name)
        for place, (path, transform, name) in enumerate(parts)
    ]
    return lake.catalog.create_table(NAME, schema, partition_spec=PartitionSpec(*fields))


def files(table: Table) -> list[tuple[dict[str, Any], Path]]:
    """Partition values and path of each data file, as the manifests hold them."""
    head = table.current_snapshot()
    assert head is not None
    found = []
    for manifest in head.manifests(table.io):
        with path_of(manifest.manifest_path).open("rb") as stream:
            entries: list[Any] = list(fastavro.reader(stream))
        found += [(entry["data_file"]["partition"], path_of(entry["data_file"]["file_path"])) for entry in entries]
    return found


def landed(lake: Lake, table: Table, rows: pa.Table) -> Table:
    Committer(lake).commit(Change(NAME, written(table, rows)))
    return lake.table(NAME)


def shown(table: Table) -> pa.Table:
    return pa.Table.from_batches(list(read(table, splits_at(table, snapshot_at(table)))))


@pytest.mark.parametrize(
    ("kind", "transform", "values", "expect"), CASES, ids=[f"{transform} {kind}" for kind, transform, _, _ in CASES]
)
def test_each_file_holds_the_rows_of_its_partition_value(
    lake: Lake, tmp_path: Path, kind: pa.DataType, transform: str, values: list[Any], expect: Callable[[Any], Any]
) -> None:
    table = partitioned(lake, pa.schema([("n", pa.int64()), ("c", kind)]), ("c", transform, "part"))
    given = [*values, None, *values]
    rows = pa.table({"n": range(len(given)), "c": pa.array(given, kind)})
    table = landed(lake, table, rows)
    stored = read_table(tmp_path / "catalog.db", NAME)
    assert multiset(stored.rows()) == multiset(rows)
    assert multiset(shown(table)) == multiset(rows)
    assert sorted(query(table, "SELECT n FROM rows")) == [(n,) for n in range(len(given))]
    wanted = Counter(None if value is None else expect(value) for value in given)
    found: Counter[Any] = Counter()
    for partition, path in files(table):
        inside = [None if value is None else expect(value) for value in pa.parquet.read_table(path)["c"].to_pylist()]
        value = partition["part"]
        if kind == pa.timestamp("us") and isinstance(value, datetime):  # the Avro reader knows no timestamps without a zone
            value = value.replace(tzinfo=None)
        assert set(inside) == {value}
        found[value] += len(inside)
    assert found == wanted
    assert len(files(table)) == len(wanted)


def test_several_fields_over_one_column_and_a_field_within_a_struct(lake: Lake, tmp_path: Path) -> None:
    columns = pa.schema([("id", pa.int64()), ("s", pa.struct([("at", pa.timestamp("us"))]))])
    parts = [("id", "bucket[4]", "b"), ("id", "truncate[10]", "t"), ("s.at", "day", "d"), ("s.at", "hour", "h")]
    table = partitioned(lake, columns, *parts)
    rows = pa.table(
        {"id": range(40), "s": pa.array([{"at": STAMPS[n % 5]} if n % 7 else None for n in range(40)], columns[1].type)}
    )
    table = landed(lake, table, rows)
    assert multiset(read_table(tmp_path / "catalog.db", NAME).rows()) == multiset(rows)
    for partition, path in files(table):
        for row in pa.parquet.read_table(path).to_pylist():
            at = row["s"] and row["s"]["at"]
            expected = {"b": bucket(4)(row["id"]), "t": truncate(10)(row["id"]), "d": at and days(at), "h": at and hours(at)}
            assert partition == expected


def test_a_table_of_version_1_with_a_void_field_is_written_once_upgraded(lake: Lake, tmp_path: Path) -> None:
    lake.catalog.create_namespace_if_not_exists("bronze")
    columns = pa.schema([("a", pa.string()), ("b", pa.int64())])
    table = lake.catalog.create_table(NAME, columns, properties={"format-version": "1"})
    with table.update_spec() as update:
        update.add_field("a", "identity", "a")
        update.add_field("b", "bucket[2]", "b_bucket")
    with table.update_spec() as update:
        update.remove_field("a")
    with table.transaction() as transaction:
        transaction.upgrade_table_version(2)
    table = lake.table(NAME)
    assert [str(field.transform) for field in table.spec().fields] == ["void", "bucket[2]"]
    rows = pa.table({"a": ["x", "y", None], "b": [1, 2, 3]})
    table = landed(lake, table, rows)
    assert multiset(read_table(tmp_path / "catalog.db", NAME).rows()) == multiset(rows)
    assert {partition["a"] for partition, _ in files(table)} == {None}
    assert Counter(partition["b_bucket"] for partition, _ in files(table)) == Counter({bucket(2)(b) for b in (1, 2, 3)})


def test_nan_in_a_partition_column_is_refused(lake: Lake) -> None:
    table = partitioned(lake, pa.schema([("x", pa.float64())]), ("x", "identity", "x"))
    with pytest.raises(SchemaMismatch, match=r"1 of 2 rows .* NaN"):
        written(table, pa.table({"x": [1.0, float("nan")]}))


def test_a_transform_of_the_future_is_refused(lake: Lake) -> None:
    table = partitioned(lake, pa.schema([("x", pa.int64())]), ("x", "zorder", "x_z"))
    with pytest.raises(SchemaMismatch, match=r"Unknown.*x_z.*cannot be written"):
        written(table, pa.table({"x": [1]}))


def test_rows_of_a_partition_keep_their_order(lake: Lake) -> None:
    table = partitioned(lake, pa.schema([("n", pa.int64()), ("c", pa.string())]), ("c", "identity", "c"))
    rows = pa.table({"n": range(100), "c": ["ab"[n % 2] for n in range(100)]})
    table = landed(lake, table, rows)
    for _, path in files(table):
        numbers = pa.parquet.read_table(path)["n"].to_pylist()
        assert numbers == sorted(numbers)
    assert arrow_schema(table).names == ["n", "c"]
