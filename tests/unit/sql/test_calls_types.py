"""Queries and frames agree on what may stand for INPUT, and on the names of OUTPUT."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.models import columns as frames
from lakeflow.sql import calls_types as queries

KINDS = [
    pa.null(), pa.bool_(), pa.int8(), pa.int32(), pa.int64(), pa.uint16(), pa.float32(), pa.float64(), pa.decimal128(5, 2),
    pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.date32(), pa.time64("us"),
    pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("us", tz="UTC"), pa.list_(pa.int64()), pa.list_(pa.float32()),
    pa.list_(pa.float32(), 3), pa.large_list(pa.string()), pa.dictionary(pa.int8(), pa.string()), pa.struct([("a", pa.int8())]),
]  # fmt: skip


@pytest.mark.parametrize("declared", KINDS, ids=str)
def test_casts_are_meant_alike(declared: pa.DataType) -> None:
    for kind in KINDS:
        assert queries.castable(kind, declared) == frames.castable(kind, declared), kind


@given(
    existing=st.lists(st.sampled_from(["a", "a0", "a1", "b"])), wanted=st.lists(st.sampled_from(["a", "b", "a0"]), unique=True)
)
def test_names_that_are_taken_get_the_same_number(existing: list[str], wanted: list[str]) -> None:
    assert queries.output_names(existing, wanted) == frames.output_names(existing, wanted)


def test_case_does_not_tell_names_apart() -> None:
    assert queries.output_names(["Late", "LATE0"], ["late", "LATE"]) == ["late1", "LATE2"]
