"""The JSON format agrees with a slow reference on any schema, any records and any cutting into blocks."""

from __future__ import annotations

import base64
import json

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.topics.formats.format import RejectKind
from lakeflow.topics.formats.json import JsonFormat
from tests.property.json_reference import Refused, row_of

SCALARS = [
    *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string()),
    *(pa.binary(), pa.binary(2)),
    *(pa.date32(), pa.time64("us"), pa.timestamp("us"), pa.timestamp("us", "UTC")),
]
NAMES = st.sampled_from(["a", "b", "c", "key", "Ünïcode", "with space", "a.b"])

decimals = st.integers(1, 38).flatmap(lambda digits: st.builds(pa.decimal128, st.just(digits), st.integers(0, digits)))
scalars = st.sampled_from(SCALARS) | decimals


def fields(types: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[list[pa.Field]]:
    one = st.tuples(NAMES, types, st.booleans())
    several = st.lists(one, min_size=1, max_size=4, unique_by=lambda field: field[0])
    return several.map(lambda found: [pa.field(name, type_, nullable) for name, type_, nullable in found])


def nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    item = st.tuples(inner, st.booleans())
    return (
        fields(inner).map(pa.struct)
        | item.map(lambda found: pa.list_(pa.field("element", *found)))
        | item.map(lambda found: pa.map_(pa.string(), pa.field("value", *found)))
    )


schemas = fields(st.recursive(scalars, nested, max_leaves=4)).map(pa.schema)

ODD_TEXTS = """
null NaN 1 ١ +1 .5 5. 1_0 0x1 1e400 0e400 -0 é YQ== YQ= YQ YW-_
2013-01-01 2013-02-30 0000-01-01 0001-01-01 9999-12-31 13-1-1 20130101 2013-W01-1 2013-01-01T05 2013-01-01T05:00
2013-01-01T05:00:00.1 2013-01-01T05:00:00.1234567 2013-01-01T24:00:00 2013-01-01T05:00:00,5 2013-01-01T05:00:60
2013-01-01T05:00:00Z 2013-01-01T05:00:00z 2013-01-01T05Z 2013-01-01Z 2013-01-01T05:00+01 2013-01-01T05:00-0130
0001-01-01T00:00:00+14:00 9999-12-31T23:59:59.999999-14:00 2013-01-01T05:00:00+24:00 2013-01-01x05:00:00
0000-12-31T23:30:00-05:30
05 05:00 05:00:00.5 24:00 5:00 05:00Z 0500 T05:00
"""
odd_texts = st.sampled_from([*ODD_TEXTS.split(), "", " ", " 1", "\x7f", "2013-01-01 05:00:00", "2013-01-01  05:00"])

ODD_TOKENS = r"""
null true false nul 0 -0 1 1.0 1.5 1e3 1E-2 127 128 -129 32768 2147483648 -2147483649 0.1 1.10
9223372036854775807 9223372036854775808 -9223372036854775808 -9223372036854775809 12345678901234567890.12345678
3.4028235e38 3.4028236e38 1e308 1e309 1e-400 NaN Infinity -Infinity 01 1. .5 +1 0x1 --1
[] {} [1] [null] [1,] {"a":1} {"a":1,} {"a":1,"a":2} {"a":"x","a":2}
"\ud800" "\udc00\ud800" "\ud83d\ude00" "\u0000" "\x"
"""
odd_tokens = st.sampled_from([*ODD_TOKENS.split(), "9" * 39, "9" * 400, "1." + "0" * 40, "[1 2]", '"a\nb"'])

numbers = (
    st.integers(-(2**70), 2**70).map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str)
)
texts = st.text(max_size=8) | odd_texts | numbers


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=len(text) % 2 == 0)


anything = odd_tokens | numbers | texts.map(quoted)


def token(type_: pa.DataType, nullable: bool) -> st.SearchStrategy[str]:
    """Mostly JSON that fits `type_`."""
    odd = st.sampled_from(range(30)).flatmap(lambda roll: anything if roll == 0 else st.just("null" if nullable else "{}"))
    return st.integers(0, 19).flatmap(lambda roll: odd if roll == 0 else fitting(type_))


def fitting(type_: pa.DataType) -> st.SearchStrategy[str]:
    if pa.types.is_struct(type_):
        return objects(list(type_))
    if pa.types.is_list(type_):
        item = token(type_.value_field.type, type_.value_field.nullable)
        return st.lists(item, max_size=3).map(lambda items: f"[{','.join(items)}]")
    if pa.types.is_map(type_):
        item = token(type_.item_field.type, type_.item_field.nullable)
        entry = st.tuples(st.text(max_size=2).map(quoted), item).map(":".join)
        return st.lists(entry, max_size=3).map(lambda entries: "{" + ",".join(entries) + "}")
    if pa.types.is_decimal(type_):
        whole, part = 10 ** (type_.precision - type_.scale) - 1, 10**type_.scale - 1
        number = st.tuples(st.integers(-whole, whole), st.integers(0, part)).map(
            lambda found: f"{found[0]}.{str(found[1]).rjust(type_.scale, '0')}" if type_.scale else str(found[0])
        )
        return number | number.map(quoted)
    if type_ == pa.bool_():
        return st.sampled_from(["true", "false"])
    if pa.types.is_integer(type_):
        half = 2 ** (type_.bit_width - 1)
        return st.integers(-half, half - 1).map(str)
    if pa.types.is_floating(type_):
        return st.floats(width=type_.bit_width, allow_nan=False, allow_infinity=False).map(repr) | st.integers(-999, 999).map(
            str
        )
    return plain_text(type_).map(quoted)


def plain_text(type_: pa.DataType) -> st.SearchStrategy[str]:
    if type_ == pa.string():
        return st.text(max_size=12)
    if pa.types.is_fixed_size_binary(type_):
        size = type_.byte_width
        return st.binary(min_size=size, max_size=size).map(lambda data: base64.b64encode(data).decode())
    if type_ == pa.binary():
        return st.binary(max_size=9).map(lambda data: base64.b64encode(data).decode())
    if type_ == pa.date32():
        return st.dates().map(str)
    if type_ == pa.time64("us"):
        return st.times().map(str)
    zone = st.sampled_from(["Z", "+00:00", "-0530", "+14"] if type_.tz else [""])
    return st.builds(
        lambda moment, separator, zone: moment.isoformat(separator) + zone, st.datetimes(), st.sampled_from("T "), zone
    )


def objects(found: list[pa.Field]) -> st.SearchStrategy[str]:
    """An object of the fields, now and then without one, with one twice, or with an unknown one."""
    given_fields = [st.tuples(st.just(quoted(field.name)), token(field.type, field.nullable)) for field in found]
    extra = st.tuples(st.sampled_from(['"zzz"', '"\\u0061"', '"é"']), anything)
    extras = st.integers(0, 9).flatmap(lambda roll: st.lists(extra, max_size=2) if roll == 0 else st.just([]))
    left_out = st.integers(0, 9).flatmap(lambda roll: st.integers(0, len(found) - 1) if roll == 0 else st.none())

    def written(pairs: tuple[tuple[str, str], ...], more: list[tuple[str, str]], gone: int | None) -> str:
        kept = [pair for place, pair in enumerate(pairs) if place != gone]
        return "{" + ", ".join(f"{name}: {value}" for name, value in kept + more) + "}"

    return st.builds(written, st.tuples(*given_fields), extras, left_out)


def records(schema: pa.Schema) -> st.SearchStrategy[bytes | None]:
    whole = objects(list(schema)).map(lambda text: text.encode("utf-8", "surrogatepass"))
    cut = st.tuples(whole, st.integers(0, 40)).map(lambda found: found[0][: found[1]])
    spoilt = st.tuples(whole, st.integers(0, 60), st.binary(min_size=1, max_size=2)).map(
        lambda found: found[0][: found[1]] + found[2] + found[0][found[1] + 1 :]
    )
    joined = st.tuples(whole, st.sampled_from([b"", b",", b"\n", b" ", b'},"x":{']), whole).map(b"".join)
    tops = st.sampled_from([None, b"", b" ", b"null", b"[]", b"5", b"\xff", b"\xef\xbb\xbf{}", b"{}", b" {} \n", b"[" * 3000])
    return st.integers(0, 19).flatmap(
        lambda roll: [cut, spoilt, joined, tops, anything.map(str.encode)][roll] if roll < 5 else whole
    )


cases = schemas.flatmap(lambda schema: st.tuples(st.just(schema), st.lists(records(schema), max_size=12)))


@settings(max_examples=100, deadline=None)
@given(cases, st.booleans(), st.integers(1, 13))
def test_same_rows_and_rejects_as_the_reference(
    case: tuple[pa.Schema, list[bytes | None]], refuse_unknown: bool, block: int
) -> None:
    schema, values = case
    rows, kept = [], []
    for place, value in enumerate(values):
        try:
            rows.append(row_of(value, schema, refuse_unknown=refuse_unknown))
        except (Refused, RecursionError):
            continue
        kept.append(place)

    decoded = JsonFormat(schema, refuse_unknown=refuse_unknown, block=block).decode(values)

    decoded.rows.validate(full=True)
    assert decoded.rows.schema == schema
    assert decoded.rows.to_pylist() == rows
    assert (list(range(len(values))) if decoded.kept is None else decoded.kept.to_pylist()) == kept
    assert [reject.index for reject in decoded.rejects] == [place for place in range(len(values)) if place not in kept]
    for reject in decoded.rejects:
        assert reject.reason
        assert (reject.kind is RejectKind.TOMBSTONE) == (values[reject.index] is None)
        assert "does not fit the schema" not in reject.reason, "every misfit is explained"
