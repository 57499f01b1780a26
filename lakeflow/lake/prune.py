"""Which of given values a data file or a row group may hold, by its statistics and partition values; reads no rows.

Values are brought into numbers, texts or bytes whose order is that of Iceberg's bounds (specification, appendix D), and
sorted once a column. What lies between the bounds of a file is then found by bisection in the column that leaves fewest,
and held against the bounds of the others. A field of the partition spec is one more column: the values transformed, and
the file's partition value as both bounds. NaN lies in no bounds, and null in none either; both are asked of the counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField
from pyiceberg.table import Table
from pyiceberg.transforms import VoidTransform
from pyiceberg.types import DecimalType, IcebergType, PrimitiveType, StringType, UUIDType

from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.reshape import by_id

_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of a column in a file: values from `low` to `high` (None: of any size) where there are `values` at all,
    and whether there may be nulls and NaN."""

    low: Any = None
    high: Any = None
    values: bool = True
    nulls: bool = True
    nans: bool = True


class _Column:
    """One column of the values, in order."""

    def __init__(self, values: pl.Series) -> None:
        self._values = values
        self._order = values.arg_sort(nulls_last=True)
        nans = int(values.is_nan().sum() or 0) if values.dtype.is_float() else 0
        self._known = len(values) - values.null_count() - nans
        self._nulls = self._known + nans
        self._sorted = values.gather(self._order.head(self._known))

    def _ranges(self, held: Held) -> list[tuple[int, int]]:
        """Where in the order the values stand that the file may hold: starts and ends."""
        ranges = []
        if held.values:
            start = 0 if held.low is None else int(self._sorted.search_sorted(held.low, side="left"))
            end = self._known if held.high is None else int(self._sorted.search_sorted(held.high, side="right"))
            ranges.append((start, max(start, end)))
        if held.nans:
            ranges.append((self._known, self._nulls))
        if held.nulls:
            ranges.append((self._nulls, len(self._values)))
        return ranges

    def count(self, held: Held) -> int:
        """How many of the values the file may hold."""
        return sum(end - start for start, end in self._ranges(held))

    def places(self, held: Held) -> pl.Series:
        """Which they are, unordered."""
        return pl.concat([self._order.slice(start, end - start) for start, end in self._ranges(held)] or [self._order.head(0)])

    def among(self, places: pl.Series, held: Held) -> pl.Series:
        """Those of `places` that the file may hold."""
        values = self._values.gather(places)
        floats = values.dtype.is_float()
        nans = values.is_nan().fill_null(False) if floats else pl.repeat(False, len(values), eager=True)
        fits = values.is_not_null() & ~nans & held.values
        if held.low is not None:
            fits = fits & (values >= held.low).fill_null(False)
        if held.high is not None:
            fits = fits & (values <= held.high).fill_null(False)
        return places.filter(fits | (nans & held.nans) | (values.is_null() & held.nulls))


class Pruner:
    """The values, a row of `values` each, of which files and row groups are asked. The columns are the table's, of its types.

    Answers are places in `values`, ascending. They may name a value too many, never one too few.
    """

    def __init__(self, table: Table, values: pl.DataFrame) -> None:
        self._schema, self._specs = table.schema(), table.specs()
        self._all = pl.int_range(values.height, dtype=pl.UInt32, eager=True)
        self._columns: dict[int, tuple[IcebergType, _Column]] = {}
        self._arrow: dict[int, pa.ChunkedArray] = {}
        self._parted: dict[tuple[int, str, IcebergType], _Column | None] = {}
        for field in arrow_schema(table):
            number = by_id(field)
            if field.name not in values.columns or number is None:
                continue
            kind = self._schema.find_field(number).field_type
            if isinstance(kind, PrimitiveType):
                self._columns[number] = (kind, _Column(_plain_column(values[field.name], kind)))
                self._arrow[number] = pa.chunked_array([values[field.name].to_arrow()]).cast(field.type)

    def in_file(self, data_file: DataFile) -> pl.Series:
        """The values that the file may hold, by its bounds, counts and partition."""
        held = [(column, _held(data_file, number, kind)) for number, (kind, column) in self._columns.items()]
        return self._narrowed([*held, *self._in_partition(data_file)])

    def in_row_groups(self, file: pq.ParquetFile) -> tuple[int, ...]:
        """The row groups of a file, whose columns have field ids, that may hold one of the values."""
        paths = [file.metadata.schema.column(place).path for place in range(file.metadata.num_columns)]
        often, first = Counter(paths), {path: place for place, path in enumerate(paths)}
        places = {by_id(field): first[field.name] for field in file.schema_arrow if often[field.name] == 1}
        asked = [(places.get(number), kind, column) for number, (kind, column) in self._columns.items()]
        chosen = []
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            held = [(column, _held_in(group.column(place), kind)) for place, kind, column in asked if place is not None]
            if len(self._narrowed(held)):
                chosen.append(number)
        return tuple(chosen)

    def _narrowed(self, held: Sequence[tuple[_Column, Held]]) -> pl.Series:
        if not held:
            return self._all
        first = min(range(len(held)), key=lambda place: held[place][0].count(held[place][1]))
        places = held[first][0].places(held[first][1])
        for place, (column, known) in enumerate(held):
            if place != first and len(places):
                places = column.among(places, known)
        return places.sort()

    def _in_partition(self, data_file: DataFile) -> list[tuple[_Column, Held]]:
        held = []
        for place, field in enumerate(self._specs[data_file.spec_id].fields):
            if field.source_id not in self._columns or isinstance(field.transform, VoidTransform):
                continue
            kind = field.transform.result_type(self._columns[field.source_id][0])
            value = _plain(data_file.partition[place], kind)
            column = self._transformed(field, kind)
            if column is None or (isinstance(value, float) and math.isnan(value)):
                continue
            whole = Held(values=False, nans=False) if value is None else Held(value, value, nulls=False, nans=False)
            held.append((column, whole))
        return held

    def _transformed(self, field: PartitionField, kind: IcebergType) -> _Column | None:
        """The values as the partition field makes them; None of a transform that is not known here, which excludes none."""
        key = (field.source_id, str(field.transform), kind)
        if key not in self._parted:
            values = self._arrow[field.source_id]
            if pa.types.is_large_binary(values.type):
                values = values.cast(pa.binary())
            try:
                made = field.transform.pyarrow_transform(self._columns[field.source_id][0])(values)
            except (NotImplementedError, ValueError):
                self._parted[key] = None
            else:
                self._parted[key] = _Column(_plain_column(_series(made), kind))
        return self._parted[key]


def _series(values: pa.Array | pa.ChunkedArray) -> pl.Series:
    series = pl.from_arrow(values)
    assert isinstance(series, pl.Series)
    return series


def _plain_column(values: pl.Series, kind: IcebergType) -> pl.Series:
    """The column as numbers, texts or bytes in Iceberg's order."""
    if values.dtype == pl.Boolean:
        return values.cast(pl.Int8)
    if values.dtype == pl.Time:
        return values.to_physical() // 1000
    if isinstance(kind, UUIDType):
        return values.bin.slice(0, _UUID_ORDERED)
    return values.to_physical()


_UUID_ORDERED = 8
"""Of a uuid, the bytes by which all writers agree on an order: some compare the two halves as signed numbers."""


def _plain(value: Any, kind: IcebergType) -> Any:
    """A bound or a partition value as `_plain_column` has the values. Microseconds, days and unscaled numbers."""
    match value:
        case bool():
            return int(value)
        case datetime():
            since = value.replace(tzinfo=UTC) if value.tzinfo is None else value
            days = since.astimezone(UTC).toordinal() - _EPOCH
            inner = since.astimezone(UTC)
            return ((days * 24 + inner.hour) * 60 + inner.minute) * 60_000_000 + inner.second * 1_000_000 + inner.microsecond
        case date():
            return value.toordinal() - _EPOCH
        case time():
            return ((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond
        case Decimal():
            assert isinstance(kind, DecimalType), "no other type has such values"
            sign, digits, exponent = value.as_tuple()
            assert isinstance(exponent, int), "a table holds no decimal that is no number"
            unscaled = int("".join(map(str, digits))) * 10 ** (exponent + kind.scale)
            return -unscaled if sign else unscaled
        case UUID():
            return value.bytes[:_UUID_ORDERED]
        case bytes() if isinstance(kind, UUIDType):
            return value[:_UUID_ORDERED]
    return value


def _held(data_file: DataFile, number: int, kind: IcebergType) -> Held:
    """What the manifest tells of a column.

    A text's bounds are prefixes, the upper one counted up by one where it was cut, so both still bound the values.
    """
    assert isinstance(kind, PrimitiveType), "only such columns have bounds"
    nulls = (data_file.null_value_counts or {}).get(number)
    count = (data_file.value_counts or {}).get(number)
    nans = (data_file.nan_value_counts or {}).get(number)
    low, high = ((bounds or {}).get(number) for bounds in (data_file.lower_bounds, data_file.upper_bounds))
    values = nulls is None or count is None or nulls < count
    return _bounded(_bound(low, kind), _bound(high, kind), kind, values=values, nulls=nulls != 0, nans=nans != 0)


def _bound(raw: bytes | None, kind: PrimitiveType) -> Any:
    if raw is None:
        return None
    if isinstance(kind, DecimalType):
        return int.from_bytes(raw, "big", signed=True)
    return _plain(from_bytes(kind, raw), kind)


def _held_in(chunk: pq.ColumnChunkMetaData, kind: IcebergType) -> Held:
    """What the footer of a Parquet file tells of a column in a row group."""
    statistics = chunk.statistics
    if statistics is None:
        return Held()
    nulls = statistics.null_count if statistics.has_null_count else None
    values = nulls is None or nulls < chunk.num_values
    if not statistics.has_min_max:
        return Held(values=values, nulls=nulls != 0)
    low, high = _raw(statistics.min_raw, kind), _raw(statistics.max_raw, kind)
    return _bounded(low, high, kind, values=values, nulls=nulls != 0)


def _raw(value: Any, kind: IcebergType) -> Any:
    """A bound as the footer has it: a number of the unit and scale of the column, or bytes."""
    if isinstance(value, bytes) and isinstance(kind, DecimalType):
        return int.from_bytes(value, "big", signed=True)
    if isinstance(value, bytes) and isinstance(kind, StringType):
        try:
            return value.decode()
        except UnicodeDecodeError:  # cut within a character
            return None
    return _plain(value, kind)


def _bounded(low: Any, high: Any, kind: IcebergType, *, values: bool, nulls: bool, nans: bool = True) -> Held:
    """Bounds that say nothing are left out: NaN, and those of writers that order the type otherwise."""
    if any(isinstance(bound, float) and math.isnan(bound) for bound in (low, high)):
        low = high = None
    if low is not None and high is not None and low > high:
        low = high = None
    return Held(low, high, values, nulls, nans)


def reaches(table: Table, column: str, least: pl.Series) -> Callable[[DataFile], bool]:
    """Whether a file may hold a value of the column that is not less than the one of `least`, or a null; by its bounds."""
    field = table.schema().find_field(column)
    [moment] = _plain_column(least, field.field_type)

    def may(data_file: DataFile) -> bool:
        held = _held(data_file, field.field_id, field.field_type)
        return held.nulls or held.high is None or bool(held.high >= moment)

    return may


def column_bounds(table: Table, column: str) -> Callable[[DataFile], Held]:
    """What the manifests tell of a column of a primitive type in a file: values as they are ordered, and nulls."""
    field = table.schema().find_field(column)
    return lambda data_file: _held(data_file, field.field_id, field.field_type)
