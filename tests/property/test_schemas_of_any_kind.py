"""Whatever stands in a schema, it is opened or refused as an error of the tree."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.errors import SchemaMismatch
from lakeflow.topics.formats import Opening, open_format
from lakeflow.topics.formats.logical_types import DECIMAL, MEANINGS, VARIABLE_SCALE
from lakeflow.topics.registered import SchemaKind
from tests.property.outcomes import outcomes
from tests.unit.topics.formats.known import KnownSchemas, framed

KEYWORDS = """
type properties required items prefixItems additionalProperties patternProperties allOf anyOf oneOf enum const nullable
$ref $id id $anchor $defs definitions format contentEncoding title connect.type connect.index connect.parameters
"""
WORDS = """
string integer number boolean object array null map bytes int8 float32 date time date-time base64
# #/definitions/a #a a.json value key scale 2
"""
NAMES = [*MEANINGS, DECIMAL, VARIABLE_SCALE]

leaves = (
    st.none() | st.booleans() | st.integers(-3, 40) | st.sampled_from([*WORDS.split(), *NAMES, "", "\ud800", "a", "A", 'q"'])
)
schemas = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYWORDS.split()), inner, max_size=5)
        | st.dictionaries(st.sampled_from([*WORDS.split(), "a", "b", "A", "\ud800"]), inner, max_size=3)
    ),
    max_leaves=14,
)
objects = st.fixed_dictionaries(
    {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from("abA"), schemas, max_size=3)}
)
bodies = st.sampled_from([b"{}", b'{"a":null}', b'{"a":1,"b":"x"}', b'{"a":{"a":[]},"b":[{}]}', b'"x"', b"5", b"{", b"[1,2]"])


@settings(max_examples=300, deadline=None)
@given(schemas | objects, st.lists(bodies, max_size=4))
def test_json_schema(schema: Any, values: list[bytes]) -> None:
    registry = KnownSchemas(SchemaKind.JSON, {1: schema}, {"a.json": {"type": "string"}})
    format_ = open_format("json-registry", Opening(None, topics=("t",), registry=registry))
    with contextlib.suppress(SchemaMismatch):
        format_.schema()
    outcomes(format_, [framed(1, value) for value in values])


CONNECT = ["int8", "int32", "int64", "float", "double", "boolean", "string", "bytes", "array", "map", "struct", "date"]
anything = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["type", "fields"]), inner)
)
fields = st.recursive(
    anything,
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(CONNECT)},
        optional={
            "field": st.sampled_from("abAc") | leaves,
            "optional": leaves,
            "name": st.sampled_from(NAMES),
            "parameters": st.dictionaries(st.sampled_from(["scale", "connect.decimal.precision"]), leaves),
            "items": inner,
            "keys": inner,
            "values": inner,
            "fields": st.lists(inner, max_size=3),
        },
    ),
    max_leaves=8,
)
rows = st.fixed_dictionaries(
    {"type": st.just("struct"), "field": st.just("after"), "fields": st.lists(fields, min_size=1, max_size=3)}
)
envelopes = st.fixed_dictionaries({"type": st.just("struct"), "fields": st.lists(rows, max_size=1)})
afters = st.sampled_from([{}, {"a": None}, {"a": 1, "b": "x"}, {"a": [1], "b": {"a": 2}}, {"c": {"scale": 1, "value": "AA=="}}])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(fields | rows | envelopes, afters, st.sampled_from("cd")), max_size=3))
def test_the_schemas_of_connect(found: list[tuple[Any, Any, str]]) -> None:
    values = [
        json.dumps({"schema": schema, "payload": {"op": op, "before": row, "after": row}}).encode() for schema, row, op in found
    ]
    outcomes(open_format("debezium-json", Opening(None)), values)


def test_schemas_that_are_nested_too_deeply() -> None:
    deep: Any = {"type": "string"}
    connect: Any = {"type": "string"}
    for _ in range(400):
        deep = {"type": "array", "items": deep}
        connect = {"type": "array", "items": connect}
    registry = KnownSchemas(SchemaKind.JSON, {1: deep})
    (outcome,) = outcomes(open_format("json-registry", Opening(None, topics=("t",), registry=registry)), [framed(1, b"[]")])
    assert "nested too deeply" in outcome[2]
    row = {"type": "struct", "field": "after", "fields": [connect | {"field": "a"}]}
    value = json.dumps({"schema": {"type": "struct", "fields": [row]}, "payload": {"op": "c", "after": {}}}).encode()
    (outcome,) = outcomes(open_format("debezium-json", Opening(None)), [value])
    assert outcome[0] == "reject"
