"""The project whose runs are killed while they ask a model: one table, one incremental job, a commit a data file."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.lake.catalog import Lake
from tests import lakes
from tests.services.openai import KEY

SOURCE, TARGET, JOB = "bronze.reviews", "gold.triaged", "triage"
SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("text", pa.string())])
AT_ONCE = 8
SETTINGS = """
[project]
name = "chaos-models"

[models]
cache = "{cache}"

[secrets]
dir = "secrets"
"""
MODEL = """
CREATE MODEL triage INPUT (text STRING) OUTPUT (note STRING)
WITH ('provider' = 'openai', 'task' = 'text_generation', 'endpoint' = '{url}/v1', 'model' = 'gpt-4.1-mini',
      'api-key' = '{{{{ secret.OPENAI }}}}', 'max-concurrent-operations' = '{at_once}', {options});
"""
JOBS = f"""
import lakeflow as lf


@lf.job(target="{TARGET}", max_files=1)
def {JOB}(reviews=lf.Read("{SOURCE}")):
    return lf.ml_predict(reviews, "triage", ["text"])
"""


class Project:
    """The folder, and what lies in it. `options` are more WITH options of the model."""

    def __init__(self, root: Path, url: str, **options: str) -> None:
        self.root = root
        self.cache = root / "answers.db"
        given = ", ".join(f"'{name}' = '{value}'" for name, value in {"request-timeout": "20 s", **options}.items())
        files = {
            "lakeflow.toml": SETTINGS.format(cache=self.cache),
            "tables/models.sql": MODEL.format(url=url, at_once=AT_ONCE, options=given),
            "jobs/triage.py": JOBS,
            "secrets/OPENAI": KEY,
        }
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        (root / ".lakeflow").mkdir()

    @cached_property
    def lake(self) -> Lake:
        lake = lakes.open_lake(self.root / ".lakeflow")
        lake.ensure(TableSpec(SOURCE, SCHEMA))
        return lake

    def append(self, rows: Sequence[tuple[int, str]]) -> None:
        """One data file."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        lakes.append(self.lake, pa.table(columns, schema=SCHEMA), name=SOURCE)

    def data_files(self) -> set[str]:
        """Names of the data files of the target, those of dead writers among them."""
        return {path.name for path in (self.root / ".lakeflow" / "warehouse" / "gold" / "triaged" / "data").glob("*")}

    def triaged(self) -> list[tuple[int, str, str | None]]:
        """The rows of the target, by id."""
        if not self.lake.exists(TARGET):
            return []
        rows = self.lake.table(TARGET).scan().to_arrow().to_pylist()
        return sorted((row["id"], row["text"], row["note"]) for row in rows)

    def kept(self) -> Mapping[str, str]:
        """The kept answers by question, which stands before the `!` of each."""
        if not self.cache.exists():
            return {}
        with closing(sqlite3.connect(self.cache, timeout=30.0)) as cache:
            there = cache.execute("SELECT count(*) FROM sqlite_master WHERE name = 'answers'").fetchone()[0]
            rows = cache.execute("SELECT answer FROM answers").fetchall() if there else []
        return {text.removeprefix('["').partition("!")[0]: text[2:-2] for (text,) in rows}

    def take_cache_of(self, other: Project) -> None:
        """Begin with the answers that another project has kept; nobody uses them now."""
        for path in other.root.glob("answers.db*"):
            shutil.copy(path, self.root / path.name)
