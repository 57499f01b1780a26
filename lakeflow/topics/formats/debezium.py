"""Debezium's change events as rows and deletes: plain JSON, JSON Schema, Avro or Protobuf from the registry.

Options are in `debezium_options.py`, what an event does in `debezium_envelope.py`. A tombstone changes nothing. Where a key
changes, Debezium writes a delete and a create, and each stands for itself.
"""

from __future__ import annotations

import pyarrow as pa

from lakeflow.errors import DeclarationError, SchemaMismatch
from lakeflow.topics.formats.avro import AvroFormat
from lakeflow.topics.formats.avro_schema import parse
from lakeflow.topics.formats.debezium_avro import ArrowEnvelopes, avro_columns, unnamed_columns
from lakeflow.topics.formats.debezium_connect import columns_for, declared_columns_of, declared_or_refused
from lakeflow.topics.formats.debezium_envelope import TombstonesPass
from lakeflow.topics.formats.debezium_json import JsonEnvelopes, SchemaedEnvelopes
from lakeflow.topics.formats.debezium_options import DebeziumOptions, debezium_options
from lakeflow.topics.formats.format import Format, Opening
from lakeflow.topics.formats.framed import FramedFormat
from lakeflow.topics.formats.json_schema import value_type
from lakeflow.topics.formats.logical import Logical
from lakeflow.topics.formats.logical_types import retyped
from lakeflow.topics.registered import RegisteredSchema, Registry, SchemaKind


def open_debezium_json(opening: Opening) -> Format:
    """Plain JSON, with or without a schema in each value. Raises UnknownName, DeclarationError for an option or a column."""
    options = _options(opening, plain=True)
    with_schema = opening.columns is None if options.schema_include is None else options.schema_include
    if with_schema:
        return TombstonesPass(SchemaedEnvelopes(opening.columns, options))
    columns = declared_columns_of(declared_or_refused(opening.columns), options)
    try:
        return TombstonesPass(JsonEnvelopes(columns, options))
    except SchemaMismatch as error:
        raise DeclarationError(error.message) from error


def open_debezium_json_schema(opening: Opening) -> Format:
    """JSON Schema from the registry. Raises ConfigError where there is none, UnknownName, DeclarationError for an option."""
    options = _options(opening)

    def open_body(schema: RegisteredSchema, registry: Registry) -> Format:
        envelope = {field.written.name: field for field in value_type(schema, registry, zoned=False).fields}
        if "op" not in envelope or "after" not in envelope or not envelope["after"].fields:
            raise SchemaMismatch(f"the schema is no envelope: wanted `op` and an object `after`; it has {', '.join(envelope)}")
        return JsonEnvelopes(_json_schema_columns(envelope["after"], opening.columns), options)

    return TombstonesPass(FramedFormat(opening, SchemaKind.JSON, open_body))


def _json_schema_columns(after: Logical, declared: pa.Schema | None) -> list[Logical]:
    fields = {field.written.name: field for field in after.fields}

    def of_field(name: str, column: pa.DataType | None) -> Logical | None:
        found = fields.get(name)
        return found if found is None or column is None else retyped(found, column)

    return columns_for(list(fields), of_field, declared)


def open_debezium_avro(opening: Opening) -> Format:
    """Avro from the registry. Raises ConfigError where there is none, UnknownName, DeclarationError for an option."""
    options = _options(opening)

    def open_body(schema: RegisteredSchema, registry: Registry) -> Format:
        referenced = [other.text for other in registry.referenced(schema).values()] if schema.references else []
        inner = AvroFormat(parse(schema.text, referenced))
        return ArrowEnvelopes(inner, avro_columns(inner.schema(), schema.text, referenced, opening.columns), options)

    return TombstonesPass(FramedFormat(opening, SchemaKind.AVRO, open_body))


def open_debezium_protobuf(opening: Opening) -> Format:
    """Protobuf from the registry. Raises ConfigError where there is none, UnknownName, DeclarationError for an option."""
    from lakeflow.topics.formats.protobuf import body_format  # 100 ms that only its tables pay

    options, open_message = _options(opening), body_format(opening)

    def open_body(schema: RegisteredSchema, registry: Registry) -> Format:
        inner = open_message(schema, registry)
        return ArrowEnvelopes(inner, unnamed_columns(inner.schema(), opening.columns), options)

    return TombstonesPass(FramedFormat(opening, SchemaKind.PROTOBUF, open_body))


def _options(opening: Opening, *, plain: bool = False) -> DebeziumOptions:
    if opening.side == "key":
        raise DeclarationError(
            "keys of Debezium's topics are no envelopes; 'key.format' is json, json-registry or avro-registry"
        )
    options = debezium_options(opening.options, plain=plain)
    if opening.columns is not None and (clash := options.refuse_clashes(opening.columns.names)) is not None:
        raise DeclarationError(clash)
    return options
