"""The Avro format agrees with a slow reference, and that with fastavro, on any schema, records, damage and cutting."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import fastavro
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.topics.formats.avro import AvroFormat
from lakeflow.topics.formats.avro_schema import parse
from lakeflow.topics.formats.format import RejectKind
from tests.property.avro_reference import Reference, Refused, as_fastavro, by_fastavro, told

PLAIN = ["boolean", "int", "long", "float", "double", "bytes", "string"]
TEMPORAL = [
    *(("int", name) for name in ("date", "time-millis")),
    *(("long", name) for name in ("time-micros", "timestamp-millis", "timestamp-micros", "timestamp-nanos")),
    *(("long", name) for name in ("local-timestamp-millis", "local-timestamp-micros", "local-timestamp-nanos")),
]
NANOS = [("long", "timestamp-nanos"), ("long", "local-timestamp-nanos")]
KEPT_APART = ("uuid", "duration", *(name for _, name in NANOS))
"""Logical types that fastavro reads as what is beneath them."""

Schema = Any
FIELDS = ["a", "b", "c", "key", "type", "with_underscore"]


@st.composite
def schemas(draw: st.DrawFn, depth: int = 3, *, in_union: bool = False) -> Schema:
    kinds = ["plain"] * 4 + ["fixed", "enum", "decimal", "temporal", "uuid", "duration"]
    if depth:
        kinds += ["record", "array", "map"] + ([] if in_union else ["optional"] * 3 + ["union"])
    match draw(st.sampled_from(kinds)):
        case "plain":
            return draw(st.sampled_from(PLAIN))
        case "fixed":
            return {"type": "fixed", "name": fresh(draw), "size": draw(st.integers(1, 20))}
        case "enum":
            return {"type": "enum", "name": fresh(draw), "symbols": ["A", "BB", "CCC"][: draw(st.integers(1, 3))]}
        case "decimal":
            return draw(decimals())
        case "temporal":
            of, name = draw(st.sampled_from(TEMPORAL))
            return {"type": of, "logicalType": name}
        case "uuid":
            return {"type": "fixed", "name": fresh(draw), "size": 16, "logicalType": "uuid"}
        case "duration":
            return {"type": "fixed", "name": fresh(draw), "size": 12, "logicalType": "duration"}
        case "record":
            return draw(records(depth - 1))
        case "array":
            return {"type": "array", "items": draw(schemas(depth - 1))}
        case "map":
            return {"type": "map", "values": draw(schemas(depth - 1))}
        case "optional":
            other = draw(schemas(depth - 1, in_union=True))
            return draw(st.sampled_from([["null", other], [other, "null"], [other]]))
        case _:
            several = draw(st.lists(schemas(depth - 1, in_union=True), min_size=2, max_size=4, unique_by=branch_kind))
            return several if draw(st.booleans()) else [*several[:1], "null", *several[1:]]


def branch_kind(branch: Schema) -> str:
    if isinstance(branch, str):
        return branch
    return str(branch.get("name", branch["type"]))


def fresh(draw: st.DrawFn) -> str:
    """A name for a type: unlike all others of the schema, with great likelihood."""
    return f"T{draw(st.uuids()).hex}"


@st.composite
def decimals(draw: st.DrawFn) -> Schema:
    size = draw(st.none() | st.integers(1, 20))
    most = 38 if size is None else min(38, math.floor((8 * size - 1) * math.log10(2)))
    precision = draw(st.integers(1, most))
    shape = {"logicalType": "decimal", "precision": precision, "scale": draw(st.integers(0, precision))}
    return {"type": "bytes", **shape} if size is None else {"type": "fixed", "name": fresh(draw), "size": size, **shape}


@st.composite
def records(draw: st.DrawFn, depth: int = 3) -> Schema:
    names = draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=5, unique=True))
    fields = [{"name": name, "type": draw(schemas(depth))} for name in names]
    return {"type": "record", "name": fresh(draw), "fields": fields}


def varint(number: int, padding: int = 0) -> bytes:
    """As the specification says, then `padding` bytes that change nothing."""
    raw = (number << 1) ^ (number >> 63)
    raw &= 2**64 - 1
    out = []
    while raw > 0x7F:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    out.append(raw)
    return bytes(out) if not padding else bytes([*out[:-1], out[-1] | 0x80, *[0x80] * (padding - 1), 0])


longs = st.integers(-70, 70) | st.integers(-(2**31), 2**31 - 1) | st.integers(-(2**63), 2**63 - 1)
paddings = st.sampled_from([0] * 30 + [1, 2, 9])


@st.composite
def bodies(draw: st.DrawFn, schema: Schema) -> bytes:
    """Bytes of a value; all that reads them accepts most of them."""
    if isinstance(schema, list):
        place = draw(st.integers(0, len(schema) - 1))
        held = b"" if schema[place] == "null" else draw(bodies(schema[place]))
        return varint(place, draw(paddings)) + held
    if isinstance(schema, str):
        return draw(plain_bodies(schema))
    match schema["type"]:
        case "record":
            return b"".join(draw(bodies(field["type"])) for field in schema["fields"])
        case "array":
            return draw(blocks(bodies(schema["items"])))
        case "map":
            return draw(blocks(st.tuples(plain_bodies("string"), bodies(schema["values"])).map(b"".join)))
        case "enum":
            return varint(draw(st.integers(0, len(schema["symbols"]) - 1)))
        case "fixed":
            size = schema["size"]
            if schema.get("logicalType") != "decimal":
                return draw(st.binary(min_size=size, max_size=size))
            return draw(unscaled(schema)).to_bytes(size, "big", signed=True)
        case "bytes" if schema.get("logicalType") == "decimal":
            number = draw(unscaled(schema))
            size = (number.bit_length() + 8) // 8 + draw(st.sampled_from([0, 0, 0, 1, 9]))
            return varint(size) + number.to_bytes(size, "big", signed=True)
        case _ if "logicalType" in schema:
            return varint(draw(moments(schema["logicalType"])))
        case kind:
            return draw(plain_bodies(kind))


def unscaled(schema: Schema) -> st.SearchStrategy[int]:
    most = 10 ** schema["precision"] - 1
    return st.integers(-most, most) | st.sampled_from([most, -most])


def moments(kind: str) -> st.SearchStrategy[int]:
    if kind == "date":
        return st.integers(-719162, 2932896)
    if kind.startswith("time-"):
        return st.integers(0, 86_400_000 * (1 if kind == "time-millis" else 1000) - 1)
    unit = {"millis": 10**3, "micros": 10**6, "nanos": 10**9}[kind.rpartition("-")[2]]
    seconds = st.integers(-62135596800, 253402300799) if unit < 10**9 else st.integers(-(9 * 10**9), 9 * 10**9)
    return st.tuples(seconds, st.integers(0, min(unit, 10**6) - 1)).map(
        lambda found: found[0] * unit + found[1] * max(1, unit // 10**6)
    )


def plain_bodies(kind: str) -> st.SearchStrategy[bytes]:
    match kind:
        case "boolean":
            return st.sampled_from([b"\0", b"\1"])
        case "int":
            return st.tuples(st.integers(-70, 70) | st.integers(-(2**31), 2**31 - 1), paddings).map(
                lambda found: varint(found[0], min(found[1], 5))
            )
        case "long":
            return longs.map(varint)
        case "float":
            return st.floats(width=32, allow_nan=False).map(lambda number: struct.pack("<f", number))
        case "double":
            return st.floats(allow_nan=False).map(lambda number: struct.pack("<d", number))
        case "string":
            return st.text(max_size=12).map(lambda text: varint(len(text.encode())) + text.encode())
        case _:
            return st.binary(max_size=80).map(lambda data: varint(len(data)) + data)


@st.composite
def blocks(draw: st.DrawFn, item: st.SearchStrategy[bytes]) -> bytes:
    out = b""
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        items = draw(st.lists(item, min_size=1, max_size=draw(st.sampled_from([3, 3, 3, 40]))))
        held = b"".join(items)
        sized = draw(st.booleans())
        out += varint(-len(items) if sized else len(items)) + (varint(len(held)) if sized else b"") + held
    return out + varint(0)


ODD = [b"", b"\x00", b"\x01", b"\x02", b"\x7f", b"\xff", b"\x80", b"\xff" * 9 + b"\x01", b"\xff" * 9 + b"\x02", b"\xff" * 11]


def damaged(body: bytes) -> st.SearchStrategy[bytes]:
    cut = st.integers(0, len(body)).map(lambda at: body[:at])
    odd = st.sampled_from(ODD) | st.binary(max_size=3)
    spoilt = st.tuples(st.integers(0, len(body)), odd, st.integers(0, 2)).map(
        lambda found: body[: found[0]] + found[1] + body[found[0] + found[2] :]
    )
    return cut | spoilt | odd | odd.map(lambda more: body + more)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Schema, list[bytes]]:
    schema = draw(records() | schemas())
    some = draw(st.lists(bodies(schema), min_size=1, max_size=6))
    values = [draw(damaged(body)) if draw(st.integers(0, 3)) == 0 else body for body in some]
    # More lanes than go alone, so that both ways of finding items are taken.
    return schema, values * draw(st.sampled_from([1, 1, 20]))


@settings(max_examples=100, deadline=None)
@given(cases(), st.booleans(), st.sampled_from([1, 3, 64, 1024]))
def test_same_rows_and_rejects_as_the_reference(case: tuple[Schema, list[bytes]], floors: bool, rows: int) -> None:
    schema, values = case
    expected, refused = [], []
    for place, value in enumerate(values):
        try:
            expected.append(Reference(value, floors=floors).value(schema))
        except Refused:
            refused.append(place)

    decoded = AvroFormat(parse(json.dumps(schema)), floors=floors, rows=rows).decode(values)

    decoded.rows.validate(full=True)
    rows_ = decoded.rows.to_pylist()
    if not (isinstance(schema, dict) and schema["type"] == "record"):
        rows_ = [row["value"] for row in rows_]
    assert repr(rows_) == repr(expected), "as text, since NaN is unlike itself"
    assert [reject.index for reject in decoded.rejects] == refused
    kept = [place for place in range(len(values)) if place not in set(refused)]
    assert (list(range(len(values))) if decoded.kept is None else decoded.kept.to_pylist()) == kept
    assert all(reject.reason.startswith("$") and reject.kind is not RejectKind.TOMBSTONE for reject in decoded.rejects)


def without_apart(schema: Schema) -> Schema:
    """The schema without the logical types that fastavro leaves or reads as another thing."""
    if isinstance(schema, list):
        return [without_apart(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: without_apart(value) if key in ("type", "items", "values") else value for key, value in schema.items()}
    if "fields" in plain:
        plain["fields"] = [{**field, "type": without_apart(field["type"])} for field in plain["fields"]]
    if plain.get("logicalType") in KEPT_APART:
        del plain["logicalType"]
    return plain


@settings(max_examples=80, deadline=None)
@given(cases())
def test_the_reference_reads_as_fastavro_but_for_what_that_overlooks(case: tuple[Schema, list[bytes]]) -> None:
    schema, values = without_apart(case[0]), case[1]
    parsed = fastavro.parse_schema(schema)
    for value in values:
        try:
            expected = Reference(value).value(schema)
        except Refused as refusal:
            if refusal.everywhere:
                try:
                    found = by_fastavro(value, parsed)
                except Refused:
                    continue
                raise AssertionError(f"fastavro reads {found!r} where the reference says {refusal}") from refusal
            continue
        assert told(by_fastavro(value, parsed)) == told(as_fastavro(expected, schema))
