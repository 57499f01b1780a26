"""Arrow columns as `protobuf_wire.py` reads them to the columns of a table, whole columns at a time.

What only shows here to be no value of its type is noted with the row it stands in; the caller drops those rows. What
stands under a parent that is absent is of no matter, and never null where the column may hold none.
"""

from __future__ import annotations

import decimal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.topics.formats.format import RejectKind

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]


@dataclass(slots=True)
class Findings:
    """What a block came to: by row, why it gives none; and rows of which google.protobuf must say what they hold."""

    wrong: dict[int, tuple[RejectKind, str]] = field(default_factory=dict)
    unsettled: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the elements of a column stand: the row of each place, and which are there (None: all)."""

    findings: Findings
    rows_of: Callable[[Places], Places]
    present: Flags | None = None

    def reject(self, wrong: Flags, reason: Callable[[int], str], kind: RejectKind = RejectKind.MISFIT) -> None:
        """Notes the elements that are `wrong` and there; `reason` is asked by place."""
        places = self._places(wrong)
        for place, row in zip(places.tolist(), self.rows_of(places).tolist(), strict=True):
            self.findings.wrong.setdefault(row, (kind, reason(place)))

    def unsettle(self, doubtful: Flags) -> None:
        """Notes the elements that are `doubtful` and there."""
        self.findings.unsettled.update(self.rows_of(self._places(doubtful)).tolist())

    def _places(self, flags: Flags) -> Places:
        return np.flatnonzero(flags if self.present is None else flags & self.present)

    def inside(self, parent: pa.Array) -> Spot:
        """The fields of a struct."""
        if not parent.null_count:
            return self
        valid = flags(parent.is_valid())
        return replace(self, present=valid if self.present is None else self.present & valid)

    def elements(self, offsets: Places) -> Spot:
        """The elements of lists that end at `offsets`."""
        return Spot(self.findings, lambda places: self.rows_of(np.searchsorted(offsets, places, "right") - 1))


Convert = Callable[[pa.Array, Spot], pa.Array]


@dataclass(frozen=True, slots=True)
class Mapped:
    """The type of a column's values and how they come to be; None: they are as they are read."""

    type: pa.DataType
    convert: Convert | None = None


@dataclass(frozen=True, slots=True)
class MappedField:
    """A field and its column. `branch_of`: the number of the oneof it is in."""

    field: pa.Field
    convert: Convert | None
    branch_of: int | None = None


def flags(array: pa.Array) -> Flags:
    """A boolean array without nulls as NumPy's."""
    found: Flags = array.to_numpy(zero_copy_only=False)
    return found


def numbers(array: pa.Array) -> npt.NDArray[Any]:
    """An integer array as NumPy's, zero where it is null."""
    found: npt.NDArray[Any] = array.fill_null(0).to_numpy(zero_copy_only=False)
    return found


def cast_to(type_: pa.DataType) -> Mapped:
    """Numbers that all fit `type_`."""
    return Mapped(type_, lambda array, _: array.cast(type_))


def enum_names(names: dict[int, str], *, closed: bool, path: str, enum: str) -> Mapped:
    """Numbers by the name of each; of one without a name, the digits, or where the enum is closed, a misfit."""
    known = pa.array(list(names), pa.int32())
    texts = pa.array(list(names.values()), pa.string())

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        places = pc.index_in(array, known)
        found = texts.take(places)
        if found.null_count == array.null_count:
            return found
        if closed:
            unknown = flags(pc.and_(places.is_null(), array.is_valid()))
            spot.reject(unknown, lambda place: f"{path} is {array[place]}, which is no number of {enum}; {_shown(names)}")
            return found
        return pc.coalesce(found, array.cast(pa.string()))

    return Mapped(pa.string(), convert)


def _shown(names: dict[int, str]) -> str:
    return "valid: " + ", ".join(f"{number} ({name})" for number, name in list(names.items())[:20])


def struct_of(children: Sequence[MappedField], *, by_number: bool) -> Mapped:
    """Structs of a message's fields. `by_number`: they are declared in the order of their numbers, as they are read."""
    kind = pa.struct([child.field for child in children])
    build = fields_converter(children)
    if build is None and by_number:
        return Mapped(kind)

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        arrays = [array.field(child.field.name) for child in children]
        if build is not None:
            arrays = build(arrays, spot.inside(array))
        mask = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(arrays, fields=list(kind), mask=mask)

    return Mapped(kind, convert)


def fields_converter(children: Sequence[MappedField]) -> Callable[[list[pa.Array], Spot], list[pa.Array]] | None:
    """What makes the columns of a message's fields; None where all are as they are read."""
    branches: dict[int, list[int]] = {}
    for place, child in enumerate(children):
        if child.branch_of is not None:
            branches.setdefault(child.branch_of, []).append(place)
    oneofs = [places for places in branches.values() if len(places) > 1]
    if not oneofs and all(child.convert is None for child in children):
        return None

    def build(arrays: list[pa.Array], spot: Spot) -> list[pa.Array]:
        built = [
            array if child.convert is None else child.convert(array, spot)
            for child, array in zip(children, arrays, strict=True)
        ]
        for places in oneofs:
            _unsettle_crowded([arrays[place] for place in places], spot)
        return built

    return build


def _unsettle_crowded(branches: list[pa.Array], spot: Spot) -> None:
    """Of several branches of a oneof the last on the wire counts, which the columns do not tell."""
    there = [_there(branch) for branch in branches]
    if any(flags_.any() for flags_ in there):
        spot.unsettle(np.sum(there, axis=0) > 1)


def _there(branch: pa.Array) -> Flags:
    """Which branches are there, as they are read: what is there may yet be rejected, and be null for that."""
    if pa.types.is_list(branch.type):  # pieces, see `whole`
        counts: Flags = np.diff(branch.offsets.to_numpy()) > 0
        return counts
    return flags(branch.is_valid())


def list_of(item: Mapped) -> Mapped:
    """Lists of a repeated field's values."""
    kind = pa.list_(pa.field("element", item.type, nullable=False))
    convert_item = item.convert
    if convert_item is None:
        return Mapped(kind)

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        values = without_nulls(convert_item(array.values, spot.elements(array.offsets.to_numpy())))
        return pa.ListArray.from_arrays(array.offsets, values, type=kind)

    return Mapped(kind, convert)


def map_of(key: Mapped, item: Mapped, *, in_pieces: bool) -> Mapped:
    """Maps. Of a key that stands twice the last value counts. `in_pieces`: values are lists of one, see `whole`."""
    kind = pa.map_(pa.field("key", key.type, nullable=False), pa.field("value", item.type, nullable=False))

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        keys, items = (array.values.field(0), array.values.field(1)) if in_pieces else (array.keys, array.items)
        offsets = array.offsets.to_numpy()
        kept = _last_entries(keys, offsets)
        if kept is not None:
            keys, items = keys.take(pa.array(kept)), items.take(pa.array(kept))
            offsets = np.searchsorted(kept, offsets).astype(np.int32)
        inner = spot.elements(offsets)
        if key.convert is not None:
            keys = key.convert(keys, inner)
        if in_pieces:
            items = whole(items, inner)
        if items.null_count:
            items = without_nulls(items)  # an entry without a value holds an empty message
        if item.convert is not None:
            items = without_nulls(item.convert(items, inner))
        return pa.MapArray.from_arrays(pa.array(offsets), keys, items, type=kind)

    return Mapped(kind, convert)


def _last_entries(keys: pa.Array, offsets: npt.NDArray[Any]) -> Places | None:
    """The places of the entries that count, ascending; None where all do."""
    owners = np.repeat(np.arange(len(offsets) - 1, dtype=np.int64), np.diff(offsets))
    encoded = keys.dictionary_encode()
    pairs = owners * (len(encoded.dictionary) + 1) + encoded.indices.to_numpy()
    distinct, last = np.unique(pairs[::-1], return_index=True)
    if len(distinct) == len(pairs):
        return None
    return np.sort(len(pairs) - 1 - last)


def whole(array: pa.Array, spot: Spot) -> pa.Array:
    """The one message that each list of byte strings holds, null where it is empty; more are its pieces, yet to be merged."""
    offsets = array.offsets.to_numpy()
    counts = np.diff(offsets)
    if counts.max(initial=0) > 1:
        spot.unsettle(counts > 1)
    return array.values.take(pa.array(offsets[:-1], mask=counts == 0))


def required(mapped: Mapped, path: str) -> Mapped:
    """Values of which none may be missing."""

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        if array.null_count:
            spot.reject(flags(array.is_null()), lambda _: f"{path} is missing, and it is required")
        return without_nulls(array if mapped.convert is None else mapped.convert(array, spot))

    return Mapped(mapped.type, convert)


def without_nulls(array: pa.Array) -> pa.Array:
    """`array` with something in place of nulls, which stand for what is absent or rejected."""
    if not array.null_count:
        return array
    if pa.types.is_struct(array.type):
        fields = list(array.type)
        return pa.StructArray.from_arrays([array.field(place) for place in range(len(fields))], fields=fields)
    return array.fill_null(_filler(array.type))


def _filler(type_: pa.DataType) -> pa.Scalar:
    if pa.types.is_temporal(type_):
        return pa.scalar(0, pa.int32() if pa.types.is_date(type_) else pa.int64()).cast(type_)
    if pa.types.is_list(type_) or pa.types.is_map(type_):
        return pa.scalar([], type_)
    fillers: dict[pa.DataType, object] = {pa.string(): "", pa.binary(): b"", pa.bool_(): False}
    return pa.scalar(fillers.get(type_, decimal.Decimal(0) if pa.types.is_decimal(type_) else 0), type_)
