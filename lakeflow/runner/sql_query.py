"""A read-only query over a project: its tables, its models and its indexes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from lakeflow.runner.sql_names import ProjectNames
from lakeflow.sql.compile import compile_query
from lakeflow.sql.database import Limits, Opening
from lakeflow.sql.execute import run_compiled

if TYPE_CHECKING:
    from lakeflow.runner.project import Project


def query_project(
    text: str, project: Project, limits: Limits, held: ExitStack, stop: Callable[[], bool] = lambda: False
) -> pa.RecordBatchReader:
    """The rows of a query over the tables as of now, as they come. Models that it asks are open until `held` is closed;
    services are not waited for any longer once `stop` is true.

    Raises what `compile_query`, `functions_for` and `run_compiled` raise; so does the reader.
    """
    names = ProjectNames(project)
    with Opening(limits) as opening:
        compiled = compile_query(text, names, binds=False)
        if not compiled.calls:
            return run_compiled(compiled, names.relations(compiled), (), limits, opening)
        from lakeflow.runner.sql_functions import functions_for, threads_for

        models = held.enter_context(project.models)
        models.stop_when(stop)
        behind = functions_for(compiled, models, project.index_room, project.declared_tables.indexes.values())
        limits = replace(limits, threads=threads_for(compiled, models, limits.threads))
        return run_compiled(compiled, names.relations(compiled), behind, limits, opening)
