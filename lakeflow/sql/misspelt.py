"""Names of functions that are nearly one of lakeflow's: `ML_PREDCIT(TABLE t, ..)`, which no grammar reads any further."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from lakeflow.errors import UsageError
from lakeflow.sql.pure.registry import pure_functions
from lakeflow.sql.tokens import pointed
from lakeflow.sql.vocabulary import OWN_FUNCTIONS, function_names

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

NEAR: Final = 0.8
"""How alike two names are (difflib's ratio) where the one is taken for a slip of the other."""


def refuse_misspelt(text: str, tokens: Sequence[Token]) -> None:
    """Raises UsageError, pointing at the first call of a function that is none and nearly one of lakeflow's."""
    from sqlglot.tokenizer_core import TokenType

    known = {*OWN_FUNCTIONS, *pure_functions()}
    naming = {
        *(TokenType.ALIAS, TokenType.WITH, TokenType.RECURSIVE, TokenType.R_PAREN, TokenType.DOT, TokenType.VAR),
        TokenType.IDENTIFIER,
    }
    for place, token in enumerate(tokens[:-1]):
        before = tokens[place - 1].token_type if place else None
        name = token.text.upper()
        if token.token_type is not TokenType.VAR or tokens[place + 1].token_type is not TokenType.L_PAREN:
            continue
        if name in known or before in naming or _names_columns(tokens[place + 1 :]):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=NEAR)
        if near and name.lower() not in function_names():
            message = f"there is no function {token.text}; did you mean {near[0]}?"
            raise UsageError(pointed(message, text, token.start, token.end + 1))


def _names_columns(tokens: Sequence[Token]) -> bool:
    """Whether AS stands behind the parenthesis that the tokens begin with: `WITH a AS (..), b(x) AS (..)`."""
    from sqlglot.tokenizer_core import TokenType

    depth = 0
    for place, token in enumerate(tokens):
        depth += {TokenType.L_PAREN: 1, TokenType.R_PAREN: -1}.get(token.token_type, 0)
        if not depth:
            behind = [one.token_type for one in tokens[place + 1 : place + 3]]
            return behind == [TokenType.ALIAS, TokenType.L_PAREN]
    return False
