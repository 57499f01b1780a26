"""Which windows rows fall in, which time they take together, and how watermarks move."""

from __future__ import annotations

import polars as pl
import pytest

from lakeflow.errors import Terminal
from lakeflow.runner.windows import (
    END,
    START,
    TIME,
    Grid,
    View,
    Watermarks,
    in_sessions,
    in_windows,
    late_in_all,
    merged_sessions,
    ranges_of,
)
from lakeflow.window import Cumulate, Hop, Session, Tumble

US = 10**6


def rows(*seconds: int | None) -> pl.DataFrame:
    return pl.DataFrame({TIME: [None if one is None else one * US for one in seconds]}, schema={TIME: pl.Int64})


def placed(window: Grid, *seconds: int | None) -> list[tuple[int, int, int]]:
    return [(time // US, start // US, end // US) for time, start, end in in_windows(rows(*seconds), window).rows()]


def windows(*bounds: tuple[int, int]) -> pl.DataFrame:
    return pl.DataFrame(bounds, schema={START: pl.Int64, END: pl.Int64}, orient="row")


def test_a_window_holds_its_first_moment_and_not_its_end() -> None:
    assert placed(Tumble("at", "10s"), 0, 9, 10) == [(0, 0, 10), (9, 0, 10), (10, 10, 20)]


def test_windows_before_1970_are_counted_on_downwards() -> None:
    assert placed(Tumble("at", "10s"), -1, -10, -11) == [(-1, -10, 0), (-10, -10, 0), (-11, -20, -10)]


def test_an_offset_moves_the_windows_either_way() -> None:
    assert placed(Tumble("at", "10s", offset="3s"), 2, 3) == [(2, -7, 3), (3, 3, 13)]
    assert placed(Tumble("at", "10s", offset="-3s"), 6, 7) == [(6, -3, 7), (7, 7, 17)]


def test_a_row_is_in_each_window_that_hops_over_it() -> None:
    assert placed(Hop("at", "10s", "5s"), 7, -1) == [(7, 5, 15), (7, 0, 10), (-1, -5, 5), (-1, -10, 0)]


def test_windows_that_cumulate_begin_together() -> None:
    assert placed(Cumulate("at", "5s", "15s"), 5, 14) == [(5, 0, 10), (5, 0, 15), (14, 0, 15)]


def test_a_row_without_a_time_is_in_no_window() -> None:
    assert placed(Tumble("at", "10s"), None, 3) == [(3, 0, 10)]


@pytest.mark.parametrize("window", [Tumble("at", "10s"), Hop("at", "10s", "5s"), Cumulate("at", "5s", "15s")])
def test_a_row_is_late_where_the_watermark_has_passed_its_last_window(window: Grid) -> None:
    last = max(end for _, _, end in placed(window, 7)) * US
    assert late_in_all(rows(7), window, last).to_list() == [True]
    assert late_in_all(rows(7), window, last - 1).to_list() == [False]
    assert late_in_all(rows(7, None), window, None).to_list() == [False, False]
    assert late_in_all(rows(None), window, last).to_list() == [False]


def spans(*given: tuple[str | None, int, int]) -> pl.DataFrame:
    return pl.DataFrame(given, schema={"user": pl.String, START: pl.Int64, END: pl.Int64}, orient="row")


SESSION = Session("at", "10us", by="user")


def test_spans_of_a_key_with_no_more_than_the_gap_between_them_are_one() -> None:
    merged = merged_sessions(
        spans(("a", 10, 15), ("a", 0, 0), ("b", 5, 5), ("a", 26, 26), (None, 1, 1), (None, 11, 12)), SESSION
    )
    assert set(merged.rows()) == {("a", 0, 15), ("a", 26, 26), ("b", 5, 5), (None, 1, 12)}


def test_a_long_span_reaches_over_short_ones_within_it() -> None:
    assert merged_sessions(spans(("a", 0, 100), ("a", 5, 6), ("a", 105, 105)), SESSION).rows() == [("a", 0, 105)]


def test_spans_without_a_key_are_of_one() -> None:
    merged = merged_sessions(windows((0, 1), (5, 6), (30, 30)), Session("at", "10us"))
    assert merged.rows() == [(0, 6), (30, 30)]


def test_rows_find_the_session_of_their_own_key() -> None:
    found = spans(("a", 0, 15), ("a", 50, 61), (None, 0, 100))
    given = pl.DataFrame({"user": ["a", None, "a", "b", "a", "a"], TIME: [60, 70, 14, 3, 15, None]})
    placed = in_sessions(given, SESSION, found)
    assert placed.select("user", TIME, START, END).rows() == [("a", 60, 50, 61), (None, 70, 0, 100), ("a", 14, 0, 15)]


def test_windows_that_touch_take_one_range() -> None:
    assert ranges_of(windows((0, 10), (10, 20), (40, 50), (5, 15))) == ((0, 20), (40, 50))
    assert ranges_of(windows((0, 10), (12, 20)), around=1) == ((-1, 21),)
    assert ranges_of(windows()) == ()


def test_of_many_ranges_those_nearest_each_other_become_one() -> None:
    many = windows((0, 1), (100, 101), (110, 111), (500, 501))
    assert ranges_of(many, most=3) == ((0, 1), (100, 111), (500, 501))
    assert ranges_of(many, most=1) == ((0, 501),)
    evenly = ranges_of(windows(*((place * 10, place * 10 + 1) for place in range(1000))), most=64)
    assert len(evenly) <= 64
    assert evenly[0][0] == 0
    assert evenly[-1][1] == 9991


def test_a_watermark_moves_between_commits_and_never_back() -> None:
    first = Watermarks().at(1, delay=2, idle=5).saw({"": 10})
    assert first.value is None
    second = first.at(2, 2, 5).saw({"": 4})
    assert (second.value, second.at(3, 2, 5).value) == (8, 8)
    assert second.saw({"": 11}).at(2, 2, 5).value == 8
    assert second.saw({"": 11}).at(3, 2, 5).value == 9


def test_the_slowest_partition_holds_the_watermark_until_it_is_idle() -> None:
    marks = Watermarks().at(1, 0, 5).saw({"0": 10, "1": 3}).at(2, 0, 5)
    assert marks.value == 3
    marks = marks.saw({"0": 15}).at(3, 0, 5)
    assert marks.value == 3
    marks = marks.saw({"0": 16}).at(4, 0, 5)
    assert marks.value == 16
    assert marks.saw({"1": 12}).at(5, 0, 5).value == 16


def test_watermarks_are_read_back_from_a_progress() -> None:
    marks = Watermarks().at(1, 0, 5).saw({"0": 10, "1": 3}).at(2, 0, 5).saw({"1": 5})
    assert Watermarks.of_state(marks.state()) == marks
    assert Watermarks.of_state(None) == Watermarks()
    with pytest.raises(Terminal, match="watermarks in a job's progress are not readable"):
        Watermarks.of_state({"watermark": 1})


def test_a_view_leaves_out_windows_that_are_not_its_own() -> None:
    window = Hop("at", "10s", "5s", lateness="1s")
    seen = View(window, windows((0, 10 * US)), before={4: 9 * US})
    assert seen.placed(rows(7), 4)[START].to_list() == [0]
    assert View(window, before={4: 11 * US}).placed(rows(7), 4)[START].to_list() == [5 * US]
    assert View(window, before={4: 11 * US}).placed(rows(7), 5).height == 2
    assert View(window, after=10 * US, until=15 * US).placed(rows(7), 1)[END].to_list() == [15 * US]
