"""How logical values are read from what is written: numbers since the epoch, text, unscaled bytes. Pure, a column at a time.

Each function takes an array as written and gives the array as kept with the places of values that do not fit: out of the
years 0001 to 9999, out of the day, more digits than microseconds have, more digits than the decimal has. Nothing is rounded.
"""

from __future__ import annotations

from base64 import b64decode

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.topics.formats.logical import Flags, Places, Read, valid
from lakeflow.topics.formats.scalars import (
    FIRST_DAY,
    FIRST_MICROSECOND,
    LAST_DAY,
    LAST_MICROSECOND,
    MICROSECONDS_A_DAY,
    reading_of,
)

NONE: Places = np.empty(0, np.int64)
MOST_DIGITS = 38
WIDTH = 16
"""Bytes of a decimal in Arrow."""

NANOSECONDS = -1000
"""In place of the microseconds of a unit: a thousand units are one of them."""


def days(array: pa.Array) -> tuple[pa.Array, Places]:
    """Days since 1970-01-01 to dates."""
    numbers, present = _numbers(array)
    wrong = (numbers < FIRST_DAY) | (numbers > LAST_DAY)
    return _made(np.where(wrong, 0, numbers).astype(np.int32), present, pa.date32()), _places(wrong, present)


def times(microseconds: int) -> Read:
    """Time since midnight, in units of so many microseconds, to times of the day."""
    return _since(microseconds, 0, MICROSECONDS_A_DAY - 1, pa.time64("us"))


def moments(microseconds: int, type_: pa.DataType) -> Read:
    """Time since 1970-01-01T00:00, in units of so many microseconds, to timestamps with or without zone."""
    return _since(microseconds, FIRST_MICROSECOND, LAST_MICROSECOND, type_)


def _since(microseconds: int, first: int, last: int, type_: pa.DataType) -> Read:
    def read(array: pa.Array) -> tuple[pa.Array, Places]:
        numbers, present = _numbers(array)
        if microseconds == NANOSECONDS:
            scaled = numbers // 1000
            wrong = (scaled * 1000 != numbers) | (scaled < first) | (scaled > last)
        else:
            wrong = (numbers < -(-first // microseconds)) | (numbers > last // microseconds)
            scaled = np.where(wrong, 0, numbers) * microseconds
        return _made(scaled, present, type_), _places(wrong, present)

    return read


def texts(type_: pa.DataType, *, utc: bool = False) -> Read:
    """Text in the grammar of `scalars.py`. With `utc`, what is kept without a zone is written in UTC, or without one."""
    reading = reading_of(type_)

    def read(array: pa.Array) -> tuple[pa.Array, Places]:
        written = pc.replace_substring_regex(array, r"(?:[Zz]|[+-]00:?00)$", "") if utc else array
        found, wrong = reading.column(written.to_pylist())
        return found, np.array(sorted(wrong), np.int64)

    return read


def unscaled(scale: int, type_: pa.DataType) -> Read:
    """Whole numbers in big-endian two's complement, each of `scale` digits after the point, to decimals."""

    def read(array: pa.Array) -> tuple[pa.Array, Places]:
        if not len(array):
            return pa.nulls(0, type_), NONE
        present = valid(array)
        words, wrong = _words(array.cast(pa.binary()), present)
        wrong |= _beyond(words, MOST_DIGITS)
        words[wrong] = 0
        wide = pa.Array.from_buffers(
            pa.decimal128(MOST_DIGITS, scale), len(array), [pa.array(present).buffers()[1], pa.py_buffer(words.tobytes())]
        )
        found, lossy = cast(wide, type_)
        return found, np.union1d(_places(wrong, present), lossy)

    return read


def _words(array: pa.Array, present: Flags) -> tuple[npt.NDArray[np.uint64], Flags]:
    """Each value's low and high 64 bits, and which are empty or too wide."""
    ends = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
    bytes_ = np.frombuffer(array.buffers()[2] or b"", np.uint8)
    lengths = np.diff(ends)
    wrong = (lengths == 0) | (lengths > WIDTH)
    used = np.where(wrong | ~present, 0, lengths)
    table = np.zeros((len(array), WIDTH), np.uint8)
    heads = ends[:-1][used > 0]
    table[used > 0] = np.where(bytes_[heads] >= 128, 255, 0).astype(np.uint8)[:, None]
    row = np.repeat(np.arange(len(array)), used)
    within = np.arange(used.sum()) - np.repeat(np.cumsum(used) - used, used)
    table[row, WIDTH - np.repeat(used, used) + within] = bytes_[np.repeat(ends[:-1], used) + within]
    return np.ascontiguousarray(table[:, ::-1]).view("<u8"), wrong


def _beyond(words: npt.NDArray[np.uint64], digits: int) -> Flags:
    """Which have more than so many digits."""
    low, high = words[:, 0], words[:, 1].view(np.int64)
    most, least = 10**digits, -(10**digits)
    above = (high > most >> 64) | ((high == most >> 64) & (low >= np.uint64(most & (2**64 - 1))))
    below = (high < least >> 64) | ((high == least >> 64) & (low <= np.uint64(least & (2**64 - 1))))
    beyond: Flags = above | below
    return beyond


def decimal_tokens(scale: int, type_: pa.DataType) -> Read:
    """Decimals as JSON values: a number as it is, a string as unscaled bytes in base64 (Connect writes either)."""
    of_bytes, of_numbers = unscaled(scale, type_), reading_of(type_)

    def read(array: pa.Array) -> tuple[pa.Array, Places]:
        tokens = array.storage.to_pylist()
        blobs = [_blob(token) if token is not None and token[0] == '"' else None for token in tokens]
        numbers = [None if token is None or token[0] == '"' else token for token in tokens]
        found, wrong = of_bytes(pa.array(blobs, pa.binary()))
        if any(number is not None for number in numbers):
            written, misfits = of_numbers.column(numbers)
            found, wrong = pc.coalesce(found, written), np.union1d(wrong, np.array(misfits, np.int64))
        return found, wrong

    return read


def _blob(token: str) -> bytes:
    """The bytes of a string token; none where it is no base64, which no decimal is."""
    try:
        return b64decode(token[1:-1], validate=True)
    except ValueError:
        return b""


def variable_scale(target: pa.DataType) -> Read:
    """Structs of `scale` and unscaled `value` to text, or to decimals."""

    def read(array: pa.Array) -> tuple[pa.Array, Places]:
        scales, values = (array.field(name).to_pylist() for name in ("scale", "value"))
        present = valid(array)
        written = [
            _written(value, scale) if there and value and scale is not None else None
            for there, value, scale in zip(present.tolist(), values, scales, strict=True)
        ]
        if target == pa.string():
            found = pa.array(written, target)
        else:
            found, _ = reading_of(target).column(written)
        return found, np.flatnonzero(present & ~valid(found))

    return read


def _written(value: bytes, scale: int) -> str:
    number = int.from_bytes(value, "big", signed=True)
    if scale <= 0:
        return str(number * 10**-scale) if scale > -1000 else f"{number}E{-scale}"
    digits = str(abs(number)).rjust(scale + 1, "0")
    return f"{'-' if number < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"


def cast(array: pa.Array, type_: pa.DataType) -> tuple[pa.Array, Places]:
    """Arrow's cast, and the places of values that it would change, which become null. Halves are tried where it fails."""
    if array.type == type_:
        return array, NONE
    try:
        return array.cast(type_), NONE
    except pa.ArrowInvalid:
        if len(array) == 1:
            return pa.nulls(1, type_), np.zeros(1, np.int64)
    half = len(array) // 2
    first, second = cast(array[:half], type_), cast(array[half:], type_)
    return pa.concat_arrays([first[0], second[0]]), np.concatenate([first[1], second[1] + half])


def casting(type_: pa.DataType) -> Read:
    """The cast to `type_`."""
    return lambda array: cast(array, type_)


def starting_with(first: str) -> Read:
    """JSON texts that begin so; any where `first` is empty."""

    def read(array: pa.Array) -> tuple[pa.Array, Places]:
        if not first:
            return array.storage, NONE
        fits = pc.starts_with(array.storage, first).fill_null(True).to_numpy(zero_copy_only=False)
        return array.storage, np.flatnonzero(~fits)

    return read


def _numbers(array: pa.Array) -> tuple[Places, Flags]:
    numbers: Places = array.cast(pa.int64()).fill_null(0).to_numpy()
    return numbers, valid(array)


def _made(numbers: npt.NDArray[np.int32] | Places, present: Flags, type_: pa.DataType) -> pa.Array:
    return pa.array(numbers, mask=None if present.all() else ~present).view(type_)


def _places(wrong: Flags, present: Flags) -> Places:
    return np.flatnonzero(wrong & present)


def unquoted(array: pa.Array) -> tuple[pa.Array, Places]:
    """JSON texts of words as the words. Text that is no JSON stays as it is."""
    words = array.storage if isinstance(array.type, pa.JsonType) else array.cast(pa.string())
    return pc.utf8_trim(words, '"'), NONE
