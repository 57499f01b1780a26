"""A table of tiny vectors that grows, changes and is replaced, and the index that must follow it."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa

from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.read import splits_at
from tests.lakes import made, open_lake, written

TABLE = "gold.embeddings"
INDEX = "embeddings_index"
WIDTH = 8
KEYS = 400
SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("turn", pa.int64()), pa.field("vector", pa.list_(pa.float32()))])
SETTINGS = """
[project]
name = "chaos"

[run]
max_rows = 60
"""
WITH = "'key' = 'id', 'metric' = 'l2', 'flat_below' = '100', 'unindexed' = '20'"
"""So that the approximate index is made early, and extended by every few rows."""
DECLARED = f"CREATE VECTOR INDEX {INDEX} ON {TABLE} (vector) WITH ({WITH});"

Rows = dict[int, tuple[int, list[float]]]


class Vectors:
    """The project and its table. `expected` is what the index must hold of it: the last row of each key."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.index = root / ".lakeflow" / "index"
        self.catalog = root / ".lakeflow" / "catalog.db"
        self.expected: Rows = {}
        self._roll = random.Random(seed)
        self._turn = 0
        (root / "tables").mkdir(parents=True)
        (root / "jobs").mkdir()
        self.index.mkdir(parents=True)
        (root / "lakeflow.toml").write_text(SETTINGS, encoding="utf-8")
        (root / "tables" / "index.sql").write_text(DECLARED, encoding="utf-8")
        self._lake: Lake = open_lake(root / ".lakeflow")
        self._committer = Committer(self._lake, keep_snapshots=20)
        made(self._lake, SCHEMA, name=TABLE)

    def append(self, commits: int) -> None:
        """Some commits of new and newer rows, of keys drawn anew each time."""
        for _ in range(commits):
            self._commit(self._rows(self._roll.randrange(10, 60)), replace_all=False)

    def replace(self) -> None:
        """The whole table made anew: no append, so that the index must be built anew too."""
        self.expected.clear()
        self._commit(self._rows(KEYS // 2), replace_all=True)

    def merge(self) -> None:
        """The table's files written again with few rows others and few gone, which the index follows in a copy of itself."""
        table = self._lake.table(TABLE)
        snapshot = table.current_snapshot()
        assert snapshot is not None
        gone = self._roll.sample(sorted(self.expected), len(self.expected) // 10)
        for key in gone:
            del self.expected[key]
        self.expected |= self._rows(self._roll.randrange(1, 10))
        live = tuple(split.task.file for split in splits_at(table, snapshot))
        data = written(table, self._table(self.expected))
        self._committer.commit(Change(TABLE, add=data, remove=live, base=snapshot.snapshot_id))

    def _rows(self, count: int) -> Rows:
        self._turn += 1
        keys = self._roll.sample(range(KEYS), count)
        return {key: (self._turn, [float(self._roll.randrange(1000)) for _ in range(WIDTH)]) for key in keys}

    def _commit(self, rows: Rows, *, replace_all: bool) -> None:
        data = written(self._lake.table(TABLE), self._table(rows))
        self._committer.commit(Change(TABLE, add=data, replace_all=replace_all))
        self.expected |= rows

    def _table(self, rows: Rows) -> pa.Table:
        columns = {"id": list(rows), "turn": [turn for turn, _ in rows.values()], "vector": [v for _, v in rows.values()]}
        return pa.table(columns, schema=SCHEMA)
