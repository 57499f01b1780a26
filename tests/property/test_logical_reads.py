"""Numbers since the epoch and unscaled bytes are read as Python's own types read them, one by one."""

from __future__ import annotations

import datetime as dt
from decimal import Context, Decimal

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.topics.formats import logical_reads as reads

EPOCH = dt.datetime(1970, 1, 1)
UNITS = {"milliseconds": (1000, 1), "microseconds": (1, 1), "nanoseconds": (reads.NANOSECONDS, 1000)}
edges = st.sampled_from([-(2**63), 2**63 - 1, 0, -1, 253402300799999999, -62135596800000000, 253402300799999, -62135596800000])
near = st.builds(lambda edge, step: max(-(2**63), min(2**63 - 1, edge + step)), edges, st.integers(-2000, 2000))
numbers = st.lists(
    st.none() | near | st.integers(-(2**63), 2**63 - 1) | st.integers(-(2**40), 2**40).map(lambda n: n * 1000), max_size=9
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(UNITS)), numbers)
def test_moments(unit: str, written: list[int | None]) -> None:
    microseconds, divisor = UNITS[unit]
    found, wrong = reads.moments(microseconds, pa.timestamp("us"))(pa.array(written, pa.int64()))
    for place, number in enumerate(written):
        wanted = None
        if number is not None and number % divisor == 0:
            try:
                wanted = EPOCH + dt.timedelta(microseconds=number // divisor * max(microseconds, 1))
            except OverflowError:
                wanted = None
        assert (place in wrong) == (number is not None and wanted is None)
        assert place in wrong or found[place].as_py() == wanted


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.none() | st.integers(-(2**31), 2**31 - 1) | st.sampled_from([-719162, -719163, 2932896, 2932897]), max_size=9)
)
def test_days(written: list[int | None]) -> None:
    found, wrong = reads.days(pa.array(written, pa.int32()))
    for place, number in enumerate(written):
        fits = number is None or -719162 <= number <= 2932896
        assert (place in wrong) != fits
        assert not fits or found[place].as_py() == (None if number is None else dt.date.fromordinal(719163 + number))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.none() | st.binary(max_size=18) | st.sampled_from([b"\x7f" + b"\xff" * 15, b"\x80" + b"\0" * 15]), max_size=9),
    st.integers(0, 20),
    st.integers(1, 38).flatmap(lambda digits: st.tuples(st.just(digits), st.integers(0, digits))),
)
def test_unscaled_decimals(written: list[bytes | None], scale: int, kept: tuple[int, int]) -> None:
    type_ = pa.decimal128(*kept)
    found, wrong = reads.unscaled(scale, type_)(pa.array([None, *written], pa.binary())[1:])
    for place, value in enumerate(written):
        wanted = None if value is None else exact(value, scale, kept)
        assert (place in wrong) == (value is not None and wanted is None)
        assert place in wrong or found[place].as_py() == wanted


def exact(value: bytes, scale: int, kept: tuple[int, int]) -> Decimal | None:
    """The decimal, None where its digits have no room."""
    number = int.from_bytes(value, "big", signed=True)
    if not 1 <= len(value) <= 16 or abs(number) >= 10**38:
        return None
    exactly = Decimal(number).scaleb(-scale, Context(prec=60))
    shifted = exactly.scaleb(kept[1], Context(prec=60))
    return exactly if shifted == shifted.to_integral_value() and abs(shifted) < 10 ** kept[0] else None
