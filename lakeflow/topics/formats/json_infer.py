"""Proposes columns for JSON records that no schema describes. Pure.

What is proposed holds every record that was seen, under the strict rules of the JSON format: whole numbers are BIGINT,
with fractions among them DOUBLE; texts that are all dates or moments are of that type; else STRING. What cannot be of one
type, or was never anything but null, is left out and told of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, assert_never

import msgspec
import pyarrow as pa

from lakeflow.topics.formats.scalars import reading_of

MOMENTS = (pa.timestamp("us", "UTC"), pa.timestamp("us"), pa.date32(), pa.time64("us"))
"""What a text may be, besides STRING, in the order in which it is tried."""
BIGINT = range(-(2**63), 2**63)
DIGITS = 38


@dataclass(frozen=True, slots=True)
class Inferred:
    """The columns, and what is to be known of them, a line each. `records` were read, of which `broken` are no JSON object."""

    columns: pa.Schema
    notes: tuple[str, ...]
    records: int
    broken: int


@dataclass(slots=True)
class _Seen:
    """What stood in one place of all records."""

    truth: bool = False
    whole: bool = False
    large: bool = False
    fraction: bool = False
    huge: bool = False
    text: bool = False
    moments: tuple[pa.DataType, ...] = MOMENTS
    fields: dict[str, _Seen] | None = None
    elements: _Seen | None = None

    def see(self, value: Any) -> None:
        match value:
            case None:
                return
            case bool():
                self.truth = True
            case int():
                self.whole = True
                self.large = self.large or value not in BIGINT
                self.huge = self.huge or abs(value) >= 10**DIGITS
            case float():
                self.fraction = True
            case str():
                self.text = True
                self.moments = tuple(kind for kind in self.moments if value[:2].isdigit() and reading_of(kind).fits(value))
            case dict():
                self.fields = {} if self.fields is None else self.fields
                for name, inner in value.items():
                    self.fields.setdefault(name, _Seen()).see(inner)
            case list():
                self.elements = self.elements or _Seen()
                for inner in value:
                    self.elements.see(inner)
            case _:
                assert_never(value)

    def kinds(self) -> list[str]:
        """What it was, in words."""
        words = (
            ("true and false", self.truth),
            ("numbers", self.whole or self.fraction),
            ("texts", self.text),
            ("objects", self.fields is not None),
            ("arrays", self.elements is not None),
        )
        return [word for word, seen in words if seen]


@dataclass(slots=True)
class _Proposal:
    notes: list[str] = field(default_factory=list)

    def fields(self, seen: dict[str, _Seen], path: str) -> list[pa.Field]:
        """A nullable field for each that has a type; of names that differ by case alone, the first."""
        found: list[pa.Field] = []
        taken: dict[str, str] = {}
        for name, inner in seen.items():
            place = f"{path}.{name}" if path else name
            if (twin := taken.get(name.lower())) is not None:
                self.notes.append(f"{place} is left out: {twin!r} differs from it by case only")
            elif (kind := self.type(inner, place)) is not None:
                taken[name.lower()] = name
                found.append(pa.field(name, kind))
        return found

    def type(self, seen: _Seen, path: str) -> pa.DataType | None:
        match seen.kinds():
            case []:
                self.notes.append(f"{path} is left out: it was never anything but null")
            case ["true and false"]:
                return pa.bool_()
            case ["numbers"]:
                return self._number(seen, path)
            case ["texts"]:
                return seen.moments[0] if seen.moments else pa.string()
            case ["objects"]:
                if fields := self.fields(seen.fields or {}, path):
                    return pa.struct(fields)
                self.notes.append(f"{path} is left out: no field of its objects has a type")
            case ["arrays"]:
                assert seen.elements is not None
                inner = self.type(seen.elements, f"{path}[]")
                return None if inner is None else pa.list_(pa.field("element", inner))
            case several:
                self.notes.append(f"{path} is left out: it is {' and '.join(several)}")
        return None

    def _number(self, seen: _Seen, path: str) -> pa.DataType:
        if seen.large and not seen.fraction and not seen.huge:
            self.notes.append(f"{path} holds whole numbers beyond BIGINT")
            return pa.decimal128(DIGITS, 0)
        return pa.float64() if seen.fraction or seen.large else pa.int64()


def infer(values: Iterable[bytes | None]) -> Inferred:
    """Columns for the JSON objects among `values`. Memory holds one value and what is known of each field."""
    root = _Seen(fields={})
    records = broken = 0
    for value in values:
        records += 1
        found = _object(value)
        if found is None:
            broken += 1
        else:
            root.see(found)
    proposal = _Proposal()
    columns = pa.schema(proposal.fields(root.fields or {}, ""))
    return Inferred(columns, tuple(proposal.notes), records, broken)


def _object(value: bytes | None) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
