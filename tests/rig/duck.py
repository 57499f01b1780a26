"""DuckDB with its iceberg extension: a reader of tables by their metadata, in a virtual environment and process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.rig.cache import FETCH, HERE, Missing, cache_folder, digest, run

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table

NAME = "duckdb"
LOCK = HERE / "duckdb.lock"
SECONDS = 120


class RefusedByDuckDB(Exception):
    """DuckDB cannot answer a query; the message is its own."""


def _environment() -> Path:
    """Another lock is another environment, so that none is ever half of two. pip has checked the hashes of its files."""
    return cache_folder() / f"{NAME}-{digest(LOCK)[:12]}"


def fetch() -> None:
    """Standard library only."""
    place = _environment()
    if place.exists():
        return
    fresh = place.with_name(f"{NAME}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    log = cache_folder() / f"{NAME}.log"
    run([sys.executable, "-m", "venv", str(fresh)], log)
    pip = [str(fresh / "bin" / "python"), "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"]
    run([*pip, "-r", str(LOCK)], log)
    fresh.rename(place)


class DuckDB:
    """`rows(table, sql)`: what DuckDB answers to SQL over `rows`, which is the table as its metadata file tells it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / NAME
        self._python = _environment() / "bin" / "python"
        if not self._python.exists():
            raise Missing(f"DuckDB with its extensions is not in {self._python.parents[1]}: {FETCH}")

    def start(self) -> None:
        self._folder.mkdir()

    def rows(self, table: Table, sql: str = "SELECT * FROM rows") -> pa.Table:
        """Raises RefusedByDuckDB where DuckDB cannot answer."""
        import pyarrow.parquet as pq

        answer = self._folder / "answer.parquet"
        storage = {name: value for name, value in table.io.properties.items() if name.startswith("s3.")}
        asked = {"metadata": table.metadata_location, "sql": sql, "answer": str(answer), "storage": storage}
        done = subprocess.run(
            [str(self._python), "-I", str(HERE / "duckdb_reader.py")], input=json.dumps(asked), capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RefusedByDuckDB(done.stderr[-2000:])
        return pq.read_table(answer)

    def stop(self) -> None:
        """Nothing runs between answers."""
