"""The project that `lakeflow start` keeps going in tests: a topic that lands, jobs over it, an index; and what it came to."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lakeflow.runner.indexing import index_state
from lakeflow.runner.project import Project
from lakeflow.topics.embedded import EmbeddedBroker
from tests.chaos.processes import Child, Nursery, wait_for
from tests.independent_reader import locations, stored_table
from tests.services.openai import KEY

TOPIC, LANDED, LARGE, POINTS, COUNTS, NOTED = (
    "events",
    "bronze.events",
    "gold.large",
    "gold.points",
    "gold.counts",
    "gold.noted",
)
INDEX = "points_index"
ENOUGH, ASKED = 50, 20
SETTINGS = """
[project]
name = "started"

[kafka]
"bootstrap.servers" = "{bootstrap}"

[run]
commit_seconds = 0.5
poll_seconds = 0.05
follow_seconds = {follow}
connect_seconds = 5.0

[start]
{start}

[catalog]
uri = "sqlite:///.lakeflow/catalog.db?timeout=3"

[maintain]
interval_seconds = {maintain}

[secrets]
dir = "secrets"
"""
TABLES = f"""
CREATE TABLE {LANDED} (id BIGINT NOT NULL, at DOUBLE, amount INT, embedding ARRAY<FLOAT>)
WITH ('connector' = 'kafka', 'topic' = '{TOPIC}', 'value.format' = 'json', 'on_error' = 'dead_letter');

CREATE VECTOR INDEX {INDEX} ON {POINTS} (embedding) WITH ('key' = 'id');
"""
MODEL = """
CREATE MODEL note INPUT (text STRING) OUTPUT (note STRING)
WITH ('provider' = 'openai', 'task' = 'text_generation', 'endpoint' = '{url}/v1', 'model' = 'gpt-4.1-mini', 'retry-num' = '1',
      'api-key' = '{{{{ secret.OPENAI }}}}', 'max-concurrent-operations' = '4', 'request-timeout' = '2 s');
"""
JOBS = {
    "large": f"""
import lakeflow as lf
import polars as pl


@lf.job(target="{LARGE}")
def large(events=lf.Read("{LANDED}")):
    return events.filter(pl.col("amount") >= {ENOUGH})
""",
    "points": f"""
import lakeflow as lf


@lf.job(target="{POINTS}")
def points(large=lf.Read("{LARGE}")):
    return large.select("id", "embedding")
""",
    "counts": f"""
import lakeflow as lf
import polars as pl


@lf.job(target="{COUNTS}", mode="snapshot", freshness="2s")
def counts(events=lf.Read("{LANDED}")):
    return events.select(pl.len().alias("events"))
""",
}
NOTING = f"""
import lakeflow as lf
import polars as pl


@lf.job(target="{NOTED}", max_rows=200)
def noted(large=lf.Read("{LARGE}")):
    few = large.filter(pl.col("id") % {ASKED} == 0).select("id", pl.format("event {{}}", "id").alias("text"))
    return lf.ml_predict(few, "note", ["text"])
"""


@dataclass
class Started:
    """The project in `root`, and what was written to its topic."""

    root: Path
    broker: EmbeddedBroker
    made: int = 0
    asks: bool = False
    amounts: list[int] = field(default_factory=list)

    def write(self, *, start: str = "", follow: float = 1.0, maintain: float = 0.0, model: str | None = None) -> None:
        """The files of the project. `model` is the address of a service, where a job is to ask one."""
        files = {
            "lakeflow.toml": SETTINGS.format(bootstrap=self.broker.bootstrap, start=start, follow=follow, maintain=maintain),
            "tables/tables.sql": TABLES,
            "secrets/OPENAI": KEY,
            **{f"jobs/{name}.py": text for name, text in JOBS.items()},
        }
        self.asks = model is not None
        if model is not None:
            files |= {"tables/model.sql": MODEL.format(url=model), "jobs/noted.py": NOTING}
        for name, text in files.items():
            self.put(name, text)
        self.broker.create(TOPIC)

    def put(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def produce(self, count: int, at: float = 0.0) -> None:
        """So many records, which say when they were written."""
        rows = []
        for number in range(self.made, self.made + count):
            amount = number * 37 % 100
            self.amounts.append(amount)
            vector = [float(number % 7), float(number % 11), 1.0, 0.0]
            record = {"id": number, "at": at, "amount": amount, "embedding": vector}
            rows.append((str(number).encode(), json.dumps(record).encode()))
        self.broker.produce(TOPIC, rows)
        self.made += count

    @property
    def expected(self) -> dict[str, list[int]]:
        """The ids that each table holds once all is done."""
        large = [number for number, amount in enumerate(self.amounts) if amount >= ENOUGH]
        asked = {NOTED: [number for number in large if number % ASKED == 0]} if self.asks else {}
        return {LANDED: list(range(self.made)), LARGE: large, POINTS: large, **asked}

    def column(self, table: str, name: str = "id") -> list[Any]:
        """A column of a table's rows, read without lakeflow; none where the table is not there yet."""
        there = locations(self.root / ".lakeflow" / "catalog.db")
        return list(stored_table(table, there[table]).rows()[name].to_pylist()) if table in there else []

    def rows(self, table: str) -> int:
        """How many rows a table has, by its metadata alone."""
        there = locations(self.root / ".lakeflow" / "catalog.db")
        return sum(file.rows for file in stored_table(table, there[table]).files()) if table in there else 0

    def newest(self, table: str, column: str) -> float:
        """The largest value of a column in the file that was committed last; 0 where there is none."""
        there = locations(self.root / ".lakeflow" / "catalog.db")
        files = stored_table(table, there[table]).files() if table in there else ()
        return max(pq.read_table(files[-1].path, columns=[column])[column].to_pylist(), default=0.0) if files else 0.0

    def indexed(self) -> int:
        """How many rows the index holds."""
        project = Project.open(self.root)
        state = index_state(project.declared_tables.indexes[INDEX], project.index_room)
        return 0 if state is None else state.rows

    def check(self) -> None:
        """That nothing is lost and nothing is there twice. Raises AssertionError."""
        for table, expected in self.expected.items():
            found = Counter(self.column(table))
            wanted = Counter(expected)
            assert found == wanted, f"{table}: lost {sorted(wanted - found)[:5]}, too many {sorted(found - wanted)[:5]}"
        assert self.indexed() == len(self.expected[POINTS])

    @property
    def is_caught_up(self) -> bool:
        return all(self.rows(table) == len(expected) for table, expected in self.expected.items())


@dataclass(frozen=True, slots=True)
class Service:
    """A running `lakeflow start`, and what it told of."""

    child: Child

    @classmethod
    def start(cls, nursery: Nursery, listen: str = "127.0.0.1:0") -> Service:
        return cls(nursery.start("start", "--listen", listen, "--output", "json"))

    def events(self, **wanted: str) -> Iterator[dict[str, Any]]:
        """What it has told of so far, of these kinds, names and statuses. The line that it writes now is left out."""
        text = self.child.stderr.with_suffix(".out").read_text(encoding="utf-8")
        for line in text.splitlines(keepends=True):
            if line.endswith("\n") and wanted.items() <= (event := json.loads(line)).items():
                yield event

    def wait_for(self, **wanted: str) -> dict[str, Any]:
        """The newest event like this, once there is one. Raises Misbehaved where none comes."""
        self.child.wait_until(lambda: not self.child.is_live() or any(self.events(**wanted)), f"an event {wanted}")
        found = list(self.events(**wanted))
        assert found, self.child.said()
        return found[-1]

    def until(self, happened: Callable[[], bool], what: str) -> None:
        """Wait for what can be asked for seldom. Raises Misbehaved where it does not come."""
        wait_for(lambda: not self.child.is_live() or happened(), what, pause=0.3)
        assert self.child.is_live(), self.child.said()

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of what it serves."""
        [listening] = self.events(kind="process", status="listening")
        try:
            with urllib.request.urlopen(f"{listening['address']}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()
