"""The short forms of tests/chaos/models.py: a run killed while it asks a model, and a service in trouble."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from tests.chaos.models import kill_and_count, trouble_and_count
from tests.chaos.report import LONG, tell
from tests.services.openai import Faults

KILLS = 50 if LONG else 6
ROWS = 10_000 if LONG else 300

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(3600 if LONG else 300),
    pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX"),
]


@pytest.fixture
def seed() -> int:
    drawn = int(os.environ.get("LAKEFLOW_CHAOS_SEED") or random.randrange(1_000_000))
    print(f"LAKEFLOW_CHAOS_SEED={drawn}")
    return drawn


def test_a_killed_run_asks_nothing_again_that_was_kept_and_ends_in_the_same_table(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    tell(kill_and_count(tmp_path, seed, KILLS).report(), capsys)


def test_a_service_in_trouble_loses_no_row(tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    share = 0.01 if LONG else 0.03
    faults = Faults(error=share, slow=share, broken=share, cut=share / 5, slow_seconds=3600.0)
    tell(trouble_and_count(tmp_path, seed, ROWS, faults).report(), capsys)
