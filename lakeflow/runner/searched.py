"""The indexes that jobs search: as of what a step has searched them, and which are still to be built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lakeflow.declare import IndexSpec
from lakeflow.job import Job
from lakeflow.runner.graph import Node, as_index
from lakeflow.runner.indexing import IndexRoom, index_state
from lakeflow.runner.uses import indexes_named
from lakeflow.runner.vector_search import Searches

FACT: Final = "lakeflow.index."
"""In the summary of a commit, with the name of an index: the snapshot of its table up to which it held rows when the step
began, and its version, with a blank between them."""
EMPTY: Final = "empty"
"""In place of a snapshot, for an index without a position."""


def facts_of_searches(job: Job, searches: Searches | None) -> dict[str, str]:
    """What a commit's summary says of the indexes that the job searches. Of one that is not built, nothing."""
    if searches is None or not (named := indexes_named(job, searches.indexes())):
        return {}
    room = searches.room()
    states = {spec.name: index_state(spec, room) for spec in named}
    return {
        FACT + name: f"{state.position.snapshot_id if state.position else EMPTY} {state.version}"
        for name, state in states.items()
        if state is not None
    }


def positions(job: Job, indexes: Mapping[str, IndexSpec], room: IndexRoom) -> dict[str, int | None]:
    """Each index that a job searches, and the snapshot of its table up to which it holds rows now; None for one without."""
    states = {spec.name: index_state(spec, room) for spec in indexes_named(job, indexes)}
    return {name: state.position.snapshot_id if state and state.position else None for name, state in states.items()}


def unbuilt(node: Node, indexes: Mapping[str, IndexSpec], room: IndexRoom) -> list[str]:
    """The indexes, as `index NAME`, that a job comes behind and that are still to be built."""
    return [as_index(name) for name in node.searches if index_state(indexes[name], room) is None]
