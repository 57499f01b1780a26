"""Rows to JSON: one object a row, which `json.py` reads back as the same row. See docs/types.md for what each type becomes.

Dates, times and timestamps are written after ISO 8601, moments in UTC; bytes in base64; a DECIMAL as a string, so that no
reader takes it for a double, or as a number where that is asked for. NULL is written as null. JSON has no NaN and no infinity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import DeclarationError, Terminal, UnknownName, did_you_mean
from lakeflow.topics.formats.shape import row_type

DECIMALS = "json.decimals"
NON_FINITE = "json.non-finite"
CHOICES: Mapping[str, Sequence[str]] = {DECIMALS: ("string", "number"), NON_FINITE: ("fail", "null")}
"""The options of the format, with the default first."""
BLOCK = 2048
"""Rows whose Python values are alive at once."""


class JsonWriter:
    """Writes rows of `schema`. `options` may have those of CHOICES.

    Raises DeclarationError for a column of a type that JSON does not have, or one of its options, UnknownName for another.
    """

    def __init__(self, schema: pa.Schema, options: Mapping[str, str]) -> None:
        row_type(list(schema), refuse_unknown=False)
        chosen = {name: _chosen(name, options) for name in CHOICES}
        for name in options:
            if name not in CHOICES:
                raise UnknownName("option of format json", name, CHOICES)
        self._nulls = chosen[NON_FINITE] == "null"
        decimals = cast(Literal["string", "number"], chosen[DECIMALS])
        self._encode = msgspec.json.Encoder(decimal_format=decimals).encode

    def values(self, rows: pa.RecordBatch) -> list[bytes]:
        """An object for each row, in order. Raises Terminal for a value that JSON does not have, naming its column."""
        if not self._nulls:
            for name, column in zip(rows.schema.names, rows.columns, strict=True):
                if not _is_finite(column):
                    raise Terminal(
                        f"column {name!r} holds NaN or an infinity, which JSON does not have",
                        next_step=f"say '{NON_FINITE}' = 'null' for them to be null, or leave the column out",
                    )
        found: list[bytes] = []
        for start in range(0, rows.num_rows, BLOCK):
            found += map(self._encode, _python(rows.slice(start, BLOCK)))
        return found


def _chosen(name: str, options: Mapping[str, str]) -> str:
    choice = options.get(name, CHOICES[name][0])
    if choice not in CHOICES[name]:
        raise DeclarationError(f"option {name!r} is {choice!r}{did_you_mean(choice, CHOICES[name])}")
    return choice


def _python(rows: pa.RecordBatch) -> list[dict[str, object]]:
    try:
        found: list[dict[str, object]] = rows.to_pylist(maps_as_pydicts="strict")
    except (ValueError, OverflowError, KeyError) as error:
        raise Terminal(
            f"a row cannot be written as JSON: {error}; years go from 0001 to 9999, and a key stands in a MAP once",
            next_step="correct it in what writes the table, or leave its column out",
        ) from error
    return found


def _is_finite(column: pa.Array) -> bool:
    """Whether no number in the column, however deep, is NaN or infinite. What a null covers does not count."""
    kind = column.type
    if pa.types.is_floating(kind):
        return pc.all(pc.is_finite(column), min_count=0).as_py() is not False
    if pa.types.is_struct(kind):
        return all(_is_finite(part) for part in column.flatten())
    if pa.types.is_map(kind):
        return _is_finite(column.cast(pa.list_(pa.struct([kind.key_field, kind.item_field]))))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_finite(column.flatten())
    return True
