"""The graph that jobs and indexes form by their tables, and its order. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from lakeflow.declare import IndexSpec
from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.job import Job
from lakeflow.runner.uses import indexes_named


@dataclass(frozen=True, slots=True)
class Node:
    """A job or an index: what it reads, the table that it writes (an index writes none), and the indexes that it searches."""

    name: str
    reads: tuple[str, ...]
    writes: str | None
    work: Job | IndexSpec
    searches: tuple[str, ...] = ()

    @property
    def needs(self) -> frozenset[str]:
        """What it comes behind: tables, and indexes as `index NAME`."""
        return frozenset([*self.reads, *map(as_index, self.searches)])

    @property
    def makes(self) -> str | None:
        """What comes behind it names that among its `needs`."""
        return as_index(self.name) if self.writes is None else self.writes


def as_index(name: str) -> str:
    """An index among tables, whose names hold no blank."""
    return f"index {name}"


def nodes_of(jobs: Iterable[Job], indexes: Iterable[IndexSpec]) -> tuple[Node, ...]:
    """Every job and index as a node. Raises DeclarationError where two share a name or two jobs write one table.

    A job that searches an index comes behind its update, but for one over its own target: that it searches as earlier runs
    have left it.
    """
    listed = tuple(indexes)
    by_name = {index.name: index for index in listed}
    nodes = [Node(job.name, job.reads, job.target, job, _searched(job, by_name)) for job in jobs]
    nodes += [Node(index.name, (index.table,), None, index) for index in listed]
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


def _searched(job: Job, indexes: Mapping[str, IndexSpec]) -> tuple[str, ...]:
    return tuple(spec.name for spec in indexes_named(job, indexes) if spec.table != job.target)


def ordered(nodes: Sequence[Node]) -> tuple[Node, ...]:
    """The nodes so that each comes after those that write what it reads or update what it searches; else by name.

    Raises DeclarationError for a cycle, naming it.
    """
    producer = {node.makes: node for node in nodes}
    by_name = {node.name: node for node in nodes}
    sorter: TopologicalSorter[str] = TopologicalSorter()
    for node in nodes:
        sorter.add(node.name, *(producer[one].name for one in sorted(node.needs) if one in producer))
    try:
        return tuple(by_name[name] for name in _by_name(sorter))
    except CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise DeclarationError(
            f"jobs form a cycle: {cycle}; a job must not read, even by way of others, what it writes, nor search an index of it"
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
