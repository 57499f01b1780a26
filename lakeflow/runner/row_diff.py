"""How the rows of a table differ from those that are expected, as sets that may hold a row several times. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
DIGITS = 12
"""Of a real number so many count."""


@dataclass(frozen=True, slots=True)
class Diff:
    """Rows that are expected and not there, and the other way round; those that are alike stand at the same place in both."""

    missing: tuple[Row, ...] = ()
    unexpected: tuple[Row, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.missing or self.unexpected)

    def lines(self) -> Iterator[str]:
        """A line a row; of two that are alike in some columns, what differs."""
        pairs = min(len(self.missing), len(self.unexpected))
        for expected, found in zip(self.missing, self.unexpected, strict=False):
            same = [name for name in expected if key_of(expected[name]) == key_of(found[name])]
            if not same:
                yield f"- {_shown(expected)}"
                yield f"+ {_shown(found)}"
                continue
            differing = [name for name in expected if name not in same]
            said = ", ".join(f"{name} is {found[name]!r}, expected {expected[name]!r}" for name in differing)
            yield f"~ {_shown({name: expected[name] for name in same})}: {said}"
        for expected in self.missing[pairs:]:
            yield f"- {_shown(expected)}"
        for found in self.unexpected[pairs:]:
            yield f"+ {_shown(found)}"


def diff(expected: Sequence[Row], found: Sequence[Row]) -> Diff:
    """What differs, whatever the order. Rows of both have the same columns."""
    wanted = Counter(key_of(row) for row in expected)
    there = Counter(key_of(row) for row in found)
    missing = _beyond(expected, wanted - there)
    unexpected = _beyond(found, there - wanted)
    ordered: list[Row] = []
    for row in missing:
        if not unexpected:
            break
        nearest = max(unexpected, key=lambda other: sum(key_of(row[name]) == key_of(other[name]) for name in row))
        unexpected.remove(nearest)
        ordered.append(nearest)
    return Diff(tuple(missing), (*ordered, *unexpected))


def _beyond(rows: Sequence[Row], more: Counter[Any]) -> list[Row]:
    found = []
    for row in rows:
        if more[key_of(row)] > 0:
            more[key_of(row)] -= 1
            found.append(row)
    return found


def key_of(value: Any) -> Any:
    """What a value is compared by: a real number by its first digits, NaN as equal to itself."""
    match value:
        case bool() | int():
            return value
        case float():
            return f"{value + 0.0:.{DIGITS}g}" if value else "0"
        case Mapping():
            return tuple((name, key_of(one)) for name, one in value.items())
        case list() | tuple():
            return tuple(map(key_of, value))
        case _:
            return value


def _shown(row: Row) -> str:
    return "{" + ", ".join(f"{name}: {value!r}" for name, value in row.items()) + "}"
