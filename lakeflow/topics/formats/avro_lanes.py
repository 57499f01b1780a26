"""Many places in one buffer, read in step: the varints and bounds beneath the Avro readers.

A lane is a place from which one value is read, and the end of its record. All lanes take the same step of a schema at
once, each step a handful of numpy operations, so a record costs what its bytes cost and not what Python costs. No
lane can read past its own record, so what stands there decides about its record alone.

A lane without a value (the other branch of a union; a record already found wrong) is parked: it stands in zeros behind
the records. Every type reads something from zeros, in bounded room, so that readers need no special case.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakeflow.topics.formats.format import RejectKind

Longs = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]

FRONT = 16
"""Zeros before the records: a number is read backwards from its end."""
MARGIN = 16
"""Zeros behind everything: varints are read by words."""

_STOPS = np.uint64(0x8080808080808080)
_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
_ONE = np.uint64(1)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record gives no row. `text` may hold `{}` for a number of the record's."""

    kind: RejectKind
    text: str


class Block:
    """The bytes of some records, and what was found wrong with them.

    `faults[i]` is 0 while record i is fine, then 1 + the place in `known` of the first fault met, with its number in `details`.
    """

    def __init__(self, bodies: Sequence[bytes], parked: int, known: Sequence[Fault]) -> None:
        """`parked` is the most that any reader takes from zeros."""
        # A byte lies between, so that a lane at the end of the last record is not taken for a parked one.
        self.data = b"".join((bytes(FRONT), *bodies, bytes(1 + parked + MARGIN)))
        self.bytes = np.frombuffer(self.data, np.uint8)
        self.buffer = pa.py_buffer(self.data)
        self.park = len(self.data) - parked - MARGIN
        self.park_end = self.park + parked
        self.faults = np.zeros(len(bodies), np.int32)
        self.details = np.zeros(len(bodies), np.int64)
        self._known = known
        self._words = self.window(np.dtype("<u8"))
        self._stops: Longs | None = None
        bounds = np.fromiter(accumulate(map(len, bodies), initial=FRONT), np.int64, len(bodies) + 1)
        self.lanes = Lanes(self, bounds[:-1].copy(), bounds[1:], None)

    def window(self, kind: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
        """The value of `kind` that begins at each byte."""
        return np.ndarray((len(self.data) - kind.itemsize + 1,), kind, self.data, 0, (1,))

    def words(self, places: Longs) -> npt.NDArray[np.uint64]:
        """Eight bytes from each place, the first the lowest."""
        return self._words[places]  # type: ignore[return-value]

    def stops(self) -> Longs:
        """The places of all bytes that end a varint, where one is read."""
        if self._stops is None:
            self._stops = np.flatnonzero(self.bytes < 0x80)
        return self._stops

    def fault(self, at: int) -> Fault:
        """What is wrong with a record, in words."""
        found = self._known[self.faults[at] - 1]
        return Fault(found.kind, found.text.format(self.details[at]))


class Lanes:
    """Places `pos` in a block, each with the `end` of its record; ascending, where not parked. `rows` are their records;
    None: lane i is of record i. The arrays are replaced and never written to, so that lanes may share them."""

    __slots__ = ("block", "end", "pos", "rows")

    def __init__(self, block: Block, pos: Longs, end: Longs, rows: Longs | None) -> None:
        self.block = block
        self.pos = pos
        self.end = end
        self.rows = rows

    def __len__(self) -> int:
        return len(self.pos)

    def row_of(self, lanes: Longs) -> Longs:
        """The records of lanes."""
        return lanes if self.rows is None else self.rows[lanes]

    def some(self, lanes: Longs) -> Lanes:
        """Some lanes, by their numbers; they move on their own."""
        return Lanes(self.block, self.pos[lanes], self.end[lanes], self.row_of(lanes))

    def where(self, here: Truths) -> Lanes:
        """As many lanes, those that are not `here` parked; they move on their own."""
        pos = np.where(here, self.pos, self.block.park)
        return Lanes(self.block, pos, np.where(here, self.end, self.block.park_end), self.rows)

    def follow(self, lanes: Longs, moved: Lanes) -> None:
        """Moves some lanes to where `moved`, made of them by `some`, has come."""
        self.pos = self.pos.copy()
        self.pos[lanes] = moved.pos

    def refuse(self, wrong: Truths, fault: int, details: Longs | None = None) -> None:
        """Notes `fault` for the records of the lanes that are `wrong`, where none is noted, and parks these lanes."""
        lanes = np.flatnonzero(wrong)
        block, rows = self.block, self.row_of(lanes)
        fresh = block.faults[rows] == 0
        block.faults[rows[fresh]] = fault
        if details is not None:
            block.details[rows[fresh]] = details[lanes[fresh]]
        self.pos, self.end = self.pos.copy(), self.end.copy()
        self.pos[lanes] = block.park
        self.end[lanes] = block.park_end

    def is_parked(self) -> Truths:
        """Which lanes stand in the zeros."""
        return self.pos >= self.block.park

    def advance(self, count: int | Longs, cut: int) -> Longs:
        """Moves by `count` bytes, none of them negative; gives where the lanes stood.

        Where the record ends before, `cut` is noted, the lane stands parked, and `count` is set to 0.
        """
        short = count > self.end - self.pos
        if short.any():
            self.refuse(short, cut)
            count = np.full(len(self), count) if isinstance(count, int) else count
            count[short] = 0
        start = self.pos
        self.pos = start + count
        return start


def read_long(lanes: Lanes, cut: int, overlong: int) -> Longs:
    """A zigzag varint from each lane; 0 where `cut` (the record ends within it) or `overlong` (over 64 bits) is noted."""
    first = lanes.block.bytes[lanes.pos]
    if not len(first) or first.max() < 0x80:
        value: Longs = first.astype(np.int64)
        before = lanes.pos
        start = lanes.advance(1, cut)
        if start is not before:
            value[start != before] = 0
        return (value >> 1) ^ -(value & 1)
    raw, size = _wide(lanes, overlong)
    lanes.advance(size, cut)
    raw[size == 0] = 0
    signed: npt.NDArray[np.uint64] = (raw >> _ONE) ^ np.negative(raw & _ONE)
    return signed.view(np.int64)


def _wide(lanes: Lanes, overlong: int) -> tuple[npt.NDArray[np.uint64], Longs]:
    """Varints and their sizes in bytes; the size is 0 where `overlong` is noted."""
    word = lanes.block.words(lanes.pos)
    stop = ~word & _STOPS
    upto = stop ^ (stop - _ONE)  # ones up to the lowest stop, all ones where there is none
    size = (np.bitwise_count(upto) >> 3).astype(np.int64)
    word &= upto & _BITS
    for low, shift in _PACK:
        word = (word & low) | ((word & ~low) >> shift)
    if not stop.all():
        _extend(lanes, np.flatnonzero(stop == 0), word, size, overlong)
    return word, size


_PACK = (
    (np.uint64(0x007F007F007F007F), np.uint64(1)),
    (np.uint64(0x00003FFF00003FFF), np.uint64(2)),
    (np.uint64(0x000000000FFFFFFF), np.uint64(4)),
)
"""Steps that close the gaps of the stop bits: groups of 7 bits become groups of 14, of 28, of 56."""


def _extend(lanes: Lanes, longer: Longs, word: npt.NDArray[np.uint64], size: Longs, overlong: int) -> None:
    """Adds the ninth and tenth byte to the varints that have them."""
    ninth = lanes.block.bytes[lanes.pos[longer] + 8].astype(np.uint64)
    tenth = lanes.block.bytes[lanes.pos[longer] + 9].astype(np.uint64)
    goes_on = ninth >= 0x80
    word[longer] |= (ninth & np.uint64(0x7F)) << np.uint64(56)
    word[longer[goes_on]] |= tenth[goes_on] << np.uint64(63)
    size[longer] = 9 + goes_on
    # Where the record ends before the tenth byte it is cut, whatever stands behind it.
    wrong = longer[goes_on & (tenth > 1) & (lanes.pos[longer] + 10 <= lanes.end[longer])]
    if len(wrong):
        size[wrong] = 0
        refused = np.zeros(len(lanes), np.bool_)
        refused[wrong] = True
        lanes.refuse(refused, overlong)


class Cut(Exception):
    """A value does not fit in its record, where one place is read alone; never leaves the readers."""


def long_at(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """The varint at `pos` of one record and the place behind it. Raises Cut."""
    raw = shift = 0
    while pos < end and shift < 70:
        byte = data[pos]
        raw |= (byte & 0x7F) << shift
        pos += 1
        shift += 7
        if byte < 0x80:
            if raw >= 2**64:
                break
            return (raw >> 1) ^ -(raw & 1), pos
    raise Cut


def beyond(pos: int, count: int, end: int) -> int:
    """The place `count` bytes behind `pos` of one record. Raises Cut."""
    if not 0 <= count <= end - pos:
        raise Cut
    return pos + count
