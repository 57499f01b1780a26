"""How texts are split, as a value that is checked, and the chunks that come of a text. Pure.

splitter = Splitter("markdown", size=800, overlap=80)
[text[one.start : one.end] for one in splitter.chunks(text)]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

from lakeflow.errors import UnknownName, UsageError
from lakeflow.text.cutting import Characters, Chunk, Measure, Structure, Tokens, cut
from lakeflow.text.formats import FORMATS
from lakeflow.text.plain import by_sentences, characters, code, recursive

MOST: Final = 1_000_000

TokenStarts = Callable[[str], Sequence[int]]
"""Where the tokens of a text begin, ascending, as places in it."""


class By(StrEnum):
    """What a text is cut by."""

    RECURSIVE = "recursive"
    """Paragraphs, lines, sentences, words."""
    CHARACTERS = "characters"
    """Nothing: each chunk is of exactly the size, but the last."""
    SENTENCES = "sentences"
    MARKDOWN = "markdown"
    HTML = "html"
    CODE = "code"


class Unit(StrEnum):
    """What sizes count."""

    CHARACTERS = "characters"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Part:
    """A chunk, and what is read of it, where that is other than `text[start:end]`: of HTML, the text without its tags."""

    chunk: Chunk
    read: str | None = None


@dataclass(frozen=True, slots=True)
class Splitter:
    """How texts are split: chunks of at most `size`, each of which repeats at most `overlap` of the one before.

    `language` is that of code, a name of FORMATS. Raises UsageError for a size, an overlap or a language that cannot be meant,
    UnknownName for another `by` or language.
    """

    by: str = By.RECURSIVE
    size: int = 1000
    overlap: int = 0
    language: str | None = None

    def __post_init__(self) -> None:
        if self.by not in list(By):
            raise UnknownName("splitter", self.by, list(By))
        if not 1 <= self.size <= MOST:
            raise UsageError(f"size of chunks is {self.size}; valid: 1 to {MOST:,}")
        if not 0 <= self.overlap < self.size:
            raise UsageError(f"overlap of chunks is {self.overlap}; valid: 0 to {self.size - 1}, below their size")
        if (self.language is not None) != (self.by == By.CODE):
            raise UsageError(
                f"language is {self.language!r} and texts are split by {self.by}; "
                f"valid: by 'code' with a language: {', '.join(name.lower() for name in FORMATS)}"
            )
        if self.language is not None and self.language.upper() not in FORMATS:
            raise UnknownName("language of code", self.language, [name.lower() for name in FORMATS])

    @property
    def has_headings(self) -> bool:
        """Whether chunks stand under headings."""
        return self.by in (By.MARKDOWN, By.HTML)

    @property
    def reads_otherwise(self) -> bool:
        """Whether what is read of a chunk is other than its text."""
        return self.by == By.HTML

    def parts(self, text: str, token_starts: TokenStarts | None = None) -> Iterator[Part]:
        """The chunks of a text, in its order; of a blank one none. Sizes count tokens where `token_starts` is given.

        No chunk is blank; each begins after the one before began, and ends after it ended.
        """
        if not text or text.isspace():
            return
        measure: Measure = Characters(self.size, self.overlap)
        if token_starts is not None:
            measure = Tokens(token_starts(text), self.size, self.overlap, len(text))
        if self.by == By.HTML:
            from lakeflow.text.html import Page

            page = Page(text)
            for chunk in cut(text, page.structure(), measure):
                if read := page.read(chunk.start, chunk.end):
                    yield Part(chunk, read)
            return
        for chunk in cut(text, self._structure(text), measure):
            yield Part(chunk)

    def _structure(self, text: str) -> Structure:
        by = By(self.by)
        match by:
            case By.RECURSIVE:
                return recursive(text)
            case By.CHARACTERS:
                return characters(text)
            case By.SENTENCES:
                return by_sentences(text)
            case By.CODE:
                assert self.language is not None, "checked above"
                return code(text, self.language.upper())
            case By.MARKDOWN:
                from lakeflow.text.markdown import markdown

                return markdown(text)
            case By.HTML:
                raise AssertionError("HTML is taken apart by Page")
            case _:
                assert_never(by)
