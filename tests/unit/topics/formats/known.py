"""Registered schemas that are known beforehand, and values in the registry's wire format."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import fastavro
import pyarrow as pa

from lakeflow.errors import UnknownName
from lakeflow.topics.formats.format import Decoded
from lakeflow.topics.registered import RegisteredSchema, SchemaKind


class KnownSchemas:
    """A Registry of the schemas that it is given; `references` are those that each of them refers to, by name."""

    def __init__(self, kind: SchemaKind, schemas: Mapping[int, Any], references: Mapping[str, Any] | None = None) -> None:
        self._schemas = {number: RegisteredSchema(number, kind, _text(schema)) for number, schema in schemas.items()}
        self._references = {name: RegisteredSchema(1000, kind, _text(schema)) for name, schema in (references or {}).items()}

    def by_id(self, schema_id: int) -> RegisteredSchema | None:
        return self._schemas.get(schema_id)

    def latest(self, subject: str) -> RegisteredSchema:
        if not self._schemas:
            raise UnknownName("subject", subject, ())
        return self._schemas[max(self._schemas)]

    def referenced(self, schema: RegisteredSchema) -> Mapping[str, RegisteredSchema]:
        return self._references

    def serialized(self, schema_id: int) -> bytes | None:
        return None


def _text(schema: Any) -> str:
    return schema if isinstance(schema, str) else json.dumps(schema)


def framed(schema_id: int, body: bytes) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big") + body


def avro_body(schema: Any, record: Any) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return out.getvalue()


def sound(decoded: Decoded, count: int) -> Decoded:
    """`decoded`, after a check that its arrays are whole and that each of `count` values is in it once."""
    places = [*decoded.truncates, *decoded.passed, *(reject.index for reject in decoded.rejects)]
    for part in [*decoded.parts, *decoded.deletes]:
        part.rows.validate(full=True)
        kept = list(range(part.rows.num_rows)) if part.kept is None else part.kept.to_pylist()
        assert len(kept) == part.rows.num_rows
        assert kept == sorted(kept)
        _no_hidden_null(part.rows)
        places += kept
    assert sorted(places) == list(range(count))
    return decoded


def _no_hidden_null(rows: pa.RecordBatch) -> None:
    for field, column in zip(rows.schema, rows.columns, strict=True):
        assert field.nullable or not column.null_count, f"{field} holds a null"
