"""What the quick check of a text refuses, the cast refuses too: otherwise a good record could be rejected."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pytest

from lakeflow.topics.formats.scalars import reading_of

DATES = [
    "2013-01-01",
    "0001-01-01",
    "9999-12-31",
    "2012-02-29",
    "2013-02-29",
    "0000-12-31",
    "2013-13-01",
    "2013-1-1",
    "20130101",
]
TIMES = [
    "00",
    "23",
    "05:00",
    "23:59:59",
    "23:59:59.1",
    "23:59:59.123456",
    "23:59:59.1234567",
    "24:00",
    "5:00",
    "0500",
    "05:00:60",
]
ZONES = ["", "Z", "z", "+00", "+0530", "-05:30", "+23:59", "-24:00", "+05:60", " Z", "[UTC]"]
NUMBERS = [
    *("0", "-0.0", "1", "1.10", "1.105", "99999.99", "100000", "1e4", "1e5", "1e-2", "1e-3", "0e99"),
    *("1.", ".5", "+1", "NaN", "1e9999999999999999999"),
]


@pytest.mark.parametrize(
    ("type_", "texts"),
    [
        (pa.date32(), DATES),
        (pa.time64("us"), TIMES),
        (pa.timestamp("us"), ["".join(parts) for parts in itertools.product(DATES, ["T", " ", "", "t"], TIMES, ["", "Z"])]),
        (pa.timestamp("us", "UTC"), ["".join(parts) for parts in itertools.product(DATES, "T ", TIMES, ZONES)]),
        (pa.decimal128(7, 2), NUMBERS),
    ],
    ids=["date", "time", "timestamp", "timestamp_ltz", "decimal"],
)
def test_the_quick_check_refuses_nothing_that_the_cast_reads(type_: pa.DataType, texts: list[str]) -> None:
    reading = reading_of(type_)
    accepted = 0
    for text in texts:
        try:
            reading.cast([text])
        except pa.ArrowInvalid:
            assert not reading.fits(text)
        else:
            accepted += 1
            assert not reading.refuses(text), text
    assert 0 < accepted < len(texts)


def test_a_column_is_null_exactly_where_a_text_does_not_fit() -> None:
    texts = ["2013-01-01", None, "2013-02-30", "2013-W01-1", "2013-01-02"]
    column, misfits = reading_of(pa.date32()).column(texts)
    assert [str(value) for value in column.to_pylist()] == ["2013-01-01", "None", "None", "None", "2013-01-02"]
    assert sorted(misfits) == [2, 3]


@pytest.mark.parametrize("text", ["65572.0992e4", "55295952.9", "999999999999999999999999999999999999999"])
def test_digits_that_overflow_are_refused_and_never_wrong(text: str) -> None:
    assert not reading_of(pa.decimal128(38, 35)).fits(text)
