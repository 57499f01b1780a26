"""The jobs of a statement set side by side: each its own steps, progress and commits, and one scan of what they read alike.

The jobs take turns, a step each. In a turn, a data file that several row-wise ones read is read from the table once
(shared_scan.py). A job that is elsewhere in the table, behind the others or cut otherwise, reads what it alone wants by itself,
until it has caught up; so does one that merges by key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from lakeflow.errors import LakeflowError
from lakeflow.job import Job, Mode
from lakeflow.lake.iceberg import FileReader
from lakeflow.models.usage import Asked
from lakeflow.runner.execute import JobRun, Runtime, run_job
from lakeflow.runner.graph import Node
from lakeflow.runner.plan import JobPlan
from lakeflow.runner.shared_scan import SharedScan
from lakeflow.runner.sql_body import sql_body
from lakeflow.sql.columns_read import columns_read
from lakeflow.sql.relations import ArrowRelation

if TYPE_CHECKING:
    from lakeflow.runner.plan import Request


@dataclass(slots=True)
class Member:
    """A job of a set as it runs. `done` is what it has committed, `error` what ended it, `asked` what its models were asked,
    `used` which versions of them answered."""

    plan: JobPlan
    done: JobRun | None = None
    error: LakeflowError | None = None
    asked: Mapping[str, Asked] = field(default_factory=dict)
    used: tuple[str, ...] = ()


def together(node: Node, nodes: Sequence[Node], request: Request, left_out: Collection[str]) -> tuple[Node, ...]:
    """The nodes that run with `node`, itself among them, in their order: incremental jobs of its statement set behind it,
    without a schedule, whose tables no node from it on writes. Alone where it is of none. Pure.
    """
    if not _shares(node, request):
        return (node,)
    following = nodes[nodes.index(node) :]
    made = {other.makes for other in following}
    return tuple(
        other
        for other in following
        if other is node
        or (
            _shares(other, request)
            and _set_of(other) == _set_of(node)
            and other.name not in left_out
            and not made.intersection(other.needs)
        )
    )


def _set_of(node: Node) -> object:
    return node.work.statement_set if isinstance(node.work, Job) else None


def _shares(node: Node, request: Request) -> bool:
    job = node.work
    if not isinstance(job, Job) or job.statement_set is None or job.schedule is not None:
        return False
    return request.mode_of(job) is Mode.INCREMENTAL


def run_together(
    plans: Sequence[JobPlan],
    runtime: Runtime,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> Iterator[Member]:
    """Carry the plans out, and tell of a job after each of its steps and as it ends. One that fails leaves the others alone.

    What is no LakeflowError is raised. Raises StorageFull where there is no room for the rows that are shared.
    """
    with SharedScan(_columns(plans, runtime), runtime.spool) as scan:
        sharing = replace(runtime, queries=replace(runtime.queries, shared=scan))
        members = [Member(plan) for plan in plans]
        running = [
            (one, run_job(one.plan, sharing if _is_shared(one.plan) else runtime, stop=stop, on_rows=on_rows))
            for one in members
        ]
        turn = 0
        while running:
            at_it = [one.plan for one, _ in running if turn < len(one.plan.steps) and _is_shared(one.plan)]
            scan.turn([plan.steps[turn] for plan in at_it])
            left = []
            for one, steps in running:
                goes_on = _step(one, steps, runtime)
                yield one
                if goes_on:
                    left.append((one, steps))
            running, turn = left, turn + 1


def _step(member: Member, steps: Iterator[JobRun], runtime: Runtime) -> bool:
    """One more step of a job; whether it goes on. What the models of the others were asked is not counted as this one's."""
    models = runtime.models
    if member.done is not None:
        models.resume_run(member.asked, member.used)
    try:
        member.done = next(steps)
    except StopIteration:
        return False
    except LakeflowError as error:
        member.error = error
        return False
    finally:
        member.asked, member.used = models.usage.of_run(), models.used
    return True


def _is_shared(plan: JobPlan) -> bool:
    return plan.compiled is not None and plan.is_row_wise and plan.mode is Mode.INCREMENTAL


def _columns(plans: Sequence[JobPlan], runtime: Runtime) -> dict[str, frozenset[str]]:
    """The columns that any of the jobs needs of each table that it reads."""
    found: dict[str, frozenset[str]] = {}
    for plan in plans:
        if not plan.steps or not _is_shared(plan):
            continue
        body, reads = (
            sql_body(plan, runtime.lake, runtime.declared, runtime.queries),
            [one for step in plan.steps for one in step.reads],
        )
        streams = {source.name: _without_rows(FileReader(source.table).schema) for source in reads}
        relations = body.relations(reads)
        moving = [read for read in body.compiled.reads if read.at is None and read.name in streams]
        relations |= {read.view: streams[read.name] for read in moving}
        for name, stream in streams.items():
            needed = columns_read(body.compiled, relations, stream.column_names)
            found[name] = found.get(name, frozenset()) | needed
    return found


def _without_rows(schema: pa.Schema) -> ArrowRelation:
    return ArrowRelation(schema, lambda: pa.RecordBatchReader.from_batches(schema, []))
