"""Raw: each value is one column, as it is or as a number that Kafka's serializers wrote.

    STRING                              the value as UTF-8
    BYTES                               the value
    BOOLEAN                             one byte, 0 or 1
    TINYINT, SMALLINT, INT, BIGINT      1, 2, 4, 8 bytes, two's complement
    FLOAT, DOUBLE                       4, 8 bytes, IEEE 754

Numbers are big-endian, as Kafka's serializers write them, or by `'raw.endianness' = 'little-endian'`. A value of any other
width is malformed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import DeclarationError, UnknownName, did_you_mean
from lakeflow.topics.formats.format import Decoded, Format, Opening, Part, Reject, RejectKind
from lakeflow.topics.formats.logical import Flags, valid

PREFIX = "raw."
ENDIANNESS = "raw.endianness"
ORDERS: Final[Mapping[str, str]] = {"big-endian": ">", "little-endian": "<"}

CODES: Final[Mapping[pa.DataType, str]] = {
    pa.bool_(): "u1",
    pa.int8(): "i1",
    pa.int16(): "i2",
    pa.int32(): "i4",
    pa.int64(): "i8",
    pa.float32(): "f4",
    pa.float64(): "f8",
}
SCALARS = "STRING, BYTES, BOOLEAN, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE"


def open_raw(opening: Opening) -> Format:
    """The format. Raises DeclarationError for several columns or a type that raw cannot give, UnknownName for an option."""
    for name in opening.options:
        if name.startswith(PREFIX) and name != ENDIANNESS:
            raise UnknownName("option of format raw", name, [ENDIANNESS])
    order = opening.options.get(ENDIANNESS, "big-endian")
    if order not in ORDERS:
        raise DeclarationError(f"option {ENDIANNESS!r} is {order!r}{did_you_mean(order, ORDERS)}")
    if opening.columns is None:
        return RawFormat(pa.field(opening.side, pa.binary()), ORDERS[order])
    if len(opening.columns) != 1:
        raise DeclarationError(
            f"format raw gives one column, and {len(opening.columns)} are declared: {', '.join(opening.columns.names)}"
        )
    field = opening.columns.field(0)
    if field.type not in (pa.string(), pa.binary(), *CODES):
        raise DeclarationError(f"column {field.name} is of {field.type}, which format raw cannot give; valid: {SCALARS}")
    return RawFormat(field, ORDERS[order])


class RawFormat:
    """The Format of one column. `order` is numpy's sign of the byte order."""

    def __init__(self, field: pa.Field, order: str = ">") -> None:
        self._schema = pa.schema([field])
        self._type = field.type
        self._dtype = np.dtype(order + CODES[field.type]) if field.type in CODES else None

    def schema(self) -> pa.Schema:
        """The column."""
        return self._schema

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The rows of `values`; see the protocol."""
        written = pa.array(values, pa.binary())
        good = valid(written)
        if self._dtype is not None:
            good &= self._fits(written)
        elif self._type == pa.string():
            good &= _is_text(written)
        if good.all():
            return Decoded((Part(self._rows(written)),))
        kept = np.flatnonzero(good)
        rejects = tuple(Reject(place, *self._reason(values[place])) for place in np.flatnonzero(~good).tolist())
        return Decoded((Part(self._rows(written.take(pa.array(kept))), pa.array(kept)),), rejects)

    def _rows(self, written: pa.BinaryArray) -> pa.RecordBatch:
        """The rows of values that all fit."""
        if self._dtype is None:
            column = written.view(self._type)
        else:
            numbers = np.frombuffer(b"".join(written.to_pylist()), self._dtype)
            column = pa.array(numbers.astype(bool if self._type == pa.bool_() else self._dtype.newbyteorder("=")))
        return pa.RecordBatch.from_arrays([column], schema=self._schema)

    def _fits(self, written: pa.BinaryArray) -> Flags:
        assert self._dtype is not None
        right = pc.equal(pc.binary_length(written), self._dtype.itemsize)
        if self._type == pa.bool_():
            right = pc.and_(right, pc.is_in(written, pa.array([b"\x00", b"\x01"])))
        fits: Flags = right.fill_null(False).to_numpy(zero_copy_only=False)
        return fits

    def _reason(self, value: bytes | None) -> tuple[RejectKind, str]:
        if value is None:
            return RejectKind.TOMBSTONE, "the record has no value (a tombstone)"
        if self._dtype is None:
            return RejectKind.MALFORMED, f"broken UTF-8: {value[:16]!r}"
        wanted = "0 or 1 in one byte" if self._type == pa.bool_() else f"{self._dtype.itemsize} bytes ({self._type})"
        return RejectKind.MALFORMED, f"the value is {len(value)} bytes, {value[:16]!r}; wanted {wanted}"


def _is_text(written: pa.BinaryArray) -> Flags:
    """Which values are UTF-8; each is looked at by itself only where one is not."""
    try:
        written.cast(pa.string())
    except pa.ArrowInvalid:
        return np.array([value is not None and _decodes(value) for value in written.to_pylist()], bool)
    return np.ones(len(written), bool)


def _decodes(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
