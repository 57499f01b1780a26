"""What a table's columns become so that they hold rows of another schema, and what is refused. Pure.

At any depth: in a struct's fields, a list's elements, a map's values.

| allowed | becomes |
|---|---|
| a field that the table lacks | added last in its struct, nullable down to its innermost field |
| int32 -> int64, float -> double | the wider of the two |
| decimal(p, s) -> decimal(q, s), q > p | the wider of the two |
| required -> optional, or a required field that rows come without | optional |

| holds already, so that nothing changes |
|---|
| int32 into int64, float into double, decimal(p, s) into a wider one of the same scale |
| required into optional; the fields in another order |
| an optional field that rows come without: it stays, and reads as null |

| refused |
|---|
| any other two types: int and string, int and double, struct and scalar, date and timestamp, with and without time zone |
| another scale of a decimal, another key of a map, another length of fixed binary |
| a name that differs by case only from one that is there |

Nothing is ever dropped, renamed or moved. Iceberg's format version 2 could store no more than this (specification,
"Schema Evolution"), and the list is the one that readers of every engine follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from lakeflow.errors import SchemaMismatch
from lakeflow.lake.schema import difference, storable


@dataclass(frozen=True, slots=True)
class Evolved:
    """The columns that a table is to have, as stored, and what differs from before, a line a change."""

    schema: pa.Schema
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Refusal:
    path: str
    present: str
    brought: str
    why: str


@dataclass(slots=True)
class _Walk:
    """What is found on the way through both schemas."""

    changes: list[str] = field(default_factory=list)
    refused: list[_Refusal] = field(default_factory=list)

    def refuse(self, path: str, present: object, brought: object, why: str) -> None:
        self.refused.append(_Refusal(path, str(present), str(brought), why))


def evolve(current: pa.Schema, incoming: pa.Schema, where: str) -> Evolved | None:
    """What a table of `current` must become to hold rows of `incoming`; None where it holds them already.

    `where` names the table in messages. Raises SchemaMismatch with every pair that cannot meet, path by path, both sides.
    """
    present, brought = storable(current, where), storable(incoming, f"the rows for {where}")
    walk = _Walk()
    fields = _evolve_fields(list(present), list(brought), "", walk)
    if walk.refused:
        raise SchemaMismatch(
            f"{where} cannot evolve to hold these rows:\n{_as_table(walk.refused)}",
            left_behind="the table, as it was",
            next_step="write the rows with types that the table's columns can hold or widen to, or to another table",
        )
    return Evolved(pa.schema(fields), tuple(walk.changes)) if walk.changes else None


def without_order(schema: pa.Schema) -> pa.Schema:
    """The schema with the fields of every struct by name, to compare two whose order tells nothing."""
    return pa.schema(sorted((_sorted_field(column) for column in storable(schema, "a schema")), key=lambda column: column.name))


def left_over(declared: pa.Schema, evolved: pa.Schema) -> str | None:
    """What a declaration says otherwise than the table that was evolved for it: a line a column; None for nothing."""
    return difference(without_order(declared), without_order(evolved))


def _evolve_fields(present: list[pa.Field], brought: list[pa.Field], parent: str, walk: _Walk) -> list[pa.Field]:
    """The fields of one struct: those that are there in their order, then the new ones."""
    by_name = {column.name: column for column in brought}
    fields = [_evolve_field(column, by_name.get(column.name), f"{parent}{column.name}", walk) for column in present]
    names = {column.name.lower(): column for column in present}
    taken = {column.name for column in present}
    for column in brought:
        if column.name in taken:
            continue
        path = f"{parent}{column.name}"
        if (twin := names.get(column.name.lower())) is not None:
            walk.refuse(path, f"{twin.name} {twin.type}", f"{column.name} {column.type}", "the names differ by case only")
            continue
        added = _optional(column)
        walk.changes.append(f"column {path}: added, {added.type}")
        fields.append(added)
    return fields


def _evolve_field(present: pa.Field, brought: pa.Field | None, path: str, walk: _Walk) -> pa.Field:
    if brought is None:
        if not present.nullable:
            walk.changes.append(f"column {path}: required -> optional, since rows come without it")
        return present.with_nullable(True)
    kind = _evolve_type(present.type, brought.type, path, walk)
    if brought.nullable and not present.nullable:
        walk.changes.append(f"column {path}: required -> optional")
    return pa.field(present.name, kind, present.nullable or brought.nullable)


def _evolve_type(present: pa.DataType, brought: pa.DataType, path: str, walk: _Walk) -> pa.DataType:
    if pa.types.is_struct(present) and pa.types.is_struct(brought):
        return pa.struct(_evolve_fields(_children(present), _children(brought), f"{path}.", walk))
    if pa.types.is_list(present) and pa.types.is_list(brought):
        return pa.list_(_evolve_field(present.value_field, brought.value_field, f"{path}.element", walk))
    if pa.types.is_map(present) and pa.types.is_map(brought):
        if present.key_type != brought.key_type:
            walk.refuse(f"{path}.key", present.key_type, brought.key_type, "a map's key cannot change")
            return present
        item = _evolve_field(present.item_field, brought.item_field, f"{path}.value", walk)
        return pa.map_(present.key_field, item)
    return _evolve_scalar(present, brought, path, walk)


def _evolve_scalar(present: pa.DataType, brought: pa.DataType, path: str, walk: _Walk) -> pa.DataType:
    if present == brought:
        return present
    wider = _wider(present, brought)
    if wider is None:
        walk.refuse(path, present, brought, _why_refused(present, brought))
        return present
    if wider != present:
        walk.changes.append(f"column {path}: {present} -> {wider}")
    return wider


_WIDENS = ((pa.int32(), pa.int64()), (pa.float32(), pa.float64()))


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The one of two types that holds every value of both; None where neither does."""
    for narrow, wide in _WIDENS:
        if {one, other} == {narrow, wide}:
            return wide
    if pa.types.is_decimal(one) and pa.types.is_decimal(other) and one.scale == other.scale:
        return one if one.precision > other.precision else other
    return None


def _why_refused(present: pa.DataType, brought: pa.DataType) -> str:
    if pa.types.is_decimal(present) and pa.types.is_decimal(brought):
        return "a decimal's scale cannot change"
    if pa.types.is_nested(present) != pa.types.is_nested(brought):
        return "one is nested, the other is not"
    return "another type"


def _optional(column: pa.Field) -> pa.Field:
    """An added field: rows that are there lack it at every depth. A map's key is never null."""
    return pa.field(column.name, _with_optional_fields(column.type), nullable=True)


def _with_optional_fields(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([_optional(child) for child in _children(kind)])
    if pa.types.is_list(kind):
        return pa.list_(_optional(kind.value_field))
    if pa.types.is_map(kind):
        return pa.map_(kind.key_field, _optional(kind.item_field))
    return kind


def _children(kind: pa.DataType) -> list[pa.Field]:
    return [kind.field(place) for place in range(kind.num_fields)]


def _sorted_field(column: pa.Field) -> pa.Field:
    return column.with_type(_sorted_type(column.type))


def _sorted_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct(sorted((_sorted_field(child) for child in _children(kind)), key=lambda child: child.name))
    if pa.types.is_list(kind):
        return pa.list_(_sorted_field(kind.value_field))
    if pa.types.is_map(kind):
        return pa.map_(kind.key_field, _sorted_field(kind.item_field))
    return kind


def _as_table(refused: list[_Refusal]) -> str:
    rows = [
        ("column", "in the table", "in the rows", ""),
        *((each.path, each.present, each.brought, each.why) for each in refused),
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    return "\n".join("  " + "  ".join(_padded(row, widths)).rstrip() for row in rows)


def _padded(row: tuple[str, str, str, str], widths: list[int]) -> Iterator[str]:
    for text, width in zip(row, widths, strict=False):
        yield text.ljust(width)
    yield row[3]
