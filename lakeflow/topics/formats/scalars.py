"""Scalars that JSON writes as text: dates, times, timestamps and decimals. Arrow reads a column at once; where it
cannot, halves are tried until the values that do not fit stand alone, so the cost follows their number.

Grammar, after ISO 8601 and SQL (`T` or a space between date and time):
    DATE              yyyy-mm-dd
    TIME(6)           hh[:mm[:ss[.f{1,6}]]]
    TIMESTAMP(6)      date, T, time; a zone is refused, it would be lost
    TIMESTAMP_LTZ(6)  date, T, time, zone; without a zone the moment is unknown, so it is refused
    zone              Z | ±hh[[:]mm]
Years are 0001 to 9999, as written and in UTC; hours end at 23, seconds at 59. A DECIMAL(p, s) is a JSON number, or a
string that holds one; it must have p digits at most and lose none at scale s.
"""

from __future__ import annotations

import datetime
import decimal
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

Texts = Sequence[str | None]

TIMESTAMP_LEAST_WIDTH = len("yyyy-mm-ddThh")
EPOCH = datetime.datetime(1970, 1, 1)
FIRST_DAY = (datetime.datetime.min - EPOCH).days
LAST_DAY = (datetime.datetime.max - EPOCH).days
MICROSECONDS_A_DAY = 86_400_000_000
FIRST_MICROSECOND = FIRST_DAY * MICROSECONDS_A_DAY
LAST_MICROSECOND = (LAST_DAY + 1) * MICROSECONDS_A_DAY - 1

is_number = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?").fullmatch
UNROUNDED = decimal.Context(prec=decimal.MAX_PREC)


@dataclass(frozen=True, slots=True)
class Reading:
    """How text of one type is read. `cast` decides: it takes a column (nulls stay) and raises ArrowInvalid where any
    value does not fit. `refuses` tells most such texts cheaply, one by one; what it refuses, `cast` refuses too.
    """

    type: pa.DataType
    cast: Callable[[Texts], pa.Array]
    refuses: Callable[[str], bool]

    def fits(self, text: str) -> bool:
        """Whether `text` alone can be read."""
        return not self.refuses(text) and not self.column([text])[1]

    def column(self, texts: Texts) -> tuple[pa.Array, list[int]]:
        """The column of `texts`, null where one does not fit, and the places where that is so."""
        try:
            return self.cast(texts), []
        except pa.ArrowInvalid:
            misfits = [place for place, text in enumerate(texts) if text is not None and self.refuses(text)]
        cleared = list(texts)
        for place in misfits:
            cleared[place] = None
        pieces: list[pa.Array] = []
        self._halve(cleared, 0, len(cleared), pieces, misfits)
        return pa.concat_arrays(pieces), misfits

    def _halve(self, texts: Texts, start: int, end: int, pieces: list[pa.Array], misfits: list[int]) -> None:
        try:
            pieces.append(self.cast(texts[start:end]))
        except pa.ArrowInvalid:
            if end - start == 1:
                pieces.append(pa.nulls(1, self.type))
                misfits.append(start)
                return
            middle = (start + end) // 2
            self._halve(texts, start, middle, pieces, misfits)
            self._halve(texts, middle, end, pieces, misfits)


def reading_of(type_: pa.DataType) -> Reading:
    """The Reading of a decimal, date, time or timestamp type."""
    if pa.types.is_decimal(type_):
        return Reading(type_, lambda texts: _decimals(texts, type_), lambda text: _is_no_decimal(text, type_))
    if pa.types.is_date(type_):
        return Reading(type_, lambda texts: _dates(pa.array(texts, pa.string())), _raises(datetime.date.fromisoformat))
    if pa.types.is_time(type_):
        return Reading(type_, lambda texts: _times(pa.array(texts, pa.string())), _raises(datetime.time.fromisoformat))
    zoned = type_.tz is not None
    return Reading(
        type_, lambda texts: _timestamps(pa.array(texts, pa.string()), type_), lambda text: _is_no_moment(text, zoned)
    )


def _raises(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def refuses(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return True
        return False

    return refuses


def _is_no_moment(text: str, zoned: bool) -> bool:
    try:
        return (datetime.datetime.fromisoformat(text).tzinfo is not None) != zoned
    except ValueError:
        return True


def _is_no_decimal(text: str, type_: pa.DataType) -> bool:
    if not is_number(text):
        return True
    try:
        number = decimal.Decimal(text)
    except decimal.InvalidOperation:
        return True
    return bool(number) and number.adjusted() >= type_.precision - type_.scale


def _dates(texts: pa.StringArray) -> pa.Array:
    days = texts.cast(pa.date32())
    _check_bounds(days.view(pa.int32()), FIRST_DAY, LAST_DAY)
    return days


def _timestamps(texts: pa.StringArray, type_: pa.DataType) -> pa.Array:
    # Arrow reads a date alone as its midnight; here it is no timestamp.
    shortest = pc.min(pc.binary_length(texts)).as_py()
    if shortest is not None and shortest < TIMESTAMP_LEAST_WIDTH:
        raise pa.ArrowInvalid("a date alone")
    moments = texts.cast(type_)
    first = _check_bounds(moments.view(pa.int64()), FIRST_MICROSECOND, LAST_MICROSECOND)
    # A zone west of Greenwich can move the last hours of year 0000, which is no year, into 0001.
    if first < FIRST_MICROSECOND + MICROSECONDS_A_DAY and pc.any(pc.starts_with(texts, "0000")).as_py():
        raise pa.ArrowInvalid("year 0000")
    return moments


def _times(texts: pa.StringArray) -> pa.Array:
    # Arrow casts text to timestamps but not to times: a time is read as one of the first day of the epoch.
    moments = pc.binary_join_element_wise("1970-01-01", texts, "T").cast(pa.timestamp("us"))
    if pc.any(pc.equal(pc.binary_length(texts), 0)).as_py():
        raise pa.ArrowInvalid("an empty time")
    return moments.view(pa.int64()).view(pa.time64("us"))


def _check_bounds(numbers: pa.Array, first: int, last: int) -> int:
    """The least of `numbers`. Raises ArrowInvalid where one lies outside `first` to `last`."""
    seen = pc.min_max(numbers).as_py()
    if seen["min"] is None:
        return last
    if seen["min"] < first or seen["max"] > last:
        raise pa.ArrowInvalid("year outside 0001 to 9999")
    return int(seen["min"])


def _decimals(texts: Texts, type_: pa.DataType) -> pa.Array:
    # Not Arrow's cast from text: where digits overflow 128 bits it gives a wrong number instead of an error.
    if not all(text is None or is_number(text) for text in texts):
        raise pa.ArrowInvalid("not a number")
    try:
        numbers = [None if text is None else decimal.Decimal(text) for text in texts]
    except decimal.InvalidOperation as error:
        raise pa.ArrowInvalid("exponent out of range") from error
    try:
        return pa.array(numbers, type_)
    except pa.ArrowInvalid:
        # Zeros at the end that the scale has no room for lose nothing.
        return pa.array([None if number is None else number.normalize(UNROUNDED) for number in numbers], type_)
