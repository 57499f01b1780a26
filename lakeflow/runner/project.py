"""A project opened: its settings, its declarations, and what they run on. Each part is opened when it is first used."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from lakeflow.config import Settings, find_project, load_settings
from lakeflow.errors import UnknownName
from lakeflow.job import Caps, Job, Mode
from lakeflow.models.cache import KeptAnswers
from lakeflow.models.lost import Lost
from lakeflow.models.registry import ModelSet
from lakeflow.models.remote.surroundings import Surroundings
from lakeflow.models.usage import Usage
from lakeflow.runner.graph import Node, chosen, nodes_of
from lakeflow.runner.load import Declarations, load_project, load_tables
from lakeflow.runner.model_registry import ModelRegistry, spec_of
from lakeflow.runner.remote import answers_of, budget_of, prices_of

if TYPE_CHECKING:
    import polars as pl

    from lakeflow.lake.catalog import Lake
    from lakeflow.lake.commit import CommitProtocol
    from lakeflow.runner.execute import JobRun, Runtime
    from lakeflow.runner.indexing import IndexRoom
    from lakeflow.runner.model_log import ModelLog
    from lakeflow.runner.plan import JobPlan, Request
    from lakeflow.sql.compiled import Compiled, Function

logger = logging.getLogger("lakeflow.runner")


class Project:
    """A folder with a lakeflow.toml.

    project = lakeflow.Project.open()
    project.run("score_flights")
    project.table("gold.scored_flights").filter(...).collect()
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @classmethod
    def open(
        cls, folder: Path | str | None = None, *, target: str | None = None, environ: Mapping[str, str] | None = None
    ) -> Project:
        """The project of `folder`, or of the current folder and those above. Raises ConfigError."""
        root = Path(folder).resolve() if folder is not None else find_project(Path.cwd())
        return cls(load_settings(root, target, os.environ if environ is None else environ))

    @cached_property
    def declarations(self) -> Declarations:
        """Everything that tables/ and jobs/ declare. Raises DeclarationError."""
        return load_project(self.settings)

    @cached_property
    def declared_tables(self) -> Declarations:
        """What tables/ declares, without loading any job."""
        return load_tables(self.settings)

    def declared_anew(self) -> None:
        """Forget what was declared: a file of tables/ or jobs/ has been written, and is read when it is next asked for."""
        for name in ("declarations", "declared_tables", "nodes", "runtime"):
            vars(self).pop(name, None)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every job and index, in the order of the graph. Raises DeclarationError for a cycle."""
        return chosen(nodes_of(self.declarations.jobs.values(), self.declarations.indexes.values()), ())

    @cached_property
    def lake(self) -> Lake:
        """The tables. Raises ConfigError, CatalogUnavailable."""
        from lakeflow.lake.catalog import Lake

        return Lake.open(self.settings.catalog)

    @cached_property
    def commits(self) -> CommitProtocol:
        """What makes snapshots in `lake`."""
        from lakeflow.lake.commit import Committer

        return Committer(self.lake, keep_snapshots=self.settings.run.max_snapshots, needed_from=self._followed_from)

    def _followed_from(self, table: str) -> int | None:
        from lakeflow.runner.readers import followed_from

        return followed_from(self, table)

    @cached_property
    def models(self) -> ModelSet:
        """The declared models; none is opened before it is used."""
        return ModelSet(
            (spec_of(declared, self.settings) for declared in self.declared_tables.models.values()),
            surroundings=Surroundings(
                Usage(budget_of(self.settings.models)),
                self.answers,
                prices_of(self.settings.models, self.settings.root),
                storage=self.settings.catalog,
            ),
            registry=self.model_registry,
        )

    @cached_property
    def model_registry(self) -> ModelRegistry:
        """The models that are declared, and their versions. Not read before it is used; no option is filled in for it."""
        return ModelRegistry(self.declared_tables.models, self.settings, self.model_log)

    def model_names(self) -> Iterator[str]:
        """The names of all models; the registry is read with the first of them."""
        yield from self.model_registry.declarations

    @cached_property
    def model_log(self) -> ModelLog:
        """The registry of models, as it is kept. Not read before it is used."""
        from lakeflow.runner.model_log import ModelLog

        return ModelLog(lambda: self.lake, lambda: self.commits)

    @cached_property
    def answers(self) -> KeptAnswers:
        """The kept answers of remote models. Raises ConfigError; nothing is opened before it is used."""
        return answers_of(self.settings.models, self.settings.root)

    @cached_property
    def runtime(self) -> Runtime:
        """What jobs run with."""
        from lakeflow.runner.engines import Threads
        from lakeflow.runner.execute import Runtime
        from lakeflow.runner.lookups import Surroundings
        from lakeflow.runner.sql_body import Queries
        from lakeflow.runner.vector_search import Searches

        run = self.settings.run
        workers = run.threads or os.cpu_count() or 1
        return Runtime(
            lake=self.lake,
            commits=self.commits,
            models=self.models,
            engine=Threads(workers),
            declared=self.declared_tables.tables,
            caps=Caps(run.max_files, run.max_rows, run.max_bytes),
            buffer_bytes=run.buffer_bytes,
            target_file_bytes=run.target_file_bytes,
            spool=self.settings.spool(),
            surroundings=Surroundings(self.settings.root, self.settings.environment, self.settings.catalog),
            queries=Queries(self._behind, run.memory_bytes, workers, self.settings.spool(), threads=self._threads),
            searches=Searches(lambda: self.index_room, lambda: self.declared_tables.indexes),
        )

    def _behind(self, compiled: Compiled, lost: Lost) -> Sequence[Function]:
        """What stands behind the calls of a query."""
        from lakeflow.runner.sql_functions import functions_for

        return functions_for(compiled, self.models, self.index_room, self.declared_tables.indexes.values(), lost)

    def _threads(self, compiled: Compiled, threads: int) -> int:
        """How many threads a query of a job is given that may use so many cores."""
        from lakeflow.runner.sql_functions import threads_for

        return threads_for(compiled, self.models, threads)

    def plan(self, job: Job, request: Request) -> JobPlan:
        """What a run of a job would do. Raises as `plan_job` does."""
        from lakeflow.runner.plan import plan_job
        from lakeflow.runner.sql_names import ProjectNames

        return plan_job(job, request, self.lake, self.commits, self.runtime.caps, ProjectNames(self))

    def models_of(self, job: Job) -> tuple[str, ...]:
        """The models that a job names, also by way of the indexes that it searches."""
        from lakeflow.runner.uses import models_used

        return models_used(job, self.model_names(), self.declared_tables.indexes)

    def missing_of(self, node: Node) -> list[str]:
        """What a job or an index still waits for: tables that are to be made, and indexes, as `index NAME`, to be built."""
        from lakeflow.runner.searched import unbuilt

        missing = [table for table in node.reads if not self.lake.exists(table)]
        if not node.searches or missing:
            return missing
        return unbuilt(node, self.declared_tables.indexes, self.index_room)

    def changes_of(self, job: Job) -> tuple[str, ...]:
        """What of a job is other than when it wrote its target last, in words. Raises what the registry of models raises."""
        from lakeflow.models.versions import reference
        from lakeflow.runner.fingerprint import changed_since

        if not self.lake.exists(job.target):
            return ()
        asked = map(reference, self.models_of(job))
        versions = {one.name: self.models.standing(one.name).version for one in asked if one.version is None}
        return changed_since(job, self.lake.table(job.target), versions)

    @cached_property
    def index_room(self) -> IndexRoom:
        """What indexes are built from and where they are kept."""
        from lakeflow.runner.indexing import IndexRoom

        index = self.settings.index
        return IndexRoom(self.lake, self.models, index.uri, dict(index.storage), self.runtime.caps)

    def choose(self, names: Sequence[str]) -> tuple[Node, ...]:
        """The jobs and indexes named, or all, in the order of the graph. Raises UnknownName."""
        return chosen(self.nodes, names)

    def beside(self) -> Project:
        """The same project with models of its own, for runs in another thread: declarations and lake are shared."""
        other = Project(self.settings)
        shared = ("declarations", "declared_tables", "nodes", "lake", "commits")
        vars(other).update({name: getattr(self, name) for name in shared})
        return other

    def run(self, job: str, *, mode: str | None = None) -> JobRun:
        """Run one job to the end of what its tables hold now. Raises as `run_job` does."""
        from lakeflow.runner.execute import JobRun, RunCounts, run_job
        from lakeflow.runner.plan import Request

        jobs = self.declarations.jobs
        if job not in jobs:
            raise UnknownName("job", job, jobs, next_step="lakeflow jobs")
        request = Request(mode=Mode(mode) if mode else None)
        plan = self.plan(jobs[job], request)
        done = JobRun(plan, RunCounts(), (), plan.start)
        for done in run_job(plan, self.runtime):
            logger.info("job %s: %d rows written so far", job, done.counts.written)
        return done

    def table(self, name: str) -> pl.LazyFrame:
        """A table as of now, as a LazyFrame that is read in bounded memory. Raises UnknownName."""
        from lakeflow.lake.read import snapshot_at, splits_at
        from lakeflow.runner.frames import scan

        table = self.lake.table(name)
        return scan(table, splits_at(table, snapshot_at(table)))
