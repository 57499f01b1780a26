"""The Protobuf format against google.protobuf: a body gives the row that google.protobuf finds in it, or none where it
finds none, whatever its bytes, its neighbours and the blocks they are read in."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.topics.formats.format import Decoded, RejectKind
from lakeflow.topics.formats.protobuf import ProtobufFormat
from tests.property.protobuf_reference import Refused, Undecided, row_of, same
from tests.property.protobuf_schemas import PROTO2, PROTO3, compiled

MESSAGES = ("shop.Order", "shop.Known", "old.Order")
FORMATS = {
    name: ProtobufFormat(compiled(PROTO2 if name.startswith("old") else PROTO3), name, block=4)
    for name in (*MESSAGES, "old.Order.Line")
}
INDEXES = {"shop.Order": b"\0", "shop.Known": b"\x02\x02", "old.Order": b"\0", "old.Order.Line": b"\x04\0\0"}
DECIMALS = ("written", "price", "loose", "exact")
"""Fields that the reference leaves out: their cases stand in the unit tests."""


def varint(number: int, pad: int = 0) -> bytes:
    number &= (1 << 70) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    for _ in range(pad):
        out[-1] |= 0x80
        out.append(0)
    return bytes(out)


NUMBERS = st.one_of(
    st.integers(0, 10),
    st.sampled_from([127, 128, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**66 + 5, 2**69]),
    st.integers(0, 2**64 - 1),
)
PADS = st.sampled_from([0, 0, 0, 0, 1, 3, 8])
PAYLOADS = st.one_of(st.binary(max_size=12), st.text(max_size=4).map(str.encode))


@st.composite
def bodies(draw: st.DrawFn, message: Descriptor, depth: int = 0) -> bytes:
    """Bytes that are nearly fields of `message`: any number of each, in any order, some with wires that they do not go by."""
    out = b""
    for _ in range(draw(st.integers(0, 6 if depth == 0 else 3))):
        out += draw(fields(draw(st.sampled_from(list(message.fields))), depth) if message.fields else strays())
        if draw(st.integers(0, 15)) == 0:
            out += draw(strays())
    return out


@st.composite
def fields(draw: st.DrawFn, field: FieldDescriptor, depth: int) -> bytes:
    kind = field.type
    if kind in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FIXED64, FieldDescriptor.TYPE_SFIXED64):
        wire, payload = 1, draw(st.binary(min_size=8, max_size=8))
    elif kind in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_FIXED32, FieldDescriptor.TYPE_SFIXED32):
        wire, payload = 5, draw(st.binary(min_size=4, max_size=4))
    elif field.message_type is not None:
        wire, payload = 2, draw(bodies(field.message_type, depth + 1)) if depth < 4 else b""
    elif kind in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        wire, payload = 2, draw(PAYLOADS)
    else:
        wire, payload = 0, varint(draw(NUMBERS), draw(PADS))
    if field.is_repeated and wire != 2 and draw(st.booleans()):
        payload = payload * draw(st.integers(0, 3)) + (b"\0" if draw(st.integers(0, 9)) == 0 else b"")
        wire = 2
    if wire == 2:
        payload = varint(len(payload), draw(PADS)) + payload
    return varint(field.number << 3 | wire, draw(st.sampled_from([0] * 12 + [1, 3, 6]))) + payload


@st.composite
def strays(draw: st.DrawFn) -> bytes:
    """Fields of any number, wire and length, groups among them, and tags and lengths out of all bounds."""
    number = draw(st.sampled_from([0, 1, 2, 3, 14, 16, 20, 21, 31, 99, 2**29 - 1, 2**29, 2**32 + 1]))
    match draw(st.integers(0, 7)):
        case 0:
            return varint(number << 3 | 3) + draw(PAYLOADS) + varint(number << 3 | 4)
        case 1:
            return varint(number << 3 | 3) + varint(8) + varint(5) + varint(number << 3 | 4)
        case 2:
            return varint(number << 3 | 2) + varint(2**64 - draw(st.integers(0, 12)) + (draw(st.integers(0, 15)) << 64))
        case 3:
            return draw(st.binary(max_size=6))
        case 4:
            return varint(number << 3) + varint(draw(NUMBERS))
        case 5:
            return varint(number << 3 | 1) + bytes(8)
        case 6:
            return varint(number << 3 | 5) + bytes(4)
        case _:
            payload = draw(PAYLOADS)
            return varint(number << 3 | 2, draw(PADS)) + varint(len(payload)) + payload


@st.composite
def damaged(draw: st.DrawFn, message: Descriptor) -> bytes:
    """Bodies: as they are, cut, or with a byte changed."""
    body = draw(bodies(message))
    match draw(st.integers(0, 5)):
        case 0 if body:
            return body[: draw(st.integers(0, len(body) - 1))]
        case 1 if body:
            place = draw(st.integers(0, len(body) - 1))
            return body[:place] + bytes([draw(st.integers(0, 255))]) + body[place + 1 :]
        case _:
            return body


def rows_by_place(decoded: Decoded, count: int) -> dict[int, dict[str, Any]]:
    decoded.rows.validate(full=True)
    kept = range(count) if decoded.kept is None else decoded.kept.to_pylist()
    assert list(kept) == sorted(kept)
    assert sorted([*kept, *(reject.index for reject in decoded.rejects)]) == list(range(count))
    return dict(zip(kept, decoded.rows.to_pylist(), strict=True))


def is_utf8_in_proto2(name: str, reason: str) -> bool:
    """Of text that is no UTF-8, proto2 makes no error until it is read, and where it is overwritten never."""
    return name.startswith("old") and "UTF-8" in reason


@pytest.mark.parametrize("name", [*MESSAGES, "old.Order.Line"])
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_each_body_gives_what_google_protobuf_finds_in_it(name: str, data: st.DataObject) -> None:
    format_ = FORMATS[name]
    message = compiled(PROTO2 if name.startswith("old") else PROTO3)
    descriptor: Descriptor = message.message_types_by_name[name.split(".")[1]]
    if name.endswith("Line"):
        descriptor = descriptor.nested_types_by_name["Line"]
    drawn = data.draw(st.lists(damaged(descriptor), min_size=1, max_size=9))
    decoded = format_.decode([INDEXES[name] + body for body in drawn])
    rows = rows_by_place(decoded, len(drawn))
    reasons = {reject.index: reject.reason for reject in decoded.rejects}
    for place, body in enumerate(drawn):
        try:
            wanted = row_of(GetMessageClass(descriptor)(), body)
        except Undecided:
            continue
        except (Refused, UnicodeDecodeError):
            assert place in reasons, body
            continue
        if place in reasons:
            decimals = any(f".{column} is" in reasons[place] for column in DECIMALS)
            assert decimals or is_utf8_in_proto2(name, reasons[place]), (body, reasons[place])
            continue
        found = rows[place]
        assert found.keys() == wanted.keys()
        for column in found.keys() - set(DECIMALS):
            assert same(found[column], wanted[column]), (body, column, found[column], wanted[column])


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_body_is_judged_by_itself(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(MESSAGES))
    descriptor = compiled(PROTO2 if name.startswith("old") else PROTO3).message_types_by_name[name.split(".")[1]]
    drawn = [INDEXES[name] + body for body in data.draw(st.lists(damaged(descriptor), min_size=2, max_size=9))]
    together = FORMATS[name].decode(drawn)
    rows = rows_by_place(together, len(drawn))
    reasons = {reject.index: reject.reason for reject in together.rejects}
    for place, body in enumerate(drawn):
        alone = FORMATS[name].decode([body])
        if place in rows:
            assert all(same(rows[place][column], value) for column, value in as_maps(alone.rows.to_pylist()[0]).items())
        else:
            assert [reject.reason for reject in alone.rejects] == [reasons[place]]
            assert alone.rejects[0].kind in (RejectKind.MALFORMED, RejectKind.MISFIT)


def as_maps(row: dict[str, Any]) -> dict[str, Any]:
    """Lists of pairs as dicts, as `same` wants the right side of maps."""
    return {name: dict(value) if is_pairs(value) else value for name, value in row.items()}


def is_pairs(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], tuple)
