"""Raw values: one column, exact widths."""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa
import pytest

from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.topics.formats import Opening, open_format
from lakeflow.topics.formats.format import RejectKind
from tests.unit.topics.formats.known import sound


def column(type_: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field("v", type_, nullable=False)])


NUMBERS: list[tuple[pa.DataType, str, list[Any]]] = [
    (pa.bool_(), "?", [True, False]),
    (pa.int8(), "b", [-128, 127]),
    (pa.int16(), "h", [-(2**15), 1]),
    (pa.int32(), "i", [2**31 - 1, -1]),
    (pa.int64(), "q", [-(2**63), 7]),
    (pa.float32(), "f", [0.5, float("inf")]),
    (pa.float64(), "d", [0.1, -0.0]),
]


@pytest.mark.parametrize(("order", "sign"), [("big-endian", ">"), ("little-endian", "<")])
@pytest.mark.parametrize(("type_", "code", "values"), NUMBERS)
def test_numbers_are_read_in_either_byte_order(type_: pa.DataType, code: str, values: list[Any], order: str, sign: str) -> None:
    written = [struct.pack(sign + code, value) for value in values]
    decoded = sound(open_format("raw", Opening(column(type_), {"raw.endianness": order})).decode(written), 2)
    assert decoded.rows.schema == column(type_)
    assert decoded.rows.column(0).to_pylist() == values


@pytest.mark.parametrize(("type_", "code", "values"), NUMBERS)
def test_another_width_is_malformed_and_takes_no_neighbour_along(type_: pa.DataType, code: str, values: list[Any]) -> None:
    good = struct.pack(">" + code, values[0])
    decoded = sound(open_format("raw", Opening(column(type_))).decode([good + b"\0", good, b"", good[1:], None, good]), 6)
    assert decoded.rows.column(0).to_pylist() == [values[0]] * 2
    assert [(reject.index, reject.kind) for reject in decoded.rejects] == [
        (0, RejectKind.MALFORMED),
        (2, RejectKind.MALFORMED),
        (3, RejectKind.MALFORMED),
        (4, RejectKind.TOMBSTONE),
    ]
    assert f"{len(good) + 1} bytes" in decoded.rejects[0].reason


def test_a_boolean_is_zero_or_one() -> None:
    decoded = sound(open_format("raw", Opening(column(pa.bool_()))).decode([b"\2", b"\1"]), 2)
    assert [reject.reason for reject in decoded.rejects] == ["the value is 1 bytes, b'\\x02'; wanted 0 or 1 in one byte"]


def test_text_is_utf8() -> None:
    decoded = sound(open_format("raw", Opening(column(pa.string()))).decode(["Zoë".encode(), b"\xff", b"", None, b"a\xc3"]), 5)
    assert decoded.rows.column(0).to_pylist() == ["Zoë", ""]
    assert [(reject.index, reject.kind) for reject in decoded.rejects] == [
        (1, RejectKind.MALFORMED),
        (3, RejectKind.TOMBSTONE),
        (4, RejectKind.MALFORMED),
    ]


def test_bytes_are_as_they_are() -> None:
    decoded = sound(open_format("raw", Opening(column(pa.binary()))).decode([b"\xff", b""]), 2)
    assert decoded.rows.column(0).to_pylist() == [b"\xff", b""]
    assert sound(open_format("raw", Opening(column(pa.binary()))).decode([]), 0).rows.num_rows == 0


@pytest.mark.parametrize("side", ["value", "key"])
def test_without_columns_there_is_one_of_bytes(side: Any) -> None:
    found = open_format("raw", Opening(None, side=side))
    assert found.schema() == pa.schema([pa.field(side, pa.binary())])
    assert found.decode([b"a"]).rows.to_pylist() == [{side: b"a"}]


def test_what_raw_cannot_give_is_refused() -> None:
    with pytest.raises(DeclarationError, match="one column, and 2 are declared: a, b"):
        open_format("raw", Opening(pa.schema([("a", pa.string()), ("b", pa.string())])))
    with pytest.raises(DeclarationError, match=r"column v is of date32\[day\], which format raw cannot give; valid: STRING"):
        open_format("raw", Opening(column(pa.date32())))
    with pytest.raises(DeclarationError, match=r"'raw\.endianness' is 'big'; valid: big-endian, little-endian"):
        open_format("raw", Opening(column(pa.int32()), {"raw.endianness": "big"}))
    with pytest.raises(UnknownName, match=r"raw\.charset"):
        open_format("raw", Opening(column(pa.string()), {"raw.charset": "UTF-16"}))
