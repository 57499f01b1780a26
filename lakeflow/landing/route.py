"""Which records of a topic belong to a table: those whose header or field holds one of the values that it names. Pure.

A topic that carries records of several kinds is declared as several tables, each with its own route and its own
progress. A record that a table's route leaves out is counted as filtered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from lakeflow.errors import DeclarationError
from lakeflow.landing.options import Options
from lakeflow.topics.formats.json_field import field_reader
from lakeflow.topics.source import Headers, Records

BY = "route.by"
VALUES = "route.values"
VALID = "'header:NAME', or 'field:NAME' for values in JSON ('field:a.b' for a nested one)"


@dataclass(frozen=True, slots=True)
class ByHeader:
    """The text of the last header of this name; without one, the empty text."""

    name: str


@dataclass(frozen=True, slots=True)
class ByField:
    """What stands in a field of the JSON value, as text; where there is none, or null, the empty text."""

    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """A table's part of a topic."""

    by: ByHeader | ByField
    values: frozenset[str]

    def places(self, records: Records) -> list[bool]:
        """For each record whether it belongs to the table. One whose value is no JSON object belongs to every route.

        So a broken record is met, and told of, by the tables of a route by field, and never lost between them.
        """
        match self.by:
            case ByHeader(name):
                headers = records.headers or [None] * len(records)
                return [_header(of, name) in self.values for of in headers]
            case ByField(path):
                read = field_reader(path)
                return [value is None or (found := read(value)) is None or found in self.values for value in records.values]
            case _:
                assert_never(self.by)


def route_of(options: Options, value_format: str, where: str) -> Route | None:
    """The route that WITH options name. Raises DeclarationError where they are not those of one."""
    by, values = options.get(BY), frozenset(part.strip() for part in options.get(VALUES, "").split(";"))
    if by is None:
        if VALUES in options:
            raise DeclarationError(f"{where}: {VALUES!r} goes with {BY!r}; valid: {VALID}")
        return None
    kind, _, name = by.partition(":")
    if kind not in ("header", "field") or not name or not all(name.split(".")):
        raise DeclarationError(f"{where}: {BY!r} is {by!r}; valid: {VALID}")
    if VALUES not in options:
        raise DeclarationError(
            f"{where}: {BY!r} goes with {VALUES!r}, the values of this table's records, as in 'order;refund'"
        )
    if kind == "header":
        return Route(ByHeader(name), values)
    if value_format not in JSON_FORMATS:
        raise DeclarationError(
            f"{where}: {BY!r} is {by!r}, and a field is looked at in values of {' and '.join(JSON_FORMATS)}, not "
            f"{value_format!r}; valid there: 'header:NAME'"
        )
    return Route(ByField(tuple(name.split("."))), values)


JSON_FORMATS = ("json", "debezium-json")


def _header(headers: Headers | None, name: str) -> str:
    for key, value in reversed(headers or ()):
        if key == name:
            return "" if value is None else value.decode("utf-8", "backslashreplace")
    return ""
