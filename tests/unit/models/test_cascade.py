"""A second model for the rows that a first one is not sure of, shown by who was asked what."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pytest

from lakeflow.errors import UnknownName, UsageError
from lakeflow.models.lost import Counted
from lakeflow.models.predict import bound, ml_predict
from lakeflow.models.registry import ModelSet
from tests.failing import Failing, spec_of

FRAME = pl.LazyFrame({"id": [1, 2, 3, 4], "x": [1.0, 2.0, 3.0, None]})
SMALL, BIG = spec_of("small"), spec_of("big")


@pytest.fixture
def asked() -> Iterator[dict[str, Failing]]:
    providers = {"small": Failing(SMALL, lambda x: False, factor=1.0), "big": Failing(BIG, lambda x: False, factor=100.0)}
    with ModelSet([SMALL, BIG], lambda spec: providers[spec.name]) as models, bound(models):
        yield providers


def cascade(frame: pl.LazyFrame) -> pl.LazyFrame:
    first = ml_predict(frame.drop_nulls("x"), "small", ["x"], output={"y": "first"})
    return ml_predict(first, "big", ["x"], where=pl.col("first") > 1.5)


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_rows_that_the_condition_does_not_select_cost_no_call(asked: dict[str, Failing], engine: pl._typing.EngineType) -> None:
    rows = cascade(FRAME).collect(engine=engine)
    assert rows["first"].to_list() == [1.0, 2.0, 3.0]
    assert rows["y"].to_list() == [None, 200.0, 300.0]
    assert asked["small"].asked == {1.0: 1, 2.0: 1, 3.0: 1}
    assert asked["big"].asked == {2.0: 1, 3.0: 1}


def test_what_the_first_model_said_may_stand_where_the_second_is_not_asked(asked: dict[str, Failing]) -> None:
    first = ml_predict(FRAME.drop_nulls("x"), "small", ["x"], output={"y": "first"})
    column = ml_predict(first, "big", ["x"], where=pl.col("first") > 1.5, otherwise={"y": "first"}).collect()["y"]
    assert column.to_list() == [1.0, 200.0, 300.0]
    negated = ml_predict(first, "big", ["x"], where=pl.col("first") > 1.5, otherwise={"y": -pl.col("first")}).collect()
    assert negated["y"].to_list() == [-1.0, 200.0, 300.0]


def test_a_condition_that_is_null_selects_nothing(asked: dict[str, Failing]) -> None:
    rows = ml_predict(FRAME, "big", ["id"], where=pl.col("x") > 0).collect()
    assert rows["y"].to_list() == [100.0, 200.0, 300.0, None]
    assert asked["big"].asked == {1.0: 1, 2.0: 1, 3.0: 1}


def test_filters_above_are_still_pushed_below_both(asked: dict[str, Failing]) -> None:
    rows = cascade(FRAME).filter(pl.col("id") > 2).collect()
    assert rows["y"].to_list() == [300.0]
    assert asked["small"].asked == asked["big"].asked == {3.0: 1}


def test_no_row_selected_is_no_call(asked: dict[str, Failing]) -> None:
    rows = ml_predict(FRAME, "big", ["id"], where=pl.col("id") > 9).collect()
    assert rows["y"].to_list() == [None] * 4
    assert not asked["big"].asked


def test_slips_are_found_before_a_row_is_asked(asked: dict[str, Failing]) -> None:
    with pytest.raises(UsageError, match="give both"):
        ml_predict(FRAME, "big", ["id"], otherwise={"y": "x"})
    with pytest.raises(UnknownName, match="OUTPUT column of model 'big' 'yy'"):
        ml_predict(FRAME, "big", ["id"], where=pl.col("id") > 1, otherwise={"yy": "x"})
    assert not asked["big"].asked


@pytest.mark.parametrize("engine", ["in-memory", "streaming"])
def test_rows_that_are_left_out_are_counted_once_and_filters_still_reach_the_scan(engine: pl._typing.EngineType) -> None:
    spec = spec_of(on_error="skip")
    model, lost = Failing(spec, lambda x: x == 2.0), Counted()
    with ModelSet([spec], lambda _: model) as models, bound(models, lost):
        frame = ml_predict(FRAME.drop_nulls("x"), "m", ["x"])
        assert frame.collect_schema().names() == ["id", "x", "y"]
        assert frame.collect(engine=engine)["y"].to_list() == [2.0, 6.0]
        assert lost.skipped == 1
        assert frame.select("id").collect(engine=engine)["id"].to_list() == [1, 3], "who looks at no answer sees the same rows"
        model.asked.clear()
        assert frame.filter(pl.col("id") > 2).collect(engine=engine)["y"].to_list() == [6.0]
        assert model.asked == {3.0: 1}


def test_a_dead_letter_needs_a_run_to_keep_it() -> None:
    spec = spec_of(on_error="dead_letter")
    with ModelSet([spec], lambda _: Failing(spec, lambda x: x == 2.0)) as models, bound(models):
        frame = ml_predict(FRAME.drop_nulls("x"), "m", ["x"])
        with pytest.raises(UsageError, match="keeps rows of jobs only: refused: no 2") as caught:
            frame.collect()
    assert "'on_error' = 'skip'" in str(caught.value)
