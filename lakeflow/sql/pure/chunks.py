"""TEXT_CHUNKS: a text as rows of chunks, each with its place; what stands behind TEXT_SPLIT."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import pyarrow as pa

from lakeflow.errors import UsageError
from lakeflow.sql.pure.arguments import CASTS, Kind, Parameter, fits, require_count
from lakeflow.sql.pure.registry import Bound, PureFunction
from lakeflow.text.rows import CHUNK, END, HEADINGS, ID, NUMBER, READ, START, rows_of
from lakeflow.text.splitter import Splitter

NAME: Final = "TEXT_CHUNKS"
SETTINGS: Final = (
    *(Parameter("text", Kind.TEXT), Parameter("by", Kind.TEXT), Parameter("size", Kind.WHOLE)),
    *(Parameter("overlap", Kind.WHOLE), Parameter("language", Kind.TEXT)),
)
MOST_KEYS: Final = 16
CHUNKS: Final = pa.list_(
    pa.struct(
        [
            *(pa.field(ID, pa.string()), pa.field(NUMBER, pa.int32()), pa.field(START, pa.int64()), pa.field(END, pa.int64())),
            *(pa.field(CHUNK, pa.string()), pa.field(READ, pa.string()), pa.field(HEADINGS, pa.list_(pa.string()))),
        ]
    )
)


def _bind(given: tuple[pa.DataType, ...]) -> Bound:
    require_count(given, 3, len(SETTINGS) + MOST_KEYS)
    for place, (kind, parameter) in enumerate(zip(given, SETTINGS, strict=False)):
        if not fits(kind, parameter.kind):
            raise UsageError(f"argument {place + 1}, {parameter.name}, is {kind}; valid: {parameter.kind}")
    settings = tuple(CASTS[one.kind] for one in SETTINGS[: len(given)])
    keys = (pa.string() if pa.types.is_null(kind) else kind for kind in given[len(SETTINGS) :])
    return Bound((*settings, *keys), CHUNKS)


@lru_cache(maxsize=64)
def _splitter(by: str | None, size: int | None, overlap: int | None, language: str | None) -> Splitter:
    if by is None or size is None:
        raise UsageError(f"{NAME}: {'by' if by is None else 'size'} is NULL")
    try:
        return Splitter(by.lower(), size, overlap or 0, language)
    except UsageError as error:
        error.message = f"{NAME}: {error.message}"
        raise


def _call(rows: pa.RecordBatch) -> pa.Array:
    columns = [column.to_pylist() for column in rows.columns]
    columns += [[None] * rows.num_rows] * (len(SETTINGS) - len(columns))
    texts, by, size, overlap, language = columns[: len(SETTINGS)]
    keys: list[tuple[object, ...]] = list(zip(*columns[len(SETTINGS) :], strict=True)) or [()] * rows.num_rows
    settings = zip(by, size, overlap, language, strict=True)
    found = (
        None if text is None else list(rows_of(_splitter(*said), text, key))
        for text, said, key in zip(texts, settings, keys, strict=True)
    )
    return pa.array(found, CHUNKS)


FUNCTIONS: Final = (PureFunction(NAME, f"{NAME}(text, by, size [, overlap [, language [, key ..]]])", _bind, _call),)
