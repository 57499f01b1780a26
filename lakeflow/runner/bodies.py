"""What a job makes of its tables, whatever it is written in: the rows of a step, as they stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl
import pyarrow as pa

from lakeflow.errors import JobFailed
from lakeflow.job import Job
from lakeflow.models.embeddings import Embeddings
from lakeflow.models.lost import Forgotten, Lost
from lakeflow.models.predict import bound
from lakeflow.models.registry import ModelSet
from lakeflow.runner.chosen_rows import scan_within
from lakeflow.runner.frames import arrow_schema_of
from lakeflow.runner.lookups import Lookups
from lakeflow.runner.plan import Source
from lakeflow.runner.user_code import user_code
from lakeflow.runner.vector_search import Searches, searching
from lakeflow.runner.window_frames import source_scan
from lakeflow.runner.windows import View

CHUNK_ROWS = 128 * 1024


class Body(Protocol):
    """A job's function or query over the lookups of one run. Called from several threads once `prepare` is done."""

    def prepare(self) -> None:
        """Read what every part of a step needs."""
        ...

    def schema(self, reads: Sequence[Source]) -> pa.Schema:
        """The columns of the job's rows; no row is read for it, and no model asked."""
        ...

    def chunks(self, reads: Sequence[Source], on_rows: Callable[[int], None], lost: Lost) -> Iterator[pa.Table]:
        """The job's rows over `reads` in their order, streamed. `on_rows` is told of rows as they are read; those that models
        leave out go to `lost`. Raises JobFailed, and what reading and models raise."""
        ...


@dataclass(frozen=True, slots=True)
class PythonBody:
    """The function of a job, which makes a LazyFrame of LazyFrames."""

    job: Job
    lookups: Lookups
    models: ModelSet
    searches: Searches | None = None
    embeddings: Embeddings = field(default_factory=Embeddings)

    def prepare(self) -> None:
        self.lookups.frames()

    def schema(self, reads: Sequence[Source]) -> pa.Schema:
        frame = self._frame(reads, lambda rows: None, Forgotten())
        with user_code(self.job):
            return arrow_schema_of(frame)

    def chunks(self, reads: Sequence[Source], on_rows: Callable[[int], None], lost: Lost) -> Iterator[pa.Table]:
        frame = self._frame(reads, on_rows, lost)
        with user_code(self.job):
            for chunk in frame.collect_batches(chunk_size=CHUNK_ROWS, maintain_order=True, engine="streaming"):
                yield chunk.to_arrow()

    def _frame(self, reads: Sequence[Source], on_rows: Callable[[int], None], lost: Lost) -> pl.LazyFrame:
        job = self.job
        frames = {one.parameter: _scan(job, one, on_rows) for one in reads}
        with bound(self.models, lost, self.embeddings), searching(self.searches), user_code(job):
            frame = job.function(**frames, **self.lookups.frames())
        if not isinstance(frame, pl.LazyFrame):
            raise JobFailed(
                f"job {job.name!r} ({job.origin}) returned {type(frame).__name__}; it must return a polars LazyFrame",
                next_step="end the job's function with `return frame`; a DataFrame becomes one by `.lazy()`",
            )
        return frame


def _scan(job: Job, source: Source, on_rows: Callable[[int], None]) -> pl.LazyFrame:
    """The rows of a source as the job sees them: in windows, or of a range or some keys alone, where it is by such."""
    if source.within is not None:
        return scan_within(source, on_rows)
    rows = source_scan(source.table, source.splits, source.view or _any_window(job), on_rows)
    if source.keys is None:
        return rows
    return rows.join(source.keys.lazy(), on=source.keys.columns, how="semi", nulls_equal=True, maintain_order="left")


def _any_window(job: Job) -> View | None:
    """What a job by windows sees where it is not said which: all windows of the rows at hand."""
    return None if job.windowed is None else View(job.windowed.window)
