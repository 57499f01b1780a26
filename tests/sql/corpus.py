"""Cases of SQL in text files: input tables, a query or a statement, and what comes of it.

    == a filter                         a case, and its name
    table ns.t (id INT, at TIMESTAMP(3))
      1, "2024-01-01 00:00:00"          a row, as JSON values with commas between them
    sql
      SELECT id FROM ns.t
    columns id INT                      the columns, with their types in SQL, where they are to be held
    rows                                in this order; `rows in any order`; `error` has parts of its message, a line each
      1
    calls double 3                      how many rows a model was asked about, for each that was

`tables` before the first case are those of every case of the file. `statement` in place of `sql` is one that changes or
declares: `means` is what is made of it, as text again. models.py has the models.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.sql.parse import parse_declarations
from lakeflow.sql.statements import CreateTable

SECTIONS = ("table", "sql", "statement", "columns", "rows", "error", "calls", "means")
CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True, slots=True)
class Section:
    """`kind rest`, and the indented lines below it."""

    kind: str
    rest: str
    lines: tuple[str, ...]
    line: int

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True, slots=True)
class Case:
    """A case with the tables that it reads."""

    name: str
    sections: Mapping[str, Section]
    tables: Mapping[str, pa.Table]
    calls: Mapping[str, int] = field(default_factory=dict)


def cases() -> Iterator[Case]:
    """Every case of every file; its name is file:line name."""
    for path in sorted(CASES.glob("*.case")):
        yield from read_cases(path.stem, path.read_text(encoding="utf-8"))


def read_cases(file: str, text: str) -> list[Case]:
    """The cases of a file. Raises ValueError for what is none."""
    found: list[tuple[str, list[Section]]] = [("", [])]
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith(("#", "  ")):
            continue
        if line.startswith("== "):
            found.append((f"{file}:{number} {line[3:].strip()}", []))
            continue
        kind, _, rest = line.partition(" ")
        if kind not in SECTIONS:
            raise ValueError(f"{file}:{number}: {kind!r} is no section; valid: {', '.join(SECTIONS)}")
        found[-1][1].append(Section(kind, rest.strip(), tuple(_body(lines[number:])), number))
    shared = _tables(found[0][1])
    return [_case(name, sections, shared) for name, sections in found[1:]]


def _body(lines: Sequence[str]) -> Iterator[str]:
    pending = 0
    for line in lines:
        if line.startswith("  "):
            yield from [""] * pending
            yield line[2:]
            pending = 0
        elif line.strip():
            return
        else:
            pending += 1


def _case(name: str, sections: Sequence[Section], shared: Mapping[str, pa.Table]) -> Case:
    kinds = {section.kind: section for section in sections if section.kind not in ("table", "calls")}
    if len(kinds.keys() & {"sql", "statement"}) != 1 or len(kinds.keys() & {"rows", "error", "means"}) != 1:
        raise ValueError(f"{name}: a case has one of sql and statement, and one of rows, error and means")
    calls = [section.rest.rsplit(" ", 1) for section in sections if section.kind == "calls"]
    return Case(name, kinds, {**shared, **_tables(sections)}, {model: int(rows) for model, rows in calls})


def _tables(sections: Sequence[Section]) -> dict[str, pa.Table]:
    return dict(_table(section) for section in sections if section.kind == "table")


def _table(section: Section) -> tuple[str, pa.Table]:
    [declared] = parse_declarations(f"CREATE TABLE {section.rest}", Path("a case.sql"))
    if not isinstance(declared, CreateTable):
        raise ValueError(f"line {section.line}: {section.rest!r} declares no table")
    schema = declared.table.schema
    rows = [json.loads(f"[{line}]") for line in section.lines]
    columns = [_column([row[place] for row in rows], one.type) for place, one in enumerate(schema)]
    return declared.table.name, pa.Table.from_arrays(columns, schema=pa.schema([pa.field(f.name, f.type) for f in schema]))


def _column(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    written = pa.types.is_temporal(kind) or pa.types.is_decimal(kind)
    return pc.cast(pa.array(values, pa.string()), kind) if written else pa.array(values, kind)


def expected_rows(section: Section) -> list[list[Any]]:
    """The rows of a `rows` section."""
    return [json.loads(f"[{line}]") for line in section.lines]


def shown(value: object) -> object:
    """A value as a case writes it: reals to nine digits, what JSON has no value for as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return float(f"{value:.9g}")
        case bytes():
            return value.hex()
        case dict():
            return {name: shown(inner) for name, inner in value.items()}
        case list() | tuple():
            return [shown(inner) for inner in value]
        case _:
            return str(value)
