"""Avro records to rows: each kind of bad record is rejected alone, with its field, whatever stands beside it."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pyarrow as pa
import pytest

from lakeflow.errors import ConfigError, DeclarationError, UnknownName
from lakeflow.topics.formats import Opening, open_format
from lakeflow.topics.formats.avro import BYTES, AvroFormat
from lakeflow.topics.formats.avro_schema import parse
from lakeflow.topics.formats.format import RejectKind
from lakeflow.topics.registered import Reference, SchemaKind
from lakeflow.topics.registry_client import HttpRegistry
from tests.rig.registry import SchemaRegistry

FIELDS = {
    "id": "long",
    "count": "int",
    "ok": "boolean",
    "name": "string",
    "state": {"type": "enum", "name": "State", "symbols": ["NEW", "OLD"]},
    "note": ["null", "string"],
    "tags": {"type": "array", "items": "string"},
    "day": {"type": "int", "logicalType": "date"},
    "price": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2},
}
SCHEMA = {"type": "record", "name": "Order", "fields": [{"name": name, "type": type_} for name, type_ in FIELDS.items()]}
PARSED = fastavro.parse_schema(SCHEMA)


def good_parts() -> dict[str, bytes]:
    return {
        "id": b"\x02",
        "count": b"\x04",
        "ok": b"\x01",
        "name": b"\x06abc",
        "state": b"\x00",
        "note": b"\x02\x02x",
        "tags": b"\x04\x02a\x02b\x00",
        "day": b"\x02",
        "price": b"\x04\x03\xe8",
    }


def body(**parts: bytes) -> bytes:
    """A good record but for some of its parts."""
    return b"".join({**good_parts(), **parts}.values())


GOOD = body()
ROW = {"id": 1, "count": 2, "ok": True, "name": "abc", "state": "NEW", "note": "x", "tags": ["a", "b"]}


def avro(**more: Any) -> AvroFormat:
    return AvroFormat(parse(json.dumps(SCHEMA)), **more)


MALFORMED, MISFIT = RejectKind.MALFORMED, RejectKind.MISFIT
TOO_LONG = b"\xff" * 10 + b"\x01"

BAD = [
    (b"", MALFORMED, "$.id: the record ends within it"),
    (GOOD[:5], MALFORMED, "$.name: the record ends within it"),
    (GOOD[:-1], MALFORMED, "$.price: the record ends within it"),
    (GOOD + b"\x00\x00", MALFORMED, "$: 2 bytes follow the record"),
    (GOOD + GOOD, MALFORMED, f"$: {len(GOOD)} bytes follow the record"),
    (body(id=TOO_LONG), MALFORMED, "$.id: a number of more than 64 bits"),
    (body(id=b"\xff" * 9 + b"\x02"), MALFORMED, "$.id: a number of more than 64 bits"),
    (body(count=b"\x80\x80\x80\x80\x10"), MALFORMED, "$.count: 2147483648 is no int of 32 bits"),
    (body(ok=b"\x02"), MALFORMED, "$.ok: a boolean of byte 2; valid: 0, 1"),
    (body(name=b"\x01"), MALFORMED, "$.name: a length of -1"),
    (body(name=b"\x04\xc3("), MALFORMED, "$.name: its text is not UTF-8"),
    (body(name=b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01abc"), MALFORMED, "$.name: the record ends within it"),
    (body(state=b"\x04"), MALFORMED, "$.state: symbol 2 of an enum that has 2"),
    (body(state=b"\x01"), MALFORMED, "$.state: symbol -1 of an enum that has 2"),
    (body(note=b"\x04"), MALFORMED, "$.note: branch 2 of a union that has 2"),
    (body(note=b"\x03"), MALFORMED, "$.note: branch -2 of a union that has 2"),
    (body(tags=b"\x04\x02a\x03b\x00"), MALFORMED, "$.tags[]: a length of -2"),
    (body(tags=b"\xfe\xff\x7f\x02a\x00"), MALFORMED, "$.tags: more items are said to come than the record has bytes"),
    (body(tags=b"\x02\x04\xc3(\x00"), MALFORMED, "$.tags[]: its text is not UTF-8"),
    (body(tags=b"\xff" * 9 + b"\x01\x00\x02a\x00"), MALFORMED, "$.tags: more items are said to come than the record has bytes"),
    (body(day=b"\xfe\xff\xff\xff\x0f"), MISFIT, "$.day: 2147483647 is outside the range of date"),
    (body(price=b"\x04\x27\x10"), MISFIT, "$.price: its number does not fit in 4 digits"),
    (body(price=b"\x22\x01" + bytes(16)), MISFIT, "$.price: its number does not fit in 4 digits"),
    (body(price=b"\x00"), MALFORMED, "$.price: a decimal of no bytes"),
]


def test_a_good_record() -> None:
    decoded = avro().decode([GOOD])
    assert decoded.rejects == ()
    assert decoded.kept is None
    assert decoded.rows.to_pylist() == [fastavro.schemaless_reader(io.BytesIO(GOOD), PARSED, None)]
    assert {name: decoded.rows.to_pylist()[0][name] for name in ROW} == ROW


@pytest.mark.parametrize("beside", [0, 1, 40])
@pytest.mark.parametrize(("value", "kind", "reason"), BAD)
def test_a_bad_record_is_found_exactly_and_alone(value: bytes, kind: RejectKind, reason: str, beside: int) -> None:
    decoded = avro().decode([GOOD] * beside + [value] + [GOOD] * beside)
    assert [(reject.index, reject.kind) for reject in decoded.rejects] == [(beside, kind)]
    assert decoded.rejects[0].reason == reason
    assert decoded.rows.to_pylist() == avro().decode([GOOD] * 2 * beside).rows.to_pylist()
    if beside:
        assert decoded.kept is not None
        assert decoded.kept.to_pylist() == [place for place in range(2 * beside + 1) if place != beside]


def test_all_bad_records_at_once_among_good_ones() -> None:
    values = [value for bad, _, _ in BAD for value in (GOOD, bad)]
    decoded = avro(rows=7).decode(values)
    assert [reject.index for reject in decoded.rejects] == list(range(1, len(values), 2))
    assert [reject.reason for reject in decoded.rejects] == [reason for _, _, reason in BAD]
    assert decoded.rows.to_pylist() == avro().decode([GOOD] * len(BAD)).rows.to_pylist()


def test_nothing_but_bad_records_and_no_record_at_all() -> None:
    decoded = avro().decode([b"", None])
    assert [reject.kind for reject in decoded.rejects] == [MALFORMED, RejectKind.TOMBSTONE]
    assert decoded.rows.num_rows == 0
    nothing = avro().decode([])
    assert nothing.rejects == ()
    assert nothing.rows.schema == avro().schema()


def test_many_broken_texts_are_all_found() -> None:
    values = [body(name=b"\x04\xc3(") if place % 3 else GOOD for place in range(500)]
    assert [reject.index for reject in avro().decode(values).rejects] == [place for place in range(500) if place % 3]


LISTS = {
    "numbers": {"type": "array", "items": "long"},
    "ratios": {"type": "array", "items": "double"},
    "texts": {"type": "array", "items": ["null", "string"]},
    "deep": {"type": "array", "items": {"type": "array", "items": {"type": "map", "values": "int"}}},
}
LISTS_SCHEMA = {"type": "record", "name": "Lists", "fields": [{"name": name, "type": type_} for name, type_ in LISTS.items()]}


def lists(count: int, step: int) -> dict[str, Any]:
    return {
        "numbers": [step * number * 10**6 for number in range(count)],
        "ratios": [number / 3 for number in range(count)],
        "texts": [None if number % 3 else "t" * (number % 90) for number in range(count)],
        "deep": [[{"k": step, f"n{inner}": outer} for inner in range(outer % 3)] for outer in range(count % 50)],
    }


@pytest.mark.parametrize("counts", [[0], [1], [5000], [3] * 100, [*range(60)], [2000, 0, 1] * 9], ids=len)
def test_lists_short_and_long_of_few_records_and_of_many(counts: list[int]) -> None:
    rows = [lists(count, step) for step, count in enumerate(counts)]
    values = []
    for row in rows:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fastavro.parse_schema(LISTS_SCHEMA), row)
        values.append(out.getvalue())
    format_ = AvroFormat(parse(json.dumps(LISTS_SCHEMA)))
    decoded = format_.decode(values)
    decoded.rows.validate(full=True)
    assert decoded.rejects == ()
    maps_as_dicts = [
        {**row, "deep": [[dict(entries) for entries in inner] for inner in row["deep"]]} for row in decoded.rows.to_pylist()
    ]
    assert maps_as_dicts == rows


def test_blocks_of_one_item_and_blocks_with_their_size() -> None:
    format_ = AvroFormat(parse('{"type": "array", "items": "string"}'))
    single = b"\x02\x02x" * 300 + b"\x00"
    sized = b"\x03\x08\x02a\x02b" * 3 + b"\x00"
    for beside in (1, 50):
        decoded = format_.decode([single, sized] * beside)
        assert decoded.rows.to_pylist() == [{"value": ["x"] * 300}, {"value": ["a", "b"] * 3}] * beside


CUT_LISTS = [
    ('{"type": "array", "items": "string"}', b"\x06\x02a\x02b\x02c", "$: the record ends within it"),
    ('{"type": "array", "items": "string"}', b"\x06\x02a\x02b\x04c", "$[]: the record ends within it"),
    ('{"type": "array", "items": "long"}', b"\x04\x02\x80\x80", "$: the record ends within it"),
    ('{"type": "array", "items": "long"}', b"\x04\x02\x04", "$: the record ends within it"),
    ('{"type": "array", "items": "double"}', b"\x04" + bytes(15), "$: the record ends within it"),
    ('{"type": "array", "items": "double"}', b"\xd0\x0f" + bytes(1500), "$: the record ends within it"),
    ('{"type": "array", "items": ["null", "int", "string"]}', b"\x06\x00\x00\x06\x00", "$[]: branch 3 of a union that has 3"),
    ('{"type": "map", "values": "boolean"}', b"\x04\x00\x01\x00\x03\x00", "${}: a boolean of byte 3; valid: 0, 1"),
]


@pytest.mark.parametrize("beside", [0, 40])
@pytest.mark.parametrize(("schema", "value", "reason"), CUT_LISTS)
def test_lists_that_do_not_end_in_their_record(schema: str, value: bytes, reason: str, beside: int) -> None:
    decoded = AvroFormat(parse(schema)).decode([value] * (1 + beside) + [b"\0"])
    assert [reject.reason for reject in decoded.rejects] == [reason] * (1 + beside)
    assert decoded.rows.to_pylist() == [{"value": []}]


def test_items_whose_union_takes_the_shorter_branch() -> None:
    wide = {"type": "array", "items": ["int", {"type": "fixed", "name": "Long", "size": 900}]}
    decoded = AvroFormat(parse(json.dumps(wide))).decode([b"\x02\x00\x02\x00"])
    assert decoded.rows.to_pylist() == [{"value": [{"int": 1, "Long": None}]}]


def test_large_records_go_in_blocks_of_bounded_bytes() -> None:
    text = "y" * (BYTES // 3)
    value = b"\xaa\xd5\xaa\x01" + text.encode()
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "string", text)
    assert value == out.getvalue()
    decoded = AvroFormat(parse('"string"')).decode([value] * 7 + [b"\x02"])
    assert decoded.rows.column("value").to_pylist() == [text] * 7
    assert [reject.index for reject in decoded.rejects] == [7]


@pytest.mark.parametrize(("nanoseconds", "microseconds"), [(1_500, 1), (-1_500, -2), (-1, -1), (2_000, 2), (999, 0)])
def test_nanoseconds_are_refused_or_floored(nanoseconds: int, microseconds: int) -> None:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", nanoseconds)
    type_ = parse('{"type": "long", "logicalType": "local-timestamp-nanos"}')
    floored = AvroFormat(type_, floors=True).decode([out.getvalue()])
    assert floored.rows.column("value").cast(pa.int64()).to_pylist() == [microseconds]
    strict = AvroFormat(type_).decode([out.getvalue()])
    if nanoseconds % 1000:
        (reject,) = strict.rejects
        assert reject.kind is MISFIT
        assert reject.reason == f"$: {nanoseconds} has digits below the microsecond, which a table cannot hold"
    else:
        assert strict.rejects == ()


def test_options_are_checked() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'avro-registry\.nanoseconds'"):
        open_format("avro-registry", Opening(None, {"avro-registry.nanosecond": "floor"}))
    with pytest.raises(DeclarationError, match=r"'avro-registry\.nanoseconds' is 'cut'; valid: floor, refuse"):
        open_format("avro-registry", Opening(None, {"avro-registry.nanoseconds": "cut"}))
    with pytest.raises(ConfigError, match="needs a schema registry"):
        open_format("avro-registry", Opening(None, {}, topics=("t",)))


def framed(number: int, data: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + data


def test_several_schemas_of_a_registry_in_one_batch_references_and_what_is_not_there() -> None:
    point = {"type": "record", "name": "Point", "namespace": "geo", "fields": [{"name": "x", "type": "int"}]}
    shape = {"type": "record", "name": "Shape", "fields": [{"name": "at", "type": "geo.Point"}]}
    tree = {"type": "record", "name": "Tree", "fields": [{"name": "next", "type": ["null", "Tree"]}]}
    with SchemaRegistry() as registry:
        registry.store.register("points", SchemaKind.AVRO, json.dumps(point))
        first = registry.store.register("shapes-value", SchemaKind.AVRO, '"long"')
        second = registry.store.register(
            "shapes-value", SchemaKind.AVRO, json.dumps(shape), [Reference("geo.Point", "points", 1)]
        )
        third = registry.store.register("trees-value", SchemaKind.AVRO, json.dumps(tree))
        client = HttpRegistry({"url": registry.url})
        format_ = open_format("avro-registry", Opening(None, {}, topics=("shapes",), registry=client))

        assert format_.schema().names == ["at"]
        values = [
            framed(second, b"\x02"),
            framed(first, b"\x04"),
            b"x",
            framed(99, b""),
            framed(third, b"\0"),
            framed(second, b""),
        ]
        decoded = format_.decode(values)
        client.close()

    parts = {part.rows.schema.names[0]: part for part in decoded.parts}
    assert parts["at"].rows.to_pylist() == [{"at": {"x": 1}}]
    assert parts["value"].rows.to_pylist() == [{"value": 2}]
    assert {name: part.kept and part.kept.to_pylist() for name, part in parts.items()} == {"at": [0], "value": [1]}
    assert [(reject.index, reject.kind) for reject in decoded.rejects] == [
        (2, MALFORMED),
        (3, RejectKind.SCHEMA),
        (4, RejectKind.SCHEMA),
        (5, MALFORMED),
    ]
    assert "$.next is a record 'Tree' within itself" in decoded.rejects[2].reason
