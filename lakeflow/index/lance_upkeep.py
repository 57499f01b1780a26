"""When an index in LanceDB is trained, extended, compacted and rid of old versions.

Rows that no approximate index covers are compared one by one: 5,000 of them slow 200,000 rows' searches down 40 times.
Each extension leaves one more part that a search goes through, so after some of them the index is trained anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, assert_never

from lakeflow.index.columns import column_indexes
from lakeflow.index.lance_columns import bring_about, unindexed
from lakeflow.index.rows import Layout
from lakeflow.index.settings import IndexSettings

MOST_PARTS = 16
MOST_FRAGMENTS = 16
ELEMENTS_A_BYTE = 8


@dataclass(frozen=True, slots=True)
class AnnIndex:
    """An approximate index: its kind, the rows that it does not cover, and the parts that it is made of."""

    name: str
    kind: str
    unindexed: int
    parts: int


class Step(Enum):
    """What upkeep does. OPTIMIZE extends the approximate index, compacts, and removes old versions; TRAIN does it too."""

    NOTHING = "nothing"
    OPTIMIZE = "optimize"
    TRAIN = "train"


def next_step(index: AnnIndex | None, wanted: str, fragments: int, settings: IndexSettings, waiting: int = 0) -> Step:
    """The step that an index needs which should be of kind `wanted` by its rows, of which `waiting` stand outside of an index
    beside the vectors. Pure."""
    if wanted != "flat" and (index is None or index.kind != wanted or index.parts > MOST_PARTS):
        return Step.TRAIN
    if max(waiting, 0 if index is None else index.unindexed) > settings.unindexed:
        return Step.OPTIMIZE
    return Step.OPTIMIZE if fragments > MOST_FRAGMENTS else Step.NOTHING


def keep_up(table: Any, layout: Layout, settings: IndexSettings) -> None:
    """Do what the index needs now."""
    wanted_columns = column_indexes(layout, settings)
    changed = bring_about(table, layout, wanted_columns)
    waiting = max((unindexed(table, index.name) for index in wanted_columns), default=0)
    stats = table.stats()
    wanted = settings.kind_for(stats["num_rows"], layout.identity.width) if stats["num_rows"] else "flat"
    step = next_step(ann_index(table, layout), wanted, stats["fragment_stats"]["num_fragments"], settings, waiting)
    match step:
        case Step.NOTHING:
            if not changed:
                return
        case Step.TRAIN:
            table.create_index(layout.identity.column, config=_config(wanted, layout, settings.bits), replace=True)
        case Step.OPTIMIZE:
            pass
        case _:
            assert_never(step)
    table.optimize(cleanup_older_than=settings.keep_versions)


def ann_index(table: Any, layout: Layout) -> AnnIndex | None:
    """The approximate index over the vectors; None where every row is compared."""
    for index in table.list_indices():
        if list(index.columns) == [layout.identity.column]:
            stats = table.index_stats(index.name)
            if stats is not None:
                return AnnIndex(index.name, stats.index_type.lower(), stats.num_unindexed_rows, stats.num_indices or 1)
    return None


def kind_of(index: AnnIndex | None) -> str:
    """flat, or the approximate index's, as KINDS of settings.py names it."""
    return "flat" if index is None else index.kind


def _config(kind: str, layout: Layout, bits: int) -> Any:
    from lancedb import index

    metric: Any = layout.identity.metric
    match kind:
        case "ivf_flat":
            return index.IvfFlat(distance_type=metric)
        case "ivf_sq":
            return index.IvfSq(distance_type=metric)
        case "ivf_pq":
            # LanceDB's default of a byte for 16 elements finds 8 of 10 nearest rows.
            return index.IvfPq(distance_type=metric, num_sub_vectors=_parts_of(layout.identity.width))
        case "ivf_rq":
            # LanceDB's default is 1 bit an element, which finds 7 of 10 nearest rows.
            return index.IvfRq(distance_type=metric, num_bits=bits)
        case "ivf_hnsw_flat":
            return index.HnswFlat(distance_type=metric)
        case "ivf_hnsw_sq":
            return index.HnswSq(distance_type=metric)
        case "ivf_hnsw_pq":
            return index.HnswPq(distance_type=metric)
        case _:
            raise ValueError(f"{kind} is no approximate index")


def _parts_of(width: int) -> int | None:
    """A byte for 8 elements, where these come out even; None: as LanceDB has it."""
    return width // ELEMENTS_A_BYTE if width % ELEMENTS_A_BYTE == 0 else None
