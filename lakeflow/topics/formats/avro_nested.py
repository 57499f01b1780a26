"""Readers of Avro's types that hold others: records, unions, arrays and maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.topics.formats.avro_lanes import Cut, Lanes, Longs, Truths, long_at
from lakeflow.topics.formats.avro_scalars import FEW, EnumReader, Faults, LongReader, Reader, array_of

CHUNK = 65_536
"""Items of arrays and maps that are read at once: what they take meanwhile is many times their bytes."""
ROUNDS = 16
"""Steps that lanes take together however few they are. Then each goes alone, for a step costs the same for one as for many."""


class RecordReader:
    """A record, as a struct."""

    def __init__(self, type_: pa.StructType, fields: Sequence[Reader]) -> None:
        self.type = type_
        self._schema = list(type_)
        self._fields = fields
        sizes = [field.size for field in fields]
        self.size = None if None in sizes else sum(size or 0 for size in sizes)
        self.zeros = sum(field.zeros for field in fields)

    def read(self, lanes: Lanes) -> pa.Array:
        return pa.StructArray.from_arrays(self.columns(lanes), fields=self._schema)

    def columns(self, lanes: Lanes) -> list[pa.Array]:
        """The column of each field."""
        return [field.read(lanes) for field in self._fields]

    def skip(self, lanes: Lanes) -> None:
        for field in self._fields:
            field.skip(lanes)

    def step(self, data: bytes, pos: int, end: int) -> int:
        for field in self._fields:
            pos = field.step(data, pos, end)
        return pos


class UnionReader:
    """A union: the place of a branch, and its value. A struct of all branches; where but one is no `null`, that branch."""

    size: int | None = None

    def __init__(self, faults: Faults, type_: pa.DataType, branches: Sequence[Reader | None]) -> None:
        """A branch of None is `null`."""
        self.type = type_
        self._faults = faults
        self._branches = branches
        self._values = [(place, branch) for place, branch in enumerate(branches) if branch is not None]
        self.zeros = 1 + max(branch.zeros for _, branch in self._values)
        self._unknown = faults.note(f"branch {{}} of a union that has {len(branches)}")

    def _chosen(self, lanes: Lanes) -> Longs:
        chosen = self._faults.long(lanes)
        if (wrong := (chosen < 0) | (chosen >= len(self._branches))).any():
            lanes.refuse(wrong, self._unknown, chosen)
            chosen[wrong] = 0
        return chosen

    def read(self, lanes: Lanes) -> pa.Array:
        chosen = self._chosen(lanes)
        if len(self._values) == 1:
            ((place, branch),) = self._values
            return _read_where(branch, lanes, chosen == place)
        arrays = [_read_where(branch, lanes, chosen == place) for place, branch in self._values]
        struct = pa.StructArray.from_arrays(arrays, fields=list(self.type))
        if None not in self._branches:
            return struct
        return _masked(struct, chosen != self._branches.index(None))

    def skip(self, lanes: Lanes) -> None:
        chosen = self._chosen(lanes)
        for place, branch in self._values:
            if len(some := np.flatnonzero(chosen == place)):
                moved = lanes.some(some)
                branch.skip(moved)
                lanes.follow(some, moved)

    def step(self, data: bytes, pos: int, end: int) -> int:
        chosen, pos = long_at(data, pos, end)
        if not 0 <= chosen < len(self._branches):
            raise Cut
        branch = self._branches[chosen]
        return pos if branch is None else branch.step(data, pos, end)


def _read_where(reader: Reader, lanes: Lanes, here: Truths) -> pa.Array:
    """What stands at the lanes that are `here`, null for the others, which stay."""
    if here.all():
        return reader.read(lanes)
    moved = lanes.where(here)
    array = reader.read(moved)
    lanes.pos = np.where(here, moved.pos, lanes.pos)
    return _masked(array, here)


def _masked(array: pa.Array, present: Truths) -> pa.Array:
    """`array`, which has no nulls, with null where not `present`. What was read from zeros stays beneath: Parquet allows no
    null in a required field, not even within a null."""
    bits = pa.py_buffer(np.packbits(present, bitorder="little"))
    kind, count = array.type, len(array)
    if pa.types.is_struct(kind):
        children = [array.field(place) for place in range(kind.num_fields)]
        return pa.Array.from_buffers(kind, count, [bits], children=children)
    if pa.types.is_list(kind):
        return pa.Array.from_buffers(kind, count, [bits, array.buffers()[1]], children=[array.values])
    if pa.types.is_map(kind):
        entries = pa.StructArray.from_arrays([array.keys, array.items], fields=[kind.key_field, kind.item_field])
        return pa.Array.from_buffers(kind, count, [bits, array.buffers()[1]], children=[entries])
    return pa.Array.from_buffers(kind, count, [bits, *array.buffers()[1:]])


class ListReader:
    """An array: blocks of a count and as many items, up to one of count 0; a negative count has the block's size behind it."""

    size: int | None = None

    def __init__(self, faults: Faults, type_: pa.DataType, item: Reader) -> None:
        self.type = type_
        self.zeros = 1 + item.zeros  # one of its own, and an item's where a union in it takes another branch
        self._faults = faults
        self._item = item
        self._too_many = faults.note("more items are said to come than the record has bytes")
        self._is_long = isinstance(item, LongReader | EnumReader)

    def read(self, lanes: Lanes) -> pa.Array:
        _, offsets, items = self.items(lanes)
        return pa.Array.from_buffers(self.type, len(offsets) - 1, [None, pa.py_buffer(offsets)], children=[items])

    def items(self, lanes: Lanes) -> tuple[Longs, pa.Array, pa.Array]:
        """The lane of each item, where the items of each lane begin and end, and the items."""
        ends = lanes.end
        start, owner, alone = self._locate(lanes)
        parts = []
        for first in range(0, max(1, len(start)), CHUNK):
            of = owner[first : first + CHUNK]
            parts.append(self._item.read(Lanes(lanes.block, start[first : first + CHUNK], ends[of], lanes.row_of(of))))
        self._refuse_cut(lanes, alone)
        offsets = np.zeros(len(lanes) + 1, np.int32)
        np.cumsum(np.bincount(owner, minlength=len(lanes)), out=offsets[1:])
        return owner, offsets, parts[0] if len(parts) == 1 else pa.concat_arrays(parts)

    def skip(self, lanes: Lanes) -> None:
        _, _, cut = self._locate(lanes)
        self._refuse_cut(lanes, cut)

    def _refuse_cut(self, lanes: Lanes, cut: list[int]) -> None:
        if cut:
            wrong = np.zeros(len(lanes), np.bool_)
            wrong[cut] = True
            lanes.refuse(wrong, self._faults.cut)

    def _locate(self, lanes: Lanes) -> tuple[Longs, Longs, list[int]]:
        """The start of each item and its lane, the items of a lane together and in order; moves the lanes behind them.

        Also the lanes of which the last item given is no whole one: its own reader tells best what is wrong.
        """
        starts, owners = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        cut: list[int] = []
        left = self._header(lanes)
        active = np.flatnonzero(left)
        moved, left = lanes.some(active), left[active]
        rounds = 0
        while len(active):
            if len(active) <= FEW and rounds >= (ROUNDS if self._leaps else 1):
                self._alone(lanes, active, moved, left, starts, owners, cut)
                break
            rounds += 1
            found, lane, left = self._leap(moved, left) if self._leaps else self._next(moved, left)
            starts.append(found)
            owners.append(active if lane is None else active[lane])
            through = np.flatnonzero(left == 0)
            if len(through):
                heads = moved.some(through)
                left[through] = self._header(heads)
                moved.follow(through, heads)
                lanes.follow(active[through], heads)
                more = np.flatnonzero(left)
                active, moved, left = active[more], moved.some(more), left[more]
        start, owner = np.concatenate(starts), np.concatenate(owners)
        order = np.argsort(owner, kind="stable")
        return start[order], owner[order], cut

    @property
    def _leaps(self) -> bool:
        """Whether all items of a block are found at once."""
        return self._is_long or self._item.size is not None

    def _header(self, lanes: Lanes) -> Longs:
        """How many items the next block has."""
        count = self._faults.long(lanes)
        if len(sized := np.flatnonzero(count < 0)):
            moved = lanes.some(sized)
            self._faults.long(moved)
            lanes.follow(sized, moved)
            count = np.abs(count)
        # An item has one byte at the least. The least long has no positive counterpart and stays negative.
        if (wrong := (count < 0) | (count > np.maximum(lanes.end - lanes.pos, 0))).any():
            lanes.refuse(wrong, self._too_many)
            count[wrong] = 0
        return count

    def _next(self, lanes: Lanes, left: Longs) -> tuple[Longs, None, Longs]:
        """One item of each lane. A lane that is refused has none left."""
        start = lanes.pos
        self._item.skip(lanes)
        return start, None, np.where(lanes.is_parked(), 0, left - 1)

    def _leap(self, lanes: Lanes, left: Longs) -> tuple[Longs, Longs, Longs]:
        """All items of each lane's block, and the lane of each."""
        size, before = self._item.size, lanes.pos
        stops = stop = np.empty(0, np.int64)
        if size is not None:
            begin = lanes.advance(span := left * size, self._faults.cut)
        else:
            # The zeros behind the records are stops too. The last stop may lie behind the record's end, and is refused then.
            stops = lanes.block.stops()
            stop = np.searchsorted(stops, before)
            last = stops[np.minimum(stop + left - 1, len(stops) - 1)]
            begin = lanes.advance(span := last + 1 - before, self._faults.cut)
        left = np.where(span == 0, 0, left)
        lane = np.repeat(np.arange(len(lanes)), left)
        number = np.arange(len(lane)) - np.repeat(np.cumsum(left) - left, left)
        if size is not None:
            start = begin[lane] + number * size
        else:
            start = np.where(number == 0, begin[lane], stops[np.repeat(stop, left) + number - 1] + 1)
        return start, lane, np.zeros_like(left)

    def _alone(
        self, lanes: Lanes, active: Longs, moved: Lanes, left: Longs, starts: list[Longs], owners: list[Longs], cut: list[int]
    ) -> None:
        """Each lane to its end, by itself."""
        pos = lanes.pos.copy()
        for lane, place, end, count in zip(active.tolist(), moved.pos.tolist(), moved.end.tolist(), left.tolist(), strict=True):
            found: list[int] = []
            try:
                pos[lane] = self._walk(lanes.block.data, place, end, count, found)
            except Cut:
                cut.append(lane)
            starts.append(np.array(found, np.int64))
            owners.append(np.full(len(found), lane, np.int64))
        lanes.pos = pos

    def _walk(self, data: bytes, pos: int, end: int, count: int, found: list[int] | None = None) -> int:
        """The place behind an array of which `count` items are left in a block; adds where each starts. Raises Cut."""
        while count:
            if count > end - pos:
                raise Cut
            for _ in range(count):
                if found is not None:
                    found.append(pos)
                pos = self._item.step(data, pos, end)
            count, pos = long_at(data, pos, end)
            if count < 0:
                _, pos = long_at(data, pos, end)
                count = -count
        return pos

    def step(self, data: bytes, pos: int, end: int) -> int:
        count, pos = long_at(data, pos, end)
        if count < 0:
            _, pos = long_at(data, pos, end)
        return self._walk(data, pos, end, abs(count))


class MapReader:
    """A map: an array of keys and values. Of a key that is there twice the last value counts."""

    size: int | None = None

    def __init__(self, faults: Faults, type_: pa.MapType, key: Reader, value: Reader) -> None:
        self.type = type_
        entry = RecordReader(pa.struct([type_.key_field, type_.item_field]), [key, value])
        self._entries = ListReader(faults, pa.list_(entry.type), entry)
        self.zeros = self._entries.zeros

    def read(self, lanes: Lanes) -> pa.Array:
        owner, offsets, entries = self._entries.items(lanes)
        keys, values = entries.field(0), entries.field(1)
        if (last := _last_of_each(owner, keys)) is not None:
            keys, values = keys.take(last), values.take(last)
            np.cumsum(np.bincount(owner[last.to_numpy()], minlength=len(lanes)), out=offsets[1:])
        return pa.MapArray.from_arrays(array_of(pa.int32(), offsets), keys, values, type=self.type)

    def skip(self, lanes: Lanes) -> None:
        self._entries.skip(lanes)

    def step(self, data: bytes, pos: int, end: int) -> int:
        return self._entries.step(data, pos, end)


def _last_of_each(owner: Longs, keys: pa.Array) -> pa.Array | None:
    """The places of the last entry of each key of each lane; None where no key is there twice."""
    if len(keys) < 2:
        return None
    encoded = pc.dictionary_encode(keys)
    both = owner * len(encoded.dictionary) + encoded.indices.to_numpy()
    distinct, place = np.unique(both[::-1], return_index=True)
    if len(distinct) == len(both):
        return None
    return array_of(pa.int64(), np.sort(len(both) - 1 - place))
