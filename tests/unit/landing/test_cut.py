from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lakeflow.landing.cut import Filling, Limits, is_due, room, wait

LIMITS = st.builds(Limits, st.integers(1, 50), st.integers(1, 500), st.floats(0.1, 100))
TAKES = st.lists(st.tuples(st.integers(0, 10), st.integers(0, 100), st.floats(0, 10)), max_size=20)
TEN = Limits(rows=10, bytes=1000, seconds=60.0)


def filled(takes: list[tuple[int, int, float]]) -> tuple[Filling, float]:
    """The batch after some polls, each so many seconds after the one before; and the time then."""
    filling, now = Filling(), 100.0
    for records, size, seconds in takes:
        now += seconds
        filling = filling.take(records, size if records else 0, now)
    return filling, now


def test_a_batch_is_due_by_rows_by_bytes_or_by_the_age_of_its_first_record() -> None:
    batch = Filling().take(9, 999, now=5.0)
    assert not is_due(batch, TEN, now=64.9)
    assert is_due(batch, TEN, now=65.0)
    assert is_due(batch.take(1, 0, now=6.0), TEN, now=6.0)
    assert is_due(batch.take(0, 0, now=6.0).take(1, 1, now=6.0), TEN, now=6.0)
    assert is_due(Filling().take(1, 1000, now=5.0), TEN, now=5.0)


def test_an_empty_batch_is_never_due() -> None:
    assert not is_due(Filling().take(0, 0, now=0.0), TEN, now=1e9)


def test_the_age_is_that_of_the_first_record() -> None:
    batch = Filling().take(1, 1, now=5.0).take(1, 1, now=50.0)
    assert batch.since == 5.0
    assert is_due(batch, TEN, now=65.0)


@given(takes=TAKES)
def test_a_batch_holds_the_sum_of_what_it_took(takes: list[tuple[int, int, float]]) -> None:
    filling, _ = filled(takes)
    assert filling.records == sum(records for records, _, _ in takes)
    assert filling.bytes == sum(size for records, size, _ in takes if records)
    assert (filling.since is None) == (filling.records == 0)


@given(takes=TAKES, limits=LIMITS, later=st.floats(0, 200))
def test_a_batch_that_is_due_stays_due(takes: list[tuple[int, int, float]], limits: Limits, later: float) -> None:
    filling, now = filled(takes)
    if is_due(filling, limits, now):
        assert is_due(filling, limits, now + later)
        assert is_due(filling.take(1, 1, now + later), limits, now + later)


@given(takes=TAKES, limits=LIMITS, most=st.integers(1, 100))
def test_asking_for_the_room_never_oversteps_the_rows(takes: list[tuple[int, int, float]], limits: Limits, most: int) -> None:
    filling, now = filled(takes)
    asked = room(filling, limits, most)
    assert 1 <= asked <= most
    if not is_due(filling, limits, now):
        assert filling.records + asked <= limits.rows


@given(takes=TAKES, limits=LIMITS, longest=st.floats(0, 10))
def test_waiting_ends_when_the_batch_is_due_by_age(takes: list[tuple[int, int, float]], limits: Limits, longest: float) -> None:
    filling, now = filled(takes)
    seconds = wait(filling, limits, now, longest)
    assert 0 <= seconds <= longest
    if filling.since is None:
        assert seconds == longest
    elif seconds < longest:
        assert is_due(filling, limits, now + seconds + 1e-6)
