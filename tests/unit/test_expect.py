"""Expectations as values: what they may say."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

import lakeflow as lf
from lakeflow.errors import DeclarationError
from lakeflow.expect import Expectation, Fresh, OnViolation, distinct


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: lf.not_null("a", on_violation="dorp"), "did you mean 'drop'? valid: dead_letter, drop, fail, warn"),
        (lambda: lf.in_range("a"), "neither a low nor a high bound"),
        (lambda: lf.in_range("a", 2, 1), "no value is from 2 to 1"),
        (lambda: lf.in_range("a", 1, "2"), "a range from 1 (int) to '2' (str)"),
        (lambda: lf.in_range("a", float("nan")), "nan (float)"),
        (lambda: lf.one_of("a", []), "the values are []"),
        (lambda: lf.one_of("a", "AA"), "valid: a list"),
        (lambda: lf.one_of("a", [None]), "None (NoneType)"),  # type: ignore[list-item]  # what a user may write
        (lambda: lf.references("a", "carriers"), "valid: namespace.table"),
        (lambda: lf.satisfies("  "), "is empty"),
        (lambda: lf.unique(), "names no column"),
        (lambda: lf.unique("a", on_violation="drop"), "of the whole table and leaves no row out: drop; valid: warn, fail"),
        (lambda: lf.fresh("a", "2 hours"), "'2 hours' is no length of time; valid: '30s'"),
        (lambda: lf.fresh("a", timedelta(0)), "no length of time"),
        (lambda: lf.row_count(), "says nothing"),
        (lambda: lf.row_count(3, 2), "at least 3 and at most 2"),
        (lambda: lf.row_count(deviation=-1.0), "deviation=-1.0"),
    ],
)
def test_an_expectation_that_cannot_be_meant_is_refused(made: Callable[[], Expectation], said: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        made()
    assert said in str(caught.value)


def test_an_expectation_is_called_by_what_it_says_unless_it_has_a_name() -> None:
    assert lf.in_range("delay", 0, 9).name == "in_range(delay, 0, 9)"
    assert lf.satisfies("delay >= 0").name == "delay >= 0"
    assert lf.not_null("carrier", name="known").name == "known"


def test_nothing_said_of_violations_means_that_they_are_told() -> None:
    assert lf.not_null("a").on_violation is OnViolation.WARN


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5 min", 300), ("1.5h", 5400), ("1d", 86400)])
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert lf.fresh("a", text).kind == Fresh("a", timedelta(seconds=seconds))


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(DeclarationError, match="two expectations are called 'not_null\\(a\\)'"):
        distinct([lf.not_null("a"), lf.not_null("a", on_violation="drop")], "jobs/a.py:3")


def test_what_is_no_expectation_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"jobs/a\.py:3: expect holds 'carrier'; valid: lf\.not_null"):
        distinct(["carrier"], "jobs/a.py:3")  # type: ignore[list-item]  # what a user may write
