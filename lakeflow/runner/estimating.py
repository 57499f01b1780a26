"""What the models of a job will be asked: the job is carried out over a few of its rows, with no service asked.

Nothing is written. What is read is bounded: so many rows of so many files, of each a batch at the most.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from lakeflow.errors import LakeflowError
from lakeflow.job import SqlQuery
from lakeflow.lake.iceberg import FileReader
from lakeflow.lake.read import Split, read
from lakeflow.models.estimate import Estimate, Recorded, Sample, estimate
from lakeflow.models.lost import Forgotten
from lakeflow.models.predict import bound
from lakeflow.models.registry import ModelSet
from lakeflow.models.remote.rehearsal import Rehearsal, is_remote
from lakeflow.models.usage import Asked
from lakeflow.models.versions import reference
from lakeflow.runner.execute import Runtime
from lakeflow.runner.frames import scan
from lakeflow.runner.plan import JobPlan, Source
from lakeflow.runner.sql_body import sql_body
from lakeflow.runner.user_code import user_code
from lakeflow.runner.vector_search import searching
from lakeflow.sql.relations import ArrowRelation

logger = logging.getLogger("lakeflow.runner")

SAMPLE_ROWS = 1000
SAMPLE_FILES = 8
WHOLE_FILES = 64
"""So many files of SAMPLE_ROWS together are read whole."""
LOOKUP_BYTES = 64 << 20
"""Of the lookups of a job: larger ones would make a plan a run."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A source, of each of whose splits the first `rows_a_split` rows are read."""

    source: Source
    rows_a_split: int

    @property
    def rows(self) -> int:
        return sum(min(split.rows, self.rows_a_split) for split in self.source.splits)

    def frame(self) -> pl.LazyFrame:
        """Its rows."""
        heads = [scan(self.source.table, [split]).head(self.rows_a_split) for split in self.source.splits]
        return pl.concat(heads) if heads else scan(self.source.table, ())

    def relation(self) -> ArrowRelation:
        """Its rows, as a query reads them."""
        schema = FileReader(self.source.table).schema
        return ArrowRelation(schema, lambda: pa.RecordBatchReader.from_batches(schema, self._heads()))

    def _heads(self) -> Iterator[pa.RecordBatch]:
        for split in self.source.splits:
            left = self.rows_a_split
            for batch in read(self.source.table, [split]):
                yield batch.slice(0, left)
                left -= min(left, batch.num_rows)
                if not left:
                    break


class Estimating:
    """Estimates for the jobs of a project. Its models are for this alone, from now on.

    `recorded` is what earlier runs took, by model; `runtime` is what jobs in SQL run with.
    """

    def __init__(self, models: ModelSet, recorded: Mapping[str, Recorded], runtime: Runtime | None = None) -> None:
        self._models = models
        self._runtime = runtime
        self._recorded = recorded
        self._rehearsal = Rehearsal()
        models.rehearse(self._rehearsal)

    def of(self, plan: JobPlan, names: Sequence[str]) -> list[Estimate]:
        """An estimate for each remote model among `names`, those of the job.

        Raises what opening a model raises: ConfigError, DeclarationError, ModelError. A job that fails over the sample is
        estimated without one, and the failure is logged.
        """
        asked = {reference(name).name: name for name in names}
        remote = [name for name in asked if is_remote(self._models.specs[name])]
        for name in remote:
            self._models.every(asked[name])
        samples = self._samples(plan, remote) if remote and plan.rows else {}
        return [self._estimate(name, plan.rows, samples.get(name)) for name in remote]

    def _estimate(self, name: str, rows: int, sample: Sample | None) -> Estimate:
        asking, budget = self._rehearsal.noted(name).asking, self._models.usage.budget
        return estimate(name, rows, asking, sample, self._recorded.get(name), budget)

    def _samples(self, plan: JobPlan, names: Sequence[str]) -> dict[str, Sample]:
        taken = taken_of(plan)
        if not taken or sum(source.bytes for source in plan.lookups) > LOOKUP_BYTES:
            return {}
        self._rehearsal.forget()
        before = self._models.usage.by_model()
        try:
            self._carry_out(plan, taken)
        except LakeflowError as error:
            logger.warning("job %s fails over a sample, so its estimate goes without one: %s", plan.job.name, error.message)
            return {}
        given = {name: (asked - before.get(name, Asked())).rows for name, asked in self._models.usage.by_model().items()}
        read = sum(one.rows for one in taken)
        return {name: self._sample(name, read, given.get(name, 0), read >= plan.rows, names) for name in names}

    def _sample(self, name: str, read: int, given: int, whole: bool, names: Sequence[str]) -> Sample:
        noted = self._rehearsal.noted(name)
        others = (self._rehearsal.noted(other) for other in names if other != name)
        blind = given < read and any(other.wanted - other.kept for other in others)
        return Sample(read, given, len(noted.wanted), len(noted.kept), noted.tokens, whole, blind)

    def _carry_out(self, plan: JobPlan, taken: Sequence[Taken]) -> None:
        """The job over the rows taken; what it makes of them is let go."""
        if isinstance(plan.job.body, SqlQuery) and self._runtime is not None:
            runtime = self._runtime
            sample = {one.source.name: one.relation() for one in taken}
            body = sql_body(plan, runtime.lake, runtime.declared, runtime.queries, sample)
            for _ in body.chunks([one.source for one in taken], lambda rows: None, Forgotten()):
                pass
            return
        frames = {one.source.parameter: one.frame() for one in taken}
        lookups = {source.parameter: scan(source.table, source.splits) for source in plan.lookups}
        searches = None if self._runtime is None else self._runtime.searches
        with bound(self._models), searching(searches), user_code(plan.job):
            frame = plan.job.function(**frames, **lookups)
            for _ in frame.collect_batches(maintain_order=False, engine="streaming"):
                pass


def taken_of(plan: JobPlan) -> list[Taken]:
    """What is read of the tables of a plan; empty where a few rows of each would tell nothing, as of those that are joined."""
    sources = _merged(plan)
    files = sum(len(source.splits) for source in sources)
    if plan.rows <= SAMPLE_ROWS and files <= WHOLE_FILES:
        return [Taken(source, SAMPLE_ROWS) for source in sources]
    if len(sources) != 1:
        return []
    [source] = sources
    splits = list(spread(source.splits, SAMPLE_FILES))
    return [Taken(Source(source.parameter, source.table, source.snapshot_id, tuple(splits)), -(-SAMPLE_ROWS // len(splits)))]


def _merged(plan: JobPlan) -> list[Source]:
    """The sources of all steps, by parameter."""
    found: dict[str, Source] = {}
    for source in (source for step in plan.steps for source in step.reads):
        splits = (found[source.parameter].splits if source.parameter in found else ()) + source.splits
        found[source.parameter] = Source(source.parameter, source.table, source.snapshot_id, splits)
    return list(found.values())


def spread(splits: Sequence[Split], most: int) -> Iterator[Split]:
    """`most` of the splits, evenly over their order; all where there are no more."""
    count = min(most, len(splits))
    return (splits[place * len(splits) // count] for place in range(count))
