"""What the SQL shell proposes at the cursor: keywords, functions, tables, columns, models, indexes. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from lakeflow.errors import DeclarationError

if TYPE_CHECKING:
    from lakeflow.sql.tokens import Token

STARTS: Final = (
    *("SELECT", "WITH", "FROM", "VALUES", "INSERT INTO", "INSERT OVERWRITE", "BEGIN STATEMENT SET", "EXPLAIN"),
    *("CREATE TABLE", "CREATE MATERIALIZED TABLE", "CREATE MODEL", "CREATE VECTOR INDEX"),
    *("ALTER TABLE", "ALTER MATERIALIZED TABLE", "ALTER MODEL", "ALTER VECTOR INDEX"),
    *("DROP TABLE", "DROP MATERIALIZED TABLE", "DROP MODEL", "DROP VECTOR INDEX"),
    *("DESCRIBE TABLE", "DESCRIBE MODEL", "DESCRIBE VECTOR INDEX", "SUMMARIZE", "SET", "RESET"),
    *("SHOW TABLES", "SHOW MATERIALIZED TABLES", "SHOW NAMESPACES", "SHOW JOBS", "SHOW MODELS", "SHOW VECTOR INDEXES"),
    *("SHOW CREATE TABLE", "SHOW CREATE MODEL", "SHOW CREATE VECTOR INDEX"),
)
KEYWORDS: Final = (
    *("SELECT", "DISTINCT", "FROM", "WHERE", "GROUP BY", "HAVING", "QUALIFY", "WINDOW", "ORDER BY", "LIMIT", "OFFSET"),
    *("JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN", "LATERAL", "UNNEST", "ON", "USING", "AS", "AND", "OR"),
    *("NOT", "IN", "EXISTS", "BETWEEN", "LIKE", "ILIKE", "IS NULL", "IS NOT NULL", "CASE", "WHEN", "THEN", "ELSE", "END"),
    *("CAST", "OVER", "PARTITION BY", "UNION ALL", "UNION", "INTERSECT", "EXCEPT", "ASC", "DESC", "NULLS FIRST"),
    *("NULLS LAST", "TRUE", "FALSE", "NULL", "INTERVAL", "TABLE", "MODEL", "DESCRIPTOR", "MAP", "VALUES"),
    *("FOR SYSTEM_TIME AS OF", "FOR VERSION AS OF", "COMMENT", "PARTITIONED BY", "INPUT", "OUTPUT", "WITH"),
    *("FRESHNESS", "REFRESH_MODE", "PRIMARY KEY", "NOT ENFORCED", "WATERMARK FOR"),
)
TABLES_FOLLOW: Final = frozenset({"FROM", "JOIN", "INTO", "OVERWRITE", "TABLE", "DESCRIBE", "DESC", "SUMMARIZE"})
EXPRESSIONS_FOLLOW: Final = frozenset({"SELECT", "WHERE", "ON", "HAVING", "QUALIFY", "BY", "SET", "USING"})
"""Words behind which a comma is followed by no table."""

PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
TYPED: Final = re.compile(r'[\w$."\\?]*$')


class Names(Protocol):
    """What there is in the project, as far as it is known; nothing is raised."""

    def tables(self) -> Sequence[str]:
        """As namespace.table."""
        ...

    def columns(self, table: str) -> Sequence[str]:
        """Those of a table; none where it is not there."""
        ...

    def models(self) -> Sequence[str]: ...

    def indexes(self) -> Sequence[str]: ...


class Wanted(Enum):
    """What may stand at the cursor."""

    START = auto()
    TABLE = auto()
    MODEL = auto()
    INDEX = auto()
    EXPRESSION = auto()
    NOTHING = auto()


@dataclass(frozen=True, slots=True)
class Proposal:
    """A text in place of the last `replaced` characters before the cursor, and what it is."""

    text: str
    replaced: int
    kind: str


def proposals(text: str, cursor: int, names: Names, functions: Callable[[], Sequence[str]]) -> list[Proposal]:
    """What may stand at `cursor`, the nearest kinds first; `functions` are asked for where they may stand.

    None within a comment or a text in quotes.
    """
    from lakeflow.cli.sql_commands import COMMANDS

    before = text[:cursor]
    typed = _typed(before)
    if before.lstrip().startswith("\\"):
        return _after_backslash(before.lstrip(), typed, names, COMMANDS)
    behind = _tokens(before[: len(before) - len(typed)])
    if behind is None:
        return []
    qualified = _qualified(typed, _tokens(f"{before} {text[cursor:]}") or behind, names)
    statement = _last_statement(behind)
    begun = _like(typed, _cased(_goes_on(statement), typed), "keyword")
    match _wanted(statement):
        case Wanted.NOTHING | Wanted.START:
            return begun
        case Wanted.TABLE:
            tables = _like(typed, map(quoted, names.tables()), "table")
            return [*begun, *tables, *_like(typed, _ctes(behind), "query")]
        case Wanted.MODEL:
            return _like(typed, map(quoted, names.models()), "model")
        case Wanted.INDEX:
            return _like(typed, map(quoted, names.indexes()), "index")
        case Wanted.EXPRESSION:
            if "." in typed:
                return [*qualified, *_like(typed, map(quoted, names.tables()), "table")]
            read = _tables_read(_tokens(f"{before} {text[cursor:]}") or behind, names)
            columns = dict.fromkeys(quoted_part(column) for table in read.values() for column in names.columns(table))
            return begun or [
                *_like(typed, columns, "column"),
                *_like(typed, [alias for alias in read if alias not in names.tables()], "alias"),
                *_like(typed, _cased(KEYWORDS, typed), "keyword"),
                *_like(typed, _cased(functions(), typed) if typed else (), "function"),
                *_like(typed, map(quoted, names.tables()) if typed else (), "table"),
            ]
        case never:
            assert_never(never)


def quoted(name: str) -> str:
    """A name of parts as SQL takes it."""
    return ".".join(map(quoted_part, name.split(".")))


def quoted_part(name: str) -> str:
    """A name as SQL takes it: in quotes where it is no plain word."""
    return name if PLAIN_NAME.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def _typed(before: str) -> str:
    found = TYPED.search(before)
    return found[0] if found else ""


def _tokens(text: str) -> list[Token] | None:
    """The tokens of a text but its end; None where it ends within quotes or a comment."""
    from lakeflow.sql.tokens import Source, tokenize

    try:
        *tokens, _ = tokenize(Source(f"{text} here"))
    except DeclarationError:
        return None
    return tokens[:-1] if tokens and tokens[-1].upper == "HERE" else None


def _last_statement(behind: Sequence[Token]) -> Sequence[Token]:
    """The tokens behind the last `;`, and behind EXPLAIN."""
    ended = max((at for at, token in enumerate(behind) if token.is_symbol(";")), default=-1)
    statement = behind[ended + 1 :]
    return statement[1:] if statement and statement[0].upper == "EXPLAIN" else statement


def _goes_on(statement: Sequence[Token]) -> list[str]:
    """What may follow for a statement to become one of `STARTS`."""
    begun = "".join(f"{token.upper} " for token in statement)
    return [phrase[len(begun) :] for phrase in STARTS if phrase.startswith(begun)]


def _wanted(statement: Sequence[Token]) -> Wanted:
    """What the words of a statement before the cursor ask for."""
    if not statement:
        return Wanted.START
    words = [token.upper for token in statement]
    last = words[-1]
    if last == "EXTENDED":
        last = words[-2] if len(words) > 1 else last
    if last in ("MODEL", "MODELS"):
        return Wanted.NOTHING if words[0] == "CREATE" else Wanted.MODEL
    if last == "INDEX":
        return Wanted.NOTHING if words[0] == "CREATE" else Wanted.INDEX
    if last == "AS" and words[-2:-1] != ["OF"] and words[0] not in ("CREATE",):
        return Wanted.NOTHING
    if last in TABLES_FOLLOW and not (words[0] == "CREATE" and last == "TABLE" and len(words) <= 3):
        return Wanted.TABLE
    if statement[-1].is_symbol(",") and _in_from(words):
        return Wanted.TABLE
    return Wanted.EXPRESSION


def _in_from(words: Sequence[str]) -> bool:
    """Whether the clause at the end is FROM, outside of parentheses that are opened there."""
    clause = next((word for word in reversed(words) if word in TABLES_FOLLOW | EXPRESSIONS_FOLLOW), "")
    return clause in ("FROM", "JOIN")


def _tables_read(tokens: Sequence[Token], names: Names) -> dict[str, str]:
    """The tables that a text names, by alias; by name where it has none."""
    known = {name.lower(): name for name in names.tables()}
    found: dict[str, str] = {}
    for at, token in enumerate(tokens[:-2]):
        full = f"{token.text}.{tokens[at + 2].text}".lower()
        if not tokens[at + 1].is_symbol(".") or full not in known:
            continue
        rest = [one for one in tokens[at + 3 : at + 5] if one.upper != "AS"][:1]
        alias = rest[0].text if rest and rest[0].upper and rest[0].upper not in _RESERVED else known[full]
        found[alias] = known[full]
    return found


_RESERVED: Final = frozenset(word for phrase in (*KEYWORDS, *STARTS) for word in phrase.split())


def _qualified(typed: str, tokens: Sequence[Token], names: Names) -> list[Proposal]:
    """Columns behind `alias.` or `namespace.table.`."""
    head, dot, _ = typed.rpartition(".")
    if not dot:
        return []
    read = {alias.lower(): table for alias, table in _tables_read(tokens, names).items()}
    read |= {table.rpartition(".")[2].lower(): table for table in read.values()}
    table = read.get(head.lower())
    return _like(typed, [f"{head}.{quoted_part(one)}" for one in names.columns(table)], "column") if table else []


def _ctes(tokens: Sequence[Token]) -> list[str]:
    """The names that WITH gives: each before AS and a parenthesis."""
    return [
        token.text
        for at, token in enumerate(tokens[:-2])
        if tokens[at + 1].upper == "AS" and tokens[at + 2].is_symbol("(") and token.upper
    ]


def _after_backslash(before: str, typed: str, names: Names, commands: Iterable[str]) -> list[Proposal]:
    command, blank, _ = before.partition(" ")
    if not blank:
        return _like(typed, commands, "command")
    match command:
        case "\\d":
            return _like(typed, map(quoted, names.tables()), "table")
        case "\\dm":
            return _like(typed, map(quoted, names.models()), "model")
        case "\\di":
            return _like(typed, map(quoted, names.indexes()), "index")
        case "\\x" | "\\timing" | "\\pager":
            return _like(typed, ("on", "off"), "value")
        case "\\format":
            return _like(typed, ("text", "json", "csv"), "value")
        case _:
            return []


def _cased(words: Iterable[str], typed: str) -> Iterable[str]:
    """Keywords as they are being typed: in small letters where those have begun."""
    return (word.lower() for word in words) if typed.islower() else words


def _like(typed: str, candidates: Iterable[str], kind: str) -> list[Proposal]:
    """Those that go on as was typed, in any case and with or without the quotes."""
    begun = typed.lower().replace('"', "")
    fits = (one for one in candidates if one.lower().replace('"', "").startswith(begun))
    return [Proposal(one, len(typed), kind) for one in fits]
