"""Values of several JSON kinds under one name (`oneOf` and `anyOf` of several, `type` of several): a struct of branches.

Each branch is a nullable field, named by the JSON kind (`string`, `number`, `integer`, `boolean`, `object`, `array`), and a
value fills the one of its kind. Two branches of one kind are one field where one type holds both; else the value alone
does not tell them apart, and the schema is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import SchemaMismatch
from lakeflow.topics.formats.json import JsonFormat
from lakeflow.topics.formats.logical import Logical, Places, Spot, plain, shown, valid
from lakeflow.topics.formats.shape import INTEGER_BITS, JSON_TEXT

NUMBERS = (*INTEGER_BITS, pa.float32(), pa.float64())
BEGINNINGS: dict[str, str] = {
    "string": '"',
    "object": "{",
    "array": "[",
    "boolean": "tf",
    "integer": "-0123456789",
    "number": "-0123456789",
}
"""What a JSON value of each kind begins with."""

INNER = "value"


def union_of(branches: Sequence[Logical], path: str) -> Logical:
    """A field `value` of any of `branches`. Raises SchemaMismatch where two of a kind differ."""
    fields: dict[str, Logical] = {}
    for branch in branches:
        kind = _kind(branch, path)
        if kind in ("integer", "number") and (other := next((one for one in ("integer", "number") if one in fields), None)):
            fields[other] = _merged(fields[other], branch, path)
            if kind != other:
                fields["number"] = plain(INNER, pa.float64())
                fields.pop("integer", None)
        else:
            fields[kind] = _merged(fields[kind], branch, path) if kind in fields else branch
    if len(fields) == 1:
        return next(iter(fields.values()))
    return _struct(fields)


def _kind(branch: Logical, path: str) -> str:
    type_ = branch.written.type
    if type_ in INTEGER_BITS:
        return "integer"
    if type_ in NUMBERS:
        return "number"
    if type_ in (pa.string(), pa.binary()):
        return "string"
    if type_ == pa.bool_():
        return "boolean"
    if pa.types.is_list(type_):
        return "array"
    if pa.types.is_struct(type_) or pa.types.is_map(type_):
        return "object"
    raise SchemaMismatch(f"{path} has a branch of no one type within oneOf or anyOf, which its value alone does not tell")


def _merged(one: Logical, other: Logical, path: str) -> Logical:
    if one.written == other.written and one.kept == other.kept:
        return one
    if one.written.type == other.written.type == pa.string():
        return plain(INNER, pa.string())
    if one.written.type in NUMBERS and other.written.type in NUMBERS:
        both_whole = one.written.type in INTEGER_BITS and other.written.type in INTEGER_BITS
        return plain(INNER, pa.int64() if both_whole else pa.float64())
    raise SchemaMismatch(
        f"{path} is of two branches ({one.kept.type} and {other.kept.type}) that its value alone does not tell"
    )


def _struct(fields: dict[str, Logical]) -> Logical:
    kept = [field.kept.with_name(name).with_nullable(True) for name, field in fields.items()]
    decoders = {name: JsonFormat(pa.schema([field.written.with_name(INNER)])) for name, field in fields.items()}

    def convert(array: pa.Array, spot: Spot) -> pa.Array:
        texts = array.storage
        firsts = pc.utf8_slice_codeunits(texts, 0, 1)
        arrays = []
        matched = ~valid(texts)
        for name, field in fields.items():
            of_kind = pc.is_in(firsts, pa.array(list(BEGINNINGS[name]))).to_numpy(zero_copy_only=False) & valid(texts)
            matched |= of_kind
            arrays.append(_branch(decoders[name], field, texts, np.flatnonzero(of_kind), spot))
        for place in np.flatnonzero(~matched).tolist():
            spot.note(place, f"{spot.path} is {shown(texts[place])}; wanted one of {', '.join(fields)}")
        return pa.StructArray.from_arrays(arrays, fields=kept, mask=texts.is_null() if texts.null_count else None)

    return Logical(pa.field(INNER, JSON_TEXT), pa.field(INNER, pa.struct(kept)), convert)


def _branch(decoder: JsonFormat, field: Logical, texts: pa.StringArray, places: Places, spot: Spot) -> pa.Array:
    """The branch's field, null where a value is of another."""
    if not len(places):
        return pa.nulls(len(texts), field.kept.type)
    records = [b'{"value":%b}' % text.encode() for text in texts.take(pa.array(places)).to_pylist()]
    decoded = decoder.decode(records)
    for reject in decoded.rejects:
        spot.note(int(places[reject.index]), spot.path + reject.reason.removeprefix(f"$.{INNER}"))
    if decoded.kept is not None:
        places = places[decoded.kept.to_numpy()]
    rows = places if spot.rows is None else spot.rows[places]
    alive = None if spot.alive is None else spot.alive[places]
    found = field.of(decoded.rows.column(0), Spot(spot.path, spot.misfits, rows, alive))
    spread = np.full(len(texts), -1)
    spread[places] = np.arange(len(places))
    return found.take(pa.array(spread, mask=spread < 0))
