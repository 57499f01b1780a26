"""What a job says of windows, and what it cannot say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

import lakeflow as lf
from lakeflow.errors import DeclarationError, UsageError
from lakeflow.job import Output
from lakeflow.window import Columns, Emit, Late, Windowed, microseconds

MINUTE = 60 * 10**6


def declared(**said: Any) -> lf.Job:
    @lf.job(target="gold.a", **said)
    def hourly(rows: Any = lf.Read("bronze.a")) -> Any:
        return rows

    return hourly


@pytest.mark.parametrize(
    ("length", "minutes"),
    [("90s", 1.5), ("1h30m", 90), ("1d", 1440), ("-5m", -5), ("500ms", 1 / 120), (timedelta(minutes=2), 2)],
)
def test_a_length_is_a_number_and_a_unit(length: str | timedelta, minutes: float) -> None:
    assert microseconds(length, "size") == minutes * MINUTE


@pytest.mark.parametrize("length", ["", "10", "m", "10 m", "1month", "1h x"])
def test_a_length_without_a_known_unit_is_refused(length: str) -> None:
    with pytest.raises(UsageError, match=r"size is .* valid: a number and one of us, ms, s, m, h, d, w"):
        microseconds(length, "size")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: lf.Tumble("at", "0s"), "size of Tumble is '0s'; valid: longer than nothing"),
        (lambda: lf.Tumble("at", "-1h"), "size of Tumble is '-1h'; valid: longer than nothing"),
        (lambda: lf.Tumble("at", "1h", lateness="-1m"), "lateness of a window is '-1m'; valid: nothing or longer"),
        (lambda: lf.Hop("at", "5m", "10m"), "Hop: the size, 0:05:00, is no multiple of the slide, 0:10:00"),
        (lambda: lf.Hop("at", "10m", "3m"), "Hop: the size, 0:10:00, is no multiple of the slide, 0:03:00"),
        (lambda: lf.Cumulate("at", "7m", "10m"), "Cumulate: the size, 0:10:00, is no multiple of the step, 0:07:00"),
        (lambda: lf.Session("at", "0s"), "gap of Session is '0s'; valid: longer than nothing"),
    ],
)
def test_lengths_that_make_no_windows_are_refused(made: Any, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        made()
    assert said in refused.value.message


def test_a_job_by_windows_replaces_them_and_is_not_cut_into_parts() -> None:
    job = declared(window=lf.Tumble("at", "1h", lateness="10m"), delay="5m", idle="1m", late="drop")
    assert job.windowed == Windowed(
        lf.Tumble("at", "1h", lateness="10m"), Columns(), Late.DROP, Emit.UPDATE, 5 * MINUTE, MINUTE
    )
    assert job.output is Output.UPDATE
    assert not job.is_row_wise
    assert declared(window=lf.Tumble("at", "1h"), mode="snapshot").output is Output.COMPLETE


def test_windows_that_are_written_once_drop_what_comes_later() -> None:
    job = declared(window=lf.Tumble("at", "1h"), emit="append")
    assert job.windowed is not None
    assert (job.windowed.late, job.output) == (Late.DROP, Output.APPEND)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"late": "drop"}, "has late= and no window that it could be of"),
        ({"emit": "append"}, "has emit= and no window that it could be of"),
        ({"delay": "5m"}, "has delay= and no window that it could be of"),
        ({"idle": "5m"}, "has idle= and no window that it could be of"),
        ({"lateness": "10m"}, "has lateness= and no window that it could be of"),
        ({"window": lf.Tumble("at", "1h"), "lateness": "10m"}, "has lateness='10m', which is said of its window"),
        ({"window": "1h"}, "window is '1h'; valid: lf.Tumble, lf.Hop, lf.Cumulate, lf.Session"),
        ({"window": lf.Tumble("at", "1h"), "key": "id"}, "rows replace whole windows, and key= or output="),
        ({"window": lf.Tumble("at", "1h"), "emit": "append", "key": "id"}, "rows replace whole windows, and key= or output="),
        ({"window": lf.Tumble("at", "1h"), "output": "append"}, "rows replace whole windows, and key= or output="),
        ({"window": lf.Tumble("at", "1h"), "late": "later"}, "late is 'later'; valid: dead_letter, drop, recompute"),
        ({"window": lf.Tumble("at", "1h"), "emit": "once"}, "emit is 'once'; valid: append, update"),
        (
            {"window": lf.Tumble("at", "1h"), "emit": "append", "late": "recompute"},
            "writes a window once, so that late='recompute' cannot correct it",
        ),
        ({"window": lf.Session("at", "1h"), "late": "drop"}, "valid with Session: late='recompute', emit='update'"),
        ({"window": lf.Session("at", "1h"), "emit": "append"}, "valid with Session: late='recompute', emit='update'"),
        ({"window": lf.Tumble("at", "1h"), "delay": "-1m"}, "delay is '-1m'; valid: nothing or longer"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(DeclarationError) as refused:
        declared(**said)
    assert message in refused.value.message
    assert "test_window.py" in refused.value.message


def test_a_query_names_the_columns_of_the_target_by_place() -> None:
    of_query = Windowed(lf.Session("at", "1h", by="user"), Columns(), outputs=("user", "ws", "window_end"))
    named = of_query.named(["WS", "n", "User", "window_end"], ["began", "n", "who", "ended"])
    assert named.columns == Columns("began", "ended", ("who",))
