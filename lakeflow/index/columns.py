"""Which index each column of a declaration gets beside the vectors: by its type, or over its words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from lakeflow.errors import DeclarationError, UnknownName, UsageError
from lakeflow.index.rows import Layout
from lakeflow.index.settings import IndexSettings


class ColumnKind(StrEnum):
    """How a column is indexed."""

    BTREE = "btree"
    BITMAP = "bitmap"
    LABEL_LIST = "label_list"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class ColumnIndex:
    """The index of one column; `language` where it is of words."""

    column: str
    kind: ColumnKind
    language: str | None = None

    @property
    def name(self) -> str:
        """A name that tells all of it, so that one which is wanted otherwise is seen by its name."""
        return " ".join(part for part in (self.kind, self.language, self.column) if part)


def column_indexes(layout: Layout, settings: IndexSettings) -> tuple[ColumnIndex, ...]:
    """The indexes that the declaration asks for. Raises UnknownName for a column that the index does not keep, and
    DeclarationError for one whose type cannot be indexed so."""
    filters = [ColumnIndex(name, _kind(layout, name)) for name in settings.filter_columns]
    return (*filters, *(_text(layout, name, settings.language) for name in settings.text_columns))


def require_text(name: str, settings: IndexSettings) -> tuple[str, ...]:
    """The columns whose words are looked for. Raises UsageError where the index `name` has none."""
    if not settings.text_columns:
        raise UsageError(
            f"index {name!r} has no text columns, so that words cannot be looked for in it; valid: mode vector",
            next_step=f"add 'text_columns' = '..' to the WITH of its declaration, then: lakeflow index update {name}",
        )
    return settings.text_columns


def _kind(layout: Layout, column: str) -> ColumnKind:
    kind = _type_of(layout, column)
    if pa.types.is_boolean(kind):
        return ColumnKind.BITMAP
    if pa.types.is_list(kind) and (pa.types.is_string(kind.value_type) or pa.types.is_integer(kind.value_type)):
        return ColumnKind.LABEL_LIST
    numbers = pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind)
    if numbers or pa.types.is_string(kind) or pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return ColumnKind.BTREE
    raise DeclarationError(
        f"index {layout.name!r}: 'filter_columns' names {column!r}, which is {kind}; valid: columns of texts, numbers but "
        "decimals, booleans, dates, timestamps, and lists of texts or integers. A condition on any other works without an index"
    )


def _text(layout: Layout, column: str, language: str) -> ColumnIndex:
    kind = _type_of(layout, column)
    if not pa.types.is_string(kind):
        raise DeclarationError(
            f"index {layout.name!r}: 'text_columns' names {column!r}, which is {kind}; valid: STRING columns"
        )
    return ColumnIndex(column, ColumnKind.TEXT, language)


def _type_of(layout: Layout, column: str) -> pa.DataType:
    if column not in layout.columns:
        raise UnknownName(
            f"column of index {layout.name}", column, layout.columns, next_step="name it in 'columns' too, where there are some"
        )
    return layout.schema.field(column).type
