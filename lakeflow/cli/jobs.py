"""`lakeflow jobs`: what there is in jobs/, and how it hangs together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakeflow.cli.common import Format, OutputOption, ProjectOption, TargetOption, open_project, verbs
from lakeflow.cli.output import show_facts, show_json, show_rows, show_text, size_text
from lakeflow.errors import UnknownName
from lakeflow.job import Caps, Job, Lookup, SqlQuery

if TYPE_CHECKING:
    from lakeflow.runner.project import Project

COLUMNS = ("name", "mode", "output", "reads", "lookups", "target", "declared")
SCHEDULED = ("schedule", "last", "due")
"""Shown where a job has a schedule."""
LIST_HELP = """List the jobs, in the order in which they run.

Of a job with a schedule or a freshness: that, when its last run that came to its end began, and when it is due, or since when.

Example:

  lakeflow jobs
"""
SHOW_HELP = """Show a job: what it reads, searches and writes, the models that it names, and what it says of itself.

Example:

  lakeflow jobs show score_flights
"""
GRAPH_HELP = """Show how topics, tables, jobs and indexes hang together, in the order in which they run.

Example:

  lakeflow jobs graph
"""


def register(app: typer.Typer) -> None:
    group = verbs("jobs", "List and show jobs, and their graph.", listed=True)
    group.command("list", help=LIST_HELP)(list_verb)
    group.command("show", help=SHOW_HELP)(show_verb)
    group.command("graph", help=GRAPH_HELP)(graph_verb)
    app.add_typer(group)


def list_verb(project: ProjectOption = None, target: TargetOption = None, output: OutputOption = Format.TEXT) -> None:
    opened = open_project(project, target)
    jobs = [node.work for node in opened.nodes if isinstance(node.work, Job)]
    due = _due(opened, jobs)
    rows = [_listed(job) | due.get(job.name, {}) for job in jobs]
    show_rows(rows, (*COLUMNS, *SCHEDULED) if due else COLUMNS, as_json=output is Format.JSON)


def _due(project: Project, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """When the jobs that have a schedule ran last and are due. The lake is opened for them alone."""
    from lakeflow.observe.past import due_times

    if not any(job.schedule is not None for job in jobs):
        return {}
    return {name: {"last": due.last, "due": due.at} for name, due in due_times(project.lake, jobs).items()}


def show_verb(
    name: Annotated[str, typer.Argument(help="The job.")],
    project: ProjectOption = None,
    target: TargetOption = None,
    output: OutputOption = Format.TEXT,
) -> None:
    from lakeflow.runner.uses import indexes_named

    opened = open_project(project, target)
    jobs = opened.declarations.jobs
    if name not in jobs:
        raise UnknownName("job", name, jobs, next_step="lakeflow jobs")
    job = jobs[name]
    caps = job.caps or opened.runtime.caps
    facts = (
        _listed(job)
        | {
            "key": list(job.key),
            "by": list(job.by),
            "models": list(opened.models_of(job)),
            "searches": [spec.name for spec in indexes_named(job, opened.declared_tables.indexes)],
            "batch": {"files": caps.files, "rows": caps.rows, "bytes": caps.bytes},
            "description": job.description,
        }
        | ({"within": str(job.within)} if job.within else {})
        | _expected(job, opened)
        | _in_sql(job)
        | _due(opened, [job]).get(name, {})
    )
    if output is Format.JSON:
        show_json(facts)
        return
    show_facts({**facts, "batch": _caps_text(caps)})


def _expected(job: Job, project: Project) -> dict[str, Any]:
    """What is expected of the target, by the job and by its declaration. Raises DeclarationError where two share a name."""
    from lakeflow.runner.expected import expectations_of

    found = expectations_of(job, project.declared_tables.tables)
    return {"expects": [f"{one.name} ({one.on_violation})" for one in found]} if found else {}


def _in_sql(job: Job) -> dict[str, Any]:
    """What there is to say of a query."""
    if not isinstance(job.body, SqlQuery):
        return {}
    from lakeflow.runner.keyed import state_table

    freshness = job.materialized.freshness if job.materialized else None
    return {
        "freshness": str(freshness) if freshness else None,
        "incremental": job.body.obstacle
        or (f"yes, by key, from {state_table(job, job.target)}" if job.body.is_keyed else "yes"),
        "query": job.body.text.strip(),
    }


def _caps_text(caps: Caps) -> str:
    parts = [
        f"{caps.files:,} files" if caps.files else "",
        f"{caps.rows:,} rows" if caps.rows else "",
        size_text(caps.bytes) if caps.bytes else "",
    ]
    return f"at most {', '.join(filter(None, parts))}" if any(parts) else "all at once"


def graph_verb(project: ProjectOption = None, target: TargetOption = None, output: OutputOption = Format.TEXT) -> None:
    from lakeflow.runner.graph import as_index

    edges = _edges(open_project(project, target))
    if output is Format.JSON:
        show_json(edges)
        return
    for edge in edges:
        head = f"{', '.join([*edge['reads'], *map(as_index, edge.get('searches', ()))])} -> {edge['kind']} {edge['name']}"
        show_text(f"{head} -> {edge['writes']}" if edge["writes"] else head)


def _listed(job: Job) -> dict[str, Any]:
    return {
        "name": job.name,
        "mode": str(job.mode),
        "output": str(job.output),
        "reads": [source.table for source in job.inputs.values() if not isinstance(source, Lookup)],
        "lookups": [source.table for source in job.inputs.values() if isinstance(source, Lookup)],
        "target": job.target,
        "declared": str(job.origin),
        "schedule": None if job.schedule is None else str(job.schedule),
    }


def _edges(project: Project) -> list[dict[str, Any]]:
    """Landings, then jobs and indexes in the order of the graph: what each reads and writes."""
    from lakeflow.landing.spec import is_landed, topics_declared

    landed = [spec for spec in project.declared_tables.tables.values() if is_landed(spec)]
    landings = [
        {"kind": "landing", "name": spec.name, "reads": [f"topic {topics_declared(spec)}"], "writes": spec.name}
        for spec in landed
    ]
    return landings + [
        {
            "kind": "job" if isinstance(node.work, Job) else "index",
            "name": node.name,
            "reads": list(node.reads),
            "searches": list(node.searches),
            "writes": node.writes,
        }
        for node in project.nodes
    ]
