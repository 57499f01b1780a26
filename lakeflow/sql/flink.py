"""The dialect of queries: DuckDB's, and on top of it what Flink and Confluent write.

    ML_PREDICT(TABLE t, MODEL m, DESCRIPTOR(a), MAP['k', 'v'])     ML_PREDICT(INPUT => TABLE (SELECT ..), ..)
    LATERAL TABLE(f(..)), TABLE(f(..))                             CROSS APPLY f(..), OUTER APPLY f(..)
    t FOR SYSTEM_TIME AS OF x, t FOR VERSION AS OF 'tag'           `names in back-quotes`

A call of one of lakeflow's functions becomes an `AiCall`, whose arguments (`Argument`) know where they stand; what they mean
is for calls.py to say. Everything else is sqlglot's own tree.
"""

from __future__ import annotations

import logging
from typing import Any, Final, TypeVar

from sqlglot import exp, parse
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError, SqlglotError
from sqlglot.parsers.duckdb import DuckDBParser
from sqlglot.tokenizer_core import Token, TokenType

from lakeflow.errors import UsageError
from lakeflow.sql.misspelt import refuse_misspelt
from lakeflow.sql.pure.registry import pure_functions
from lakeflow.sql.query import place_of
from lakeflow.sql.tokens import pointed

PREDICT: Final = frozenset({"ML_PREDICT", "ML_EMBED", "AI_COMPLETE", "AI_EMBEDDING"})
"""Functions that ask a model."""

SEARCH: Final = frozenset({"VECTOR_SEARCH"})
WINDOWS: Final = frozenset({"TUMBLE", "HOP", "CUMULATE", "SESSION"})
EVALUATE: Final = frozenset({"ML_EVALUATE"})
SPLIT: Final = frozenset({"TEXT_SPLIT"})
CALLED: Final = PREDICT | SEARCH | EVALUATE | WINDOWS | SPLIT
"""The functions of this room that stand in a query, but for the pure ones."""


Node = TypeVar("Node", bound=exp.Expr)


class AiCall(exp.Expression):
    """A call of one of lakeflow's functions; `this` is its name in capitals. meta: `start` and `end` in the text."""

    arg_types = {"this": True, "expressions": False}  # noqa: RUF012 - the base class fixes the type


class Argument(exp.Expression):
    """An argument and its name in capitals, if it was given one with =>. meta: `start` and `end` in the text."""

    arg_types = {"this": True, "name": False}  # noqa: RUF012


class TableArgument(exp.Expression):
    """TABLE t, TABLE (SELECT ..), VALUES (..): `this` is a Table or a Subquery; `partition` what PARTITION BY says."""

    arg_types = {"this": True, "partition": False}  # noqa: RUF012


class ModelArgument(exp.Expression):
    """MODEL m; `this` is the name as text."""

    arg_types = {"this": True}  # noqa: RUF012


class Descriptor(exp.Expression):
    """DESCRIPTOR(a, b); `expressions` are Identifiers."""

    arg_types = {"expressions": True}  # noqa: RUF012


class FlinkParser(DuckDBParser):
    """DuckDB's grammar with Flink's table functions."""

    def _parse_function_call(self, *args: Any, **named: Any) -> exp.Expr | None:
        if self._at_call():
            return self._parse_ai_call()
        found: exp.Expr | None = super()._parse_function_call(*args, **named)
        return found

    def _parse_table(self, *args: Any, **named: Any) -> exp.Expr | None:
        wrapped = self._at_wrapped()
        if not wrapped and not self._at_call():
            found: exp.Expr | None = super()._parse_table(*args, **named)
            return found
        table: exp.Table = self._marked(exp.Table(this=self._parse_wrapped_call(), alias=self._parse_table_alias()))
        return table

    def _parse_lateral(self) -> exp.Lateral | None:
        index, cross_apply = self._index, None
        if self._match_pair(TokenType.CROSS, TokenType.APPLY):
            cross_apply = True
        elif self._match_pair(TokenType.OUTER, TokenType.APPLY):
            cross_apply = False
        elif not self._match(TokenType.LATERAL):
            return None
        if not self._at_wrapped() and not self._at_call():
            self._retreat(index)
            found: exp.Lateral | None = super()._parse_lateral()
            return found
        call = self._parse_wrapped_call()
        lateral: exp.Lateral = self._marked(exp.Lateral(this=call, alias=self._parse_table_alias(), cross_apply=cross_apply))
        return lateral

    def _parse_map(self) -> Any:
        if not self._match(TokenType.L_BRACKET):
            return super()._parse_map()
        items = self._parse_csv(self._parse_lambda)
        if not self._match(TokenType.R_BRACKET):
            self.raise_error("expected ] at the end of MAP[..]")
        if len(items) % 2:
            self.raise_error("MAP[..] needs a value for each key")
        return self._marked(exp.Map(keys=exp.Array(expressions=items[::2]), values=exp.Array(expressions=items[1::2])))

    def _marked(self, node: Any) -> Any:
        """A node that DuckDB would not read as it was written: meta `flink`."""
        node.meta["flink"] = True
        return self.expression(node)

    def _at_call(self) -> bool:
        """Whether a call of one of lakeflow's functions comes next."""
        token, behind = self._curr, self._next
        if not token or not behind or behind.token_type != TokenType.L_PAREN or token.token_type == TokenType.IDENTIFIER:
            return False
        name = token.text.upper()
        return name in CALLED or name in pure_functions()

    def _at_wrapped(self) -> bool:
        """Whether TABLE(f(.. comes next."""
        ahead = self._tokens[self._index : self._index + 4]
        kinds = [token.token_type for token in ahead]
        return (
            len(ahead) == 4
            and ahead[0].text.upper() == "TABLE"
            and kinds[0] != TokenType.IDENTIFIER
            and kinds[1] == kinds[3] == TokenType.L_PAREN
            and kinds[2] != TokenType.IDENTIFIER
        )

    def _parse_wrapped_call(self) -> exp.Expr | None:
        """f(..) or TABLE(f(..))."""
        wrapped = self._at_wrapped()
        if wrapped:
            self._advance(2)
        call = self._parse_ai_call() if self._at_call() else self._parse_function()
        if call is None:
            self.raise_error("expected a function")
        if wrapped:
            self._match_r_paren()
        return call

    def _parse_ai_call(self) -> AiCall:
        started = self._curr
        self._advance(2)
        arguments = [] if self._curr and self._curr.token_type == TokenType.R_PAREN else self._parse_csv(self._parse_argument)
        self._match_r_paren()
        call = AiCall(this=started.text.upper(), expressions=arguments)
        return self._placed(call, started)

    def _placed(self, node: Node, started: Token) -> Node:
        node.meta.update(start=started.start, end=self._prev.end)
        return node

    def _parse_argument(self) -> Argument:
        started, name = self._curr, None
        if self._next and self._next.token_type == TokenType.FARROW:
            name = started.text.upper()
            self._advance(2)
        value = self._parse_argument_value()
        if value is None:
            self.raise_error("expected an argument")
        return self._placed(Argument(this=value, name=name), started)

    def _parse_argument_value(self) -> exp.Expr | None:
        word = self._curr.text.upper() if self._curr.token_type != TokenType.IDENTIFIER else ""
        behind = self._next.token_type if self._next else None
        ends = behind in (TokenType.COMMA, TokenType.R_PAREN, TokenType.DOT, None)
        if word == "TABLE" and not ends:
            return self._parse_table_argument()
        if word == "MODEL" and not ends and behind in (TokenType.VAR, TokenType.IDENTIFIER, *self.ID_VAR_TOKENS):
            self._advance()
            return ModelArgument(this=self._parse_dotted())
        if word == "DESCRIPTOR" and behind == TokenType.L_PAREN:
            self._advance()
            return Descriptor(expressions=self._parse_wrapped_csv(lambda: self._parse_id_var(any_token=True)))
        if word in ("VALUES", "SELECT", "WITH"):
            return TableArgument(this=self._as_subquery(self._parse_rows()))
        value: exp.Expr | None = self._parse_lambda()
        return value

    def _parse_table_argument(self) -> TableArgument:
        self._advance()
        if self._match(TokenType.L_PAREN):
            rows = self._as_subquery(self._parse_rows() or self._parse_table())
            self._match_r_paren()
        else:
            rows = self._parse_table_parts()
            if rows is not None:
                rows.set("version", self._parse_version())
        partition = None
        if self._match(TokenType.PARTITION_BY):
            within = self._match(TokenType.L_PAREN, advance=False)
            partition = self._parse_wrapped_csv(self._parse_column) if within else [self._parse_column()]
        return TableArgument(this=rows, partition=partition)

    def _parse_rows(self) -> Any:
        """A SELECT, or VALUES, whose rows end where something else than a parenthesis comes: MODEL, for instance."""
        if not self._match(TokenType.VALUES):
            return self._parse_select()
        rows = []
        while self._match(TokenType.L_PAREN, advance=False):
            rows.append(exp.Tuple(expressions=self._parse_wrapped_csv(self._parse_disjunction)))
            if not self._next or self._next.token_type != TokenType.L_PAREN or not self._match(TokenType.COMMA):
                break
        return exp.Values(expressions=rows)

    def _as_subquery(self, rows: Any) -> Any:
        if rows is None:
            self.raise_error("expected SELECT, VALUES or a table")
        if isinstance(rows, exp.Values | exp.Table | exp.Subquery):
            return rows
        return exp.Subquery(this=rows)

    def _parse_dotted(self) -> str:
        parts = [self._parse_id_var(any_token=True)]
        while self._match(TokenType.DOT):
            parts.append(self._parse_id_var(any_token=True))
        return ".".join(part.name for part in parts if part is not None)


class Flink(DuckDB):
    """DuckDB's dialect, reading Flink's forms too and writing DuckDB's."""

    class Tokenizer(DuckDB.Tokenizer):
        IDENTIFIERS = ['"', "`"]  # noqa: RUF012

    Parser = FlinkParser


def read_query(text: str) -> exp.Expr:
    """The tree of a text of one statement. Raises UsageError, pointing at what is wrong."""
    logger = logging.getLogger("sqlglot")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of statements that it does not know, which are refused elsewhere
    try:
        refuse_misspelt(text, Flink().tokenize(text))
        trees = [tree for tree in parse(text, read=Flink) if tree is not None and not isinstance(tree, exp.Semicolon)]
    except ParseError as error:
        start, stop = place_of(text, error)
        raise UsageError(pointed(f"syntax error{_said(error)}", text, start, stop)) from error
    except SqlglotError as error:
        raise UsageError(f"the query cannot be read: {error}") from error
    except RecursionError:
        raise UsageError("the query is nested too deeply") from None
    finally:
        logger.setLevel(level)
    if len(trees) != 1:
        raise UsageError(f"a query is one statement; found {len(trees)}")
    return trees[0]


def _said(error: ParseError) -> str:
    """What the parser missed, where it says so in words of the language and not of its own."""
    said = str((error.errors or [{}])[0].get("description") or "").partition(" but got <Token")[0]
    if not (said.lower().startswith("expect") or "MAP[" in said):
        return ""
    return f": {said}" if said[1:2].isupper() else f": {said[:1].lower()}{said[1:]}"
