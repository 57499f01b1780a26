"""A join within a bound, as a value and in Polars, and what a job may say of one."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

import lakeflow as lf
from lakeflow.errors import DeclarationError, UsageError
from lakeflow.job import Mode, Output

MINUTE = timedelta(minutes=1)


def test_lengths_are_kept_in_microseconds_and_the_value_says_what_it_is() -> None:
    made = lf.Within(["a", "b"], left_on="c", right_on="d", times=("x", "y"), before="1h", after=-MINUTE)
    assert (made.left_on, made.right_on) == (("a", "b", "c"), ("a", "b", "d"))
    assert (made.left_time, made.right_time, made.before, made.after) == ("x", "y", 3_600_000_000, -60_000_000)
    assert str(made) == "by a, b, c = d, y from -1:00:00 to -0:01:00 of x"
    assert not made.keeps
    assert made.group == ("a", "b", "c", "x")
    assert made == lf.Within(left_on=["a", "b", "c"], right_on=["a", "b", "d"], times=("x", "y"), before="60m", after="-1m")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"times": "t"}, "Within joins by no column of the first table and no column of the second"),
        ({"on": "k", "left_on": "a", "times": "t"}, "by k, a of the first table and k of the second"),
        ({"on": ["k", 1], "times": "t"}, r"Within joins by \['k', 1\]; valid: a column, or several"),
        ({"on": "k", "times": ("a", "b", "c")}, "times of Within is .*; valid: a column of both tables, or a pair"),
        ({"on": "k", "times": ("a", "")}, "times of Within"),
        ({"on": "k", "times": "t", "after": 3600}, "after of Within is 3600; valid: a length of time such as '10m'"),
        ({"on": "k", "times": "t", "before": "soon"}, "before of Within is 'soon'; valid: a number and one of"),
        (
            {"on": "k", "times": "t", "before": "-2h", "after": "1h"},
            r"from \+2:00:00 to \+1:00:00 is no time: it ends before it",
        ),
        ({"on": "k", "times": "t", "how": "lef"}, "how of Within is 'lef'.*left"),
    ],
)
def test_what_makes_no_join_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        lf.Within(**said)


def frames() -> tuple[pl.LazyFrame, pl.LazyFrame]:
    zero = datetime(2026, 1, 1)
    at = [None if minutes is None else zero + minutes * MINUTE for minutes in (0, 5, None, 0)]
    left = pl.LazyFrame({"k": [1, 2, 1, None], "at": at, "v": [1, 2, 3, 4]})
    right = pl.LazyFrame(
        {"j": [1, 1, 1, 2, None], "at": [zero - MINUTE, zero, zero + MINUTE, None, zero], "v": [5, 6, 7, 8, 9]}
    )
    return left, right


def test_the_join_in_polars_holds_to_the_bound_and_nulls_meet_nothing() -> None:
    inner = lf.Within(left_on="k", right_on="j", times="at", after="1m").join(*frames()).collect()
    assert inner.columns == ["k", "at", "v", "at_right", "v_right"]
    assert sorted(inner.select("k", "v", "v_right").rows()) == [(1, 1, 6), (1, 1, 7)]
    left = lf.Within(left_on="k", right_on="j", times="at", after="1m", how="left").join(*frames(), suffix="_b").collect()
    assert left.columns == ["k", "at", "v", "at_b", "v_b"]
    assert sorted(left.select("v", "v_b").rows(), key=str) == [(1, 6), (1, 7), (2, None), (3, None), (4, None)]


WITHIN = lf.Within("k", times="at", after="1m")


def declared(within: Any, reads: int = 2, **said: Any) -> lf.Job:
    def two(a: Any = lf.Read("s.a"), b: Any = lf.Read("s.b"), c: Any = lf.Lookup("s.c")) -> pl.LazyFrame:
        return WITHIN.join(a, b)

    def three(a: Any = lf.Read("s.a"), b: Any = lf.Read("s.b"), c: Any = lf.Read("s.c")) -> pl.LazyFrame:
        return WITHIN.join(a, b)

    def twice(a: Any = lf.Read("s.a"), b: Any = lf.Read("s.a")) -> pl.LazyFrame:
        return WITHIN.join(a, b)

    function = {2: two, 3: three, 1: twice}[reads]
    return lf.job(target="g.t", within=within, **said)(function)


def test_a_job_appends_pairs_and_puts_rows_without_a_match_in_place_of_others() -> None:
    assert (declared(WITHIN).output, declared(WITHIN).is_row_wise) == (Output.APPEND, False)
    kept = declared(lf.Within("k", times="at", how="left"))
    assert (kept.output, kept.key) == (Output.UPDATE, ())
    whole = declared(WITHIN, mode="snapshot")
    assert (whole.mode, whole.output, whole.within) == (Mode.SNAPSHOT, Output.COMPLETE, None)


@pytest.mark.parametrize(
    ("within", "reads", "said", "message"),
    [
        ("1h", 2, {}, r"within is '1h'; valid: lf.Within\("),
        (WITHIN, 3, {}, "joins within a bound, which is of two tables, and reads s.a, s.b, s.c"),
        (WITHIN, 1, {}, "reads s.a, s.a"),
        (WITHIN, 2, {"key": "k"}, "joins within a bound, and has key= too"),
        (WITHIN, 2, {"by": "k"}, "has by= too"),
        (WITHIN, 2, {"window": lf.Tumble("at", "1h")}, "has window= too"),
        (WITHIN, 2, {"output": "append"}, "has output= too"),
        (WITHIN, 2, {"on_change": "recompute"}, "a join within a bound keeps what it made of rows that are gone"),
    ],
)
def test_a_job_that_contradicts_itself_is_refused(within: Any, reads: int, said: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        declared(within, reads, **said)
