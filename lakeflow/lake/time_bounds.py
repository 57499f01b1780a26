"""Which data files and row groups may hold moments of given ranges, by their statistics or partition values; reads no rows."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform, HourTransform
from pyiceberg.types import PrimitiveType

from lakeflow.errors import SchemaMismatch, UnknownName
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.reshape import by_id

HOUR: Final = 3_600_000_000
_EPOCH: Final = date(1970, 1, 1)

Range = tuple[int, int]
"""Microseconds since 1970-01-01 00:00 UTC, from a moment up to another, which is not in it."""


def require_time(table: Table, column: str) -> pa.Field:
    """The column's field. Raises UnknownName where the table lacks it, SchemaMismatch where it is no timestamp."""
    name = ".".join(table.name())
    schema = arrow_schema(table)
    if column not in schema.names:
        raise UnknownName(f"column of {name}", column, schema.names)
    field = schema.field(column)
    if not pa.types.is_timestamp(field.type):
        raise SchemaMismatch(
            f"column {column!r} of table {name} is {field.type}; windows are of a column of type TIMESTAMP or TIMESTAMP_LTZ",
            next_step="make a column of one of these types in the job or table before, and name it",
        )
    return field


class TimeBounds:
    """Where the moments of a column lie in a table's files. Raises as `require_time` does."""

    def __init__(self, table: Table, column: str) -> None:
        number = by_id(require_time(table, column))
        assert number is not None, "columns of a table have ids"
        self._id = number
        self._specs = table.specs()
        kind = table.schema().find_field(number).field_type
        assert isinstance(kind, PrimitiveType), "a timestamp is one"
        self._kind = kind

    def span(self, data_file: DataFile) -> Range | None:
        """The first and the last moment that the file may hold, both included; None where nothing tells."""
        low, high = ((bounds or {}).get(self._id) for bounds in (data_file.lower_bounds, data_file.upper_bounds))
        if low is not None and high is not None:
            return int(from_bytes(self._kind, low)), int(from_bytes(self._kind, high))
        return self._of_partition(data_file)

    def _of_partition(self, data_file: DataFile) -> Range | None:
        for place, field in enumerate(self._specs[data_file.spec_id].fields):
            value: Any = data_file.partition[place]
            if field.source_id != self._id or value is None:
                continue
            match field.transform:
                case DayTransform():
                    days = (value - _EPOCH).days if isinstance(value, date) else int(value)
                    return days * 24 * HOUR, (days + 1) * 24 * HOUR - 1
                case HourTransform():
                    return int(value) * HOUR, (int(value) + 1) * HOUR - 1
                case _:
                    continue
        return None

    def may_hold(self, data_file: DataFile, ranges: Sequence[Range]) -> bool:
        """Whether the file may hold a moment of one of the ranges, which are ascending and apart."""
        if (data_file.null_value_counts or {}).get(self._id, -1) == (data_file.value_counts or {}).get(self._id):
            return False
        span = self.span(data_file)
        return bool(ranges) if span is None else overlaps(span, ranges)

    def row_groups(self, file: pq.ParquetFile, ranges: Sequence[Range]) -> tuple[int, ...]:
        """The row groups of a file, whose columns have field ids, that may hold a moment of one of the ranges."""
        paths = {file.metadata.schema.column(place).path: place for place in range(file.metadata.num_columns)}
        place = next((paths.get(field.name) for field in file.schema_arrow if by_id(field) == self._id), None)
        return tuple(number for number in range(file.num_row_groups) if place is None or _group(file, number, place, ranges))


def _group(file: pq.ParquetFile, number: int, place: int, ranges: Sequence[Range]) -> bool:
    column = file.metadata.row_group(number).column(place)
    statistics = column.statistics
    if statistics is None or not statistics.has_min_max or not isinstance(statistics.min_raw, int):
        return True
    unit = file.schema_arrow.field(file.metadata.schema.column(place).path).type.unit
    return unit != "us" or overlaps((statistics.min_raw, statistics.max_raw), ranges)


def overlaps(span: Range, ranges: Sequence[Range]) -> bool:
    """Whether a span, its last moment included, meets one of the ranges, which are ascending and apart."""
    following = bisect_right(ranges, (span[1], 1 << 63))
    return following > 0 and ranges[following - 1][1] > span[0]
