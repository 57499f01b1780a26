"""Debezium's change events in JSON: plain, with Connect's schema in each value, or in the registry's wire format.

`before` is read only where a row is deleted; in all other events it must be JSON, and that is all. Fields of the envelope
that no column needs are passed over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lakeflow.errors import DeclarationError, SchemaMismatch
from lakeflow.topics.formats.debezium_connect import connect_columns
from lakeflow.topics.formats.debezium_envelope import Envelopes, Shape, taken_apart
from lakeflow.topics.formats.debezium_options import DebeziumOptions
from lakeflow.topics.formats.format import Decoded, Format, Part, Reject, RejectKind
from lakeflow.topics.formats.framed import merged, placed
from lakeflow.topics.formats.json import JsonFormat
from lakeflow.topics.formats.logical import Logical, Places
from lakeflow.topics.formats.shape import JSON_TEXT

MOST_SCHEMAS: Final = 100
"""Schemas of values that are kept opened; the oldest makes room."""


class JsonEnvelopes:
    """Envelopes in JSON whose rows have `columns`. Raises SchemaMismatch for columns that JSON cannot give, or that clash."""

    def __init__(self, columns: Sequence[Logical], options: DebeziumOptions) -> None:
        if (clash := options.refuse_clashes([column.kept.name for column in columns])) is not None:
            raise SchemaMismatch(clash)
        self._shape = Shape(columns, options)
        try:
            self._envelopes = JsonFormat(_envelope_schema(self._shape))
            self._before = JsonFormat(pa.schema([field.written for field in self._shape.before]))
        except DeclarationError as error:
            raise SchemaMismatch(error.message) from error

    def schema(self) -> pa.Schema:
        """The columns of the row, then those of the options."""
        return self._shape.schema

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The rows and deletes of `values`; see the protocol."""
        decoded = self._envelopes.decode(values)
        rows, kept = decoded.rows, decoded.kept
        before = rows.column("before").storage
        envelopes = Envelopes(
            rows.column("op"),
            rows.column("after"),
            [_at_path(rows, extra.path) for extra in self._shape.options.extras],
            before,
            lambda asked: self._rows_before(before, asked),
        )
        apart = taken_apart(envelopes, np.arange(rows.num_rows) if kept is None else kept.to_numpy(), self._shape)
        if not decoded.rejects:
            return apart
        rejects = sorted([*decoded.rejects, *apart.rejects], key=lambda reject: reject.index)
        return replace(apart, rejects=tuple(rejects))

    def _rows_before(self, before: pa.StringArray, asked: Places) -> tuple[Part, Sequence[Reject]]:
        texts = before.take(pa.array(asked)).to_pylist()
        decoded = self._before.decode([text.encode() for text in texts])
        rejects = [Reject(reject.index, RejectKind.MISFIT, _of_before(reject.reason)) for reject in decoded.rejects]
        return decoded.parts[0], rejects


def _of_before(reason: str) -> str:
    return f"$.before{reason[1:]}" if reason.startswith("$") else f"$.before: {reason}"


def _envelope_schema(shape: Shape) -> pa.Schema:
    """The fields of the envelope that are needed, all nullable, as they are written."""
    outer: dict[str, pa.Field] = {
        "op": pa.field("op", pa.string()),
        "before": pa.field("before", JSON_TEXT),
        "after": pa.field("after", pa.struct([field.written for field in shape.after])),
    }
    inner: dict[str, list[pa.Field]] = {}
    for extra in shape.options.extras:
        field = extra.logical.written.with_name(extra.path[-1])
        if len(extra.path) == 1:
            outer.setdefault(extra.path[0], field)
        else:
            inner.setdefault(extra.path[0], []).append(field)
    return pa.schema([*outer.values(), *(pa.field(name, pa.struct(fields)) for name, fields in inner.items())])


def _at_path(rows: pa.RecordBatch, path: tuple[str, ...]) -> pa.Array:
    """The field of the envelope at `path`, null where what it is in is null."""
    column = rows.column(path[0])
    if len(path) == 1:
        return column
    return column.flatten()[column.type.get_field_index(path[1])]


class SchemaedEnvelopes:
    """Values {"schema": .., "payload": ..} of Connect's JsonConverter: each schema's payloads have a format of their own.

    `declared` are the columns of the table; None: those of the schema.
    """

    def __init__(self, declared: pa.Schema | None, options: DebeziumOptions) -> None:
        self._declared = declared
        self._options = options
        self._outer = JsonFormat(pa.schema([pa.field("schema", JSON_TEXT, False), pa.field("payload", JSON_TEXT, False)]))
        self._bodies: dict[str, Format | str] = {}

    def schema(self) -> pa.Schema:
        """The declared columns and those of the options. Raises DeclarationError where none are declared."""
        if self._declared is None:
            raise DeclarationError(
                "the columns are in the records alone",
                next_step="declare columns, or read records: lakeflow tables infer TABLE",
            )
        extras = [extra.logical.kept for extra in self._options.extras]
        return pa.schema([*self._declared, *extras])

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The rows and deletes of `values`, a part for each schema; see the protocol."""
        decoded = self._outer.decode(values)
        rows = decoded.rows
        places = np.arange(rows.num_rows) if decoded.kept is None else decoded.kept.to_numpy()
        schemas = rows.column("schema").storage.dictionary_encode()
        codes = schemas.indices.to_numpy(zero_copy_only=False)
        payloads = rows.column("payload").storage
        found = []
        for code, text in enumerate(schemas.dictionary.to_pylist()):
            of_schema = np.flatnonzero(codes == code)
            bodies = [payload.encode() for payload in payloads.take(pa.array(of_schema)).to_pylist()]
            found.append(placed(self._decode_group(text, bodies), places[of_schema].tolist()))
        return merged(found, decoded.rejects)

    def _decode_group(self, text: str, bodies: Sequence[bytes]) -> Decoded:
        body = self._bodies.get(text)
        if body is None:
            while len(self._bodies) >= MOST_SCHEMAS:
                self._bodies.pop(next(iter(self._bodies)))
            body = self._bodies[text] = self._open(text)
        if isinstance(body, str):
            return Decoded((), tuple(Reject(place, RejectKind.SCHEMA, body) for place in range(len(bodies))))
        return body.decode(bodies)

    def _open(self, text: str) -> Format | str:
        try:
            schema: Any = json.loads(text)
            json.dumps(schema, ensure_ascii=False).encode()
            if not isinstance(schema, Mapping):
                return f"the schema is {text:.60}; wanted an object"
            return JsonEnvelopes(connect_columns(schema, self._declared), self._options)
        except SchemaMismatch as error:
            return f"the schema in the value: {error.message}"
        except UnicodeEncodeError:
            return "the schema in the value holds half of a surrogate pair"
        except (RecursionError, ValueError) as error:
            return f"the schema in the value cannot be read: {error}"
