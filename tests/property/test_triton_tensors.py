"""Tensors of any values, in JSON and in bytes, come back as they were; Triton's own library writes the bytes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.models.providers.triton_settings import InputTensor, OutputTensor
from lakeflow.models.providers.triton_tensors import Shapes, body_of, column_values, tensors_in

utils: Any = pytest.importorskip("tritonclient.utils")

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=6)
REALS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=6)
WHOLE = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6)
KINDS = {"BYTES": (np.object_, pa.string()), "FP32": (np.float32, pa.float32()), "INT64": (np.int64, pa.int64())}
CASES = st.one_of(st.tuples(st.just("BYTES"), TEXTS), st.tuples(st.just("FP32"), REALS), st.tuples(st.just("INT64"), WHOLE))


def by_library(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        packed: bytes = utils.serialize_byte_tensor(np.array([text.encode() for text in values], np.object_)).item()
        return packed
    return np.array(values, KINDS[datatype][0]).tobytes()


@given(CASES, st.booleans())
def test_answers_are_read_alike_in_both_forms(case: tuple[str, list[Any]], more: bool) -> None:
    datatype, values = case
    content = by_library(datatype, values)
    output = {"name": "y", "datatype": datatype, "shape": [len(values), 1]}
    tail = {"name": "z", "datatype": "BOOL", "shape": [1], "parameters": {"binary_data_size": 1}}
    listed = [{**output, "parameters": {"binary_data_size": len(content)}}, *([tail] if more else [])]
    mixed = json.dumps({"outputs": listed}).encode() + content + (b"\1" if more else b"")
    plain = json.dumps({"outputs": [{**output, "data": values}]}).encode()
    column = OutputTensor("y", None, pa.field("y", KINDS[datatype][1]))
    for body, is_mixed in ((mixed, True), (plain, False), (plain, True)):
        assert column_values(column, tensors_in(body, is_mixed), len(values), flat=False) == values


@given(CASES)
def test_rows_are_written_as_the_library_writes_them(case: tuple[str, list[Any]]) -> None:
    datatype, values = case
    tensor = InputTensor("x", ("x",), datatype, 1)
    rows = [{"x": value} for value in values]
    body = body_of([tensor], [], rows, Shapes(False, True, {}), {})
    head, _, content = body.partition(b"\n")
    assert content == by_library(datatype, values)
    assert json.loads(head)["inputs"][0]["shape"] == [len(values), 1]
    plain = json.loads(body_of([tensor], [], rows, Shapes(False, False, {"x": 1}), {}))
    assert plain["inputs"] == [{"name": "x", "shape": [len(values)], "datatype": datatype, "data": values}]
