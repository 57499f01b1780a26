"""The indexes of LanceDB over columns beside the vectors: of values for conditions, of words for texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

import pyarrow as pa

from lakeflow.errors import UsageError
from lakeflow.index.columns import ColumnIndex, ColumnKind
from lakeflow.index.rows import Layout
from lakeflow.index.settings import AS_WRITTEN
from lakeflow.index.vectors import ColumnState

LONGEST_WORD = 40


def present(table: Any, layout: Layout) -> dict[str, str]:
    """The names of the indexes that are there, each with its column; without that of the vectors."""
    return {index.name: index.columns[0] for index in table.list_indices() if list(index.columns) != [layout.identity.column]}


def bring_about(table: Any, layout: Layout, wanted: Sequence[ColumnIndex]) -> bool:
    """Make the indexes that are wanted and missing, drop those that are not wanted; whether anything was done."""
    there = present(table, layout)
    names = {index.name for index in wanted}
    unwanted = [name for name in there if name not in names]
    missing = [index for index in wanted if index.name not in there]
    for name in unwanted:
        table.drop_index(name)
    for index in missing:
        table.create_index(index.column, config=_config(index), name=index.name)
    return bool(unwanted or missing)


def unindexed(table: Any, name: str) -> int:
    """The rows that an index does not cover; 0 where it went away meanwhile."""
    stats = table.index_stats(name)
    return 0 if stats is None else int(stats.num_unindexed_rows)


def states(table: Any, layout: Layout) -> tuple[ColumnState, ...]:
    """The indexes that are there, in the order of their names."""
    return tuple(
        ColumnState(column, name.partition(" ")[0], unindexed(table, name))
        for name, column in sorted(present(table, layout).items())
    )


def nearest_texts(
    table: Any, layout: Layout, indexes: Sequence[ColumnIndex], text: str, k: int, condition: str | None, wanted: Sequence[str]
) -> pa.Table:
    """The `wanted` columns and `_score` of the rows that match best. Raises UsageError where an index is not there yet."""
    import lancedb.query

    forms: Any = lancedb.query
    there = present(table, layout)
    missing = [index.column for index in indexes if index.name not in there]
    if missing:
        raise UsageError(
            f"index {layout.name!r} has no index of the words of {', '.join(missing)} yet",
            next_step=f"lakeflow index update {layout.name}",
        )
    columns = [index.column for index in indexes]
    asked = forms.MatchQuery(text, columns[0]) if len(columns) == 1 else forms.MultiMatchQuery(text, columns)
    query = table.search(asked, query_type="fts").limit(k).select([*wanted, "_score"])
    if condition is not None:
        query = query.where(condition, prefilter=True)
    found: pa.Table = query.to_arrow()
    return found.select([*wanted, "_score"])


def _config(index: ColumnIndex) -> Any:
    from lancedb.index import FTS, Bitmap, BTree, LabelList

    match index.kind:
        case ColumnKind.BTREE:
            return BTree()
        case ColumnKind.BITMAP:
            return Bitmap()
        case ColumnKind.LABEL_LIST:
            return LabelList()
        case ColumnKind.TEXT:
            stemmed = index.language != AS_WRITTEN
            language: Any = str(index.language).capitalize() if stemmed else "English"
            return FTS(language=language, stem=stemmed, remove_stop_words=stemmed, max_token_length=LONGEST_WORD)
        case _:
            assert_never(index.kind)
