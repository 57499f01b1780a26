"""Rows of any writer's schema as rows of one table, and what the table must become to hold them. Pure.

A table whose columns are declared takes the declared fields of a record and no others; one that follows its topic
(`'schema.evolution' = 'on'`) takes all, and evolves where it lacks something (lake/evolution.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import SchemaMismatch
from lakeflow.lake.evolution import Evolved, evolve
from lakeflow.lake.reshape import is_list
from lakeflow.lake.schema import fit
from lakeflow.topics.formats.format import Decoded, Part, Reject, RejectKind


@dataclass(frozen=True, slots=True)
class Unfit:
    """Rows that the table cannot hold, and why: `places` are those of their records."""

    places: tuple[int, ...]
    message: str


class Fitting:
    """Fits rows to the table `name`, whose columns are `columns` (as stored, metadata columns included).

    `required` are columns that stay NOT NULL whatever a writer's schema says: a record without a value there is rejected.
    Of a delete only the columns of the primary `key` are looked at.
    """

    def __init__(
        self, name: str, columns: pa.Schema, *, evolves: bool, required: Collection[str], key: Collection[str] = ()
    ) -> None:
        self._name = name
        self._columns = columns
        self._evolves = evolves
        self._required = tuple(required)
        self._key = tuple(key)
        self._held: set[tuple[pa.Schema, bool]] = set()

    def checked(self, decoded: Decoded) -> Decoded:
        """`decoded` without rows, or deletes, that hold null where the table may not; their records are rejected."""
        wrong: list[Reject] = []
        parts = _filled(_without_nulls(part, self._required, wrong) for part in decoded.parts)
        deletes = _filled(_without_nulls(part, self._key, wrong) for part in decoded.deletes)
        if wrong:
            rejects = tuple(sorted([*decoded.rejects, *wrong], key=lambda reject: reject.index))
            return replace(decoded, parts=parts, deletes=deletes, rejects=rejects)
        return replace(decoded, parts=parts, deletes=deletes)

    def evolution(self, parts: Collection[Part], deletes: Collection[Part] = ()) -> Evolved | Unfit | None:
        """What the table must become to hold all of `parts`, and the keys of `deletes`; None where it is already.

        Unfit: the first that it never can hold.
        """
        columns = self._columns
        changes: list[str] = []
        for part, is_delete in [*((part, False) for part in parts), *((part, True) for part in deletes)]:
            schema = part.rows.schema
            if (schema, is_delete) in self._held:
                continue
            try:
                brought = self._brought_keys(schema, columns) if is_delete else self._brought(schema)
                evolved = evolve(columns, brought, f"table {self._name}")
            except SchemaMismatch as error:
                return Unfit(tuple(places_of(part).tolist()), error.message)
            if evolved is None:
                if not changes:
                    self._held.add((schema, is_delete))
                continue
            if not self._evolves:
                shown = "\n".join(f"  {change}" for change in evolved.changes)
                return Unfit(
                    tuple(places_of(part).tolist()),
                    f"the declared columns of table {self._name} do not hold what the record brings; they would have to "
                    f"change:\n{shown}",
                )
            columns = evolved.schema
            changes += evolved.changes
        return Evolved(columns, tuple(changes)) if changes else None

    def rows(self, part: Part) -> pa.Table:
        """The rows of a part that needs no evolution, with the table's columns."""
        rows = pa.Table.from_batches([part.rows])
        return fit(rows if self._evolves else _projected(rows, self._columns), self._columns, self._name)

    def keys(self, part: Part, key: Collection[str]) -> pa.Table:
        """The key columns of deletes. Raises SchemaMismatch where they lack one or hold what the table cannot."""
        self._require_keys(part.rows.schema, key)
        schema = pa.schema([self._columns.field(name) for name in key])
        return fit(pa.Table.from_batches([part.rows]).select(list(key)), schema, self._name)

    def _brought(self, schema: pa.Schema) -> pa.Schema:
        """What counts of a writer's schema: columns that stay required are, and undeclared ones are not looked at."""
        fields = [column.with_nullable(column.nullable and column.name not in self._required) for column in schema]
        return pa.schema(fields) if self._evolves else _projected_schema(pa.schema(fields), self._columns)

    def _brought_keys(self, schema: pa.Schema, columns: pa.Schema) -> pa.Schema:
        """What counts of the schema of deletes: their keys, among the table's other columns."""
        self._require_keys(schema, self._key)
        return pa.schema([schema.field(c.name).with_nullable(False) if c.name in self._key else c for c in columns])

    def _require_keys(self, schema: pa.Schema, key: Collection[str]) -> None:
        for name in key:
            if name not in schema.names:
                raise SchemaMismatch(f"a delete from table {self._name} brings no column {name!r} of the primary key")


def _without_nulls(part: Part, required: Collection[str], wrong: list[Reject]) -> Part:
    """`part` without rows that hold null in a column that is `required`; their rejects go to `wrong`."""
    for name in required:
        index = part.rows.schema.get_field_index(name)
        is_null = pa.repeat(True, part.rows.num_rows) if index < 0 else part.rows.column(index).is_null()
        if not pc.any(is_null).as_py():
            continue
        places = places_of(part)
        gone = places[is_null.to_numpy(zero_copy_only=False)]
        wrong += [
            Reject(int(place), RejectKind.MISFIT, f"column {name!r} is NOT NULL and the record has none") for place in gone
        ]
        keep = pc.invert(is_null)
        part = Part(part.rows.filter(keep), pa.array(places, pa.int64()).filter(keep))
    return part


def _filled(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Those with rows: a schema that no row was left of asks nothing of the table."""
    return tuple(part for part in parts if part.rows.num_rows)


def places_of(part: Part) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The place of each row's record."""
    return np.arange(part.rows.num_rows) if part.kept is None else part.kept.to_numpy()


def _projected_schema(brought: pa.Schema, wanted: pa.Schema) -> pa.Schema:
    return pa.schema([_projected_field(field, wanted.field(field.name)) for field in brought if field.name in wanted.names])


def _projected_field(brought: pa.Field, wanted: pa.Field) -> pa.Field:
    """`brought` without the fields of structs that `wanted` lacks, at every depth."""
    have, want = brought.type, wanted.type
    if pa.types.is_struct(have) and pa.types.is_struct(want):
        known = [want.field(place).name for place in range(want.num_fields)]
        kept = [have.field(place) for place in range(have.num_fields) if have.field(place).name in known]
        return brought.with_type(pa.struct([_projected_field(field, want.field(field.name)) for field in kept]))
    if is_list(have) and is_list(want):
        return brought.with_type(pa.list_(_projected_field(have.value_field, want.value_field)))
    if pa.types.is_map(have) and pa.types.is_map(want):
        return brought.with_type(pa.map_(have.key_field, _projected_field(have.item_field, want.item_field)))
    return brought


def _projected(rows: pa.Table, wanted: pa.Schema) -> pa.Table:
    """The columns, and fields of structs, that `wanted` has."""
    schema = _projected_schema(rows.schema, wanted)
    rows = rows.select(schema.names)
    return rows if rows.schema.equals(schema) else rows.cast(schema)
