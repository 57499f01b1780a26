"""The project that is run under fire on real servers: two topics, a table that appends both, one by key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

EVENTS, ACCOUNTS = "events", "accounts"
TOPICS = (EVENTS, ACCOUNTS)
PARTITIONS = 3
APPENDED, KEYED, LETTERS, RUNS = "bronze.events", "bronze.accounts", "lakeflow.dead_letters", "lakeflow.runs"
TABLES = (APPENDED, KEYED, LETTERS, RUNS)
SESSION_SECONDS = 6.0
"""After so long without a sign of life the group gives a process's partitions to others."""

SETTINGS = f"""
[project]
name = "chaos"

[kafka]
"bootstrap.servers" = "{{bootstrap}}"
"session.timeout.ms" = "{int(SESSION_SECONDS * 1000)}"
"topic.metadata.refresh.interval.ms" = "4000"

[run]
poll_seconds = 0.2
connect_seconds = 10.0
buffer_bytes = 8388608
max_snapshots = 40

[maintain]
interval_seconds = 4.0
compact_files = 3
manifests = 6
keep_snapshots = 15

[catalog]
"s3.connect-timeout" = "2"
"s3.request-timeout" = "4"
"""

DECLARED = """
CREATE TABLE bronze.events (id STRING NOT NULL, n BIGINT NOT NULL, kind STRING, spot ROW<lat DOUBLE, tags ARRAY<STRING>>)
PARTITIONED BY (kind)
WITH (
  'connector' = 'kafka', 'topic' = 'events;accounts', 'value.format' = 'json', 'on_error' = 'dead_letter',
  'metadata.columns' = 'topic, partition, offset, key', 'commit.max-rows' = '400', 'commit.interval' = '1 s'
);

CREATE TABLE bronze.accounts (
  account STRING NOT NULL, id STRING NOT NULL, n BIGINT NOT NULL, PRIMARY KEY (account) NOT ENFORCED
)
WITH (
  'connector' = 'kafka', 'topic' = 'accounts', 'value.format' = 'json', 'key.format' = 'json', 'changelog.mode' = 'upsert',
  'on_error' = 'dead_letter', 'metadata.columns' = 'partition, offset', 'commit.max-rows' = '400', 'commit.interval' = '1 s'
);
"""


def write_project(folder: Path, bootstrap: str, catalog: Mapping[str, str]) -> Path:
    """The project in `folder`, with `catalog` for what PyIceberg needs to reach catalog and store."""
    (folder / "tables").mkdir(parents=True)
    (folder / "jobs").mkdir()
    options = "".join(f'"{name}" = "{value}"\n' for name, value in catalog.items())
    (folder / "lakeflow.toml").write_text(SETTINGS.format(bootstrap=bootstrap) + options, encoding="utf-8")
    (folder / "tables" / "tables.sql").write_text(DECLARED, encoding="utf-8")
    return folder


def commit_in_large_batches(folder: Path) -> None:
    """For whoever lands the rest, however much it is."""
    declared = folder / "tables" / "tables.sql"
    text = re.sub(
        r"'commit.max-rows' = '\d+', 'commit.interval' = '1 s'", "'commit.interval' = '1 min'", declared.read_text("utf-8")
    )
    declared.write_text(text, encoding="utf-8")
