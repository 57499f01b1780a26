"""The jobs of a statement set as `lakeflow run` runs them: side by side over one scan, each recorded as a run of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakeflow.cli.output import note
from lakeflow.cli.progress import Bar
from lakeflow.errors import Interrupted, LakeflowError
from lakeflow.job import Job

if TYPE_CHECKING:
    from lakeflow.cli.signals import StopSignals
    from lakeflow.observe.runs import Run
    from lakeflow.runner.graph import Node
    from lakeflow.runner.plan import JobPlan, Request
    from lakeflow.runner.project import Project
    from lakeflow.runner.statement_sets import Member


@dataclass(slots=True)
class SetRun:
    """A job of a set: its run, its plan once there is one, and what ended it."""

    node: Node
    run: Run
    plan: JobPlan | None = None
    error: BaseException | None = None
    ended: bool = False


def run_set(
    project: Project, nodes: Sequence[Node], request: Request, signals: StopSignals, even_empty: Callable[[Node], bool]
) -> list[tuple[Run, LakeflowError | None]]:
    """Each node's job, as far as it came. `even_empty` says whether a run of a node that found nothing is recorded.

    What is no LakeflowError is recorded as the end of all that were under way, and raised.
    """
    from lakeflow.observe.runs import Run

    runs = [SetRun(node, Run("job", node.name, node.writes or "", str(request.mode_of(_job(node))))) for node in nodes]
    try:
        _carry_out(project, runs, request, signals)
    except BaseException as error:
        for one in runs:
            if not one.ended:
                one.error = error
        raise
    finally:
        told = [(one.run, _recorded(project, one, even_empty(one.node))) for one in runs]
    return told


def _job(node: Node) -> Job:
    assert isinstance(node.work, Job), "a set is of jobs"
    return node.work


def _carry_out(project: Project, runs: Sequence[SetRun], request: Request, signals: StopSignals) -> None:
    from lakeflow.runner.statement_sets import run_together

    project.models.stop_when(signals.requested)
    for one in runs:
        try:
            one.plan = project.plan(_job(one.node), request)
            one.run.mode, one.run.start_position = str(one.plan.mode), one.plan.start
        except LakeflowError as error:
            one.error, one.ended = error, True
    by_plan = {id(one.plan): one for one in runs if one.plan is not None}
    plans = [one.plan for one in runs if one.plan is not None]
    with Bar(f"running {', '.join(one.node.name for one in runs)}", sum(plan.rows for plan in plans)) as bar:
        for member in run_together(plans, project.runtime, stop=signals.requested, on_rows=bar.advance):
            _take_in(by_plan[id(member.plan)], member)
    for one in by_plan.values():
        one.ended = True


def _take_in(one: SetRun, member: Member) -> None:
    run, done = one.run, member.done
    run.usage, run.models = member.asked, member.used
    if done is not None:
        run.read, run.written, run.filtered = done.counts.read, done.counts.written, done.counts.filtered
        run.dead_lettered, run.skipped = done.counts.dead_lettered, done.counts.skipped
        run.end_position, run.snapshot_ids, run.findings = done.end, done.snapshots, done.findings
    if isinstance(member.error, Interrupted):
        note(str(member.error))
    elif member.error is not None:
        one.error, one.ended = member.error, True


def _recorded(project: Project, one: SetRun, even_empty: bool) -> LakeflowError | None:
    """Record how a run ended; its error, for one of the tree."""
    from lakeflow.observe.runs import RunLog, Status

    run = one.run
    if one.plan is not None and len(run.snapshot_ids) < len(one.plan.steps):
        run.status = Status.STOPPED
    elif run.read == 0 and not run.snapshot_ids:
        run.status = Status.EMPTY
    try:
        with RunLog(project.lake, project.commits, project.settings).recorded(run, even_empty=even_empty):
            if one.error is not None:
                raise one.error
    except BaseException as error:
        if error is not one.error:
            raise
    return one.error if isinstance(one.error, LakeflowError) else None
