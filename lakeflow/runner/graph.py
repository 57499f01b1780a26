"""The graph that jobs and indexes form by their tables, and its order. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from lakeflow.declare import IndexSpec
from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.job import Job


@dataclass(frozen=True, slots=True)
class Node:
    """A job or an index: what it reads, and the table that it writes (an index writes none)."""

    name: str
    reads: tuple[str, ...]
    writes: str | None
    work: Job | IndexSpec


def nodes_of(jobs: Iterable[Job], indexes: Iterable[IndexSpec]) -> tuple[Node, ...]:
    """Every job and index as a node. Raises DeclarationError where two share a name or two jobs write one table."""
    nodes = [Node(job.name, job.reads, job.target, job) for job in jobs]
    nodes += [Node(index.name, (index.table,), None, index) for index in indexes]
    names: dict[str, Node] = {}
    writers: dict[str, Node] = {}
    for node in nodes:
        if (other := names.setdefault(node.name, node)) is not node:
            raise DeclarationError(f"{node.work.origin}: {node.name!r} is declared at {other.work.origin} already; rename one")
        if node.writes and (other := writers.setdefault(node.writes, node)) is not node:
            raise DeclarationError(
                f"{node.work.origin}: job {node.name!r} writes {node.writes}, which job {other.name!r} "
                f"({other.work.origin}) writes already; give it a table of its own"
            )
    return tuple(nodes)


def ordered(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes so that each comes after those that write what it reads; else in their order by name.

    Raises DeclarationError for a cycle, naming it.
    """
    producer = {node.writes: node for node in nodes if node.writes}
    by_name = {node.name: node for node in nodes}
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for node in nodes:
        sorter.add(node.name, *(producer[table].name for table in node.reads if table in producer))
    try:
        return tuple(by_name[name] for name in _by_name(sorter))
    except CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise DeclarationError(
            f"jobs form a cycle: {cycle}; a job must not read, even by way of others, what it writes"
        ) from error


def _by_name(sorter: TopologicalSorter[str]) -> Iterator[str]:
    """The sorter's order; of what may come next, the first by name."""
    sorter.prepare()
    ready = list(sorter.get_ready())
    heapq.heapify(ready)
    while ready:
        name = heapq.heappop(ready)
        yield name
        sorter.done(name)
        for following in sorter.get_ready():
            heapq.heappush(ready, following)


def chosen(nodes: Sequence[Node], names: Sequence[str]) -> tuple[Node, ...]:
    """The nodes named, or all where none is, in the graph's order. Raises UnknownName."""
    in_order = ordered(nodes)
    known = {node.name for node in in_order}
    for name in names:
        if name not in known:
            raise UnknownName("job or index", name, known, next_step="lakeflow jobs")
    return tuple(node for node in in_order if not names or node.name in names)


def check_tables(nodes: Sequence[Node], existing: Iterable[str], declared: Mapping[str, object]) -> None:
    """That each table which is read exists, is declared, or is written by a job. Raises UnknownName naming the reader."""
    there = {*existing, *declared, *(node.writes for node in nodes if node.writes)}
    for node in nodes:
        for table in node.reads:
            if table not in there:
                raise UnknownName(
                    f"table, read by {node.name!r} ({node.work.origin}):",
                    table,
                    there,
                    next_step="declare it in tables/, or correct the name",
                )
