"""Columns of vectors that a job writes: the target's properties say whose they are, and what is known is not made again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa

from lakeflow.errors import SchemaMismatch
from lakeflow.job import Job, Output
from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.read import read
from lakeflow.lake.schema import fit
from lakeflow.lake.touch import frame
from lakeflow.models.embeddings import Embedded, Embeddings, properties_of
from lakeflow.runner.bodies import Body, PythonBody
from lakeflow.runner.embedded import embedded_in
from lakeflow.runner.recalled import Recalled

if TYPE_CHECKING:
    from lakeflow.runner.execute import RunCounts, _Work
    from lakeflow.runner.plan import Source

SUMMARY: Final = "lakeflow."


def embeddings_of(body: Body) -> Embeddings:
    """What a body notes of its columns of vectors; nothing where it is no function's."""
    return body.embeddings if isinstance(body, PythonBody) else Embeddings()


def require_same_model(job: Job, body: Body, table: Table) -> None:
    """Raises SchemaMismatch where the job adds vectors of another model to a column than it holds.

    Called once the body has given its schema, for runs that do not replace all rows.
    """
    there = embedded_in(table)
    for column, made in embeddings_of(body).columns.items():
        held = there.get(column)
        if held is not None and held.fingerprint != made.fingerprint:
            name = ".".join(table.name())
            raise SchemaMismatch(
                f"job {job.name!r} ({job.origin}) would add vectors of model {made.model!r} version {made.version} to column "
                f"{column!r} of {name}, which holds those of {held.model!r} version {held.version}: they cannot be compared",
                left_behind=f"{name} as it is",
                next_step=f"lakeflow run {job.name} --mode snapshot makes all of them anew, then: lakeflow index build NAME; "
                f"or ask the model whose vectors it holds: {held.model}${held.version}",
            )


def facts_of_embeddings(body: Body, table: Table) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """What a commit says: facts for its summary, and properties of the table. Raises SchemaMismatch for another width."""
    noted = embeddings_of(body)
    there, names = embedded_in(table), arrow_schema(table).names
    said: dict[str, Embedded] = {}
    for column, made in noted.columns.items():
        held = there.get(column)
        if column not in names:
            continue
        width = held.width if held is not None and held.fingerprint == made.fingerprint else None
        if None not in (width, made.width) and width != made.width:
            raise SchemaMismatch(
                f"model {made.model!r} gave vectors of {made.width} elements, and those in column {column!r} of "
                f"{'.'.join(table.name())} have {width}",
                next_step=f"declare what changed of the model, so that it is a new version: lakeflow models show {made.model}",
            )
        said[column] = replace(made, width=made.width or width)
    summary = {SUMMARY + name: str(number) for name, number in noted.counts.items()}
    return summary, {key: value for key, value in properties_of(said).items() if table.properties.get(key) != value}


@contextmanager
def recalling(work: _Work, groups: Callable[[], pl.DataFrame] | None) -> Iterator[_Work]:
    """The step, with what its target holds of the groups known, so that no model is asked for it again. None: of all rows."""
    body = work.body
    if not isinstance(body, PythonBody):
        yield work
        return
    with Recalled(work.target, groups, work.runtime.spool, work.runtime.buffer_bytes) as known:
        yield replace(work, body=replace(body, embeddings=Embeddings(known)))


def knowing(work: _Work, run: Callable[[_Work], tuple[int, RunCounts]]) -> tuple[int, RunCounts]:
    """Carry out a step that knows what its target holds: of a merge the rows of new keys, where all is replaced, all rows. A
    step of whole keys finds out for itself, and one that appends has nothing to know."""
    body, plan = work.body, work.plan
    if not isinstance(body, PythonBody):
        return run(work)
    if plan.output is Output.COMPLETE:
        with recalling(work, None) as known:
            return run(known)
    key, [first, *more] = plan.job.key, work.step.reads or (None,)
    if (
        plan.output is Output.UPDATE
        and key
        and first is not None
        and not more
        and {*key} <= {*first.table.schema().column_names}
    ):
        with recalling(work, lambda: _keys_of(first, key, work.target)) as known:
            return run(known)
    return run(replace(work, body=replace(body, embeddings=Embeddings())))


def _keys_of(source: Source, key: Sequence[str], target: Table) -> pl.DataFrame:
    """The keys of new rows, as values of the target's columns."""
    into = arrow_schema(target)
    found = [frame(into.empty_table().select(list(key)))]
    wanted = pa.schema([into.field(name).with_nullable(True) for name in key])
    for batch in read(source.table, source.splits, key):
        found.append(frame(fit(pa.Table.from_batches([batch]), wanted, ".".join(target.name()))).unique())
    return pl.concat(found).unique()
