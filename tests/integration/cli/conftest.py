"""A small project without servers, and the command line run on it in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import typer.main

from lakeflow.cli.app import main
from lakeflow.runner.project import Project
from lakeflow.topics.embedded import EmbeddedBroker
from tests import lakes

if TYPE_CHECKING:
    from tests.integration.cli.landings import Site

REPOSITORY = Path(__file__).parents[3]
CONFIG = """
[project]
name = "shop"

[target.demo.index]
uri = ".lakeflow/other-index"
"""
TABLES = f"""
CREATE TABLE bronze.orders (order_id STRING NOT NULL, customer STRING, amount DOUBLE)
WITH ('connector' = 'kafka', 'topic' = 'orders', 'value.format' = 'json', 'on_error' = 'skip');

CREATE TABLE bronze.docs (doc_id STRING, text STRING);

CREATE MODEL docs_embedding INPUT (text STRING) OUTPUT (embedding ARRAY<FLOAT>)
WITH ('provider' = 'onnx', 'task' = 'embedding', 'model_path' = '{REPOSITORY}/examples/flights/models/docs-embedding');

CREATE VECTOR INDEX docs_index ON gold.doc_vectors (embedding)
WITH ('key' = 'doc_id', 'model' = 'docs_embedding', 'columns' = 'text');
"""
JOBS = {
    "large.py": '''
import polars as pl
import lakeflow as lf

@lf.job(target="gold.large")
def large(orders=lf.Read("bronze.orders")):
    """Orders above 100."""
    return orders.filter(pl.col("amount") > 100)
''',
    "totals.py": """
import polars as pl
import lakeflow as lf

@lf.job(target="gold.totals", mode="snapshot")
def totals(orders=lf.Read("gold.large")):
    return orders.group_by("customer").agg(pl.col("amount").sum()).sort("customer")
""",
    "embed.py": """
import lakeflow as lf

@lf.job(target="gold.doc_vectors")
def embed(docs=lf.Read("bronze.docs")):
    return lf.ml_embed(docs, "docs_embedding", "text")
""",
}
ORDERS = pa.schema([pa.field("order_id", pa.string(), nullable=False), ("customer", pa.string()), ("amount", pa.float64())])
DOCS = pa.table(
    {
        "doc_id": ["sleep", "strip", "sort"],
        "text": [
            "Delay execution for a given number of seconds.",
            "Return a copy of the string with leading and trailing whitespace removed.",
            "Sort the list in ascending order and return None.",
        ],
    }
)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended, and what it wrote where."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Shop:
    """The project, and `lakeflow WORDS --project` on it."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: str) -> Ran:
        self.capsys.readouterr()
        code = main([*words, "--project", str(self.folder)])
        captured = self.capsys.readouterr()
        assert "Traceback" not in captured.err
        return Ran(code, captured.out, captured.err)

    def json(self, *words: str) -> Any:
        ran = self(*words, "--output", "json")
        assert ran.code == 0, ran.err
        return ran.json

    @property
    def project(self) -> Project:
        """Opened anew, so that it holds nothing of before."""
        return Project.open(self.folder, environ={})

    def orders(self, *rows: tuple[str, str, float]) -> None:
        """Append to bronze.orders as a landing would."""
        project = self.project
        lake = project.lake
        lake.ensure(project.declared_tables.tables["bronze.orders"])
        lakes.append(lake, pa.table([list(column) for column in zip(*rows, strict=True)], schema=ORDERS), name="bronze.orders")

    def docs(self, rows: pa.Table = DOCS) -> None:
        """Append to bronze.docs."""
        project = self.project
        project.lake.ensure(project.declared_tables.tables["bronze.docs"])
        lakes.append(project.lake, rows, name="bronze.docs")

    def configure(self, text: str) -> None:
        (self.folder / "lakeflow.toml").write_text(CONFIG + text, encoding="utf-8")

    def declare(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="session", autouse=True)
def _commands() -> Iterator[None]:
    """The verbs are put together once, not for each of the thousands of commands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.fixture
def shop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    """The project, with nothing in its lake."""
    folder = tmp_path / "shop"
    (folder / "tables").mkdir(parents=True)
    (folder / "jobs").mkdir()
    (folder / "lakeflow.toml").write_text(CONFIG, encoding="utf-8")
    (folder / "tables" / "shop.sql").write_text(TABLES, encoding="utf-8")
    for name, text in JOBS.items():
        (folder / "jobs" / name).write_text(text, encoding="utf-8")
    return Shop(folder, capsys)


@pytest.fixture
def stocked(shop: Shop) -> Shop:
    """With two appends of orders, of which three are large."""
    shop.orders(("o1", "ann", 50.0), ("o2", "bob", 150.0))
    shop.orders(("o3", "ann", 500.0), ("o4", "bob", 250.0))
    return shop


@pytest.fixture
def site(shop: Shop) -> Iterator[Site]:
    """The project without jobs, with a broker, whose topics have one partition, and a schema registry."""
    from tests.integration.cli.landings import Site
    from tests.rig.registry import SchemaRegistry

    with EmbeddedBroker(partitions=1) as broker, SchemaRegistry() as registry:
        opened = Site(shop, broker, registry)
        opened.configure()
        for name in JOBS:
            (shop.folder / "jobs" / name).unlink()
        yield opened
