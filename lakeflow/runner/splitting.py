"""`split` over LazyFrames: texts as rows of chunks, each with its place in the text.

As `ml_predict` does, it becomes an elementwise expression: rows stream through in their order, and a filter above it on the
frame's own columns reaches the scan below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

import polars as pl

from lakeflow.errors import LakeflowError, UnknownName, UsageError
from lakeflow.models.embeddings import BLANK, SPLIT, Embeddings
from lakeflow.models.predict import carried, embeddings_of_run, opened_model
from lakeflow.models.tokens import require_tokens
from lakeflow.text.rows import CHUNK, END, HEADINGS, ID, NUMBER, READ, START, ChunkRow, fields_of, rows_of
from lakeflow.text.splitter import Splitter, TokenStarts, Unit

TEXTS_AT_ONCE: Final = 256
KINDS: Final[dict[str, pl.DataType]] = {
    ID: pl.String(),
    NUMBER: pl.Int32(),
    START: pl.Int64(),
    END: pl.Int64(),
    CHUNK: pl.String(),
    READ: pl.String(),
    HEADINGS: pl.List(pl.String()),
}


def split(
    frame: pl.LazyFrame,
    column: str,
    *,
    by: str = "recursive",
    size: int = 1000,
    overlap: int = 0,
    unit: str = "characters",
    model: str | None = None,
    language: str | None = None,
    key: str | Sequence[str] = (),
) -> pl.LazyFrame:
    """A row a chunk of the texts in `column`, in the frame's order of rows and then in that of the text.

    A row has the frame's columns but `column`, and: `chunk`, its text; `chunk_no`, INT from 0 on; `chunk_start` and
    `chunk_end`, BIGINT, where it stands in the text, in characters (code points): text[chunk_start:chunk_end] is `chunk`. By
    markdown and html also `chunk_headings`, an array of the headings that it stands under, the outermost first; by html also
    `chunk_text`, what a reader sees of it. With `key`, columns that tell the texts apart, also `chunk_id`: 32 hexadecimal
    digits of SHA-256 over the key, the chunk's text, and how many chunks of the same text stand before it, so that a chunk
    keeps its id where others change.

    `by` is recursive (paragraphs, lines, sentences, words), characters, sentences, markdown, html or code (with a `language`).
    `size` is the most that a chunk has, `overlap` the most that it repeats of the one before; `unit` says of what: characters,
    or tokens of the embedding model `model`. A text that is null or blank gives no rows.

    Raises, before any row is read: UnknownName for a column, a splitter, a unit, a language or a model that is not there,
    UsageError for a column that is no text, a size that cannot be meant, or a name that the frame has already; for tokens also
    what `opened_model` raises, and ModelError where the model does not show its tokens.
    """
    splitter = Splitter(by, size, overlap, language)
    schema = frame.collect_schema()
    keys = [key] if isinstance(key, str) else list(key)
    for name in (column, *keys):
        if name not in schema:
            raise UnknownName("column for split", name, schema.names())
    if schema[column] not in (pl.String, pl.Null):
        raise UsageError(f"split: the column {column!r} is {schema[column]}; valid: texts")
    made = {name: KINDS[name] for name in fields_of(splitter, keyed=bool(keys))}
    if taken := [name for name in made if name in schema and name != column]:
        raise UsageError(f"split: the frame has a column {taken[0]!r} already", next_step="rename or drop it before")
    starts = _token_starts(unit, model)
    splitting = _Splitting(splitter, starts, tuple(made), embeddings_of_run())
    rows = next(name for number in count() if (name := f"__chunks{number}") not in schema)
    given = [pl.col(column).cast(pl.String).alias("text"), *(pl.col(name).alias(str(place)) for place, name in enumerate(keys))]
    asked = pl.struct(given).map_batches(splitting.series, return_dtype=pl.List(pl.Struct(made)), is_elementwise=True)
    found = frame.with_columns(asked.alias(rows)).drop(column).explode(rows, empty_as_null=False, keep_nulls=False)
    return found.with_columns(pl.col(rows).struct.field(name) for name in made).drop(rows)


def _token_starts(unit: str, model: str | None) -> TokenStarts | None:
    if unit not in list(Unit):
        raise UnknownName("unit of chunks", unit, list(Unit))
    if (unit == Unit.TOKENS) != (model is not None):
        raise UsageError(
            f"split: unit is {unit!r} and model is {model!r}; tokens are those of a model, and characters of none",
            next_step="say unit='tokens', model='..', or neither",
        )
    return None if model is None else require_tokens(opened_model(model, "split"))


@dataclass(frozen=True, slots=True)
class _Splitting:
    """The chunks of some rows. `fields` are those that are wanted."""

    splitter: Splitter
    token_starts: TokenStarts | None
    fields: tuple[str, ...]
    counted: Embeddings

    def series(self, given: pl.Series) -> pl.Series:
        """The chunks of each row, as lists; called by Polars from several threads."""
        try:
            pieces = [self._lists(given.slice(start, TEXTS_AT_ONCE)) for start in range(0, max(len(given), 1), TEXTS_AT_ONCE)]
        except LakeflowError as error:
            raise carried(error) from error
        return pl.concat(pieces).alias(given.name)

    def _lists(self, given: pl.Series) -> pl.Series:
        found = [[self._row(one) for one in self._chunks(*row.values())] for row in given.to_list()]
        self.counted.count(SPLIT, len(found))
        self.counted.count(BLANK, sum(not chunks for chunks in found))
        return pl.Series(found, dtype=pl.List(pl.Struct({name: KINDS[name] for name in self.fields})))

    def _chunks(self, text: str | None, *key: object) -> Iterator[ChunkRow]:
        return rows_of(self.splitter, text, key, self.token_starts)

    def _row(self, chunk: ChunkRow) -> dict[str, object]:
        return {name: value for name, value in chunk.items() if name in self.fields}
