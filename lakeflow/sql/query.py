"""A read-only query: which tables it names, and whether it only reads.

The dialect is DuckDB's. A query is let through by an allow-list on sqlglot's tree: one statement, of a kind that reads,
without a part that writes, and with no source of rows but tables, common table expressions and a few pure table
functions. execute.py asks DuckDB's own parser the same once more.

A table is `namespace.table` or `lakeflow.namespace.table`; each part may be quoted.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lakeflow.errors import UsageError, did_you_mean
from lakeflow.sql.tokens import pointed

if TYPE_CHECKING:
    from sqlglot import exp
    from sqlglot.tokenizer_core import Token

CATALOG: Final = "lakeflow"
"""The first part of a three-part name."""

FIRST_WORDS: Final = ("SELECT", "WITH", "FROM", "VALUES", "TABLE", "DESCRIBE", "DESC", "SUMMARIZE")
TABLE_FUNCTIONS: Final = frozenset({"range", "generate_series", "unnest", "repeat", "json_each", "json_tree"})
"""The table functions that a query may use: they make rows out of their arguments alone."""

REFUSED_FUNCTIONS: Final = frozenset(
    {"getenv", "current_setting", "write_log", "nextval", "currval", "setval", "setseed", "sleep_ms", "stats", "vector_type"}
)
"""Functions that tell about the process, change something in it or hold it up."""

NEXT_STEPS: Final = {
    "SHOW": "lakeflow tables list",
    "CREATE": "declare it in a file of tables/",
    "INSERT": "write a job in jobs/, then: lakeflow run JOB",
}


@dataclass(frozen=True, slots=True)
class Query:
    """A query that only reads. `text` is what DuckDB runs: as written, with the catalog's name blanked out."""

    text: str
    tables: tuple[str, ...]


def tables_of(text: str) -> tuple[str, ...]:
    """The tables that a query names, as `namespace.table`, each once and in order of appearance.

    A name without a namespace that is no common table expression is there too, for the caller to refuse. Raises
    UsageError where the query is not one read-only statement.
    """
    return check_query(text).tables


def check_query(text: str) -> Query:
    """The query, once it is known to only read. Raises UsageError, pointing at what is wrong."""
    from sqlglot import exp

    refuse_statements(text)
    tree = _parsed(text)
    if not isinstance(tree, exp.Query | exp.Values | exp.Describe | exp.Summarize):
        raise refused(text, f"this is no read-only query; valid: {', '.join(FIRST_WORDS)}", 0, len(text))
    for node in tree.walk():
        refuse_node(text, node)
    found = [table for table in tree.find_all(exp.Table, bfs=False) if not is_function(table) and not names_cte(table)]
    ordered = sorted(found, key=lambda table: span(table)[0])
    tables = tuple(dict.fromkeys(table_name(text, table) for table in ordered))
    return Query(without_catalog(text, tree, ordered), tables)


def refused(text: str, message: str, start: int, stop: int, next_step: str | None = None) -> UsageError:
    """The error that points at the characters [start, stop) of the query."""
    return UsageError(pointed(message, text, start, stop), next_step=next_step)


def _tokens(text: str) -> list[Token]:
    from sqlglot import tokenize
    from sqlglot.errors import TokenError

    from lakeflow.sql.flink import Flink

    try:
        return list(tokenize(text, read=Flink))
    except TokenError as error:
        place = re.search(r"Missing (\S+) from \d+:(\d+)", str(error.__cause__))
        start = int(place[2]) if place else max(0, text.rfind("/*"))
        what = place[1] if place else "a comment"
        raise refused(text, f"{what} is opened and not closed", start, start + 1) from error


def refuse_statements(text: str) -> None:
    """Refuse what is no single statement, and statements that do not begin as a query does."""
    from sqlglot.tokenizer_core import TokenType

    tokens = _tokens(text)
    while tokens and tokens[-1].token_type is TokenType.SEMICOLON:
        tokens.pop()
    if not tokens:
        raise UsageError("the query is empty", next_step='lakeflow query "SELECT .."')
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            raise refused(text, "a second statement follows; a query is one statement", token.start, token.end + 1)
    first = next((token for token in tokens if token.token_type is not TokenType.L_PAREN), tokens[0])
    word = first.text.split()[0].upper() if first.text.split() else ""
    if word not in FIRST_WORDS:
        message = f"{word} is no read-only query{did_you_mean(word, FIRST_WORDS)}"
        raise refused(text, message, first.start, first.start + max(1, len(word)), NEXT_STEPS.get(word))


def _parsed(text: str) -> exp.Expr:
    from sqlglot import exp, parse
    from sqlglot.errors import ParseError, SqlglotError

    logger = logging.getLogger("sqlglot")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of statements that it does not know, which are refused below
    try:
        trees = [tree for tree in parse(text, read="duckdb") if tree is not None and not isinstance(tree, exp.Semicolon)]
    except ParseError as error:
        start, stop = place_of(text, error)
        raise refused(text, "syntax error", start, stop) from error
    except SqlglotError as error:
        raise UsageError(f"the query cannot be read: {error}") from error
    except RecursionError:
        raise UsageError("the query is nested too deeply") from None
    finally:
        logger.setLevel(level)
    if len(trees) != 1:
        raise UsageError(f"a query is one statement; found {len(trees)}")
    return trees[0]


def place_of(text: str, error: Exception) -> tuple[int, int]:
    """The characters that sqlglot's first error stands at; its column is that of the last of them, from 1."""
    found = (getattr(error, "errors", None) or [{}])[0]
    line, column, highlight = found.get("line"), found.get("col"), found.get("highlight") or " "
    if not isinstance(line, int) or not isinstance(column, int):
        return len(text.rstrip()), len(text.rstrip()) + 1
    begin = sum(len(row) + 1 for row in text.split("\n")[: line - 1])
    return max(begin, begin + column - len(highlight)), begin + column


def refuse_node(text: str, node: exp.Expr) -> None:
    """Raises UsageError for a node of the tree that does more than read, or calls what is not allowed."""
    from sqlglot import exp

    if isinstance(node, exp.DDL | exp.DML | exp.Command | exp.Copy | exp.Into | exp.Set | exp.Pragma | exp.Show):
        raise refused(text, f"{type(node).__name__.upper()} is not allowed within a read-only query", *span(node))
    if isinstance(node, exp.Table | exp.Lateral) and isinstance(node.this, exp.Func):
        name = function_name(node.this)
        if name not in TABLE_FUNCTIONS:
            start, stop = _call(text, name)
            raise refused(text, f"table function {name!r} is not allowed{did_you_mean(name, TABLE_FUNCTIONS)}", start, stop)
    elif isinstance(node, exp.Func) and function_name(node) in REFUSED_FUNCTIONS:
        raise refused(text, f"function {function_name(node)!r} is not allowed in a read-only query", *span(node))


def is_function(table: exp.Table) -> bool:
    """Whether a source of rows is a call of a function."""
    from sqlglot import exp

    return isinstance(table.this, exp.Func)


def function_name(function: exp.Expr) -> str:
    """The name of a function in lower case, as DuckDB has it."""
    from sqlglot import exp

    if isinstance(function, exp.Anonymous):
        return function.name.lower()
    if isinstance(function, exp.GenerateSeries):
        return "generate_series"
    return function.sql_name().lower() if isinstance(function, exp.Func) else ""


def span(node: exp.Expr) -> tuple[int, int]:
    """The characters [start, stop) of the names in `node`; (0, 1) where sqlglot kept no place."""
    from sqlglot import exp

    places = [part.meta for part in node.find_all(exp.Identifier) if "start" in part.meta]
    if "start" in node.meta:
        places.append(node.meta)
    if not places:
        return 0, 1
    return min(place["start"] for place in places), max(place["end"] for place in places) + 1


def _call(text: str, name: str) -> tuple[int, int]:
    """The characters of the first call of a function; sqlglot keeps no place for those within FROM."""
    found = re.search(rf"\b{re.escape(name)}\b(?=\s*\()", text, re.IGNORECASE)
    return found.span() if found else (0, 1)


def names_cte(table: exp.Table) -> bool:
    """Whether a bare name is a common table expression that can be seen from where it stands."""
    if table.args.get("db") is not None:
        return False
    name = table.name.lower()
    return any(name in visible for visible in _visible_ctes(table))


def _visible_ctes(node: exp.Expr) -> Iterator[set[str]]:
    """For each WITH around `node`, the names that it gives there: within the WITH itself only those before, and its own
    where it is recursive."""
    from sqlglot import exp

    inside: exp.Expr = node
    around = node.parent
    while around is not None:
        if isinstance(around, exp.With):
            before: list[exp.Expr] = []
            for cte in around.expressions:
                if cte is inside and not around.recursive:
                    break
                before.append(cte)
                if cte is inside:
                    break
            yield {cte.alias.lower() for cte in before}
        elif not isinstance(inside, exp.With):
            named = around.args.get("with_")
            if named is not None:
                yield {cte.alias.lower() for cte in named.expressions}
        inside, around = around, around.parent


def table_name(text: str, table: exp.Table) -> str:
    """`namespace.table` of a table of the tree, or the one part that it has. Raises UsageError for other numbers of parts."""
    from sqlglot import exp

    start, stop = span(table)
    parts = [part.name for part in table.parts]
    before = [table.args.get(part) for part in ("catalog", "db")]
    has_gap = any(part is not None and not isinstance(part, exp.Identifier) for part in before)
    is_other = len(parts) > 3 or (len(parts) == 3 and parts[0].lower() != CATALOG)
    if has_gap or is_other or not isinstance(table.this, exp.Identifier):
        written = ".".join(parts)
        message = f"table {written!r}: a table is named namespace.table or {CATALOG}.namespace.table"
        raise refused(text, message, start, stop)
    return ".".join(parts[-2:])


def without_catalog(text: str, tree: exp.Expr, tables: list[exp.Table]) -> str:
    """The text with `lakeflow.` before namespace.table turned to blanks, which keeps every other place where it was.

    A namespace may be called as the catalog is, and DuckDB refuses to tell `lakeflow.runs` from `lakeflow.main.runs`.
    """
    from sqlglot import exp

    named = [table for table in tables if table.args.get("catalog") is not None]
    known = {(table.text("db").lower(), table.name.lower()) for table in named}
    columns = [
        column
        for column in tree.find_all(exp.Column)
        if column.text("catalog").lower() == CATALOG and (column.text("db").lower(), column.table.lower()) in known
    ]
    for node in [*named, *columns]:
        start, stop = node.args["catalog"].meta["start"], node.args["db"].meta["start"]
        text = text[:start] + re.sub(r"[^\n]", " ", text[start:stop]) + text[stop:]
    return text
