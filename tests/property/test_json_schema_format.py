"""Whatever is valid by a schema lands as it is, and a batch comes to what each record comes to alone."""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.topics.formats import Opening, open_format
from lakeflow.topics.formats.format import Format
from lakeflow.topics.registered import SchemaKind
from tests.property.outcomes import outcomes
from tests.unit.topics.formats.known import KnownSchemas, framed

NULL = {"type": "null"}


@dataclass(frozen=True)
class Kind:
    """A schema, values that it takes, and how each is kept."""

    schema: Any
    values: st.SearchStrategy[Any]
    kept: Callable[[Any], Any]
    json: str
    null: bool = False


def itself(value: Any) -> Any:
    return value


def text(value: Any) -> Any:
    return None if value is None else json.dumps(value)


zones = st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=5, minutes=30)), dt.timezone(-dt.timedelta(hours=8))])
moments = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1), timezones=zones).map(dt.datetime.isoformat)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3), lambda inner: st.lists(inner, max_size=2)
)

SCALARS = [
    Kind({"type": "string", "maxLength": 1}, st.text(max_size=4), itself, "string"),
    Kind({"type": "integer"}, st.integers(-(2**63), 2**63 - 1), itself, "number"),
    Kind({"type": "integer", "connect.type": "int8"}, st.integers(-128, 127), itself, "number"),
    Kind({"type": "number"}, st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9), float, "number"),
    Kind({"type": "boolean"}, st.booleans(), itself, "boolean"),
    Kind({"enum": ["a", "b"]}, st.sampled_from("ab"), itself, "string"),
    Kind({"type": "string", "format": "date"}, st.dates().map(str), dt.date.fromisoformat, "string"),
    Kind({"type": "string", "format": "date-time"}, moments, dt.datetime.fromisoformat, "string"),
    Kind(
        {"type": "string", "contentEncoding": "base64"},
        st.binary(max_size=4).map(lambda data: base64.b64encode(data).decode()),
        base64.b64decode,
        "string",
    ),
    Kind(
        {"type": "integer", "title": "io.debezium.time.Date"},
        st.integers(-9, 9),
        lambda n: dt.date(1970, 1, 1) + dt.timedelta(n),
        "number",
    ),
]
OPEN = Kind({}, anything, text, "any", null=True)


def kept_or_null(kind: Kind) -> Callable[[Any], Any]:
    return lambda value: None if value is None else kind.kept(value)


def nullable(kind: Kind) -> st.SearchStrategy[Kind]:
    ways: list[Any] = [{"oneOf": [NULL, kind.schema]}, {"anyOf": [kind.schema, NULL]}]
    return st.sampled_from(ways).map(
        lambda schema: Kind(schema, st.none() | kind.values, kept_or_null(kind), kind.json, null=True)
    )


def array(kind: Kind) -> Kind:
    return Kind(
        {"type": "array", "items": kind.schema},
        st.lists(kind.values, max_size=3),
        lambda values: [kind.kept(value) for value in values],
        "array",
    )


def mapped(kind: Kind) -> Kind:
    return Kind(
        {"type": "object", "additionalProperties": kind.schema},
        st.dictionaries(st.text(max_size=2), kind.values, max_size=2),
        lambda values: [(key, kind.kept(value)) for key, value in values.items()],
        "object",
    )


def record(kinds: list[Kind], required: list[bool]) -> Kind:
    named = {f"f{place}": kind for place, kind in enumerate(kinds)}
    must = {name for name, wanted in zip(named, required, strict=False) if wanted}
    values = st.fixed_dictionaries(
        {name: kind.values for name, kind in named.items() if name in must},
        optional={name: kind.values for name, kind in named.items() if name not in must},
    )
    schema = {"type": "object", "properties": {name: kind.schema for name, kind in named.items()}, "required": sorted(must)}
    return Kind(
        schema,
        values,
        lambda value: {name: kind.kept(value[name]) if name in value else None for name, kind in named.items()},
        "object",
    )


def union(kinds: list[Kind]) -> Kind:
    names = {"number": lambda kind: "integer" if kind.schema["type"] == "integer" else "number"}

    def branch(kind: Kind) -> str:
        return names[kind.json](kind) if kind.json in names else kind.json

    def kept(value: Any) -> Any:
        chosen = next(kind for kind in kinds if kind.json == json_kind(value))
        return {branch(kind): kind.kept(value) if kind is chosen else None for kind in kinds}

    return Kind({"oneOf": [kind.schema for kind in kinds]}, st.one_of([kind.values for kind in kinds]), kept, "union")


def json_kind(value: Any) -> str:
    kinds = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return kinds[type(value)]


def deeper(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    plain = inner.filter(lambda kind: not kind.null and kind.json not in ("any", "union"))
    unions = st.lists(plain, min_size=2, max_size=3, unique_by=lambda kind: kind.json)
    several = st.lists(inner, min_size=1, max_size=3)
    return (
        inner.map(array)
        | inner.filter(lambda kind: kind is not OPEN).map(mapped)  # an object of anything is kept as text
        | plain.flatmap(nullable)
        | unions.map(union)
        | st.builds(record, several, st.lists(st.booleans(), min_size=3, max_size=3))
    )


kinds = st.recursive(st.sampled_from([*SCALARS, OPEN]), deeper, max_leaves=5)
tops = st.builds(record, st.lists(kinds, min_size=1, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3))
cases = tops.flatmap(lambda top: st.tuples(st.just(top), st.lists(top.values, max_size=5)))


def opened(schema: Any) -> Format:
    registry = KnownSchemas(SchemaKind.JSON, {1: schema})
    return open_format("json-registry", Opening(None, topics=("t",), registry=registry))


@settings(max_examples=200, deadline=None)
@given(cases)
def test_whatever_is_valid_lands_as_it_is(case: tuple[Kind, list[Any]]) -> None:
    top, values = case
    found = outcomes(opened(top.schema), [framed(1, json.dumps(value).encode()) for value in values])
    assert [(outcome[0], outcome[-1]) for outcome in found] == [("row", top.kept(value)) for value in values]


odd = st.sampled_from(["null", "5", "1.5", '"x"', "[]", "{}", "true", '""', '[{"a":1}]', "[null]"])


@settings(max_examples=100, deadline=None)
@given(cases.flatmap(lambda case: st.tuples(st.just(case), st.lists(st.tuples(st.integers(0, 30), odd), max_size=6))))
def test_a_batch_comes_to_what_each_comes_to_alone(case: tuple[tuple[Kind, list[Any]], list[tuple[int, str]]]) -> None:
    (top, values), changes = case
    bodies: list[bytes | None] = [framed(1, json.dumps(value).encode()) for value in values]
    for place, token in changes:
        value = dict(values[place % len(values)]) if values else {}
        spoilt = json.dumps(value | {f"f{place % 3}": "@"}).replace('"@"', token)
        bodies.insert(place % (len(bodies) + 1), framed(1, spoilt.encode() if place else b"{"))
    format_ = opened(top.schema)
    assert outcomes(format_, bodies) == [outcomes(format_, [body])[0] for body in bodies]
