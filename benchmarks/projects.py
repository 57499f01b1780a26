"""Projects made for a benchmark: written as a user writes them, opened by the public names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lakeflow import Project
from lakeflow.config import Settings
from lakeflow.landing.counts import Sizes
from lakeflow.landing.cut import Limits
from lakeflow.landing.open import open_decoder
from lakeflow.landing.reading import OwnReading
from lakeflow.landing.spec import landing_spec
from lakeflow.landing.writer import Landing
from lakeflow.topics.source import Earliest, Source

WAREHOUSE = Path(".lakeflow", "warehouse")


def project_in(folder: Path, files: Mapping[str, str]) -> Project:
    """A project of `files`, path to text, in a folder that may hold tables already."""
    for name, text in {"lakeflow.toml": "", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return Project.open(folder)


def landing_of(project: Project, table: str, source: Source) -> Landing:
    """The landing of a declared table with the project's own settings, from a source other than Kafka."""
    spec = project.declared_tables.tables[table]
    landing = landing_spec(spec, spec.options, _limits(project.settings))
    return Landing(
        landing,
        OwnReading(landing.topics, source, Earliest()),
        open_decoder(landing, None),
        project.lake,
        project.commits,
        sizes=_sizes(project.settings),
    )


def _limits(settings: Settings) -> Limits:
    run = settings.run
    return Limits(run.commit_rows, run.commit_bytes, run.commit_seconds)


def _sizes(settings: Settings) -> Sizes:
    run = settings.run
    return Sizes(run.buffer_bytes, run.target_file_bytes, run.poll_seconds)
