"""Sections of a text with headings. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lakeflow.text.cutting import Stretch


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: where it begins and ends, its rank from 1 on, its words."""

    start: int
    end: int
    rank: int
    words: str


def sections(begin: int, end: int, headings: Sequence[Heading], is_empty: Callable[[int, int], bool]) -> Iterator[Stretch]:
    """The stretches from heading to heading, in their order, each with the headings that its text stands under.

    Headings with nothing in between, as `is_empty` says of a start and an end, are of one stretch.
    """
    path: list[Heading] = []
    start = begin
    for heading in headings:
        has_text = not is_empty(path[-1].end if path else begin, heading.start)
        if has_text:
            yield Stretch(start, heading.start, _named(path))
            start = heading.start
        path = [*(one for one in path if one.rank < heading.rank), heading]
    yield Stretch(start, end, _named(path))


def _named(path: Sequence[Heading]) -> tuple[str, ...]:
    return tuple(one.words for one in path if one.words)
