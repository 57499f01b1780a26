"""Readers of Avro's types without parts: a column of Arrow from lanes."""

from __future__ import annotations

import decimal
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.topics.formats.avro_lanes import Fault, Lanes, Longs, Truths, beyond, long_at, read_long
from lakeflow.topics.formats.avro_schema import Decimal, Kind, Temporal
from lakeflow.topics.formats.format import RejectKind


class Reader(Protocol):
    """Reads one type. `zeros` bounds the bytes that it takes from parked lanes, `size` is how many it takes from any lane,
    where that is fixed."""

    type: pa.DataType
    zeros: int
    size: int | None

    def read(self, lanes: Lanes) -> pa.Array:
        """The column of what stands at the lanes, which are moved behind it; anything valid where a lane is refused."""
        ...

    def skip(self, lanes: Lanes) -> None:
        """Moves the lanes as `read` does; what is wrong beside lengths may go unseen."""
        ...

    def step(self, data: bytes, pos: int, end: int) -> int:
        """Where `read` would move one lane. Raises Cut where it would refuse it, or moves on."""
        ...


class Faults:
    """What may be wrong at one path of a schema; each complaint has a number, counted over the whole schema."""

    def __init__(self, known: list[Fault], path: str) -> None:
        self.known = known
        self.path = path
        self.cut = self.note("the record ends within it")
        self.overlong = self.note("a number of more than 64 bits")

    def note(self, text: str, kind: RejectKind = RejectKind.MALFORMED) -> int:
        """The number of a complaint; `{}` in it stands for a detail of the record."""
        path = self.path.replace("{", "{{").replace("}", "}}")
        self.known.append(Fault(kind, f"{path}: {text}"))
        return len(self.known)

    def long(self, lanes: Lanes) -> Longs:
        """`read_long`, complaining at this path."""
        return read_long(lanes, self.cut, self.overlong)


def array_of(type_: pa.DataType, data: npt.NDArray[np.generic]) -> pa.Array:
    """An array over numpy's memory, an element for each of the first dimension."""
    return pa.Array.from_buffers(type_, len(data), [None, pa.py_buffer(data)])


class LongReader:
    """int, long, and the times that they count."""

    zeros = 1
    size: int | None = None

    def __init__(self, faults: Faults, kind: Kind) -> None:
        self.type = pa.int32() if kind is Kind.INT else pa.int64()
        self._faults = faults
        self._wide = faults.note("{} is no int of 32 bits") if kind is Kind.INT else 0

    def read(self, lanes: Lanes) -> pa.Array:
        value = self._faults.long(lanes)
        if not self._wide:
            return array_of(self.type, value)
        narrow = value.astype(np.int32)
        if (wrong := narrow != value).any():
            lanes.refuse(wrong, self._wide, value)
        return array_of(self.type, narrow)

    def skip(self, lanes: Lanes) -> None:
        self._faults.long(lanes)

    def step(self, data: bytes, pos: int, end: int) -> int:
        return long_at(data, pos, end)[1]


class TemporalReader(LongReader):
    """Dates, times and timestamps."""

    def __init__(self, faults: Faults, temporal: Temporal, *, floors: bool) -> None:
        super().__init__(faults, Kind.LONG)
        self.type = temporal.type
        self._temporal = temporal
        # Of a unit finer than Arrow's, the last microsecond holds several values.
        self._low = -(-temporal.low // temporal.factor) * temporal.divisor
        self._high = temporal.high // temporal.factor * temporal.divisor + temporal.divisor - 1
        self._outside = faults.note(f"{{}} is outside the range of {temporal.name}", RejectKind.MISFIT)
        self._finer = 0
        if temporal.divisor > 1 and not floors:
            self._finer = faults.note("{} has digits below the microsecond, which a table cannot hold", RejectKind.MISFIT)

    def read(self, lanes: Lanes) -> pa.Array:
        value = self._faults.long(lanes)
        wrong = (value < self._low) | (value > self._high)
        if wrong.any():
            lanes.refuse(wrong, self._outside, value)
            value[wrong] = 0
        if self._finer and (wrong := value % self._temporal.divisor != 0).any():
            lanes.refuse(wrong, self._finer, value)
        if self._temporal.factor > 1:
            value *= self._temporal.factor
        if self._temporal.divisor > 1:
            value //= self._temporal.divisor
        return array_of(self.type, value.astype(np.int32) if self.type == pa.date32() else value)


class EnumReader(LongReader):
    """An enum, as the text of its symbol."""

    def __init__(self, faults: Faults, symbols: tuple[str, ...]) -> None:
        super().__init__(faults, Kind.LONG)
        self.type = pa.string()
        self._symbols = pa.array(symbols, pa.string())
        self._unknown = faults.note(f"symbol {{}} of an enum that has {len(symbols)}")

    def read(self, lanes: Lanes) -> pa.Array:
        value = self._faults.long(lanes)
        wrong = (value < 0) | (value >= len(self._symbols))
        if wrong.any():
            lanes.refuse(wrong, self._unknown, value)
            value[wrong] = 0
        return self._symbols.take(array_of(pa.int64(), value))


class FixedReader:
    """Types of `size` bytes, whatever stands in them: fixed, float, double; `made` makes the column of their matrix."""

    def __init__(self, faults: Faults, type_: pa.DataType, size: int) -> None:
        self.type = type_
        self.size: int | None = size
        self.zeros = self._count = size
        self._cut = faults.cut
        self._kind = np.dtype({4: "<f4", 8: "<f8"}[size] if pa.types.is_floating(type_) else f"V{size}")

    def read(self, lanes: Lanes) -> pa.Array:
        return array_of(self.type, self._values(lanes))

    def _values(self, lanes: Lanes) -> npt.NDArray[np.generic]:
        start = lanes.advance(self._count, self._cut)
        return lanes.block.window(self._kind)[start]

    def skip(self, lanes: Lanes) -> None:
        lanes.advance(self._count, self._cut)

    def step(self, data: bytes, pos: int, end: int) -> int:
        return beyond(pos, self._count, end)


class BooleanReader(FixedReader):
    """A byte, 0 or 1."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(faults, pa.binary(1), 1)
        self.type = pa.bool_()
        self._neither = faults.note("a boolean of byte {}; valid: 0, 1")

    def read(self, lanes: Lanes) -> pa.Array:
        value = lanes.block.bytes[lanes.advance(1, self._cut)]
        if (wrong := value > 1).any():
            lanes.refuse(wrong, self._neither, value.astype(np.int64))
        return pa.Array.from_buffers(self.type, len(value), [None, pa.py_buffer(np.packbits(value, bitorder="little"))])


HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), "S2")
HYPHENS = np.array([8, 13, 18, 23])
DIGITS = np.setdiff1d(np.arange(36), HYPHENS)


class UuidReader(FixedReader):
    """16 bytes, as the text of RFC 9562 section 4."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(faults, pa.binary(16), 16)
        self.type = pa.string()

    def read(self, lanes: Lanes) -> pa.Array:
        count = len(lanes)
        octets = self._values(lanes).view(np.uint8)
        text = np.full((count, 36), ord("-"), np.uint8)
        text[:, DIGITS] = HEX[octets].view(np.uint8).reshape(count, 32)
        offsets = np.arange(0, 36 * count + 1, 36, dtype=np.int32)
        return pa.Array.from_buffers(self.type, count, [None, pa.py_buffer(offsets), pa.py_buffer(text)])


class BytesReader:
    """bytes and string: a length and as many bytes."""

    zeros = 1
    size: int | None = None

    def __init__(self, faults: Faults, kind: Kind) -> None:
        self.type = pa.string() if kind is Kind.STRING else pa.binary()
        self._faults = faults
        self._negative = faults.note("a length of {}")
        self._broken = faults.note("its text is not UTF-8") if kind is Kind.STRING else 0

    def read(self, lanes: Lanes) -> pa.Array:
        column = _gathered(self.type, lanes, *self.spans(lanes))
        if self._broken:
            try:
                column.validate(full=True)
            except pa.ArrowInvalid:
                lanes.refuse(_not_utf8(column), self._broken)
        return column

    def spans(self, lanes: Lanes) -> tuple[Longs, Longs]:
        """Where the bytes start, and how many they are."""
        length = self._faults.long(lanes)
        if (wrong := length < 0).any():
            lanes.refuse(wrong, self._negative, length)
            length[wrong] = 0
        return lanes.advance(length, self._faults.cut), length

    def skip(self, lanes: Lanes) -> None:
        self.spans(lanes)

    def step(self, data: bytes, pos: int, end: int) -> int:
        length, pos = long_at(data, pos, end)
        return beyond(pos, length, end)


def _gathered(type_: pa.DataType, lanes: Lanes, start: Longs, length: Longs) -> pa.Array:
    """The bytes of each lane. Arrow copies them: of an array of the lanes and of what lies between, it takes every other."""
    offsets = np.zeros(len(length) + 1, np.int32)
    np.cumsum(length, out=offsets[1:])
    if not length.all():
        filled = np.flatnonzero(length)
        start, length = start[filled], length[filled]
    count = len(start)
    edges = np.empty(2 * count + 1, np.int32)
    edges[0:-1:2] = start
    edges[1::2] = start + length
    edges[-1] = edges[-2] if count else 0
    assert (edges[1:] >= edges[:-1]).all(), "lanes ascend, and none reaches into the next"
    both = pa.Array.from_buffers(pa.binary(), 2 * count, [None, pa.py_buffer(edges), lanes.block.buffer])
    taken = both.take(array_of(pa.int32(), np.arange(0, 2 * count, 2, dtype=np.int32)))
    return pa.Array.from_buffers(type_, len(offsets) - 1, [None, pa.py_buffer(offsets), taken.buffers()[2]])


FEW = 16


def _not_utf8(texts: pa.Array) -> Truths:
    """Which texts are broken. Halves are tried, so that the cost follows their number."""
    wrong = np.zeros(len(texts), np.bool_)
    parts = [(0, len(texts))]
    while parts:
        first, last = parts.pop()
        part = texts.slice(first, last - first)
        if last - first <= FEW:
            wrong[first:last] = [not _decodes(value) for value in part.cast(pa.binary()).to_pylist()]
            continue
        try:
            part.validate(full=True)
        except pa.ArrowInvalid:
            middle = (first + last) // 2
            parts += [(first, middle), (middle, last)]
    return wrong


def _decodes(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


class DecimalReader:
    """decimal on bytes or fixed."""

    def __init__(self, faults: Faults, type_: Decimal) -> None:
        self.type = pa.decimal128(type_.precision, type_.scale)
        self._beneath: BytesReader | FixedReader
        if type_.size is None:
            self._beneath = BytesReader(faults, Kind.BYTES)
        else:
            self._beneath = FixedReader(faults, pa.binary(type_.size), type_.size)
        self.size, self.zeros = self._beneath.size, self._beneath.zeros
        self._cut = faults.cut
        self._digits = faults.note(f"its number does not fit in {type_.precision} digits", RejectKind.MISFIT)
        self._empty = faults.note("a decimal of no bytes")
        self._scale = type_.scale
        most = decimal.Decimal(10**type_.precision - 1).scaleb(-type_.scale, decimal.Context(prec=38))
        self._most = pa.scalar(most, pa.decimal128(38, type_.scale))
        self._least = pa.scalar(most.copy_negate(), pa.decimal128(38, type_.scale))

    def read(self, lanes: Lanes) -> pa.Array:
        start, length = self._spans(lanes)
        halves = np.empty((len(lanes), 2), np.int64)
        _unscaled(lanes, start, length, halves)
        numbers = array_of(pa.decimal128(38, self._scale), halves)
        fits = pc.and_(pc.less_equal(numbers, self._most), pc.greater_equal(numbers, self._least))
        wrong = ~fits.to_numpy(zero_copy_only=False)
        if len(longer := np.flatnonzero(length > 16)):
            wrong[longer] |= _exceeds(lanes.block.bytes, start[longer], length[longer] - 16, halves[longer, 1] < 0)
        empty = (length == 0) & (start < lanes.block.park)
        if empty.any():
            lanes.refuse(empty, self._empty)
        if wrong.any():
            lanes.refuse(wrong, self._digits)
            halves[wrong] = 0
        return array_of(self.type, halves)

    def _spans(self, lanes: Lanes) -> tuple[Longs, Longs]:
        if isinstance(self._beneath, BytesReader):
            return self._beneath.spans(lanes)
        return lanes.advance(self.zeros, self._cut), np.full(len(lanes), self.zeros)

    def skip(self, lanes: Lanes) -> None:
        self._beneath.skip(lanes)

    def step(self, data: bytes, pos: int, end: int) -> int:
        return self._beneath.step(data, pos, end)


def _unscaled(lanes: Lanes, start: Longs, length: Longs, halves: npt.NDArray[np.int64]) -> None:
    """The last 16 bytes of each number, with its sign before them, as Arrow keeps 128 bits: the lower half first."""
    words = lanes.block.window(np.dtype(">u8"))
    end = start + length
    halves[:, 0] = _signed(words[end - 8], np.minimum(length, 8))
    halves[:, 1] = halves[:, 0] >> 63
    if (longer := length > 8).any():
        lanes_ = np.flatnonzero(longer)
        halves[lanes_, 0] = words[end[lanes_] - 8].astype(np.uint64).view(np.int64)
        halves[lanes_, 1] = _signed(words[end[lanes_] - 16], np.minimum(length[lanes_] - 8, 8))


def _exceeds(octets: npt.NDArray[np.uint8], start: Longs, count: Longs, negative: Truths) -> Truths:
    """Where the `count` bytes ahead of a number's last 16 are more than its sign."""
    first = np.cumsum(count) - count
    places = np.arange(count.sum()) + np.repeat(start - first, count)
    differs = octets[places] != np.repeat(np.where(negative, 0xFF, 0), count)
    return np.logical_or.reduceat(differs, first)


def _signed(words: npt.NDArray[np.generic], count: Longs) -> npt.NDArray[np.int64]:
    """The last `count` bytes of each word, as a number with a sign; 0 for none."""
    shift = (64 - 8 * count).astype(np.int64)
    moved = words.astype(np.uint64).view(np.int64) << np.minimum(shift, 63)
    return np.where(count == 0, 0, moved >> np.minimum(shift, 63))
