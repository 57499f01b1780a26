"""Fields that are written in another type than they are kept in: a date as a number of days, a decimal as bytes.

A format decodes each field as it is written; this turns the decoded arrays into those that rows hold, a column at a
time, and notes each row that holds a value which does not fit. Values under a parent that is null are never looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakeflow.topics.formats.columns import FILLERS
from lakeflow.topics.formats.format import Part, Reject, RejectKind

SHOWN = 60
"""How many characters of a value a reason shows."""

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an array stands among the rows.

    `rows` holds the row of each element, None where element i is of row i. `alive` tells the elements whose parents
    are all there, None where all are. `misfits` takes the first reason of each row.
    """

    path: str
    misfits: dict[int, str]
    rows: Places | None = None
    alive: Flags | None = None

    def note(self, place: int, reason: str) -> None:
        """Note why the element at `place` does not fit, unless it is not alive."""
        if self.alive is None or self.alive[place]:
            row = place if self.rows is None else int(self.rows[place])
            self.misfits.setdefault(row, reason)

    def into(self, name: str, parent: pa.Array) -> Spot:
        """The spot of a field of the struct `parent`, which stands here."""
        if not parent.null_count:
            return replace(self, path=f"{self.path}.{name}")
        present = valid(parent)
        return replace(self, path=f"{self.path}.{name}", alive=present if self.alive is None else self.alive & present)

    def elements(self, parent: pa.Array, lengths: Places) -> Spot:
        """The spot of all elements of `parent`, a list or map that stands here."""
        rows = np.arange(len(parent)) if self.rows is None else self.rows
        alive = valid(parent) if self.alive is None else self.alive & valid(parent)
        return replace(self, path=f"{self.path}[]", rows=np.repeat(rows, lengths), alive=np.repeat(alive, lengths))


Convert = Callable[[pa.Array, Spot], pa.Array]
Read = Callable[[pa.Array], tuple[pa.Array, Places]]
"""From an array as written to the array as kept, and the places of values that do not fit."""


@dataclass(frozen=True, slots=True)
class Logical:
    """A field as its format writes it, and as rows keep it. `convert` goes from the one to the other; None: they are one.

    `fields` are those of a struct that is written and kept as one.
    """

    written: pa.Field
    kept: pa.Field
    convert: Convert | None = None
    fields: tuple[Logical, ...] = ()

    def named(self, name: str) -> Logical:
        """The same under another name."""
        return replace(self, written=self.written.with_name(name), kept=self.kept.with_name(name))

    def nullable(self, nullable: bool = True) -> Logical:
        """The same, nullable or not."""
        return replace(self, written=self.written.with_nullable(nullable), kept=self.kept.with_nullable(nullable))

    def of(self, array: pa.Array, spot: Spot) -> pa.Array:
        """The array as kept. NOT NULL fields hold no null: a filler stands where only a parent is null."""
        found = array if self.convert is None else self.convert(array, spot)
        if self.kept.nullable:
            return found
        if array.null_count:
            for place in np.flatnonzero(~valid(array)).tolist():
                spot.note(place, f"{spot.path} is null or missing, and it is NOT NULL")
        return found if pa.types.is_nested(found.type) or not found.null_count else filled(found)


def plain(name: str, type_: pa.DataType, nullable: bool = True) -> Logical:
    """A field that is kept as it is written."""
    field = pa.field(name, type_, nullable)
    return Logical(field, field)


def leaf(name: str, written: pa.DataType, kept: pa.DataType, read: Read, wanted: str, nullable: bool = True) -> Logical:
    """A scalar that `read` converts; `wanted` says what fits, for the reasons."""

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        found, wrong = read(array)
        for place in wrong.tolist():
            spot.note(place, f"{spot.path} is {shown(array[place])}; wanted {wanted}")
        return found

    return Logical(pa.field(name, written, nullable), pa.field(name, kept, nullable), convert)


def struct_of(name: str, fields: Sequence[Logical], nullable: bool = True) -> Logical:
    """A struct of `fields`."""
    written = pa.field(name, pa.struct([field.written for field in fields]), nullable)
    if all(field.convert is None for field in fields):
        return Logical(written, written, fields=tuple(fields))
    kept = [field.kept for field in fields]

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        arrays = [field.of(array.field(place), spot.into(field.kept.name, array)) for place, field in enumerate(fields)]
        return pa.StructArray.from_arrays(arrays, fields=kept, mask=array.is_null() if array.null_count else None)

    return Logical(written, pa.field(name, pa.struct(kept), nullable), convert, tuple(fields))


def list_of(name: str, element: Logical, nullable: bool = True) -> Logical:
    """A list of `element`."""
    element = element.named("element")
    written = pa.field(name, pa.list_(element.written), nullable)
    if element.convert is None:
        return Logical(written, written)
    kept = pa.list_(element.kept)

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        offsets, values, inner = _opened(array, spot)
        return pa.ListArray.from_arrays(offsets, element.of(values, inner), type=kept, mask=_absent(array))

    return Logical(written, pa.field(name, kept, nullable), convert)


def map_of(name: str, item: Logical, nullable: bool = True) -> Logical:
    """A map from strings to `item`."""
    item = item.named("value")
    written = pa.field(name, pa.map_(pa.string(), item.written), nullable)
    if item.convert is None:
        return Logical(written, written)
    kept = pa.map_(pa.string(), item.kept)

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        entries = pa.ListArray.from_arrays(
            array.offsets, pa.StructArray.from_arrays([array.keys, array.items], ["key", "value"])
        )
        offsets, pairs, inner = _opened(entries, replace(spot, alive=_alive(array, spot)))
        items = item.of(pairs.field(1), inner)
        return pa.MapArray.from_arrays(offsets, pairs.field(0), items, type=kept, mask=_absent(array))

    return Logical(written, pa.field(name, kept, nullable), convert)


def entries_of(name: str, key: Logical, item: Logical, nullable: bool = True) -> Logical:
    """A map that is written as a list of structs of `key` and `value`. A key that is null or stands twice does not fit."""
    key, item = key.named("key").nullable(False), item.named("value")
    entry = struct_of("element", [key, item], nullable=False)
    written = pa.field(name, pa.list_(entry.written), nullable)
    kept = pa.map_(key.kept.type, item.kept)

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        offsets, values, inner = _opened(array, spot)
        pairs = entry.of(values, inner)
        _note_twice(pairs.field(0), array, offsets.to_numpy(), spot)
        return pa.MapArray.from_arrays(offsets, pairs.field(0), pairs.field(1), type=kept, mask=_absent(array))

    return Logical(written, pa.field(name, kept, nullable), convert)


def _note_twice(keys: pa.Array, array: pa.Array, offsets: Places, spot: Spot) -> None:
    codes = keys.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
    owners = np.repeat(np.arange(len(array)), np.diff(offsets))
    pairs, counts = np.unique(np.stack([owners, codes], axis=1), axis=0, return_counts=True)
    for owner in pairs[counts > 1, 0].tolist():
        spot.note(owner, f"{spot.path} holds a key twice")


def _opened(array: pa.Array, spot: Spot) -> tuple[pa.Array, pa.Array, Spot]:
    """Offsets from 0, the elements between them, and their spot."""
    ends = array.offsets.to_numpy().astype(np.int64)
    values = array.values.slice(ends[0], ends[-1] - ends[0])
    return pa.array(ends - ends[0], pa.int32()), values, spot.elements(array, np.diff(ends))


def _alive(array: pa.Array, spot: Spot) -> Flags:
    return valid(array) if spot.alive is None else valid(array) & spot.alive


def _absent(array: pa.Array) -> pa.Array | None:
    return array.is_null() if array.null_count else None


def valid(array: pa.Array) -> Flags:
    """Which elements are there."""
    found: Flags = array.is_valid().to_numpy(zero_copy_only=False)
    return found


def filled(array: pa.Array) -> pa.Array:
    """`array` with a filler for each null."""
    return array.fill_null(pa.scalar(FILLERS.get(array.type, 0), array.type))


def shown(scalar: pa.Scalar) -> str:
    """A value for a reason."""
    text = repr(scalar.as_py())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}.. ({len(text)} characters)"


def converted(part: Part, fields: Sequence[Logical], path: str = "$") -> tuple[Part, list[Reject]]:
    """The rows of `part`, whose columns are `fields` as written, as they are kept; and a reject for each that does not fit."""
    misfits: dict[int, str] = {}
    columns = part.rows.columns
    arrays = [
        field.of(column, Spot(f"{path}.{field.kept.name}", misfits)) for field, column in zip(fields, columns, strict=True)
    ]
    rows = pa.RecordBatch.from_arrays(arrays, schema=pa.schema([field.kept for field in fields]))
    if not misfits:
        return Part(rows, part.kept), []
    places = pa.array(np.arange(rows.num_rows)) if part.kept is None else part.kept
    good = pa.array([row for row in range(rows.num_rows) if row not in misfits], pa.int64())
    rejects = [Reject(places[row].as_py(), RejectKind.MISFIT, reason) for row, reason in sorted(misfits.items())]
    return Part(rows.take(good), places.take(good)), rejects
