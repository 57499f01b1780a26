"""JSON: one object a record, checked strictly against the schema.

Fields are matched by their exact name. A nullable field that is missing or null is null; a NOT NULL field must be
there. Numbers, strings and truth values are never turned into one another; whole numbers must be written without
point or exponent and be in range; DOUBLE and FLOAT take any number in range; BINARY is base64; text scalars follow
`scalars.py`. Unknown fields are ignored, after a check that they are well-formed, or refused by
`'json.unknown-fields' = 'refuse'`. A record may nest as deep as the interpreter recurses (about 900 levels).

Where a key stands twice in an object the last value counts, as in most readers of JSON; the ones before must be of
the field's kind too (for dates, times and timestamps any string, for DECIMAL anything).

Rejected are also: a record without a value (a tombstone), a blank one, broken UTF-8, NaN and Infinity, a byte order
mark, bytes after the object, and a top level that is no object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import length_hint
from typing import Any

import msgspec
import pyarrow as pa

from lakeflow.errors import DeclarationError, UnknownName, did_you_mean
from lakeflow.topics.formats.columns import columns_of, itself
from lakeflow.topics.formats.format import Decoded, Format, Opening, Part, Reject, declared_columns
from lakeflow.topics.formats.json_reasons import Reasons
from lakeflow.topics.formats.shape import row_type

PREFIX = "json."
UNKNOWN_FIELDS = "json.unknown-fields"
UNKNOWN_FIELDS_CHOICES = ("ignore", "refuse")

BLOCK = 2048
"""Records whose Python values are alive at once: more of them leave the processor's cache, fewer repeat Arrow's overhead."""

# What msgspec's decoder raises for a record: syntax, shape, broken UTF-8, nesting.
DecodeFailure = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

Decode = Callable[[bytes], msgspec.Struct]


def open_json(opening: Opening) -> Format:
    """The JSON format for the declared columns. Raises UnknownName or DeclarationError for an option or a column."""
    return JsonFormat(declared_columns(opening, "json"), refuse_unknown=refuses_unknown(opening.options))


def refuses_unknown(options: Mapping[str, str]) -> bool:
    """What `'json.unknown-fields'` asks for. Raises UnknownName, DeclarationError for what it may not be."""
    for name in options:
        if name.startswith(PREFIX) and name != UNKNOWN_FIELDS:
            raise UnknownName("option of format json", name, [UNKNOWN_FIELDS])
    choice = options.get(UNKNOWN_FIELDS, "ignore")
    if choice not in UNKNOWN_FIELDS_CHOICES:
        raise DeclarationError(f"option {UNKNOWN_FIELDS!r} is {choice!r}{did_you_mean(choice, UNKNOWN_FIELDS_CHOICES)}")
    return choice == "refuse"


class JsonFormat:
    """The Format. Each record is decoded by itself, so no record can lean on its neighbours; blocks only bound memory."""

    def __init__(self, schema: pa.Schema, *, refuse_unknown: bool = False, block: int = BLOCK) -> None:
        fields = list(schema)
        self._schema = schema
        self._block = block
        self._decode: Decode = msgspec.json.Decoder(row_type(fields, refuse_unknown=refuse_unknown)).decode
        self._columns = columns_of(fields)
        self._reasons = Reasons(fields, refuse_unknown=refuse_unknown)

    def schema(self) -> pa.Schema:
        """The columns that it was opened with."""
        return self._schema

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The rows of `values`; see the protocol."""
        batches: list[pa.RecordBatch] = []
        wrong: dict[int, str] = {}
        for start in range(0, len(values), self._block):
            batch, wrong_in_block = self._decode_block(list(values[start : start + self._block]))
            batches.append(batch)
            wrong.update((start + place, complaint) for place, complaint in wrong_in_block.items())
        rows = self._joined(batches)
        if not wrong:
            return Decoded((Part(rows),))
        kept = [place for place in range(len(values)) if place not in wrong]
        rejects = [Reject(place, *self._reasons.of(values[place], wrong[place])) for place in sorted(wrong)]
        return Decoded((Part(rows, pa.array(kept, pa.int64())),), tuple(rejects))

    def _decode_block(self, values: list[bytes | None]) -> tuple[pa.RecordBatch, dict[int, str]]:
        """The rows of a block, and the decoder's complaint for each value that gives none."""
        wrong = dict.fromkeys(_unreadable(values), "")
        places = [place for place in range(len(values)) if place not in wrong] if wrong else range(len(values))
        structs, failed = self._decode_each([values[place] for place in places] if wrong else values)
        if failed:
            wrong.update((places[place], complaint) for place, complaint in failed.items())
            places = [place for number, place in enumerate(places) if number not in failed]
        misfits: set[int] = set()
        batch = pa.RecordBatch.from_arrays(self._columns(structs, itself, misfits), schema=self._schema)
        if misfits:
            wrong.update((places[row], "") for row in misfits)
            batch = batch.take(pa.array([row for row in range(len(structs)) if row not in misfits], pa.int64()))
        return batch, wrong

    def _decode_each(self, values: list[Any]) -> tuple[list[Any], dict[int, str]]:
        """The Struct of each value, in order, and the complaints by place: a failure costs its own record only."""
        structs: list[Any] = []
        failed: dict[int, str] = {}
        ahead = iter(values)
        decoded = map(self._decode, ahead)
        while True:
            try:
                structs.extend(decoded)
            except DecodeFailure as error:
                failed[len(values) - length_hint(ahead) - 1] = str(error)
            else:
                break
        assert len(structs) + len(failed) == len(values), "list.extend keeps what came before a failure"
        return structs, failed

    def _joined(self, batches: list[pa.RecordBatch]) -> pa.RecordBatch:
        match batches:
            case []:
                return pa.RecordBatch.from_pylist([], schema=self._schema)
            case [batch]:
                return batch
            case _:
                return pa.concat_batches(batches)


def _unreadable(values: list[bytes | None]) -> list[int]:
    """The places of tombstones and of broken UTF-8, which the decoder would not notice within an unknown field."""
    if None not in values and all(map(bytes.isascii, values)):  # type: ignore[arg-type]
        return []
    return [place for place, value in enumerate(values) if value is None or not (value.isascii() or _is_utf8(value))]


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
