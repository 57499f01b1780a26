"""TUMBLE, HOP, CUMULATE and SESSION over the rows at hand, held against windows that Python computes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.errors import UsageError
from lakeflow.sql.compile import compile_query
from tests.unit.sql.asked import Asked, FakeNames

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
SECOND = 1_000_000
Rows = Sequence[tuple[int, str | None, int | None]]
ZONED = pa.timestamp("us", tz="UTC")


class Events(FakeNames):
    """A table of events with a key and a time: seconds since the epoch."""

    def __init__(self, rows: Rows, kind: pa.DataType = ZONED) -> None:
        super().__init__()
        times = [None if second is None else second * SECOND for _, _, second in rows]
        self.rows = pa.table(
            {
                "id": pa.array([number for number, _, _ in rows], pa.int64()),
                "k": pa.array([key for _, key, _ in rows], pa.string()),
                "ts": pa.array(times, pa.int64()).cast(kind),
                "window_end": pa.array(["mine"] * len(rows), pa.string()),
            }
        )

    def table(self, name: str, at: object) -> pa.Schema:
        return self.rows.schema


def windows(call: str, rows: Rows, kind: pa.DataType = ZONED) -> list[tuple[int, int, int]]:
    """(id, start, end) in seconds, in order."""
    events = Events(rows, kind)
    text = f"SELECT id, epoch(window_start) AS s, epoch(window_end0) AS e, epoch_us(window_time) AS t FROM {call}"
    found = Asked(events, {"b.t": events.rows})(text)
    for row in found:
        assert row["t"] == float(str(row["e"])) * SECOND - 1000
    return sorted((int(str(row["id"])), int(float(str(row["s"]))), int(float(str(row["e"])))) for row in found)


THREE: Rows = [(1, "a", -1), (2, "a", 59), (3, "b", 60), (4, "b", None)]


@pytest.mark.parametrize("kind", [ZONED, pa.timestamp("us")])
def test_windows_that_follow_each_other(kind: pa.DataType) -> None:
    expected = [(1, -60, 0), (2, 0, 60), (3, 60, 120)]
    assert windows("TUMBLE(TABLE b.t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)", THREE, kind) == expected
    assert (
        windows("TABLE(TUMBLE(DATA => TABLE b.t, TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '60' SECONDS))", THREE) == expected
    )


def test_an_offset_moves_them() -> None:
    expected = [(1, -30, 30), (2, 30, 90), (3, 30, 90)]
    assert windows("TUMBLE(TABLE b.t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '30' SECOND)", THREE) == expected
    assert windows("TUMBLE(TABLE b.t, DESCRIPTOR(ts), INTERVAL '1' MINUTE, -INTERVAL '30' SECOND)", THREE) == expected


def test_windows_that_overlap() -> None:
    assert windows("HOP(TABLE b.t, DESCRIPTOR(ts), INTERVAL '30' SECOND, INTERVAL '1' MINUTE)", THREE) == [
        (1, -60, 0), (1, -30, 30), (2, 0, 60), (2, 30, 90), (3, 30, 90), (3, 60, 120),
    ]  # fmt: skip


def test_windows_that_grow() -> None:
    assert windows("CUMULATE(TABLE b.t, DESCRIPTOR(ts), INTERVAL '20' SECOND, INTERVAL '1' MINUTE)", THREE) == [
        (1, -60, 0), (2, 0, 60), (3, 60, 80), (3, 60, 100), (3, 60, 120),
    ]  # fmt: skip


def test_sessions_end_after_a_gap_and_those_that_touch_are_one() -> None:
    rows: Rows = [(1, "a", 0), (2, "a", 10), (3, "a", 21), (4, "b", 15), (5, "b", 15), (6, None, 0), (7, "b", None)]
    by_key = "SESSION(TABLE b.t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10' SECOND)"
    expected = [(1, 0, 20), (2, 0, 20), (3, 21, 31), (4, 15, 25), (5, 15, 25), (6, 0, 10)]
    assert windows(by_key, rows) == expected
    assert windows(by_key.replace("BY k", "BY (k)"), rows) == expected
    over_all = [(1, 0, 31), (2, 0, 31), (3, 0, 31), (4, 0, 31), (5, 0, 31), (6, 0, 31)]
    assert windows("SESSION(TABLE b.t, DESCRIPTOR(ts), INTERVAL '10' SECOND)", rows) == over_all


def test_they_are_of_a_query_too_and_group() -> None:
    events = Events(THREE)
    text = """
    SELECT window_start, count(*) AS n, count(DISTINCT k) AS ks
    FROM TABLE(TUMBLE(TABLE (SELECT * FROM b.t WHERE id < 3), DESCRIPTOR(ts), INTERVAL '2' MINUTES))
    GROUP BY window_start, window_end0 ORDER BY 1
    """
    assert Asked(events, {"b.t": events.rows})(text) == [
        {"window_start": EPOCH - dt.timedelta(minutes=2), "n": 1, "ks": 1},
        {"window_start": EPOCH, "n": 1, "ks": 1},
    ]


seconds = st.lists(st.integers(-200, 200), max_size=8)


@settings(max_examples=25, deadline=None)
@given(times=seconds, slide=st.integers(1, 7), parts=st.integers(1, 5), offset=st.integers(-20, 20))
def test_hop_and_cumulate_are_what_they_are_by_definition(times: list[int], slide: int, parts: int, offset: int) -> None:
    rows: Rows = [(number, None, second) for number, second in enumerate(times)]
    size = slide * parts
    starts = range(-300 * 1 - (-300 - offset) % slide, 300)
    hops = [
        (number, start, start + size)
        for number, second in enumerate(times)
        for start in starts
        if (start - offset) % slide == 0 and start <= second < start + size
    ]
    lengths = f"INTERVAL '{slide}' SECOND, INTERVAL '{size}' SECOND, INTERVAL '{offset}' SECOND"
    assert windows(f"HOP(TABLE b.t, DESCRIPTOR(ts), {lengths})", rows) == sorted(hops)
    grown = [
        (number, start, start + slide * part)
        for number, second in enumerate(times)
        for start in [second - (second - offset) % size]
        for part in range(1, parts + 1)
        if second < start + slide * part
    ]
    assert windows(f"CUMULATE(TABLE b.t, DESCRIPTOR(ts), {lengths})", rows) == sorted(grown)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("TUMBLE(TABLE b.t, DESCRIPTOR(k), INTERVAL '1' MINUTE)", "column 'k' is VARCHAR; valid: TIMESTAMP"),
        (
            "TUMBLE(TABLE b.t, DESCRIPTOR(tz), INTERVAL '1' MINUTE)",
            "unknown column in DESCRIPTOR, for the time: 'tz'; valid: id, k, ts",
        ),
        ("TUMBLE(TABLE b.t, DESCRIPTOR(ts), INTERVAL '1' MONTH)", "a window of MONTH has no one length"),
        ("TUMBLE(TABLE b.t, DESCRIPTOR(ts), 60)", "expected INTERVAL 'n' UNIT"),
        ("TUMBLE(TABLE b.t, DESCRIPTOR(ts), INTERVAL '0' SECOND)", "longer than nothing"),
        ("TUMBLE(TABLE b.t, DESCRIPTOR(ts))", "TUMBLE needs SIZE"),
        ("TUMBLE(TABLE b.t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' DAY)", "TUMBLE has no PARTITION BY"),
        ("HOP(TABLE b.t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '5' SECOND)", "SIZE is to be a multiple of SLIDE"),
        ("CUMULATE(TABLE b.t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '5' SECOND)", "SIZE is to be a multiple of STEP"),
        ("SESSION(TABLE b.t, DESCRIPTOR(ts, k), INTERVAL '2' SECOND)", "DESCRIPTOR names 2 columns"),
    ],
)
def test_errors_point_at_the_argument(call: str, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        compile_query(f"SELECT 1 FROM {call}", Events(THREE))
    assert message in str(raised.value)
    assert "^" in str(raised.value)
