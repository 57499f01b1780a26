"""The short form of tests/chaos/flights.py: the first days of January, out of order, with kills in between."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from tests.chaos.flights import play, report
from tests.chaos.report import LONG, tell

DAYS, KILLS = (31, 20) if LONG else (3, 2)

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(3600 if LONG else 600),
    pytest.mark.skipif(sys.platform != "linux", reason="watches processes by /proc and inotify"),
]


def test_flights_that_come_late_and_twice_end_in_the_tables_that_one_snapshot_makes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("LAKEFLOW_CHAOS_SEED") or random.randrange(1_000_000))
    print(f"LAKEFLOW_CHAOS_SEED={seed}")
    tell(report(play(tmp_path, seed, DAYS, KILLS)), capsys)
