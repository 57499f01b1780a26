"""SQL text -> tokens that know where they stand, and messages that point there.

sqlglot's tokenizer does the reading (strings, quoted names, comments). It is emptied of keywords: every word stays a
word, so that `PRIMARY KEY` reads the same with a comment or a line break inside, and no word is reserved.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache, lru_cache
from pathlib import Path
from typing import NoReturn

from lakeflow.declare import Origin
from lakeflow.errors import DeclarationError

SHOWN_WIDTH = 120
"""How many characters of a source line a message shows."""


class Kind(Enum):
    """What a token is."""

    WORD = auto()
    QUOTED = auto()
    STRING = auto()
    NUMBER = auto()
    SYMBOL = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A token and the characters [start, stop) of the text that it was read from. A QUOTED or STRING `text` is unquoted."""

    kind: Kind
    text: str
    start: int
    stop: int

    @property
    def upper(self) -> str:
        """The word in capitals, as keywords are compared; empty for whatever is no bare word."""
        return self.text.upper() if self.kind is Kind.WORD else ""

    def is_symbol(self, symbol: str) -> bool:
        """Whether it is this symbol, and no text or name of that look."""
        return self.kind is Kind.SYMBOL and self.text == symbol

    def __str__(self) -> str:
        """As a message names it."""
        return "the end of the text" if self.kind is Kind.END else repr(self.text)


@dataclass(frozen=True, slots=True)
class Source:
    """The text that tokens stand in, and the file that it came from."""

    text: str
    path: Path | None = None

    def origin(self, token: Token) -> Origin:
        """Where `token` stands, as declarations keep it."""
        return Origin(self.path, place_in(self.text, token.start)[0] + 1)

    def point(self, message: str, start: int, stop: int) -> str:
        """`message` behind file:line:column (both from 1), and below it the source line with [start, stop) underlined."""
        return pointed(message, self.text, start, stop, self.path)

    def error(self, token: Token, message: str, *, next_step: str | None = None) -> DeclarationError:
        """The error that points at `token`."""
        return DeclarationError(self.point(message, token.start, token.stop), next_step=next_step)


def place_in(text: str, offset: int) -> tuple[int, int]:
    """The line and the column of a character of `text`, both from 0."""
    starts = _line_starts(text)
    line = bisect_right(starts, offset) - 1
    return line, offset - starts[line]


@lru_cache(maxsize=2)
def _line_starts(text: str) -> list[int]:
    """Where each line begins; kept, since all statements of a text ask for it."""
    return [0, *(found.end() for found in re.finditer("\n", text))]


def pointed(message: str, text: str, start: int, stop: int, path: Path | None = None) -> str:
    """`message` behind file:line:column, the line of `text` that holds `start`, and [start, stop) underlined below it."""
    start = min(start, len(text))
    begin = text.rfind("\n", 0, start) + 1
    end = text.find("\n", start)
    line = text[begin : len(text) if end < 0 else end]
    number, column = text.count("\n", 0, start) + 1, start - begin
    place = f"{path}:{number}:{column + 1}" if path else f"line {number}:{column + 1}"
    left = max(0, column - SHOWN_WIDTH * 2 // 3)
    shown = re.sub(r"[^ -~\u00a0-\ud7ff\ue000-\U0010ffff]", " ", line[left : left + SHOWN_WIDTH]).rstrip()
    carets = "^" * max(1, min(stop - start, len(line) - column, left + SHOWN_WIDTH - column))
    gutter = f"  {number} | "
    return f"{place}: {message}\n{gutter}{shown}\n{' ' * (len(gutter) - 2)}| {' ' * (column - left)}{carets}"


@cache
def _reader() -> Callable[[str], list[Token]]:
    """The tokenizer, made on first use: importing sqlglot takes longer than all of this room besides."""
    from sqlglot.tokenizer_core import TokenType
    from sqlglot.tokens import Tokenizer

    class KeywordlessTokenizer(Tokenizer):
        IDENTIFIERS = ['"', "`"]  # noqa: RUF012 - the base class fixes the type
        KEYWORDS = {}  # noqa: RUF012

    named = {
        TokenType.IDENTIFIER: Kind.QUOTED,
        TokenType.STRING: Kind.STRING,
        TokenType.NUMBER: Kind.NUMBER,
    }

    def read(text: str) -> list[Token]:
        return [
            Token(named.get(found.token_type) or _kind_of_bare(found.text), found.text, found.start, found.end + 1)
            for found in KeywordlessTokenizer().tokenize(text)
        ]

    return read


def _kind_of_bare(text: str) -> Kind:
    return Kind.WORD if re.fullmatch(r"[^\W\d][\w$]*", text) else Kind.SYMBOL


def tokenize(source: Source) -> list[Token]:
    """The tokens of the text, without comments, ended by one END.

    Raises DeclarationError where a quote or comment is open, and for half a surrogate pair: bytes that are no UTF-8.
    """
    from sqlglot.errors import TokenError

    if (half := re.search("[\ud800-\udfff]", source.text)) is not None:
        raise DeclarationError(source.point("this is no UTF-8 text", half.start(), half.end()))
    try:
        tokens = _reader()(source.text)
    except TokenError as error:
        place = re.search(r"Missing (\S+) from \d+:(\d+)", str(error.__cause__))
        start = int(place[2]) if place else max(0, source.text.rfind("/*"))
        what = f"{place[1]} is opened and not closed" if place else "a comment is opened and not closed"
        raise DeclarationError(source.point(what, start, start + 1)) from error
    return [*tokens, Token(Kind.END, "", len(source.text.rstrip()), len(source.text.rstrip()))]


class Cursor:
    """A walk over the tokens of one text; what every grammar of this room is written with."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._tokens = tokenize(source)
        self._at = 0

    @property
    def token(self) -> Token:
        """The token that comes next."""
        return self._tokens[self._at]

    def peek(self, ahead: int) -> Token:
        """The token `ahead` places behind the next one; END where there are fewer."""
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    @property
    def ended(self) -> bool:
        """Whether no token is left."""
        return self.token.kind is Kind.END

    def advance(self) -> Token:
        """Take the next token, whatever it is; END is never passed."""
        token = self.token
        self._at = min(self._at + 1, len(self._tokens) - 1)
        return token

    def at_words(self, *words: str) -> bool:
        """Whether the next tokens are these bare words, in any case."""
        ahead = self._tokens[self._at : self._at + len(words)]
        return tuple(token.upper for token in ahead) == words

    def at_symbol(self, symbol: str) -> bool:
        """Whether the next token is this symbol."""
        return self.token.is_symbol(symbol)

    def take_words(self, *words: str) -> bool:
        """Take these words if they come next."""
        found = self.at_words(*words)
        if found:
            self._at += len(words)
        return found

    def take_symbol(self, symbol: str) -> bool:
        """Take the symbol if it comes next."""
        found = self.at_symbol(symbol)
        if found:
            self._at += 1
        return found

    def expect_words(self, *words: str, after: str) -> None:
        """Take these words. Raises DeclarationError where something else comes next."""
        if not self.take_words(*words):
            self.fail(f"expected {' '.join(words)} {after}, found {self.token}")

    def expect_symbol(self, symbol: str, after: str) -> Token:
        """Take the symbol. Raises DeclarationError where something else comes next."""
        if not self.at_symbol(symbol):
            self.fail(f"expected {symbol!r} {after}, found {self.token}")
        return self.advance()

    def expect_string(self, what: str) -> Token:
        """Take a 'quoted text'. Raises DeclarationError where something else comes next."""
        if self.token.kind is not Kind.STRING:
            self.fail(f"expected {what} in single quotes, found {self.token}")
        return self.advance()

    def expect_number(self, what: str) -> tuple[int, Token]:
        """Take a whole number. Raises DeclarationError where something else comes next."""
        text = self.token.text
        if self.token.kind is not Kind.NUMBER or not re.fullmatch(r"[0-9]{1,9}", text):
            self.fail(f"expected {what}, a whole number, found {self.token}")
        return int(text), self.advance()

    def expect_name(self, what: str) -> Token:
        """Take a name, bare or quoted. Raises DeclarationError where something else comes next."""
        if self.token.kind not in (Kind.WORD, Kind.QUOTED) or not self.token.text:
            self.fail(f"expected {what}, found {self.token}")
        return self.advance()

    def fail(self, message: str, token: Token | None = None, *, next_step: str | None = None) -> NoReturn:
        """Raise the error that points at `token`, or at the next one."""
        raise self.source.error(token or self.token, message, next_step=next_step)
