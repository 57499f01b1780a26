"""Where HTML may be cut, and what of it is read. Pure.

Tags are told from text as the HTML standard's tokenizer does (whatwg.org, 13.2.5); no tree is built, so that broken markup is
read as well, and what is never closed reaches to the end. A stretch is a heading and what stands under it; comments, scripts,
styles and titles are in none. Within it sections and lists come first, then paragraphs and rows, then sentences and words,
never a place within a tag but where a tag is longer than a chunk.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from html import unescape
from typing import Final

from lakeflow.text.cutting import Stretch, Structure
from lakeflow.text.plain import sentences
from lakeflow.text.sections import Heading, sections

_TAG: Final = re.compile(r"<(?P<close>/?)(?P<name>[a-zA-Z][^\s/>]*+)(?:[^>\"'=]++|=\s*+(?:\"[^\"]*+\"|'[^']*+')?+|[\"'])*+>")
_OPENS: Final = re.compile(r"<(?=[a-zA-Z!?]|/[a-zA-Z])")
_WORD: Final = re.compile(r"(?<!\S)\S")
RAW: Final = frozenset({"script", "style", "textarea", "title"})
HEADINGS: Final = {f"h{rank}": rank for rank in range(1, 7)}
SECTIONS: Final = frozenset(
    (
        *("address", "article", "aside", "blockquote", "body", "details", "dl", "fieldset", "figure", "footer", "form"),
        *("header", "hr", "main", "nav", "ol", "pre", "section", "table", "tbody", "tfoot", "thead", "ul"),
    )
)
PARAGRAPHS: Final = frozenset(("br", "caption", "dd", "div", "dt", "figcaption", "li", "option", "p", "summary", "tr"))
CELLS: Final = frozenset({"td", "th"})


class _Kind(Enum):
    TEXT = auto()
    TAG = auto()
    UNREAD = auto()
    """A comment, or the content of a script."""


@dataclass(frozen=True, slots=True)
class _Node:
    start: int
    end: int
    kind: _Kind
    name: str = ""
    closes: bool = False


class Page:
    """An HTML text, taken apart once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._nodes = list(_nodes(text))
        self._starts = [node.start for node in self._nodes]

    def structure(self) -> Structure:
        """Where it may be cut."""
        parts = sections(0, len(self._text), list(self._headings()), lambda start, end: not self.read(start, end))
        blocks = self._blocks(SECTIONS), self._blocks(PARAGRAPHS | HEADINGS.keys()), self._blocks(CELLS)
        stopped, words = self._within_texts()
        return Structure(list(self._without_unread(list(parts))), [level for level in (*blocks, stopped, words) if level])

    def read(self, start: int, end: int) -> str:
        """What a reader sees of a stretch: without tags, references resolved, blanks as one, a line for each block."""
        parts: list[str] = []
        for node in self._among(start, end):
            if node.kind is _Kind.TEXT:
                parts.append(" ".join(self._text[max(start, node.start) : min(end, node.end)].split("\n")))
            elif node.name in SECTIONS or node.name in PARAGRAPHS or node.name in HEADINGS:
                parts.append("\n")
            elif node.name in CELLS:
                parts.append(" ")
        lines = (" ".join(unescape(line).split()) for line in "".join(parts).split("\n"))
        return "\n".join(line for line in lines if line)

    def _among(self, start: int, end: int) -> Iterator[_Node]:
        place = max(0, bisect_right(self._starts, start) - 1)
        while place < len(self._nodes) and self._nodes[place].start < end:
            if self._nodes[place].end > start:
                yield self._nodes[place]
            place += 1

    def _headings(self) -> Iterator[Heading]:
        opened: _Node | None = None
        for node in self._nodes:
            if node.name not in HEADINGS:
                continue
            if not node.closes:
                opened = node
            elif opened is not None:
                words = " ".join(self.read(opened.end, node.start).split())
                yield Heading(opened.start, node.end, HEADINGS[opened.name], words)
                opened = None

    def _blocks(self, names: frozenset[str] | set[str]) -> list[int]:
        """Before a block that opens, and behind one that closes."""
        return [
            node.end if node.closes or node.name in ("br", "hr") else node.start for node in self._nodes if node.name in names
        ]

    def _within_texts(self) -> tuple[list[int], list[int]]:
        """Where sentences and words begin within text."""
        stopped: list[int] = []
        words: list[int] = []
        for node in self._nodes:
            if node.kind is _Kind.TEXT:
                stopped += sentences(self._text, node.start, node.end)
                words += [found.start() for found in _WORD.finditer(self._text, node.start, node.end)]
        return stopped, words

    def _without_unread(self, parts: Sequence[Stretch]) -> Iterator[Stretch]:
        unread = [node for node in self._nodes if node.kind is _Kind.UNREAD]
        place = 0
        for part in parts:
            start = part.start
            while place < len(unread) and unread[place].start < part.end:
                yield Stretch(start, unread[place].start, part.headings)
                start = unread[place].end
                place += 1
            yield Stretch(start, part.end, part.headings)


def _nodes(text: str) -> Iterator[_Node]:
    """The text from its start to its end, in pieces that leave nothing out."""
    at = done = 0
    while (opening := _OPENS.search(text, at)) is not None:
        start = opening.start()
        node = _markup(text, start)
        if node is None:
            break  # a tag that is never closed: what is left is text
        if start > done:
            yield _Node(done, start, _Kind.TEXT)
        yield node
        at = done = node.end
        if node.name in RAW and not node.closes:
            closing = re.compile(rf"</{node.name}(?=[\s/>])", re.IGNORECASE).search(text, at)
            done = at = len(text) if closing is None else closing.start()
            yield _Node(node.end, done, _Kind.UNREAD)
    if done < len(text):
        yield _Node(done, len(text), _Kind.TEXT)


def _markup(text: str, start: int) -> _Node | None:
    if text[start + 1] in "!?":
        behind = text.find("-->", start + 2) + 3 if text.startswith("<!--", start) else text.find(">", start) + 1
        return _Node(start, behind if behind > start else len(text), _Kind.UNREAD)
    tag = _TAG.match(text, start)
    return None if tag is None else _Node(start, tag.end(), _Kind.TAG, tag["name"].lower(), bool(tag["close"]))
