"""Files whose columns are not exactly those that their table has now: how the ones become the others. Pure.

Columns, and fields at every depth, are found by field id (specification, "Column Projection"): renamed ones are the
same, dropped and added again under one name they are not. What a file lacks is null; what was widened since is cast.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import pyarrow as pa

from lakeflow.errors import SchemaMismatch
from lakeflow.lake.reshape import by_id, is_list, nulls, reshaped


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """How rows of a file become rows of its table. `names` are the columns of the file that have to be read."""

    names: tuple[str, ...]
    target: pa.Schema
    file: str

    def rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with the fields of `target`. Raises SchemaMismatch where a required one is missing or null."""
        if not self.target.names:
            return batch
        places = {by_id(field): place for place, field in enumerate(batch.schema)}
        columns = [self._column(batch, places.get(by_id(field)), field) for field in self.target]
        return pa.RecordBatch.from_arrays(columns, schema=self.target)

    def _column(self, batch: pa.RecordBatch, place: int | None, field: pa.Field) -> pa.Array:
        what = f"column {field.name!r} in data file {self.file}"
        if place is not None:
            return reshaped(batch.column(place), field, by_id, what)
        if not field.nullable and batch.num_rows:
            raise SchemaMismatch(
                f"{what}: the table requires it, and the file has no such column",
                next_step="make the column optional with the engine that added it",
            )
        return nulls(batch.num_rows, field.type)


def column_map(file: pa.Schema, target: pa.Schema, told_elsewhere: AbstractSet[int], name: str) -> ColumnMap | None:
    """How the columns `file` of the file `name` become `target`; both hold field ids in their metadata.

    None where ids alone do not tell: a field of the file has none, a type is of no kind that widens, or the file lacks
    one of `told_elsewhere`, whose values are those of a partition or a default.
    """
    present = {by_id(field): field for field in file}
    if None in present:
        return None
    for field in target:
        if not _maps(present.get(by_id(field)), field, told_elsewhere):
            return None
    wanted = {by_id(field) for field in target}
    return ColumnMap(tuple(field.name for number, field in present.items() if number in wanted), target, name)


def _maps(present: pa.Field | None, field: pa.Field, told_elsewhere: AbstractSet[int]) -> bool:
    if present is None:
        return by_id(field) not in told_elsewhere
    source, kind = present.type, field.type
    if pa.types.is_struct(source) and pa.types.is_struct(kind):
        inner = {by_id(source.field(place)): source.field(place) for place in range(source.num_fields)}
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return None not in inner and all(_maps(inner.get(by_id(child)), child, told_elsewhere) for child in fields)
    if is_list(source) and is_list(kind):
        return _maps(source.value_field, kind.value_field, told_elsewhere)
    if pa.types.is_map(source) and pa.types.is_map(kind):
        return _maps(source.key_field, kind.key_field, told_elsewhere) and _maps(
            source.item_field, kind.item_field, told_elsewhere
        )
    return bool(source.equals(kind)) or _widens(source, kind)


_WIDENS = (
    (pa.int32(), pa.int64()),
    (pa.float32(), pa.float64()),
    (pa.large_string(), pa.string()),
    (pa.large_binary(), pa.binary()),
)


def _widens(source: pa.DataType, kind: pa.DataType) -> bool:
    """Iceberg's promotions of format version 2, and Arrow's two names of one type."""
    if pa.types.is_decimal(source) and pa.types.is_decimal(kind):
        return bool(source.scale == kind.scale and source.precision <= kind.precision)
    return (source, kind) in _WIDENS
