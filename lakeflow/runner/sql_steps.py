"""The steps of jobs in SQL, as `lakeflow plan` shows them: over what a run would read now, with nothing read or asked."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, assert_never

from lakeflow.job import Output
from lakeflow.runner.interval_plan import with_known
from lakeflow.runner.plan import JobPlan, Source
from lakeflow.runner.querying import relation_over
from lakeflow.runner.sql_names import ProjectNames
from lakeflow.runner.sql_placed import is_placed, placed_relation
from lakeflow.runner.windows import View
from lakeflow.sql.compiled import AtStart
from lakeflow.sql.explain import Step, explain, explain_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lakeflow.lake.read import Split
    from lakeflow.models.estimate import Estimate
    from lakeflow.runner.project import Project
    from lakeflow.sql.relations import Relation


def steps_of(plan: JobPlan, project: Project, estimates: Sequence[Estimate] = ()) -> tuple[Step, list[str]] | None:
    """The steps of a planned job, all of its commits together, and as lines of a tree, with what its models are expected to
    take; None for a job in Python, and where there is nothing to read. Raises what the query would before its first row."""
    compiled = plan.compiled
    if compiled is None or not any(step.reads for step in plan.steps):
        return None
    lookups = {source.name: relation_over(source.table, source.splits) for source in plan.lookups}
    sources = [source for step in plan.steps for source in with_known(step)]
    read = {
        one.name: _relation(plan, one, _distinct(other.splits for other in sources if other.name == one.name))
        for one in sources
    }
    relations: dict[str, Relation] = dict(ProjectNames(project).relations(compiled))
    for view in compiled.reads:
        known = read if view.at is None else lookups if isinstance(view.at, AtStart) else {}
        nothing = view.at is None and view.name not in read
        relations[view.view] = (
            relation_over(project.lake.table(view.name), ()) if nothing else (known.get(view.name, relations[view.view]))
        )
    query = explain(compiled, relations)
    whole = Step(f"{_verb(plan.output)} {plan.target}", rows=query.rows, children=(query,))
    costs = {one.model: text for one in estimates if (text := _cost(one))}
    return whole, explain_lines(whole, compiled, costs)


def _relation(plan: JobPlan, source: Source, splits: Sequence[Split]) -> Relation:
    """The rows of a source, which a query over windows that a watermark closes is given in its windows."""
    windowed = plan.job.windowed
    if windowed is None or not is_placed(plan.job):
        return relation_over(source.table, splits)
    return placed_relation(replace(source, splits=tuple(splits)), View(windowed.window))


def _distinct(splits: Iterable[tuple[Split, ...]]) -> list[Split]:
    """Files each once, in their order: several steps of a join read the same known ones."""
    return list({split.path: split for split in chain.from_iterable(splits)}.values())


def _cost(estimate: Estimate) -> str:
    """What a model of a job is expected to take, all of its steps together."""
    expected = estimate.expected
    parts = [
        f"{expected.calls:,} calls" if expected.calls is not None else "",
        f"cost {expected.cost:g}" if expected.cost else "",
    ]
    return " and ".join(filter(None, parts))


def _verb(output: Output) -> str:
    match output:
        case Output.APPEND:
            return "append to"
        case Output.UPDATE:
            return "merge into"
        case Output.COMPLETE:
            return "replace"
        case _:
            assert_never(output)
