"""Where Markdown may be cut, as CommonMark and GitHub's tables say what its blocks are. Pure.

A stretch is a section: a heading and what stands under it, up to the next. Headings that follow each other with nothing in
between are one stretch. Within it blocks come first, then the blocks within them (items of lists), then lines and sentences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

from lakeflow.text.cutting import Stretch, Structure
from lakeflow.text.plain import lines, merged, sentences
from lakeflow.text.sections import Heading, sections

_LINE: Final = re.compile(r"\r\n|\r|\n")
_FRONT_MATTER: Final = re.compile(r"---[ \t]*(?:\r\n|\r|\n)(?:(?!---).*(?:\r\n|\r|\n))*+---[ \t]*(?:\r\n|\r|\n|\Z)")
DEEPEST: Final = 2
"""Blocks within blocks are told apart down to here: items of lists, and paragraphs of items."""


@cache
def _parser() -> MarkdownIt:
    """Blocks alone: what stands within a line changes no place."""
    parser = MarkdownIt("commonmark").enable("table")
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


def markdown(text: str) -> Structure:
    """The structure of a Markdown text; front matter between lines of three dashes is a stretch of its own."""
    front = _FRONT_MATTER.match(text)
    begin = front.end() if front else 0
    starts = [begin, *(end.end() for end in _LINE.finditer(text, begin)), len(text)]
    tokens = _parser().parse(text[begin:])
    blocks: list[list[int]] = [[] for _ in range(DEEPEST + 1)]
    fenced: list[tuple[int, int]] = []
    for token in tokens:
        if token.map is None or token.nesting < 0:
            continue
        first, last = (starts[min(line, len(starts) - 1)] for line in token.map)
        if token.type in ("fence", "code_block", "html_block"):
            fenced.append((first, last))
        if token.type != "inline" and token.level <= DEEPEST:
            blocks[token.level].append(first)
    stretches = [Stretch(0, begin)] if begin else []
    headings = list(_headings(tokens, starts))
    stretches += sections(begin, len(text), headings, lambda start, end: not text[start:end].strip())
    paragraphs, others = lines(text, begin)
    found = [merged(level) for level in blocks] + [merged(paragraphs, others), _outside(sentences(text, begin), fenced)]
    return Structure(stretches, [level for level in found if level])


def _headings(tokens: Sequence[Token], starts: Sequence[int]) -> Iterator[Heading]:
    for place, token in enumerate(tokens):
        if token.type == "heading_open" and token.level == 0 and token.map is not None:
            first, last = (starts[min(line, len(starts) - 1)] for line in token.map)
            yield Heading(first, last, int(token.tag[1:]), " ".join(tokens[place + 1].content.split()))


def _outside(places: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[int]:
    """The places that are within none of the spans; both ascend."""
    found: list[int] = []
    waiting = iter(spans)
    span = next(waiting, None)
    for place in places:
        while span is not None and span[1] <= place:
            span = next(waiting, None)
        if span is None or place <= span[0]:
            found.append(place)
    return found
