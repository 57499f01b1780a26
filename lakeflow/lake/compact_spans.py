"""Which files of a table were written together anew, as spans of sequence numbers, and whom that hinders. Pure.

Files of the sequence numbers `low` to `high` became files of the number `high`. A reader that had read all of them finds the
new ones behind its position, and one that had read none finds them before it. One whose position lies within would get rows
twice or miss some: it is to be refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from lakeflow.errors import Terminal
from lakeflow.progress import SnapshotPosition

MOST_SPANS = 64


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """The sequence numbers of files that were written together anew, both ends included."""

    low: int
    high: int

    def splits(self, position: SnapshotPosition) -> bool:
        """Whether a reader at `position` may have read some of the files and not the others."""
        within = self.low <= position.sequence <= self.high
        return within and not (position.sequence == self.high and position.path is None)


def dumps(spans: Iterable[Span]) -> str:
    """`[[1,4],[7,9]]`."""
    return json.dumps([[span.low, span.high] for span in spans], separators=(",", ":"))


def loads(text: str | None) -> tuple[Span, ...]:
    """The inverse of `dumps`; None is of no span. Raises Terminal where the string is not of this form."""
    try:
        return tuple(Span(int(low), int(high)) for low, high in json.loads(text or "[]"))
    except (ValueError, TypeError) as error:
        raise Terminal(f"spans of compacted files are not readable: {(text or '')[:200]!r}; expected [[1,4]]") from error


def joined(spans: Iterable[Span], most: int = MOST_SPANS) -> tuple[Span, ...]:
    """The spans in order, overlapping ones as one; beyond `most` of them the oldest are one, which hinders more readers.

    Spans that only touch stay apart: a position between them splits neither.
    """
    found: list[Span] = []
    for span in sorted(set(spans)):
        if found and span.low < found[-1].high:
            found[-1] = Span(found[-1].low, max(found[-1].high, span.high))
        else:
            found.append(span)
    extra = len(found) - most
    if extra > 0:
        found[: extra + 1] = [Span(found[0].low, found[extra].high)]
    return tuple(found)
