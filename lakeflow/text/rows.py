"""Chunks as rows: each with its place, its text, its id and its headings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypedDict

from lakeflow.text.splitter import Splitter, TokenStarts

ID_BYTES: Final = 16


class ChunkRow(TypedDict):
    """A chunk. `chunk_id` is None without a key, `chunk_text` where what is read is the chunk itself."""

    chunk_id: str | None
    chunk_no: int
    chunk_start: int
    chunk_end: int
    chunk: str
    chunk_text: str | None
    chunk_headings: list[str]


ID, NUMBER, START, END, CHUNK, READ, HEADINGS = ChunkRow.__annotations__
"""The names of the columns."""


def fields_of(splitter: Splitter, *, keyed: bool) -> tuple[str, ...]:
    """The columns that the chunks of a splitter have, in their order."""
    read, headings = (READ,) * splitter.reads_otherwise, (HEADINGS,) * splitter.has_headings
    return (*((ID,) * keyed), NUMBER, START, END, CHUNK, *read, *headings)


def rows_of(
    splitter: Splitter, text: str | None, key: Sequence[object] = (), token_starts: TokenStarts | None = None
) -> Iterator[ChunkRow]:
    """The chunks of a text, in its order; of a null none. `key` tells the text apart from others."""
    if text is None:
        return
    ids = chunk_ids(key)
    for number, part in enumerate(splitter.parts(text, token_starts)):
        start, end = part.chunk.start, part.chunk.end
        chunk = text[start:end]
        yield ChunkRow(
            chunk_id=ids(chunk) if key else None,
            chunk_no=number,
            chunk_start=start,
            chunk_end=end,
            chunk=chunk,
            chunk_text=part.read,
            chunk_headings=list(part.chunk.headings),
        )


def chunk_ids(key: Sequence[object]) -> Callable[[str], str]:
    """The ids of the chunks of one text, which are asked for in their order.

    The first 16 bytes of SHA-256 over the key, the SHA-256 of the chunk and how many of the same text came before it, as
    hexadecimal digits.
    """
    of_text = hashlib.sha256()
    for value in key:
        content = b"" if value is None else f"{type(value).__name__} {value}".encode("utf-8", "surrogatepass")
        of_text.update(len(content).to_bytes(8, "big") + content)
    seen: dict[bytes, int] = {}

    def next_id(chunk: str) -> str:
        content = hashlib.sha256(chunk.encode("utf-8", "surrogatepass")).digest()
        number = seen[content] = seen.get(content, -1) + 1
        digest = of_text.copy()
        digest.update(content + number.to_bytes(8, "big"))
        return digest.digest()[:ID_BYTES].hex()

    return next_id
