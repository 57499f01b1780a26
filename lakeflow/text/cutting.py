"""Texts cut into chunks at the places that mean most, by exact places in the text. Pure; a text takes time in proportion to it.

A chunk begins where the one before ended, or within the overlap before that, and ends at the coarsest kind of place that lies
between a quarter of its size and the whole of it: the last such place. Where there is none, it ends between two words, and in a
word that is longer than the size between two characters. White space at either end is no part of a chunk.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

LEAST_SHARE: Final = 4
"""A coarse place ends a chunk that has at least this part of its size; before that, finer places do."""

MARKS: Final = 16
"""So many combining marks are kept with their letter."""

_WORD: Final = re.compile(r"(?<=\s)\S")
_JOINER: Final = "\N{ZERO WIDTH JOINER}"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of a text, `text[start:end]`, and the headings that it stands under, the outermost first."""

    start: int
    end: int
    headings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a text that no chunk reaches out of, and the headings that it stands under."""

    start: int
    end: int
    headings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Structure:
    """Where a text may be cut: its stretches, and the places within them by kinds, the coarsest first, each ascending.

    `within_words` tells that any place will do, so that each chunk is as long as it may be, with its white space.
    """

    stretches: Sequence[Stretch]
    levels: Sequence[Sequence[int]] = ()
    within_words: bool = False


class Measure(Protocol):
    """How long a stretch of one text may be."""

    def reach(self, start: int) -> int:
        """The last place at which a chunk from `start` may end; above `start`, and no less for a later one."""
        ...

    def back(self, end: int) -> int:
        """The first place at which a chunk may begin that repeats what stands before `end`."""
        ...


@dataclass(frozen=True, slots=True)
class Characters:
    """Lengths in characters (code points)."""

    size: int
    overlap: int

    def reach(self, start: int) -> int:
        return start + self.size

    def back(self, end: int) -> int:
        return end - self.overlap


@dataclass(frozen=True, slots=True)
class Tokens:
    """Lengths in tokens of a text, of which `starts` has the places where they begin, ascending."""

    starts: Sequence[int]
    size: int
    overlap: int
    length: int

    def reach(self, start: int) -> int:
        after = bisect_left(self.starts, start) + self.size
        return max(self.starts[after], start + 1) if after < len(self.starts) else self.length

    def back(self, end: int) -> int:
        first = bisect_left(self.starts, end) - self.overlap
        return self.starts[max(first, 0)] if self.overlap and self.starts else end


def cut(text: str, structure: Structure, measure: Measure) -> Iterator[Chunk]:
    """The chunks of a text, in its order. Each begins after the one before began, and ends after it ended."""
    for stretch in structure.stretches:
        if structure.within_words:
            yield from _plainly(text, stretch, measure)
        else:
            yield from _cut_stretch(text, stretch, structure.levels, measure)


def _plainly(text: str, stretch: Stretch, measure: Measure) -> Iterator[Chunk]:
    start, end = stretch.start, stretch.start
    while end < stretch.end:
        end = min(max(measure.reach(start), end + 1), stretch.end)
        if not text[start:end].isspace():
            yield Chunk(start, end, stretch.headings)
        start = max(start + 1, measure.back(end))


def _cut_stretch(text: str, stretch: Stretch, levels: Sequence[Sequence[int]], measure: Measure) -> Iterator[Chunk]:
    stop = _trimmed_end(text, stretch.start, stretch.end)
    start = done = _skipped(text, stretch.start, stop)
    while done < stop:
        limit = measure.reach(start)
        if limit <= done:  # nothing but white space fits behind what is repeated
            start, limit = done, measure.reach(done)
        limit = _skipped(text, limit, stop)  # white space behind it is no part of the chunk
        at = stop if limit >= stop else _place(text, start, done, limit, levels)
        end = _trimmed_end(text, start, at)
        yield Chunk(start, end, stretch.headings)
        done = _skipped(text, at, stop)
        start = _repeated(text, max(start + 1, measure.back(end)), end, levels, done)


def _place(text: str, start: int, done: int, limit: int, levels: Sequence[Sequence[int]]) -> int:
    """Where a chunk from `start` ends, behind `done` and no later than `limit`."""
    least = max(start + (limit - start) // LEAST_SHARE, done)
    for places in levels:
        found = bisect_right(places, limit) - 1
        if found >= 0 and places[found] > least:
            return places[found]
    words = list(_WORD.finditer(text, done + 1, limit + 1))
    if words:
        return words[-1].start()
    return _between_letters(text, done, limit)


def _between_letters(text: str, done: int, limit: int) -> int:
    """The last place up to `limit` that parts no letter from its marks, if one is near."""
    at = limit
    while at > max(done + 1, limit - MARKS) and _belongs(text, at):
        at -= 1
    return limit if _belongs(text, at) else at


def _belongs(text: str, at: int) -> bool:
    """Whether the character is a part of what stands before it."""
    here, before = text[at], text[at - 1]
    return bool(unicodedata.combining(here)) or _JOINER in (here, before) or (before == "\r" and here == "\n")


def _repeated(text: str, back: int, end: int, levels: Sequence[Sequence[int]], done: int) -> int:
    """Where the next chunk begins: at the first place of the coarsest kind from `back` on, if one is before `end`."""
    if back >= end:
        return done
    for places in levels:
        found = bisect_left(places, back)
        if found < len(places) and places[found] < end:
            return places[found]
    word = _WORD.search(text, back, end)
    if word is not None:
        return word.start()
    return back


def _skipped(text: str, start: int, stop: int) -> int:
    """The first place from `start` on without white space."""
    while start < stop and text[start].isspace():
        start += 1
    return start


def _trimmed_end(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1].isspace():
        end -= 1
    return end
