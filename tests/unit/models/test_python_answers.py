"""What a class may give back, and what is refused with both sides shown."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from lakeflow.errors import ModelError
from lakeflow.models.providers.python_answers import output_columns
from tests.unit.models.classes import spec

Kinds = dict[str, pa.DataType]
TWO: Kinds = {"late": pa.bool_(), "score": pa.float64()}


class Tensor:
    """As those of PyTorch: NumPy may look at it, while it lies in main memory."""

    def __init__(self, values: Any, *, elsewhere: bool = False) -> None:
        self._values = np.asarray(values)
        self._elsewhere = elsewhere

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        if self._elsewhere:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return self._values


def columns(answer: object, output: Kinds, rows: int = 2) -> list[list[Any]]:
    declared = spec(Path(), "models.mine:Mine", output=output, task="classification")
    found = output_columns(declared, answer, rows)
    assert [column.type for column in found] == list(output.values())
    return [column.to_pylist() for column in found]


@pytest.mark.parametrize(
    "answer",
    [
        {"score": [0.5, 1.0], "late": [True, False]},
        {"late": np.array([True, False]), "score": np.array([0.5, 1.0], dtype=np.float32)},
        {"late": pa.array([True, False]), "score": pa.chunked_array([[0.5], [1.0]])},
        {"late": pl.Series([True, False]), "score": Tensor([[0.5], [1.0]])},
        pa.record_batch({"score": [0.5, 1.0], "late": [True, False]}),
        pa.table({"score": [0.5, 1.0], "late": [True, False]}),
        pl.DataFrame({"score": [0.5, 1.0], "late": [True, False]}),
    ],
    ids=["lists", "numpy", "arrow", "series and tensors", "batch", "table", "frame"],
)
def test_several_columns_go_by_name(answer: object) -> None:
    assert columns(answer, TWO) == [[True, False], [0.5, 1.0]]


@pytest.mark.parametrize(
    ("answer", "kind", "expected"),
    [
        ([1, None], pa.int32(), [1, None]),
        ((1, 2), pa.float32(), [1.0, 2.0]),
        ([None, None], pa.string(), [None, None]),
        (np.array(["a", "b"]), pa.string(), ["a", "b"]),
        (np.array(["a", None], dtype=object), pa.large_string(), ["a", None]),
        (pa.array(["a", "a"]).dictionary_encode(), pa.string(), ["a", "a"]),
        (pl.Series(["a", None]), pa.string(), ["a", None]),
        (pl.Series([[1.0], [2.0]]), pa.list_(pa.float32()), [[1.0], [2.0]]),
        (np.ma.masked_array([1, 2], [False, True]), pa.int64(), [1, None]),
        (np.array([[1.0], [2.0]]), pa.float64(), [1.0, 2.0]),
        (np.array([[1.0], [2.0]]), pa.list_(pa.float64()), [[1.0], [2.0]]),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), pa.list_(pa.float32(), 2), [[1.0, 2.0], [3.0, 4.0]]),
        (np.array([[1.0, 2.0], [3.0, 4.0]]).T, pa.list_(pa.float32()), [[1.0, 3.0], [2.0, 4.0]]),
        (Tensor([[1.0, 2.0], [3.0, 4.0]]), pa.large_list(pa.float64()), [[1.0, 2.0], [3.0, 4.0]]),
        ([[1.0, 2.0], None], pa.list_(pa.float32(), 2), [[1.0, 2.0], None]),
        ([{"b": 1, "a": "x"}, None], pa.struct([("a", pa.string()), ("b", pa.int32())]), [{"a": "x", "b": 1}, None]),
        ([datetime.date(2026, 1, 2), None], pa.date32(), [datetime.date(2026, 1, 2), None]),
        ([decimal.Decimal("1.5"), None], pa.decimal128(5, 2), [decimal.Decimal("1.50"), None]),
        ([b"x", None], pa.binary(), [b"x", None]),
    ],
)
def test_one_column_may_stand_alone(answer: object, kind: pa.DataType, expected: list[object]) -> None:
    assert columns(answer, {"y": kind}) == [expected]


def test_nan_stays_nan_and_a_float_that_is_too_large_is_infinite() -> None:
    assert np.isnan(columns([float("nan"), 1.0], {"y": pa.float64()})[0][0])
    assert columns([1e300, 1.0], {"y": pa.float32()})[0][0] == float("inf")


@pytest.mark.parametrize(
    ("answer", "output", "words"),
    [
        ([1.0], {"y": pa.float64()}, "gave 1 values for OUTPUT 'y' to 2 rows"),
        ({"y": [1.0, 2.0], "z": [1, 2]}, {"y": pa.float64()}, "gave the columns y, z; OUTPUT declares y"),
        ({}, {"y": pa.float64()}, "gave the columns none; OUTPUT declares y"),
        ({"late": [True, True]}, TWO, "gave the columns late; OUTPUT declares late, score"),
        ([1.0, 2.0], TWO, "gave list; OUTPUT declares 2 columns, late, score, which a mapping"),
        (None, {"y": pa.float64()}, "gave NoneType for OUTPUT 'y', double, which is no column: valid: a list"),
        ("ab", {"y": pa.string()}, "gave str for OUTPUT 'y'"),
        (1.0, {"y": pa.float64()}, "gave float for OUTPUT 'y'"),
        (np.float64(1.0), {"y": pa.float64()}, "its shape is []; valid: [rows], [rows, width]"),
        (np.zeros((2, 2, 2)), {"y": pa.list_(pa.float64())}, "its shape is [2, 2, 2]"),
        (Tensor([1.0, 2.0], elsewhere=True), {"y": pa.float64()}, "can't convert cuda:0"),
        ([1, "a"], {"y": pa.string()}, "gave list for OUTPUT 'y', string, which is no column"),
        ([2**70, 1], {"y": pa.int64()}, "which is no column: Python int too large"),
        ([1.5, 2.0], {"y": pa.int64()}, "gave double for OUTPUT 'y', which is declared int64; such a cast is not made"),
        ([1, 2], {"y": pa.string()}, "gave int64 for OUTPUT 'y', which is declared string"),
        (["1", "2"], {"y": pa.int64()}, "gave string for OUTPUT 'y', which is declared int64"),
        ([3_000_000_000, 1], {"y": pa.int32()}, "where a value does not fit int32"),
        (np.zeros((2, 3)), {"y": pa.list_(pa.float64(), 2)}, "where a value does not fit fixed_size_list"),
        ([[1.0, 2.0], [1.0]], {"y": pa.list_(pa.float64(), 2)}, "where a value does not fit fixed_size_list"),
        (np.zeros((2, 3)), {"y": pa.float64()}, "gave fixed_size_list<item: double>[3] for OUTPUT 'y'"),
        ([[1.0], [2.0]], {"y": pa.float64()}, "gave list<item: double> for OUTPUT 'y'"),
        ([{"a": 1}, {"a": 2}], {"y": pa.struct([("a", pa.int64()), ("b", pa.int64())])}, "gave struct<a: int64>"),
        ([{"a": "1"}, {"a": "2"}], {"y": pa.struct([("a", pa.int64())])}, "gave struct<a: string>"),
    ],
)
def test_another_shape_is_refused_with_both_sides(answer: object, output: Kinds, words: str) -> None:
    with pytest.raises(ModelError, match=r"model 'm': predict of models\.mine:Mine gave") as caught:
        columns(answer, output)
    assert words in str(caught.value)
