"""The project that is run under fire: two topics landed, four jobs, small batches so that commits come often."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.records import ENRICHED_FROM, LARGE_FROM, PING_KINDS

SETTINGS = """
[project]
name = "chaos"

[kafka]
"bootstrap.servers" = "{bootstrap}"

[run]
threads = 2
poll_seconds = 0.05
max_snapshots = {max_snapshots}
"""

TABLES = """
CREATE TABLE bronze.orders (
  id BIGINT NOT NULL,
  customer STRING NOT NULL,
  place INT,
  amount DOUBLE,
  note STRING,
  tags ARRAY<STRING>,
  spot ROW<lat DOUBLE, lon DOUBLE>,
  at TIMESTAMP_LTZ(6)
)
WITH (
  'connector' = 'kafka', 'topic' = 'orders', 'value.format' = 'json', 'on_error' = 'dead_letter',
  'metadata.columns' = 'partition, offset, timestamp, key', 'commit.max-rows' = '150', 'commit.interval' = '0.2'
);

CREATE TABLE bronze.pings (kind STRING NOT NULL, n BIGINT NOT NULL)
PARTITIONED BY (kind)
WITH (
  'connector' = 'kafka', 'topic' = 'pings', 'value.format' = 'json', 'on_error' = 'skip',
  'commit.max-rows' = '100', 'commit.interval' = '0.3'
);

CREATE TABLE dim.places (place INT NOT NULL, name STRING)
WITH ('connector' = 'kafka', 'topic' = 'places', 'value.format' = 'json');
"""

JOBS = f'''
import polars as pl

import lakeflow as lf


@lf.job(target="gold.enriched", max_files=3)
def enriched(orders=lf.Read("bronze.orders"), places=lf.Lookup("dim.places")) -> pl.LazyFrame:
    """Orders above a limit, with the name of their place."""
    named = orders.filter(pl.col("amount") >= {ENRICHED_FROM}).join(places, on="place", how="left", maintain_order="left")
    return named.select("id", "customer", "amount", "name", "kafka_partition", "kafka_offset")


@lf.job(target="gold.large")
def large(orders=lf.Read("gold.enriched")) -> pl.LazyFrame:
    """A job on what a job wrote."""
    return orders.filter(pl.col("amount") >= {LARGE_FROM}).select("id", "amount")


@lf.job(target="gold.latest", key="customer", max_rows=400)
def latest(orders=lf.Read("bronze.orders")) -> pl.LazyFrame:
    """The last order of each customer."""
    return orders.select("customer", "id", "amount", "kafka_offset")


@lf.job(target="gold.pings", max_files=2)
def pings(pings=lf.Read("bronze.pings")) -> pl.LazyFrame:
    """A copy; a commit of three files is read in two batches."""
    return pings
'''

LANDED = ("bronze.orders", "bronze.pings")
LANDING_TABLES = (*LANDED, "lakeflow.dead_letters")
JOB_TABLES = ("gold.enriched", "gold.large", "gold.latest", "gold.pings")
RUNS = "lakeflow.runs"


class Project:
    """The folder of the project. `max_snapshots` is few where progress must survive expiry, many where all of history
    is looked at in the end.
    """

    def __init__(self, root: Path, bootstrap: str, max_snapshots: int) -> None:
        self.root = root
        self.catalog = root / ".lakeflow" / "catalog.db"
        self.warehouse = root / ".lakeflow" / "warehouse"
        (root / "tables").mkdir(parents=True)
        (root / "jobs").mkdir()
        (root / "lakeflow.toml").write_text(SETTINGS.format(bootstrap=bootstrap, max_snapshots=max_snapshots), encoding="utf-8")
        (root / "tables" / "tables.sql").write_text(TABLES, encoding="utf-8")
        (root / "jobs" / "jobs.py").write_text(JOBS, encoding="utf-8")

    def folders_of(self, table: str) -> tuple[Path, ...]:
        """Where the files of a table go; made here so that they can be watched before the first commit."""
        namespace, name = table.split(".")
        data = self.warehouse / namespace / name / "data"
        parts = [data / f"kind={kind}" for kind in PING_KINDS] if name == "pings" and namespace == "bronze" else [data]
        folders = (*parts, self.metadata_of(table))
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        return folders

    def metadata_of(self, table: str) -> Path:
        """Where the manifests and metadata files of a table go."""
        namespace, name = table.split(".")
        return self.warehouse / namespace / name / "metadata"
