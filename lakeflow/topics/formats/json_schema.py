"""JSON in the registry's wire format, by the JSON Schema that it was written with (drafts 4 to 2020-12).

The bodies are read as strictly as format json reads them; see there. Types are checked, and nothing else of the
schema: what the writer's serializer let through by length, range or pattern lands. Properties that the schema does not
name are as in format json: ignored, or refused by `'json.unknown-fields' = 'refuse'`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec
import pyarrow as pa

from lakeflow.errors import DeclarationError, SchemaMismatch
from lakeflow.topics.formats.format import Decoded, Format, Opening
from lakeflow.topics.formats.framed import FramedFormat
from lakeflow.topics.formats.json import DecodeFailure, JsonFormat, refuses_unknown
from lakeflow.topics.formats.json_schema_documents import Documents
from lakeflow.topics.formats.json_schema_types import Types
from lakeflow.topics.formats.logical import Logical, converted, struct_of
from lakeflow.topics.registered import RegisteredSchema, Registry, SchemaKind

VALUE = "value"
"""The column of values that are no object."""


def open_json_schema(opening: Opening) -> Format:
    """The format. Raises ConfigError where there is no registry, UnknownName or DeclarationError for an option."""
    refuse_unknown = refuses_unknown(opening.options)

    def open_body(schema: RegisteredSchema, registry: Registry) -> Format:
        return body_format(value_type(schema, registry), refuse_unknown=refuse_unknown)

    return FramedFormat(opening, SchemaKind.JSON, open_body)


def value_type(schema: RegisteredSchema, registry: Registry, *, zoned: bool = True) -> Logical:
    """The whole value as a field `value`; `zoned` as in `named_type`. Raises SchemaMismatch for what no table can hold."""
    logical, null = Types(Documents(schema, registry.referenced(schema)), zoned=zoned).root()
    return logical.nullable(null)


def body_format(value: Logical, *, refuse_unknown: bool = False) -> Format:
    """The format of bodies that are such values. Raises SchemaMismatch for names that JSON cannot give."""
    if not value.fields:
        return WrappedFormat(body_format(struct_of(VALUE, [value.named(VALUE)]), refuse_unknown=refuse_unknown))
    try:
        inner = JsonFormat(pa.schema(list(value.written.type)), refuse_unknown=refuse_unknown)
    except DeclarationError as error:
        raise SchemaMismatch(error.message) from error
    return LogicalFormat(inner, value.fields)


class LogicalFormat:
    """The rows of another format, with each field turned from what is written to what is kept."""

    def __init__(self, inner: Format, fields: Sequence[Logical]) -> None:
        self._inner = inner
        self._fields = fields
        self._schema = pa.schema([field.kept for field in fields])

    def schema(self) -> pa.Schema:
        """The columns as kept."""
        return self._schema

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The rows of `values`; see the protocol."""
        decoded = self._inner.decode(values)
        part, rejects = converted(decoded.parts[0], self._fields)
        if not rejects:
            return replace(decoded, parts=(part,))
        everything = sorted([*decoded.rejects, *rejects], key=lambda reject: reject.index)
        return replace(decoded, parts=(part,), rejects=tuple(everything))


class WrappedFormat:
    """Bodies that are JSON values of any kind, read as the one field of an object."""

    def __init__(self, inner: Format) -> None:
        self._inner = inner
        # Each body must be one JSON value by itself, or it could end the object that it is put into.
        self._whole = msgspec.json.Decoder(msgspec.Raw)

    def schema(self) -> pa.Schema:
        """One column."""
        return self._inner.schema()

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The rows of `values`; see the protocol."""
        return self._inner.decode([value if value is None else self._wrapped(value) for value in values])

    def _wrapped(self, value: bytes) -> bytes:
        try:
            self._whole.decode(value)
        except DecodeFailure:
            return value  # which the inner format rejects too
        return b'{"value":%b}' % value
