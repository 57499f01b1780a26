"""Texts cut into chunks of about one size, at separators. Pure; lengths are in characters.

A text is cut at a separator into pieces, which are spans of it; as many neighbours as fit make a chunk, and the next chunk
begins with the last pieces of the one before that fit into the overlap. A piece that is too long is cut by the separators that
follow. So a chunk is always a stretch of the text as it stands, the separators within it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import UsageError

Span = tuple[int, int]
"""Where a stretch of a text begins and ends."""


class Position(StrEnum):
    """Where a separator that is kept goes: to the start of the chunk behind it, or to the end of the one before."""

    START = "START"
    END = "END"


@dataclass(frozen=True, slots=True)
class Literal:
    """A separator as text: `dropped` goes away, unless separators are kept; `before` and `after` stay on their sides."""

    dropped: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A separator as a regular expression of RE2's syntax, which takes time in proportion to the text."""

    expression: str


Separator = Literal | Pattern
CHARACTERS = Literal("")
"""Cuts between any two characters."""


@dataclass(frozen=True, slots=True)
class Cutting:
    """How texts are cut. Raises UsageError where the sizes cannot be meant."""

    size: int
    overlap: int
    separators: tuple[Separator, ...]
    trim: bool = True
    keep: Position | None = None

    def __post_init__(self) -> None:
        if self.size < 0:
            raise UsageError(f"chunkSize is {self.size}; valid: 0 or more")
        if not 0 <= self.overlap <= self.size:
            raise UsageError(f"chunkOverlap is {self.overlap}; valid: 0 to chunkSize, which is {self.size}")


def chunks(text: str, cutting: Cutting, *, recursive: bool) -> list[str]:
    """The chunks, in their order. Without `recursive`, pieces of the first separator that are too long stay as they are.

    Raises UsageError for a regular expression that is none.
    """
    spans = _recursively(text, (0, len(text)), cutting, cutting.separators, recursive=recursive)
    found = (text[start:stop] for start, stop in spans)
    return [chunk for chunk in ((one.strip() if cutting.trim else one) for one in found) if chunk]


def _recursively(
    text: str, span: Span, cutting: Cutting, separators: Sequence[Separator], *, recursive: bool
) -> Iterator[Span]:
    """Chunks of a stretch of the text, cut at the first of the separators that is in it."""
    pieces: list[Span] = []
    rest: Sequence[Separator] = ()
    for place, separator in enumerate(separators):
        rest = separators[place + 1 :]
        if separator == CHARACTERS:
            yield from _stretches(span, cutting)
            return
        pieces = _pieces(text, span, separator, cutting.keep)
        if len(pieces) > 1:
            break
    fitting: list[Span] = []
    for piece in pieces or [span]:
        if piece[1] - piece[0] <= cutting.size or not recursive:
            fitting.append(piece)
            continue
        yield from _joined(fitting, cutting)
        fitting = []
        if rest:
            yield from _recursively(text, piece, cutting, rest, recursive=True)
        else:
            yield piece
    yield from _joined(fitting, cutting)


def _joined(pieces: Sequence[Span], cutting: Cutting) -> Iterator[Span]:
    """Neighbouring pieces as chunks."""
    first = 0
    for place, (_, stop) in enumerate(pieces):
        if place > first and stop - pieces[first][0] > cutting.size:
            end = pieces[place - 1][1]
            yield pieces[first][0], end
            while first < place and (end - pieces[first][0] > cutting.overlap or stop - pieces[first][0] > cutting.size):
                first += 1
    if pieces:
        yield pieces[first][0], pieces[-1][1]


def _stretches(span: Span, cutting: Cutting) -> Iterator[Span]:
    """Chunks of exactly the size, each but the last."""
    start, end = span
    size = max(1, cutting.size)
    while start < end:
        stop = min(start + size, end)
        yield start, stop
        if stop == end:
            return
        start = max(start + 1, stop - cutting.overlap)


def _pieces(text: str, span: Span, separator: Separator, keep: Position | None) -> list[Span]:
    """What stands between the separators of a stretch, with those that are kept."""
    start, end = span
    found: list[Span] = []
    for dropped, behind in places(text[start:end], separator):
        match keep:
            case Position.START:
                behind = dropped
            case Position.END:
                dropped = behind
            case None:
                pass
        found.append((start, span[0] + dropped))
        start = span[0] + behind
    return [*found, (start, end)]


def places(text: str, separator: Separator) -> Iterator[Span]:
    """Where the dropped part of each separator in a text begins and ends. Raises UsageError for an expression that is none."""
    match separator:
        case Literal(dropped, before, after):
            whole = before + dropped + after
            at = text.find(whole)
            while at >= 0:
                begins = at + len(before)
                yield begins, begins + len(dropped)
                at = text.find(whole, max(at + 1, begins + len(dropped)))
        case Pattern(expression):
            yield from _matches(text, expression)


def _matches(text: str, expression: str) -> Iterator[Span]:
    """The matches of an expression. A mark that the text has not is put around each, since Arrow tells no places."""
    mark = next(chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in text)
    try:
        marked = pc.replace_substring_regex(pa.scalar(text), f"(?:{expression})", f"{mark}\\0{mark}").as_py()
    except pa.ArrowInvalid as error:
        raise UsageError(f"separator {expression!r} is no regular expression: {error}") from error
    at = 0
    for place, part in enumerate(marked.split(mark)):
        if place % 2:
            yield at, at + len(part)
        at += len(part)
