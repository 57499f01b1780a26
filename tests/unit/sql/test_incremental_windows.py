"""Which queries over windows run incrementally, and what the others are told."""

from __future__ import annotations

import pytest

from lakeflow.sql.incremental import Shape, shape_of

TUMBLE = "TUMBLE(TABLE bronze.t, DESCRIPTOR(ts), INTERVAL '1' HOUR)"
SESSION = "SESSION(TABLE bronze.t PARTITION BY u, DESCRIPTOR(ts), INTERVAL '1' HOUR)"
BOTH = "window_start, window_end"
MEDIAN = f"SELECT {BOTH}, median(x)"


def shape(query: str) -> Shape:
    return shape_of(query)


@pytest.mark.parametrize(
    ("query", "outputs"),
    [
        (f"SELECT {BOTH}, count(*) FROM {TUMBLE} GROUP BY {BOTH}", ("window_start", "window_end")),
        (f"SELECT c, window_end AS b, window_start AS a, median(x) FROM {TUMBLE} GROUP BY ALL", ("a", "b")),
        (f"SELECT window_start AS a, window_end AS b FROM {TUMBLE} GROUP BY a, b", ("a", "b")),
        (f"SELECT t.window_start, t.window_end, max(x) FROM {TUMBLE} AS t GROUP BY 1, 2", ("window_start", "window_end")),
        (f"SELECT DISTINCT {BOTH}, c FROM {TUMBLE}", ("window_start", "window_end")),
        (f"SELECT {BOTH}, c, rank() OVER (PARTITION BY {BOTH} ORDER BY x) AS r FROM {TUMBLE} QUALIFY r = 1", None),
        (f"SELECT * FROM (SELECT {BOTH} AS e, sum(x) AS s FROM {TUMBLE} GROUP BY {BOTH}) WHERE s > 3", ("window_start", "e")),
        (f"WITH w AS (SELECT * FROM {TUMBLE}) SELECT {BOTH}, count(*) FROM w GROUP BY {BOTH}", None),
        (f"SELECT u, {BOTH}, count(*) FROM {SESSION} GROUP BY u, {BOTH}", ("u", "window_start", "window_end")),
        (f"SELECT * FROM {SESSION}", ("u", "window_start", "window_end")),
        (
            f"SELECT {BOTH}, count(*) FROM {TUMBLE} AS t JOIN dim.c FOR SYSTEM_TIME AS OF PROCTIME() AS c ON c.id = t.c "
            f"WHERE t.x > (SELECT avg(x) FROM dim.c FOR SYSTEM_TIME AS OF PROCTIME()) GROUP BY {BOTH}",
            ("window_start", "window_end"),
        ),
    ],
)
def test_a_query_whose_rows_are_each_of_one_window_goes_on_by_windows(query: str, outputs: tuple[str, ...] | None) -> None:
    found = shape(query)
    assert found.obstacle is None
    assert found.windows is not None
    assert not found.is_keyed
    assert found.windows.outputs == (outputs or ("window_start", "window_end"))
    assert found.windows.time == "ts"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        (f"SELECT u, {BOTH}, count(*) FROM {SESSION} GROUP BY {BOTH}, x", "GROUP BY without u"),
        (f"SELECT window_start, median(x) FROM {TUMBLE} GROUP BY window_start", "GROUP BY without window_end"),
        (f"SELECT window_start, median(x) FROM {TUMBLE} GROUP BY {BOTH}", "SELECT without window_end"),
        (
            f"SELECT {BOTH}, rank() OVER (PARTITION BY c ORDER BY x) FROM {TUMBLE}",
            "PARTITION BY without window_start, window_end",
        ),
        (f"SELECT {BOTH}, median(x) FROM {TUMBLE} GROUP BY ROLLUP ({BOTH})", "GROUP BY without window_start, window_end"),
        (f"SELECT {BOTH}, median(x) FROM {TUMBLE} GROUP BY {BOTH} ORDER BY 1", "ORDER BY"),
        (f"SELECT {BOTH}, median(x) FROM {TUMBLE} GROUP BY {BOTH} LIMIT 3", "LIMIT"),
        (f"SELECT DISTINCT ON (c) {BOTH} FROM {TUMBLE}", "DISTINCT ON"),
        (
            f"{MEDIAN} FROM {TUMBLE} GROUP BY {BOTH} UNION ALL {MEDIAN} FROM {TUMBLE} GROUP BY {BOTH}",
            "UNION",
        ),
        (
            f"SELECT a.window_start, a.window_end, median(a.x) FROM {TUMBLE} AS a JOIN {TUMBLE} AS b USING (id) GROUP BY 1, 2",
            "a join of windows with each other",
        ),
        (
            f"{MEDIAN} FROM TUMBLE(TABLE (SELECT * FROM bronze.t), DESCRIPTOR(ts), INTERVAL '1' HOUR) GROUP BY {BOTH}",
            "TUMBLE over a subquery",
        ),
        (
            f"{MEDIAN} FROM {TUMBLE} AS t RIGHT JOIN dim.c FOR SYSTEM_TIME AS OF PROCTIME() AS c ON true GROUP BY 1, 2",
            "RIGHT JOIN",
        ),
        (
            f"SELECT {BOTH}, median(x) FROM {TUMBLE} WHERE x > (SELECT avg(x) FROM bronze.t) GROUP BY {BOTH}",
            "the aggregate AVG",
        ),
    ],
)
def test_what_looks_at_several_windows_is_refused_with_its_place(query: str, said: str) -> None:
    found = shape(query)
    assert found.windows is None
    assert not found.is_keyed
    assert found.obstacle is not None
    assert said in found.obstacle
    assert "line 1:" in found.obstacle


def test_rows_in_windows_alone_need_no_whole_windows() -> None:
    found = shape(f"SELECT c, window_start FROM {TUMBLE}")
    assert (found.obstacle, found.windows) == (None, None)


def test_windows_over_what_is_looked_up_are_no_windows_of_the_job() -> None:
    still = "TUMBLE(TABLE (SELECT * FROM dim.c FOR SYSTEM_TIME AS OF PROCTIME()), DESCRIPTOR(ts), INTERVAL '1' HOUR)"
    found = shape(f"SELECT t.id, (SELECT count(*) FROM {still}) AS n FROM bronze.t AS t")
    assert (found.obstacle, found.windows) == (None, None)
