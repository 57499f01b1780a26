"""Columns are proposed that hold every record that was seen."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.topics.formats import Opening, open_format
from lakeflow.topics.formats.json_infer import Inferred, infer

LTZ = pa.timestamp("us", "UTC")


def of(*objects: Any) -> Inferred:
    return infer([json.dumps(one).encode() for one in objects])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, None], pa.bool_()),
        ([1, -5, None], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([2**63, 1], pa.decimal128(38, 0)),
        ([2**63, 1.5], pa.float64()),
        ([10**40], pa.float64()),
        (["x", ""], pa.string()),
        (["2013-01-31T23:59:59Z", "2013-01-31 23:59:59.5+02:00"], LTZ),
        (["2013-01-31T23:59:59"], pa.timestamp("us")),
        (["2013-01-31"], pa.date32()),
        (["23:59:59"], pa.time64("us")),
        (["2013-01-31", "2013-01-31T23:59:59Z"], pa.string()),
        (["12", "2013"], pa.string()),
        ([[1], [], [None, 2]], pa.list_(pa.field("element", pa.int64()))),
        ([{"a": 1}, {"b": "x"}, {}], pa.struct([("a", pa.int64()), ("b", pa.string())])),
    ],
)
def test_a_type_holds_all_that_was_seen(values: list[Any], kind: pa.DataType) -> None:
    assert of(*({"c": value} for value in values)).columns == pa.schema([("c", kind)])


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ([None], "c is left out: it was never anything but null"),
        ([1, "1"], "c is left out: it is numbers and texts"),
        ([True, {"a": 1}], "c is left out: it is true and false and objects"),
        ([[]], "c[] is left out: it was never anything but null"),
        ([{}], "c is left out: no field of its objects has a type"),
        ([{"x": {"y": None}}], "c.x.y is left out: it was never anything but null"),
    ],
)
def test_what_has_no_one_type_is_left_out_and_told(values: list[Any], note: str) -> None:
    inferred = of(*({"c": value} for value in values))
    assert inferred.columns.names == []
    assert inferred.notes[0] == note


def test_of_names_that_differ_by_case_alone_the_first_is_taken() -> None:
    inferred = of({"id": 1, "ID": 2})
    assert (inferred.columns.names, inferred.notes) == (["id"], ("ID is left out: 'id' differs from it by case only",))


def test_what_is_no_object_is_counted() -> None:
    inferred = infer([b"{", None, b"[1]", b'{"a": 1}', b"\xff"])
    assert (inferred.records, inferred.broken, inferred.columns.names) == (5, 4, ["a"])


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.datetimes().map(str),
    st.dates().map(str),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), VALUES), max_size=6))
def test_every_record_that_was_seen_gives_a_row(objects: list[dict[str, Any]]) -> None:
    values = [json.dumps(one).encode() for one in objects]
    columns = infer(values).columns
    if columns.names:
        decoded = open_format("json", Opening(columns)).decode(values)
        assert decoded.rejects == ()
