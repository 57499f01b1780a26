"""What a declaration says otherwise than the table that is there, and what the table becomes where it may follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import pyarrow as pa
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.partitioning import PartitionField as SpecField
from pyiceberg.table import Table
from pyiceberg.table.update.spec import UpdateSpec
from pyiceberg.transforms import VoidTransform, parse_transform

from lakeflow.declare import PartitionField, TableSpec
from lakeflow.errors import SchemaMismatch
from lakeflow.lake.evolution import Evolved, evolve, left_over
from lakeflow.lake.iceberg import Layout, relaid
from lakeflow.lake.schema import difference, storable

NEW_TABLE_PROPERTIES = {
    "format-version": "2",
    # A commit's cost grows with the snapshots, manifests and metadata files that a table drags along.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "1",
}

DOC = b"doc"
"""The key of a column's comment in its Arrow field's metadata: the one that PyIceberg reads and writes."""
OWN_PROPERTIES = "lakeflow."
"""What lakeflow itself keeps in a table begins so: progress, above all."""


@dataclass(frozen=True, slots=True)
class Alteration:
    """What makes a table what its declaration says, and what differs, a line a change."""

    layout: Layout
    changes: tuple[str, ...]


def require_as_declared(spec: TableSpec, wanted: pa.Schema, table: Table) -> None:
    """Raises SchemaMismatch where the table has other columns or another partitioning, showing both sides."""
    if shown := difference(wanted, schema_to_pyarrow(table.schema())):
        _refuse_columns(spec, shown)
    if not _partitioned_as(spec.partitioning, table):
        raise SchemaMismatch(
            f"table {spec.name} exists with another partitioning than {spec.origin} declares: "
            f"declared {_shown(_declared(spec.partitioning))}, in the table {_shown(_existing(table))}",
            left_behind="the table, as it was",
            next_step=f"change the declaration, or lakeflow tables drop {spec.name}",
        )


def alteration(spec: TableSpec, wanted: pa.Schema, table: Table, *, wider: bool) -> Alteration | None:
    """What the table must become to be as declared; None where it is so.

    With `wider` it may hold more than is declared: columns that the declaration lacks, wider types, optional ones.
    Raises SchemaMismatch for what no evolution leads to, both sides shown.
    """
    present = schema_to_pyarrow(table.schema())
    if any(column.name not in present.names and not column.nullable for column in wanted):
        _refuse_columns(
            spec, f"{difference(wanted, present)}\nan added column is nullable: the rows that are there have no value of it"
        )
    evolved = _evolved(spec, wanted, present)
    if not wider and (shown := left_over(wanted, present if evolved is None else evolved.schema)):
        _refuse_columns(spec, shown)
    changes = () if evolved is None else evolved.changes
    parts = None if _partitioned_as(spec.partitioning, table) else spec.partitioning
    if parts is not None:
        changes += (f"partitioning: {_shown(_existing(table))} -> {_shown(_declared(parts))}, for files to come",)
    if not changes:
        return None
    try:
        layout, _ = relaid(
            table,
            None if evolved is None else evolved.schema,
            None if parts is None else lambda update: _repartition(update, table, parts),
        )
    except ValueError as error:
        raise SchemaMismatch(
            f"table {spec.name} cannot become what {spec.origin} declares: {error}",
            left_behind="the table, as it was",
            next_step=f"change the declaration, or lakeflow tables drop {spec.name}",
        ) from error
    return Alteration(layout, changes)


def transform_text(part: PartitionField) -> str:
    """The transform as Iceberg writes it: bucket[16], day."""
    return part.transform if part.width is None else f"{part.transform}[{part.width}]"


def field_name(part: PartitionField) -> str:
    """The names that Iceberg's Java library gives: `day` of `ts` is ts_day, an identity keeps the column's name."""
    suffix = {"identity": None, "truncate": "trunc"}.get(part.transform, part.transform)
    return part.column if suffix is None else f"{part.column}_{suffix}"


def _evolved(spec: TableSpec, wanted: pa.Schema, present: pa.Schema) -> Evolved | None:
    try:
        return evolve(present, wanted, f"table {spec.name}")
    except SchemaMismatch as error:
        _refuse_columns(spec, f"{difference(wanted, present)}\n{error.message}")


def _refuse_columns(spec: TableSpec, shown: str) -> NoReturn:
    raise SchemaMismatch(
        f"table {spec.name} exists with other columns than {spec.origin} declares:\n{shown}",
        left_behind="the table, as it was",
        next_step=f"change the declaration, or lakeflow tables drop {spec.name}",
    )


def _repartition(update: UpdateSpec, table: Table, parts: Sequence[PartitionField]) -> None:
    """New files are split by `parts`; those that are there stay where they are (specification, "Partition Evolution")."""
    present, declared = _existing(table), _declared(parts)
    for field, text in zip(_fields(table), present, strict=True):
        if text not in declared:
            update.remove_field(field.name)
    for part in parts:
        if f"{transform_text(part)}({part.column})" not in present:
            update.add_field(part.column, parse_transform(transform_text(part)), _free_name(part, table))


def _free_name(part: PartitionField, table: Table) -> str:
    """The name that a partition field had when the table last had it, or one that no field of any spec has had."""
    source = table.schema().find_field(part.column).field_id
    past = [field for spec in table.specs().values() for field in spec.fields]
    for field in past:
        if field.source_id == source and str(field.transform) == transform_text(part):
            return field.name
    taken = {field.name for field in past}
    name = field_name(part)
    candidates = [name, f"{name}_{part.width}", *(f"{name}_{number}" for number in range(len(past) + 1))]
    return next(candidate for candidate in candidates if candidate not in taken)


def _partitioned_as(parts: Sequence[PartitionField], table: Table) -> bool:
    """In whatever order: it tells in which folders files lie, not which rows they hold."""
    return sorted(_declared(parts)) == sorted(_existing(table))


def _declared(parts: Sequence[PartitionField]) -> list[str]:
    return [f"{transform_text(part)}({part.column})" for part in parts]


def _existing(table: Table) -> list[str]:
    schema = table.schema()
    return [f"{field.transform}({schema.find_column_name(field.source_id)})" for field in _fields(table)]


def _fields(table: Table) -> list[SpecField]:
    """Void fields are what is left of ones that were taken away in format version 1."""
    return [field for field in table.spec().fields if not isinstance(field.transform, VoidTransform)]


def _shown(parts: Sequence[str]) -> str:
    return ", ".join(parts) or "none"


def as_declared(name: str, table: Table) -> TableSpec:
    """A table of the catalog as a declaration would have it: columns with their comments, partitioning, comment, properties.

    Properties that every new table has, and those that lakeflow keeps for itself, are left out.
    """
    present = schema_to_pyarrow(table.schema())
    columns = [
        column if comment is None else column.with_metadata({DOC: comment})
        for column, comment in zip(
            storable(present, f"table {name}"), ((c.metadata or {}).get(DOC) for c in present), strict=True
        )
    ]
    schema = table.schema()
    parts = []
    for field in _fields(table):
        transform, _, width = str(field.transform).rstrip("]").partition("[")
        parts.append(PartitionField(schema.find_column_name(field.source_id) or "", transform, int(width) if width else None))
    options = {
        key: value
        for key, value in table.properties.items()
        if NEW_TABLE_PROPERTIES.get(key) != value and key != "comment" and not key.startswith(OWN_PROPERTIES)
    }
    return TableSpec(name, pa.schema(columns), options, tuple(parts), comment=table.properties.get("comment"))
