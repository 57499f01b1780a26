"""How rows differ from those that are expected."""

from __future__ import annotations

from lakeflow.runner.row_diff import Diff, diff, key_of


def test_rows_are_a_set_that_may_hold_one_twice() -> None:
    a, b = {"id": 1}, {"id": 2}
    assert diff([a, b], [b, a]).is_empty
    assert diff([a, a], [a]) == Diff((a,), ())
    assert diff([a], [a, b, b]) == Diff((), (b, b))


def test_reals_are_compared_by_their_first_digits_and_nan_with_itself() -> None:
    assert diff([{"x": 0.3}], [{"x": 0.1 + 0.2}]).is_empty
    assert diff([{"x": 0.0}, {"x": float("nan")}], [{"x": -0.0}, {"x": float("nan")}]).is_empty
    assert not diff([{"x": 0.3}], [{"x": 0.3000001}]).is_empty


def test_a_number_is_no_truth_value_and_no_text_of_it() -> None:
    assert key_of(1.0) != key_of(1)
    assert not diff([{"x": "1"}], [{"x": 1}]).is_empty


def test_nested_values_are_compared_as_their_parts() -> None:
    row = {"x": {"a": [0.1 + 0.2, None]}}
    assert diff([row], [{"x": {"a": [0.3, None]}}]).is_empty


def test_what_is_shown_says_which_columns_differ_in_rows_that_are_alike() -> None:
    expected = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 3, "name": "c"}]
    found = [{"id": 9, "name": "z"}, {"id": 2, "name": "x"}, {"id": 3, "name": "c"}, {"id": 4, "name": "d"}]
    assert list(diff(expected, found).lines()) == [
        "- {id: 1, name: 'a'}",
        "+ {id: 9, name: 'z'}",
        "~ {id: 2}: name is 'x', expected 'b'",
        "+ {id: 4, name: 'd'}",
    ]


def test_a_row_that_nothing_is_like_is_missing() -> None:
    assert list(diff([{"id": 1}], []).lines()) == ["- {id: 1}"]
