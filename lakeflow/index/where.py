"""The conditions that a search may filter on: text -> plain values -> the text that the storage is given.

    condition  := all (OR all)*                    all := one (AND one)*               one := NOT one | "(" condition ")" | test
    test       := operand (= | <> | != | < | <= | > | >=) literal                      the other way round too
                | operand [NOT] IN (literal, ..) | operand [NOT] BETWEEN literal AND literal
                | operand [NOT] LIKE 'pattern'     with % and _, and \\ before one that is meant as it is
                | column IS [NOT] NULL | a column of true and false | TRUE | FALSE
                | starts_with(column, 'text') | ends_with(column, 'text') | contains(column, 'text')
                | array_has(column, literal)
    operand    := column | lower(column) | upper(column) | length(column)
    column     := name | "name" | `name`           literal := 'text' | number | TRUE | FALSE | DATE 'text' | TIMESTAMP 'text'

Nulls as in SQL: a test of a null is neither true nor false, and the row is left out. A text compared with a date or a
timestamp is read as one (ISO 8601; without an offset it is UTC). The storage's own parser takes whatever stands in
front of a semicolon or an unbalanced bracket for the whole, and reaches functions that take hours or abort; so nothing
that a user wrote gets there unread: what does not parse by this grammar is refused, and the rest is written anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import NoReturn

import pyarrow as pa

from lakeflow.errors import UnknownName, UsageError, did_you_mean
from lakeflow.index.condition import (
    Compare,
    Condition,
    Every,
    Family,
    Holds,
    IsNull,
    Like,
    Not,
    Operand,
    Some,
    Truth,
    Value,
    family,
    family_of,
)

MOST_CHARACTERS = 10_000
MOST_NESTED = 16
TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^']|'')*')|(?P<quoted>"(?:[^"]|"")+"|`[^`]+`)|(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)"""
    r"""|(?P<word>[^\W\d]\w*)|(?P<mark><=|>=|<>|!=|[=<>(),-]))"""
)
FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "=", "<>": "<>"}
ON_TEXT = ("lower", "upper", "length", "starts_with", "ends_with", "contains")
FUNCTIONS = (*ON_TEXT, "array_has")
RESERVED = frozenset({"and", "or", "not", "in", "between", "like", "is", "null", "true", "false"})


def parse(text: str, schema: pa.Schema, columns: Iterable[str], name: str) -> Condition:
    """The condition that `text` says, over `columns` of `schema`, for a search of the index `name`.

    Raises UsageError where it is not of the grammar above, UnknownName for a column that is not in `columns`.
    """
    if len(text) > MOST_CHARACTERS:
        raise UsageError(
            f"the condition on index {name!r} has {len(text):,} characters; valid: {MOST_CHARACTERS:,} at the most"
        )
    reader = _Reader(text, {column: schema.field(column).type for column in columns}, name)
    condition = reader.some(0)
    if reader.peek():
        reader.refuse("AND, OR or the end")
    return condition


class _Reader:
    """Reads one text from left to right, once."""

    def __init__(self, text: str, types: dict[str, pa.DataType], name: str) -> None:
        self.text, self.types, self.name = text, types, name
        self.tokens = self._split()
        self.place = 0

    def _split(self) -> list[tuple[str, str, int]]:
        tokens, at = [], 0
        end = len(self.text.rstrip())
        while at < end:
            found = TOKEN.match(self.text, at)
            if found is None or found.lastgroup is None:
                self._refuse_at(at, "a condition")
            tokens.append((found.lastgroup, found[found.lastgroup], found.start(found.lastgroup)))
            at = found.end()
        return tokens

    def refuse(self, expected: str) -> NoReturn:
        """Raises UsageError at the token that comes next."""
        self._refuse_at(self.tokens[self.place][2] if self.place < len(self.tokens) else len(self.text), expected)

    def _refuse_at(self, at: int, expected: str) -> NoReturn:
        rest = self.text[at : at + 40]
        where = f"at character {at + 1}, before {rest!r}" if rest.strip() else "at its end"
        raise UsageError(
            f"the condition on index {self.name!r} is not understood {where}: expected {expected}; "
            "valid: comparisons of columns with values, IN, BETWEEN, LIKE, IS NULL, "
            f"{', '.join(FUNCTIONS)}, joined by AND, OR, NOT and brackets"
        )

    def peek(self, ahead: int = 0) -> str:
        """The next token: a word in lower case, a mark, or the kind of another; empty at the end."""
        if self.place + ahead >= len(self.tokens):
            return ""
        kind, text, _ = self.tokens[self.place + ahead]
        return text.lower() if kind == "word" else text if kind == "mark" else f"<{kind}>"

    def take(self, *expected: str) -> bool:
        """Whether the next tokens are `expected`, which are read then."""
        if all(self.peek(ahead) == token for ahead, token in enumerate(expected)):
            self.place += len(expected)
            return True
        return False

    def need(self, token: str) -> None:
        if not self.take(token):
            self.refuse(repr(token))

    def some(self, nested: int) -> Condition:
        if nested > MOST_NESTED:
            self.refuse(f"at most {MOST_NESTED} conditions within each other")
        conditions = [self.every(nested)]
        while self.take("or"):
            conditions.append(self.every(nested))
        return conditions[0] if len(conditions) == 1 else Some(tuple(conditions))

    def every(self, nested: int) -> Condition:
        conditions = [self.one(nested)]
        while self.take("and"):
            conditions.append(self.one(nested))
        return conditions[0] if len(conditions) == 1 else Every(tuple(conditions))

    def one(self, nested: int) -> Condition:
        if nested > MOST_NESTED:
            self.refuse(f"at most {MOST_NESTED} conditions within each other")
        if self.take("not"):
            return Not(self.one(nested + 1))
        if self.take("("):
            condition = self.some(nested + 1)
            self.need(")")
            return condition
        return self.test()

    def test(self) -> Condition:
        if self._at_literal():
            return self._literal_first()
        operand = self.operand()
        if isinstance(operand, Holds):
            return operand
        if self.take("is", "not", "null"):
            return Not(IsNull(operand))
        if self.take("is", "null"):
            return IsNull(operand)
        negated = self.take("not")
        if negated or self.peek() in ("in", "between", "like"):
            condition = self._in_between_like(operand)
            return Not(condition) if negated else condition
        operator = self._operator()
        if operator:
            return self._compare(operator, operand, self.literal())
        if family(operand.result) is not Family.TRUTH:
            self.refuse(f"a comparison of {operand.column}, which is {operand.type}")
        return Truth(operand)

    def _literal_first(self) -> Condition:
        value = self.literal()
        operator = self._operator()
        if not operator:
            return Truth(value) if isinstance(value, bool) else self.refuse("a comparison with a column")
        operand = self.operand()
        if isinstance(operand, Holds):
            self.refuse("a column")
        return self._compare(FLIPPED[operator], operand, value)

    def _in_between_like(self, operand: Operand) -> Condition:
        if self.take("in"):
            self.need("(")
            values = [self.literal()]
            while self.take(","):
                values.append(self.literal())
            self.need(")")
            return Compare("in", operand, tuple(self._fit(operand, value) for value in values))
        if self.take("between"):
            low = self.literal()
            self.need("and")
            return Every((self._compare(">=", operand, low), self._compare("<=", operand, self.literal())))
        if self.take("like"):
            pattern = self.literal()
            if not isinstance(pattern, str) or family(operand.result) is not Family.TEXT:
                self.refuse(f"LIKE of a text and a 'pattern' ({operand.column} is {operand.type})")
            return Like(operand, pattern)
        return self.refuse("IN, BETWEEN or LIKE")

    def _operator(self) -> str | None:
        if self.peek() == "!=":
            self.place += 1
            return "<>"
        if self.peek() in FLIPPED:
            self.place += 1
            return self.tokens[self.place - 1][1]
        return None

    def operand(self) -> Operand | Holds:
        """A column, or a function of one."""
        if self.peek(1) == "(" and self.tokens[self.place][0] == "word":
            function = self.peek()
            if function not in FUNCTIONS:
                raise UsageError(f"the condition on index {self.name!r} calls {function!r}{did_you_mean(function, FUNCTIONS)}")
            self.place += 2
            column = self.column()
            wanted = Family.TEXT if function in ON_TEXT else Family.LIST
            if family(column.type) is not wanted:
                self.refuse(f"a column of {wanted} in {function}() ({column.column} is {column.type})")
            operand = self._function(function, column)
            self.need(")")
            return operand
        return self.column()

    def _function(self, function: str, column: Operand) -> Operand | Holds:
        if function in ("lower", "upper", "length"):
            return Operand(column.column, column.type, function)
        self.need(",")
        inside = column.type.value_type if function == "array_has" else column.type
        return Holds(function, column, self._fit(Operand(column.column, inside), self.literal()))

    def column(self) -> Operand:
        """A column by its name; one that is not quoted matches in another case too, where only one does."""
        if self.peek() in RESERVED or self.place >= len(self.tokens):
            self.refuse("a column")
        kind, written, _ = self.tokens[self.place]
        if kind not in ("word", "quoted"):
            self.refuse("a column")
        self.place += 1
        column = written[1:-1].replace('""', '"') if kind == "quoted" else written
        if column not in self.types and kind == "word":
            alike = [known for known in self.types if known.casefold() == column.casefold()]
            column = alike[0] if len(alike) == 1 else column
        if column not in self.types:
            raise UnknownName(f"column of index {self.name}", column, self.types)
        return Operand(column, self.types[column])

    def _at_literal(self) -> bool:
        return self.peek() in ("<text>", "<number>", "-", "true", "false") or (
            self.peek() in ("date", "timestamp") and self.peek(1) == "<text>"
        )

    def literal(self) -> Value:
        """A value as written; DATE and TIMESTAMP are read."""
        if self.peek() == "null":
            self.refuse("a value; nothing compares with NULL, so ask IS NULL or IS NOT NULL")
        if not self._at_literal():
            self.refuse("a value")
        if self.take("true"):
            return True
        if self.take("false"):
            return False
        typed = self.peek() if self.take("date") or self.take("timestamp") else None
        if typed:
            kind = Family.DATE if self.tokens[self.place - 1][1].lower() == "date" else Family.TIMESTAMP
            return self._time(self._text(), kind)
        if self.peek() == "<text>":
            return self._text()
        negative = self.take("-")
        if self.peek() != "<number>":
            self.refuse("a number")
        number = self.tokens[self.place][1]
        self.place += 1
        return self._number(("-" if negative else "") + number)

    def _text(self) -> str:
        self.place += 1
        return self.tokens[self.place - 1][1][1:-1].replace("''", "'")

    def _number(self, written: str) -> int | Decimal:
        number = Decimal(written)
        if abs(number) >= 2**63 or len(number.as_tuple().digits) > 38:
            self.place -= 1
            self.refuse("a number of 64 bits, with 38 digits at the most")
        return int(number) if re.fullmatch(r"-?\d+", written) else number

    def _time(self, written: str, kind: Family) -> date | datetime:
        try:
            if kind is Family.DATE:
                return date.fromisoformat(written)
            moment = datetime.fromisoformat(written)
        except ValueError as error:
            raise UsageError(
                f"the condition on index {self.name!r} has the {kind} {written!r}; valid: ISO 8601, such as "
                f"{'2013-01-31' if kind is Family.DATE else '2013-01-31 23:59:00'}"
            ) from error
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)

    def _compare(self, operator: str, operand: Operand, value: Value) -> Condition:
        fitted = self._fit(operand, value)
        if operator == "<>":
            return Not(Compare("=", operand, (fitted,)))
        return Compare(operator, operand, (fitted,))

    def _fit(self, operand: Operand, value: Value) -> Value:
        """`value` as it compares with `operand`. Raises UsageError where it does not."""
        wanted = family(operand.result)
        if isinstance(value, str) and wanted in (Family.DATE, Family.TIMESTAMP):
            return self._time(value, wanted)
        if family_of(value) is wanted:
            return value
        if isinstance(value, date) and wanted is Family.TIMESTAMP:
            return datetime(value.year, value.month, value.day)
        shown = {Family.TEXT: "a quoted 'text'", Family.NUMBER: "a number", Family.TRUTH: "TRUE or FALSE"}
        raise UsageError(
            f"the condition on index {self.name!r} compares {operand.column}, which is {operand.result}, with {value!r}; "
            f"valid: {shown.get(wanted, f'a {wanted}' if wanted in (Family.DATE, Family.TIMESTAMP) else 'IS NULL only')}"
        )
