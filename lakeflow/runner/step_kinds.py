"""By what a step is carried out that is more than rows in and rows out. Each is loaded where it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakeflow.job import Output
from lakeflow.runner.plan import JobPlan, Step

if TYPE_CHECKING:
    from lakeflow.runner.execute import RunStep


def special_step(plan: JobPlan, step: Step) -> RunStep | None:
    """What carries out a step of a history, of a join, by windows or by key; None where it is none of these."""
    if plan.job.history is not None:
        from lakeflow.runner.history_step import history_step

        return history_step
    if step.joined is not None and plan.keyed is None:
        from lakeflow.runner.interval_step import interval_step

        return interval_step
    if step.arrived is not None:
        from lakeflow.runner.window_step import window_step

        return window_step
    if plan.job.by and plan.output is Output.UPDATE:
        from lakeflow.runner.by_step import by_step

        return by_step
    if plan.keyed is not None:
        from lakeflow.runner.keyed_step import keyed_step

        return keyed_step
    return None
