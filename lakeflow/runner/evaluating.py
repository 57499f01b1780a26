"""A model held against the labels of a table of the lake."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from lakeflow.declare import first_rows
from lakeflow.errors import UnknownName, UsageError
from lakeflow.lake.catalog import Lake, Table, arrow_schema
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.models.evaluation.evaluate import Evaluation, evaluate
from lakeflow.models.evaluation.plot import check_plot, plot
from lakeflow.models.evaluation.values import Bounds, Question
from lakeflow.models.spec import Task
from lakeflow.models.versions import reference
from lakeflow.runner.querying import relation, spilling
from lakeflow.sql.execute import run_query
from lakeflow.sql.relations import name_text

if TYPE_CHECKING:
    from lakeflow.runner.project import Project


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows of a table are evaluated: those that the SQL condition `where` is true of, the first `limit` of them."""

    table: str
    where: str | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Evaluations of one model, one a version and label, and the snapshot of the table that was read."""

    rows: Rows
    snapshot_id: int
    evaluations: tuple[Evaluation, ...]


def evaluate_model(
    project: Project,
    model: str,
    rows: Rows,
    question: Question,
    *,
    picture: Path | None = None,
    bounds: Bounds = Bounds(),
    on_rows: Callable[[int], None] = lambda count: None,
) -> Evaluated:
    """Evaluate a declared model over a table as of now, `m$all` in all its versions; `picture` is the file of a plot.

    The evaluations are not recorded; a version that is due is, since they name it.

    Raises UnknownName for a model, table or column that is not there, UsageError where label, task, condition or an
    option does not fit or no row is found, ModelError where the model does not fit or gives no answer.
    """
    declared = project.models.spec(reference(model).name)
    task = question.task or declared.task
    if picture is not None:
        check_plot(picture, Task(task))
    table = _table(project, rows.table)
    snapshot = snapshot_at(table)
    if snapshot is None:
        raise UsageError(f"table {rows.table} holds no rows to evaluate", next_step=f"lakeflow land {rows.table}")
    schema = arrow_schema(table)
    for name in (*question.features, *question.labels):
        if name not in schema.names:
            raise UnknownName(f"column of {rows.table}", name, schema.names, next_step=f"lakeflow tables show {rows.table}")
    limits = spilling(project.settings.root / ".lakeflow" / "tmp", project.settings.run.memory_bytes)
    with limits if rows.where is not None else nullcontext() as held:

        def batches(columns: Sequence[str]) -> Iterable[pa.RecordBatch]:
            if rows.where is None:
                return _first(read(table, splits_at(table, snapshot), columns), rows.limit)
            assert held is not None, "a query has limits"
            found: Iterable[pa.RecordBatch] = run_query(
                _query(rows, columns), {rows.table: relation(table)}, replace(held, threads=1)
            )
            return found

        project.models.begin_run()
        found = evaluate(project.models.every(model), schema, batches, question, bounds=bounds, on_rows=on_rows)
    if picture is not None:
        plot(found, picture)
    return Evaluated(rows, snapshot.snapshot_id, found)


def _table(project: Project, name: str) -> Table:
    lake: Lake = project.lake
    if (declared := project.declared_tables.tables.get(name)) is not None and not lake.exists(name):
        raise UnknownName("table", name, lake.names(), next_step=first_rows(declared))
    if name.count(".") != 1:
        raise UnknownName("table", name, lake.names(), next_step="lakeflow tables")
    return lake.table(name)


def _query(rows: Rows, columns: Sequence[str]) -> str:
    namespace, _, name = rows.table.partition(".")
    chosen = ", ".join(map(name_text, columns))
    limit = "" if rows.limit is None else f"LIMIT {rows.limit}"
    return f"SELECT {chosen} FROM {name_text(namespace)}.{name_text(name)} WHERE (\n{rows.where}\n) {limit}"


def _first(batches: Iterable[pa.RecordBatch], limit: int | None) -> Iterator[pa.RecordBatch]:
    left = limit
    for batch in batches:
        if left is None:
            yield batch
            continue
        if left:
            yield batch.slice(0, left)
        left = max(0, left - batch.num_rows)
        if not left:
            return
