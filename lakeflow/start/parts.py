"""What `lakeflow start` keeps going, as plain values: a part for each landing, job, index and sink."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from lakeflow.declare import TableSpec
from lakeflow.job import Job
from lakeflow.runner.graph import Node, as_index


class Kind(StrEnum):
    """What a part is."""

    LANDING = "landing"
    JOB = "job"
    INDEX = "index"
    SINK = "sink"


class State(StrEnum):
    """How a part stands. `waiting`: for its time, its turn or room; `held up`: what writes a table that it reads has failed."""

    RUNNING = "running"
    WAITING = "waiting"
    BACKING_OFF = "backing off"
    HELD_UP = "held up"
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True)
class Part:
    """One landing, job, index or sink: what it reads, the table that it writes (an index and a sink write none); what it
    `needs` and `makes` are tables and indexes, as nodes have it."""

    kind: Kind
    name: str
    reads: tuple[str, ...] = ()
    writes: str | None = None
    job: Job | None = None
    searches: tuple[str, ...] = ()

    @property
    def needs(self) -> frozenset[str]:
        """What it comes behind."""
        return frozenset([*self.reads, *map(as_index, self.searches)])

    @property
    def makes(self) -> str | None:
        """What comes behind it names that among its `needs`."""
        return as_index(self.name) if self.kind is Kind.INDEX else self.writes

    @property
    def label(self) -> str:
        """What no other part is called."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Standing:
    """A part as it stands; `error` is what it failed of last, since it last worked."""

    part: Part
    state: State
    error: str | None = None


def parts_of(landed: Iterable[TableSpec], nodes: Iterable[Node], sent: Iterable[str] = ()) -> tuple[Part, ...]:
    """The parts of a project: its landings, jobs and indexes in the order of `nodes`, and the sinks of the tables `sent`."""
    landings = (Part(Kind.LANDING, spec.name, (), spec.name) for spec in landed)
    return (*landings, *map(part_of, nodes), *(Part(Kind.SINK, table, (table,)) for table in sent))


def part_of(node: Node) -> Part:
    """A job or an index as a part."""
    job = node.work if isinstance(node.work, Job) else None
    return Part(Kind.INDEX if job is None else Kind.JOB, node.name, node.reads, node.writes, job, node.searches)
