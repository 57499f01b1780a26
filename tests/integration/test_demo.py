"""The demo, as its user runs it: the command in an empty folder."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from tests.independent_reader import multiset, read_table

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights" / "data" / "flights.parquet"


@pytest.mark.demo
@pytest.mark.timeout(600)
def test_the_demo_in_an_empty_folder_holds_every_check(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lakeflow", "demo"], cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Every check holds." in done.stdout
    assert "✗" not in done.stdout
    catalog = tmp_path / ".lakeflow" / "demo" / "catalog.db"
    sent = pl.read_parquet(FLIGHTS)
    landed = read_table(catalog, "bronze.flights").rows()
    assert landed.num_rows == sent.height
    assert Counter(landed["tailnum"].to_pylist()) == Counter(sent["tailnum"].to_list())
    incremental, snapshot = (read_table(catalog, f"{name}.scored_flights").rows() for name in ("gold", "audit"))
    assert multiset(incremental) == multiset(snapshot)
