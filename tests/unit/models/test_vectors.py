"""Answers of embedding models, held to what a vector is."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest

from lakeflow.models.vectors import Widths, unfit, without

GIVEN = [[1.0, 2.0], None, [1.0], [math.nan, 1.0], [0.0, 0.0], [1.0, None], [], [math.inf, 1.0]]


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.large_list(pa.float64())])
def test_what_is_no_vector_is_told_by_its_place(kind: pa.DataType) -> None:
    found = unfit(pa.array(GIVEN, kind), Widths())
    assert {place: why.message.split(";")[0] for place, why in sorted(found.items())} == {
        2: "the vector has 1 elements, those before have 2",
        3: "the vector has a NaN, an infinity or a null in it",
        5: "the vector has a NaN, an infinity or a null in it",
        6: "the vector has 0 elements, those before have 2",
        7: "the vector has a NaN, an infinity or a null in it",
    }


def test_the_width_is_that_of_the_first_vector_of_any_batch() -> None:
    widths = Widths()
    kind = pa.list_(pa.float32())
    assert unfit(pa.array([None, None], kind), widths) == {}
    assert unfit(pa.array([[1.0]], kind), widths) == {}
    assert list(unfit(pa.array([[1.0, 2.0], [1.0]], kind), widths)) == [0]
    assert unfit(pa.array([], kind), widths) == {}


def test_lists_of_a_fixed_size_and_slices_are_read_as_they_are() -> None:
    fixed = pa.array([[1.0, 2.0], None, [math.nan, 2.0]], pa.list_(pa.float32(), 2))
    assert list(unfit(fixed, Widths())) == [2]
    assert list(unfit(pa.array(GIVEN, pa.list_(pa.float32())).slice(3, 2), Widths())) == [0]


def test_answers_without_some_are_null_there() -> None:
    rows = pa.record_batch({"v": pa.array([[1.0], [2.0], [3.0]])})
    assert without(rows, unfit(pa.array([[1.0], [math.nan], [2.0]]), Widths())).column(0).to_pylist() == [[1.0], None, [3.0]]
