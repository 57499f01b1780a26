"""The short form of tests/chaos/start.py: the whole process killed and started again, while records come."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from tests.chaos.report import LONG, tell
from tests.chaos.start import kill_and_count, run_load

KILLS = 30 if LONG else 2

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(3600 if LONG else 300),
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]


def test_a_killed_process_lands_and_runs_everything_exactly_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("LAKEFLOW_CHAOS_SEED") or random.randrange(1_000_000))
    print(f"LAKEFLOW_CHAOS_SEED={seed}")
    tell(kill_and_count(tmp_path, seed, KILLS), capsys)


@pytest.mark.skipif(not LONG, reason="minutes of load: LAKEFLOW_CHAOS=long")
def test_under_load_with_faults_nothing_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tell(run_load(tmp_path, 5.0, 100), capsys)
