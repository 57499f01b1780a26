"""What a declaration expects of the rows that jobs or a landing write into its table, with what becomes of a violation.

    CONSTRAINT name CHECK (condition) [[NOT] ENFORCED | ON VIOLATION ..]
    CONSTRAINT name EXPECT (condition) [ON VIOLATION WARN | DROP ROW | DEAD LETTER | FAIL [UPDATE]]
    CONSTRAINT name UNIQUE (column, ..) [[NOT] ENFORCED | ON VIOLATION ..]
    CONSTRAINT name FOREIGN KEY (column) REFERENCES namespace.table (column) [[NOT] ENFORCED | ON VIOLATION ..]

CHECK, UNIQUE and FOREIGN KEY are the SQL standard's, and ENFORCED as there where nothing is said: a violation fails. EXPECT and
ON VIOLATION are those of the field's declarative pipelines; an EXPECT that says nothing is told alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from lakeflow.declare import Computed, TableSpec
from lakeflow.errors import DeclarationError, UsageError, did_you_mean
from lakeflow.expect import Expectation, OnViolation, References, Satisfies, Unique, columns_of, distinct, require_facts
from lakeflow.sql.clauses import read_table_name
from lakeflow.sql.tokens import Cursor, Token
from lakeflow.sql.types import quoted

KINDS: Final = ("CHECK", "EXPECT", "UNIQUE", "FOREIGN")
OUTCOMES: Final[dict[str, tuple[OnViolation, str]]] = {
    "WARN": (OnViolation.WARN, ""),
    "DROP": (OnViolation.DROP, "ROW"),
    "DEAD": (OnViolation.DEAD_LETTER, "LETTER"),
    "FAIL": (OnViolation.FAIL, "UPDATE"),
}
SAID: Final = "WARN, DROP ROW, DEAD LETTER, FAIL UPDATE"


@dataclass(frozen=True, slots=True)
class Constraint:
    """An expectation as it is declared; `names` are the columns that it names, each with its token."""

    expectation: Expectation
    names: tuple[tuple[str, Token], ...]


def at_expectation(cursor: Cursor) -> bool:
    """Whether a constraint comes next that is no primary key."""
    return cursor.at_words("CONSTRAINT") and cursor.peek(2).upper in KINDS


def read_expectation(cursor: Cursor) -> Constraint:
    """Read a constraint from its first word on. Raises DeclarationError, pointing at what is wrong."""
    cursor.expect_words("CONSTRAINT", after="before the constraint's name")
    name = cursor.expect_name("the constraint's name")
    word = cursor.advance().upper
    match word:
        case "UNIQUE":
            columns = _read_columns(cursor, "after UNIQUE")
            kind = Unique(tuple(column.text for column in columns))
            made = Expectation(name.text, kind, _read_violation(cursor, OnViolation.FAIL))
        case "FOREIGN":
            cursor.expect_words("KEY", after="after FOREIGN")
            columns = _read_columns(cursor, "after FOREIGN KEY", one=True)
            cursor.expect_words("REFERENCES", after="after the column of the foreign key")
            table = read_table_name(cursor)
            [other] = _read_columns(cursor, f"after {table}", one=True)
            reference = References(columns[0].text, table, other.text)
            made = Expectation(name.text, reference, _read_violation(cursor, OnViolation.FAIL))
        case _:
            return _read_condition(cursor, name, word)
    _check_outcome(cursor, name, made)
    return Constraint(made, tuple((column.text, column) for column in columns))


def _read_condition(cursor: Cursor, name: Token, word: str) -> Constraint:
    from lakeflow.sql.conditions import read_condition

    opening = cursor.expect_symbol("(", f"after {word}")
    depth, first, last = 1, cursor.token, opening
    while depth and not cursor.ended:
        last = cursor.advance()
        depth += last.is_symbol("(") - last.is_symbol(")")
    if depth:
        cursor.fail("the condition is opened and not closed", opening)
    source = cursor.source
    text = source.text[opening.stop : last.start]
    padded = "".join(one if one == "\n" else " " for one in source.text[: opening.stop]) + text
    try:
        condition = read_condition(text.strip(), padded, source.path)
    except UsageError as error:
        raise DeclarationError(error.message, next_step=error.next_step) from error
    default = OnViolation.FAIL if word == "CHECK" else OnViolation.WARN
    made = Expectation(name.text, Satisfies(condition.text), _read_violation(cursor, default))
    if condition.of_table:
        _check_outcome(cursor, name, made, of_table=True)
    return Constraint(made, tuple((column, first) for column in condition.columns))


def _check_outcome(cursor: Cursor, name: Token, made: Expectation, *, of_table: bool = False) -> None:
    if of_table or isinstance(made.kind, Unique):
        try:
            require_facts(made.name, made.on_violation)
        except DeclarationError as error:
            cursor.fail(error.message, name)


def _read_violation(cursor: Cursor, default: OnViolation) -> OnViolation:
    if cursor.take_words("NOT", "ENFORCED"):
        return OnViolation.WARN
    if cursor.take_words("ENFORCED"):
        return OnViolation.FAIL
    if not cursor.take_words("ON"):
        return default
    cursor.expect_words("VIOLATION", after="after ON")
    word = cursor.advance()
    if word.upper not in OUTCOMES:
        cursor.fail(f"unknown ON VIOLATION {word}{did_you_mean(word.upper, OUTCOMES)}; valid: {SAID}", word)
    outcome, rest = OUTCOMES[word.upper]
    if rest and not cursor.take_words(rest) and outcome is not OnViolation.FAIL:
        cursor.fail(f"expected {rest} after {word.upper}, found {cursor.token}")
    return outcome


def _read_columns(cursor: Cursor, after: str, *, one: bool = False) -> list[Token]:
    cursor.expect_symbol("(", after)
    found = [cursor.expect_name("a column")]
    while not one and cursor.take_symbol(","):
        found.append(cursor.expect_name("a column"))
    cursor.expect_symbol(")", "after the column" if one else "or ',' after a column")
    return found


def check_expectations(cursor: Cursor, constraints: Sequence[Constraint], columns: pa.Schema, *, is_topic: bool) -> None:
    """That each names columns of the table, and that no two are called the same. Raises DeclarationError."""
    seen: set[str] = set()
    known = {name.lower() for name in columns.names}
    for constraint in constraints:
        for name, token in constraint.names:
            if columns.names and name.lower() not in known:
                cursor.fail(f"unknown column {name!r} in CONSTRAINT{did_you_mean(name, columns.names)}", token)
        name = constraint.expectation.name
        if name in seen:
            raise DeclarationError(f"CONSTRAINT {name!r} is there twice", next_step="give one of them another name")
        seen.add(name)
        if is_topic:
            _check_of_landing(cursor, constraint.expectation, columns)


def _check_of_landing(cursor: Cursor, one: Expectation, columns: pa.Schema) -> None:
    """That a landing, which sees a record by itself, can hold its rows against the expectation. Raises DeclarationError."""
    from lakeflow.sql.conditions import check_condition, read_condition

    where = f"{cursor.source.path}: CONSTRAINT {one.name!r}"
    if not isinstance(one.kind, Satisfies) or read_condition(one.kind.condition).of_table:
        raise DeclarationError(
            f"{where} is of several rows, and a landing sees each by itself; valid where a topic lands: a condition of one row",
            next_step="say it of the table of a job that reads this one",
        )
    if not columns.names:
        raise DeclarationError(f"{where} is of columns, and this table has those of its topic's schema; declare them")
    try:
        check_condition(one.kind.condition, columns)
    except UsageError as error:
        raise DeclarationError(f"{where}: {error.message}") from error


def judge_of(expectations: Sequence[Expectation]) -> Computed | None:
    """What tells the rows of a landing that violate its expectations, by a boolean column for each; None without any."""
    from lakeflow.sql.computed import ComputedColumns

    conditions = [one.kind.condition for one in expectations if isinstance(one.kind, Satisfies)]
    names = [f"lakeflow violates {one.name}" for one in expectations]
    if not conditions:
        return None
    return ComputedColumns(
        pa.schema([(name, pa.bool_()) for name in names]), tuple(f"({text}\n) IS FALSE" for text in conditions)
    )


def refused_of_landings(name: str) -> str:
    """Why a table that a topic lands in takes no expectations over."""
    return f"CONSTRAINT {name!r} stands beside LIKE or comes by it, and a landing writes this table, which has its own alone"


def check_liked(table: TableSpec, where: str) -> None:
    """The same for a table with the parts of another. Raises DeclarationError."""
    if table.expectations and table.options.get("connector") == "kafka":
        raise DeclarationError(
            f"{where}: {refused_of_landings(table.expectations[0].name)}", next_step="LIKE .. (EXCLUDING CONSTRAINTS)"
        )
    distinct(table.expectations, where)
    for one in table.expectations:
        for column in columns_of(one.kind):
            if table.schema.names and column not in table.schema.names:
                raise DeclarationError(
                    f"{where}: CONSTRAINT {one.name!r} names column {column!r}{did_you_mean(column, table.schema.names)}"
                )


def expectation_text(one: Expectation) -> str:
    """An expectation as a constraint. Raises DeclarationError for a kind that a declaration cannot have."""
    match one.kind:
        case Satisfies(condition):
            said = f"EXPECT ({condition}\n  )" if "--" in condition else f"EXPECT ({condition})"
        case Unique(columns):
            said = f"UNIQUE ({', '.join(map(quoted, columns))})"
        case References(column, table, other):
            there = ".".join(map(quoted, table.split(".")))
            said = f"FOREIGN KEY ({quoted(column)}) REFERENCES {there} ({quoted(other)})"
        case _:
            raise DeclarationError(f"expectation {one.name!r} has no text in SQL; valid: conditions, UNIQUE, FOREIGN KEY")
    first, second = next((word, rest) for word, (outcome, rest) in OUTCOMES.items() if outcome is one.on_violation)
    return f"CONSTRAINT {quoted(one.name)} {said} ON VIOLATION {first} {second}".rstrip()
