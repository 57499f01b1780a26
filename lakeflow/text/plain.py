"""Where plain text may be cut (between paragraphs, lines, sentences), and code (before what its language begins with). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lakeflow.text.cutting import Stretch, Structure
from lakeflow.text.formats import FORMATS
from lakeflow.text.splitting import Literal, places

_SPACE: Final = re.compile(r"\s++")
_LINE_ENDS: Final = re.compile(r"\r\n|[\n\r\x0b\x85\u2028\u2029]")
_SENTENCE_END: Final = re.compile(
    r"(?<![.!?…])[.!?…]++[\"'”’»)\]*_]*+(?=\s)"  # as in Latin, Greek, Cyrillic: white space stands behind
    r"|[。！？]++[”』」）]*+"
    r"|[।؟۔]++"
)
_ABBREVIATION: Final = re.compile(
    r"approx|bd|bzw|ca|cf|ch|co|corp|dept|dr|eds?|e\.?g|est|etc?|al|figs?|gen|hr|i\.?e|inc|jr|ltd?|mr|mrs|ms|nos|nr|pp?|prof|resp|"
    r"rev|sen|sp|sr|st|usw|vgl|viz|vol|vs|z\.b|[^\W\d_]"
)
"""Words behind which a stop ends no sentence; a letter by itself, but for `I`, is a name's first."""


def recursive(text: str) -> Structure:
    """Pages and paragraphs first, then lines, sentences, words."""
    return Structure([Stretch(0, len(text))], [*lines(text), sentences(text)])


def by_sentences(text: str) -> Structure:
    """Sentences, and paragraphs as they end one."""
    paragraphs = lines(text)[0]
    return Structure([Stretch(0, len(text))], [sorted({*paragraphs, *sentences(text)})])


def characters(text: str) -> Structure:
    """Anywhere."""
    return Structure([Stretch(0, len(text))], within_words=True)


def code(text: str, language: str) -> Structure:
    """Code before the words that begin a class, a function, a branch of its language, a key of FORMATS; then as plain text."""
    found = [
        sorted({end for _, end in places(text, one)})
        for one in FORMATS[language]
        if isinstance(one, Literal) and (one.before or one.after)
    ]
    return Structure([Stretch(0, len(text))], [*(one for one in found if one), *lines(text)])


def lines(text: str, start: int = 0, stop: int | None = None) -> tuple[list[int], list[int]]:
    """Where paragraphs begin, which an empty line or a page's end parts, and where other lines do."""
    paragraphs: list[int] = []
    others: list[int] = []
    for found in _SPACE.finditer(text, start, len(text) if stop is None else stop):
        space = found.group()
        if space == " ":
            continue
        ends = len(_LINE_ENDS.findall(space))
        if ends > 1 or "\f" in space:
            paragraphs.append(found.end())
        elif ends:
            others.append(found.end())
    return paragraphs, others


def sentences(text: str, start: int = 0, stop: int | None = None) -> list[int]:
    """Where sentences begin, as their marks show: no dictionary is asked, and a name behind an abbreviation may begin one."""
    stop = len(text) if stop is None else stop
    found: list[int] = []
    for end in _SENTENCE_END.finditer(text, start, stop):
        space = _SPACE.match(text, end.end(), stop)
        at = space.end() if space else end.end()
        if at < stop and not (end.group() == "." and _abbreviates(text, start, end.start(), text[at])):
            found.append(at)
    return found


def _abbreviates(text: str, start: int, at: int, following: str) -> bool:
    """Whether the stop at a place ends a word that is short for another, or a number of an order, and not a sentence."""
    word = text[max(start, at - 12) : at].split()
    last = word[-1].lstrip("([\"'“‘«").lower() if word and not text[at - 1].isspace() else ""
    if following.islower():
        return True
    return last != "i" and _ABBREVIATION.fullmatch(last) is not None


def merged(*levels: Sequence[int]) -> list[int]:
    """The places of several kinds as one, ascending."""
    return sorted({place for level in levels for place in level})
