"""Debezium's change events in Avro or Protobuf: those formats decode the envelope, and its columns are taken apart.

What Connect's AvroConverter cannot say in Avro it notes as `connect.name` and `connect.parameters` of a type.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from lakeflow.errors import SchemaMismatch
from lakeflow.topics.formats.debezium_connect import columns_for
from lakeflow.topics.formats.debezium_envelope import Envelopes, Shape, taken_apart
from lakeflow.topics.formats.debezium_options import DebeziumOptions, Extra
from lakeflow.topics.formats.format import Decoded, Format, Part, Reject
from lakeflow.topics.formats.logical import Logical, Places, list_of, map_of, struct_of
from lakeflow.topics.formats.logical_reads import cast
from lakeflow.topics.formats.logical_types import named_type

Node = Any
"""An Avro schema as JSON."""


class ArrowEnvelopes:
    """Envelopes that `inner` decodes to columns. `after` gives the columns of the row, from the fields of that struct."""

    def __init__(self, inner: Format, columns: Sequence[Logical], options: DebeziumOptions) -> None:
        if (clash := options.refuse_clashes([column.kept.name for column in columns])) is not None:
            raise SchemaMismatch(clash)
        self._inner = inner
        self._shape = Shape(columns, options)
        self._fields = row_type(inner.schema())

    def schema(self) -> pa.Schema:
        """The columns of the row, then those of the options."""
        return self._shape.schema

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The rows and deletes of `values`; see the protocol."""
        decoded = self._inner.decode(values)
        rows, kept = decoded.rows, decoded.kept
        before = rows.column("before")
        envelopes = Envelopes(
            rows.column("op").cast(pa.string()),
            self._picked(rows.column("after")),
            [_extra(rows, extra) for extra in self._shape.options.extras],
            before,
            lambda asked: self._rows_before(before, asked),
        )
        apart = taken_apart(envelopes, np.arange(rows.num_rows) if kept is None else kept.to_numpy(), self._shape)
        if not decoded.rejects:
            return apart
        rejects = sorted([*decoded.rejects, *apart.rejects], key=lambda reject: reject.index)
        return replace(apart, rejects=tuple(rejects))

    def _picked(self, row: pa.StructArray) -> pa.StructArray:
        """The fields of the columns, in their order; nulls for a column that the writer has not."""
        names = [column.written.name for column in self._shape.after]
        arrays = [
            row.field(name) if name in self._fields.names else pa.nulls(len(row), column.written.type)
            for name, column in zip(names, self._shape.after, strict=True)
        ]
        return pa.StructArray.from_arrays(arrays, names=names, mask=row.is_null() if row.null_count else None)

    def _rows_before(self, before: pa.StructArray, asked: Places) -> tuple[Part, Sequence[Reject]]:
        picked = self._picked(before.take(pa.array(asked)))
        arrays = [picked.field(place) for place in range(picked.type.num_fields)]
        return Part(pa.RecordBatch.from_arrays(arrays, names=picked.type.names)), ()


def _extra(rows: pa.RecordBatch, extra: Extra) -> pa.Array:
    """The field of the envelope at the path, null where the writer has no such field."""
    type_ = extra.logical.written.type
    storage = pa.string() if isinstance(type_, pa.JsonType) else type_
    column, place = rows, -1
    place = rows.schema.get_field_index(extra.path[0])
    if place < 0:
        return pa.nulls(rows.num_rows, storage)
    column = rows.column(place)
    if len(extra.path) == 2:
        place = column.type.get_field_index(extra.path[1])
        column = pa.nulls(rows.num_rows, storage) if place < 0 else column.flatten()[place]
    return cast(column, storage)[0]


def row_type(envelope: pa.Schema) -> pa.StructType:
    """The struct `after`. Raises SchemaMismatch where the schema is no envelope's."""
    missing = [name for name in ("before", "after", "op") if name not in envelope.names]
    if missing:
        raise SchemaMismatch(f"the schema is no envelope: it has no {missing[0]!r}, and the fields {', '.join(envelope.names)}")
    for name in ("before", "after"):
        if not pa.types.is_struct(envelope.field(name).type):
            raise SchemaMismatch(f"the schema is no envelope: {name!r} is of {envelope.field(name).type}; wanted a record")
    return envelope.field("after").type


def avro_columns(envelope: pa.Schema, text: str, referenced: Sequence[str], declared: pa.Schema | None) -> list[Logical]:
    """The columns of the rows. `envelope` is what the Avro format makes of the schema `text`, `referenced` those it needs."""
    named: dict[str, Node] = {}
    for other in [*referenced, text]:
        _collect(json.loads(other), "", named)
    nodes = _fields(json.loads(text), named)
    row = row_type(envelope)
    inside = _fields(nodes.get("after"), named)

    def of_field(name: str, column: pa.DataType | None) -> Logical | None:
        if row.get_field_index(name) < 0:
            return None
        return _of(row.field(name), inside.get(name), named, column).named(name)

    return columns_for(row.names, of_field, declared)


def unnamed_columns(envelope: pa.Schema, declared: pa.Schema | None) -> list[Logical]:
    """The columns of the rows, by the columns of the envelope alone: no name of Connect says how they are written."""
    row = row_type(envelope)

    def of_field(name: str, column: pa.DataType | None) -> Logical | None:
        return None if row.get_field_index(name) < 0 else _of(row.field(name), None, {}, column)

    return columns_for(row.names, of_field, declared)


def _of(field: pa.Field, node: Node, named: Mapping[str, Node], column: pa.DataType | None) -> Logical:
    """The field `field` of the Avro type `node`, for `column` or the default."""
    node = _single(node, named)
    try:
        return _typed(field.type, node, named, column).named(field.name).nullable(field.nullable)
    except SchemaMismatch as error:
        raise SchemaMismatch(f"{field.name} {error.message}") from error


def _typed(type_: pa.DataType, node: Node, named: Mapping[str, Node], column: pa.DataType | None) -> Logical:
    name = node.get("connect.name") if isinstance(node, dict) else None
    if isinstance(name, str) and not _is_row(name, type_):
        parameters = node.get("connect.parameters")
        return named_type(name, parameters if isinstance(parameters, dict) else {}, type_, column)
    if column is None or column == type_ or pa.types.is_nested(column):
        found = _nested(type_, node, named)
        if found is not None and found.convert is not None and (column is None or found.kept.type == column):
            return found
    return named_type("", {}, type_, column)


def _is_row(name: str, type_: pa.DataType) -> bool:
    """Whether a struct is one of the table's own, and no named type of Debezium."""
    return bool(pa.types.is_struct(type_)) and not name.startswith("io.debezium.data.VariableScale")


def _nested(type_: pa.DataType, node: Node, named: Mapping[str, Node]) -> Logical | None:
    if not isinstance(node, dict):
        return None
    if pa.types.is_struct(type_) and node.get("type") == "record":
        inside = _fields(node, named)
        return struct_of("value", [_of(field, inside.get(field.name), named, None) for field in type_])
    if pa.types.is_list(type_) and node.get("type") == "array":
        return list_of("value", _of(type_.value_field, node.get("items"), named, None))
    if pa.types.is_map(type_) and node.get("type") == "map":
        return map_of("value", _of(type_.item_field, node.get("values"), named, None))
    return None


def _fields(node: Node, named: Mapping[str, Node]) -> dict[str, Node]:
    """The types of a record's fields."""
    node = _single(node, named)
    fields = node.get("fields") if isinstance(node, dict) else None
    return {field["name"]: field["type"] for field in fields or ()}


def _single(node: Node, named: Mapping[str, Node]) -> Node:
    """The type itself: the only branch of a union with null, what a name stands for, the type within a type."""
    if isinstance(node, list):
        branches = [branch for branch in node if branch != "null"]
        return _single(branches[0], named) if len(branches) == 1 else None
    if isinstance(node, str):
        return named.get(node)
    if isinstance(node, dict) and isinstance(node.get("type"), dict | list):
        return _single(node["type"], named)
    return node


def _collect(node: Node, namespace: str, named: dict[str, Node]) -> None:
    """Note each named type by its full name, and by its short one within its namespace's file."""
    if isinstance(node, list):
        for branch in node:
            _collect(branch, namespace, named)
    elif isinstance(node, dict):
        if isinstance(name := node.get("name"), str) and node.get("type") in ("record", "enum", "fixed", "error"):
            space = name.rpartition(".")[0] or node.get("namespace", namespace)
            short = name.rpartition(".")[2]
            named[f"{space}.{short}" if space else short] = node
            named.setdefault(short, node)
            namespace = space
        for inner in (node.get("items"), node.get("values"), node.get("type")):
            if isinstance(inner, dict | list):
                _collect(inner, namespace, named)
        for field in node.get("fields") or ():
            _collect(field.get("type"), namespace, named)
