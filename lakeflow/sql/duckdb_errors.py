"""DuckDB's errors as errors of the tree: what was wrong, where in the query, and what would be right. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

from lakeflow.errors import Interrupted, LakeflowError, StorageFull, StorageUnavailable, Terminal, UnknownName, UsageError
from lakeflow.sql.tokens import pointed

USERS_FAULT: Final = frozenset(
    {"Parser", "Syntax", "Binder", "Catalog", "Conversion", "Out of Range", "Invalid Input", "Invalid Type", "Mismatch Type"}
    | {"Not implemented", "Permission", "Dependency", "Constraint", "Parameter Not Resolved", "Parameter Not Allowed"}
)
"""The kinds of DuckDB's errors that come from the query, or from the values that it meets."""

UNKNOWN_COLUMN: Final = (
    re.compile(r'Referenced column "(?P<name>.+?)" (?:was )?not found'),
    re.compile(r'does not have a column named "(?P<name>.+?)"'),
    re.compile(r'[Cc]olumn "(?P<name>.+?)" does not exist'),
)
UNKNOWN_ALIAS: Final = re.compile(r'Referenced table "(?P<name>.+?)" not found')
CANDIDATES: Final = re.compile(r"Candidate (?:bindings|tables): (?P<names>[^\n]*)")

LISTED_FUNCTIONS: Final = 8
"""How many functions of a name are listed, where the arguments fit none of them."""


def explained(error: BaseException, text: str | None, columns: Iterable[str]) -> LakeflowError:
    """The error of the tree for what DuckDB said of the query `text`, over tables with `columns`. Without a text, places that
    DuckDB names are left out: they are none of the query as written.

    UnknownName for a column, UsageError for what the query or its values are to blame for, StorageFull where memory or
    the temporary directory did not hold it, StorageUnavailable where a file could not be read, Terminal otherwise.
    """
    kind, message, place = _taken_apart(str(error))
    if kind == "Out of Memory":
        return StorageFull(
            f"the query needs more memory than it may use: {_first_line(message)}",
            next_step="ask for fewer columns or rows, or raise the memory limit or set a temporary directory under [run]",
        )
    if kind in ("IO", "HTTP"):
        return StorageUnavailable(f"a data file could not be read: {_first_line(message)}")
    if kind.capitalize() == "Interrupt":
        return Interrupted("the query was interrupted")
    if kind not in USERS_FAULT:
        return Terminal(f"DuckDB failed on the query: {_first_line(str(error))}")
    unknown = _unknown_name(message, columns)
    if unknown is None:
        return UsageError(_located(_without_long_lists(message), text, place))
    unknown.message = _located(unknown.message, text, place)
    return unknown


def message_of(error: BaseException) -> str:
    """What DuckDB said, without its kind, whether it came as a text or as JSON."""
    return _taken_apart(str(error))[1]


def _taken_apart(said: str) -> tuple[str, str, tuple[int, int] | None]:
    """The kind, the message, and the bytes [start, stop) of the query, out of `Kind Error: message` or the same as JSON."""
    kind, found, rest = said.partition(" Error: ")
    if not found:
        return "", said, None
    if not rest.startswith("{"):
        return kind, rest, None
    try:
        fields = json.loads(rest)
    except ValueError:
        return kind, rest, None
    return kind, str(fields.get("exception_message", rest)), _location(fields)


def _location(fields: dict[str, object]) -> tuple[int, int] | None:
    found = re.fullmatch(r"\[(\d+),(\d+)\]", str(fields.get("location", "")))
    if found:
        return int(found[1]), int(found[1]) + int(found[2])
    position = str(fields.get("position", ""))
    return (int(position), int(position) + 1) if position.isdigit() else None


def _unknown_name(message: str, columns: Iterable[str]) -> UnknownName | None:
    listed = CANDIDATES.search(message)
    candidates = re.findall(r'"([^"]+)"', listed["names"]) if listed else []
    alias = UNKNOWN_ALIAS.search(message)
    if alias:
        return UnknownName("table or alias", alias["name"], candidates)
    column = next((found for pattern in UNKNOWN_COLUMN if (found := pattern.search(message))), None)
    return UnknownName("column", column["name"], {*columns, *candidates}) if column else None


def _located(message: str, text: str | None, place: tuple[int, int] | None) -> str:
    cleaned = re.sub(r"\n+LINE \d+:.*", "", message, flags=re.DOTALL).strip()
    cleaned = re.sub(r", or SET \w+\s*=[^.]*", "", cleaned)  # settings are locked
    if place is None or text is None:
        return cleaned
    encoded = text.encode()
    start, stop = (len(encoded[:byte].decode(errors="ignore")) for byte in place)
    return pointed(cleaned, text, start, stop)


def _without_long_lists(message: str) -> str:
    """The message with no more than the first of the functions that it names: of + there are forty."""
    before, heading, listed = message.partition("\tCandidate functions:\n")
    functions = listed.rstrip("\n").split("\n")
    if not heading or len(functions) <= LISTED_FUNCTIONS:
        return message
    more = f"\t.. and {len(functions) - LISTED_FUNCTIONS} more"
    return before + heading + "\n".join([*functions[:LISTED_FUNCTIONS], more])


def _first_line(message: str) -> str:
    return message.strip().partition("\n")[0]
