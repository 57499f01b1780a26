"""Landings and jobs, as real processes, are killed, stopped, continued and raced; afterwards every row is there, once.

The short form runs with the other tests. The long one is `make chaos`, or LAKEFLOW_CHAOS=long pytest -m chaos tests/chaos.
LAKEFLOW_CHAOS_SEED repeats the choices of a round, though not the moments that the machine makes of them.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.chaos.report import LONG, Outcome, report, tell
from tests.chaos.rounds import ALL_SNAPSHOTS, play_round

ROUNDS = 4 if LONG else 1
KILLS: Mapping[str, int] = {"land": 28, "run": 26} if LONG else {"land": 7, "run": 6}
FEW_SNAPSHOTS = 6

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(3600 if LONG else 600),
    pytest.mark.skipif(sys.platform != "linux", reason="watches processes by /proc and inotify"),
]


def test_every_row_is_there_once_whatever_befalls_the_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = int(os.environ.get("LAKEFLOW_CHAOS_SEED") or random.randrange(1_000_000))
    outcomes: list[Outcome] = []
    for seed in range(first, first + ROUNDS):
        print(f"LAKEFLOW_CHAOS_SEED={seed}")
        # A round either forgets its snapshots, so that progress must survive that, or keeps all to add them up.
        outcomes.append(play_round(tmp_path / str(seed), seed, KILLS, ALL_SNAPSHOTS if seed % 2 else FEW_SNAPSHOTS))
    assert sum(outcome.tally.all_kills for outcome in outcomes) >= ROUNDS * sum(KILLS.values())
    tell(report(outcomes), capsys)
