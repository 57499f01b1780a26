"""An index updated by real processes that are killed between its rows and its position, stopped, raced, and rebuilt."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import lancedb
import pytest

from tests.chaos.processes import TERMINATED, Child, Nursery, judge, wait_for
from tests.chaos.report import LONG, tell
from tests.chaos.vectors import Rows, Vectors
from tests.chaos.watch import CLOSE_WRITE, CREATE, MOVED_TO, FolderWatch, Sign

KILLS = 24 if LONG else 3
BOOK = "_lakeflow_indexes"
ANY = (Sign(CREATE | CLOSE_WRITE | MOVED_TO, "*"),)
COMMAND = ("run", "--follow", "--every", "0.1")
NOTHING_LEFT = 7

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(1800 if LONG else 600),
    pytest.mark.skipif(sys.platform != "linux", reason="watches processes by /proc and inotify"),
]


class Track:
    """The processes that update the index, and what befalls them."""

    def __init__(self, vectors: Vectors, nursery: Nursery, seed: int) -> None:
        self.tally: Counter[str] = Counter()
        self._vectors, self._nursery = vectors, nursery
        self._roll = random.Random(seed)
        self._children: list[Child] = []

    def play(self, kills: int) -> None:
        while self.tally["killed"] < kills:
            self._change_table()
            self._raise_to(self._roll.choice((1, 1, 2)))
            if self._roll.random() < 0.25:
                self._resurrect()
            else:
                self._kill(self._roll.choice(self._children))

    def end(self) -> None:
        """SIGTERM ends what is left."""
        for child in self._children:
            wait_until_ready(child)
            child.end()
            judge(child, (TERMINATED,))
            self.tally["fenced"] += child.fenced()

    def _change_table(self) -> None:
        if self._roll.random() < 0.15:
            self._vectors.replace()
        self._vectors.append(self._roll.randrange(1, 4))

    def _kill(self, child: Child) -> None:
        before = standing(self._vectors.index)
        aim = self._take_aim(child)
        assert child.kill(), child.said()
        self._bury(child)
        self.tally["killed"] += 1
        self.tally[f"killed {aim}"] += 1
        after = standing(self._vectors.index)
        self.tally["killed with rows in and their position not"] += after[0] == before[0] and after[1] != before[1]

    def _resurrect(self) -> None:
        zombie = self._roll.choice(self._children)
        self._take_aim(zombie)
        zombie.stop()
        for other in [child for child in self._children if child is not zombie]:
            self._kill(other)
        rival = self._start()
        wait_until_ready(rival)
        before = positions(self._vectors.index)
        self._vectors.append(2)
        wait_for(lambda: positions(self._vectors.index) != before, "a rival of a stopped index update", pause=0.1)
        zombie.go_on()
        self.tally["zombies"] += 1

    def _take_aim(self, child: Child) -> str:
        """Wait for a moment to strike: as rows come, as rows are in and the position is not, as the position is, or any."""
        wait_until_ready(child)
        folders = [folder for folder in self._vectors.index.rglob("*") if folder.is_dir()]
        aims = {
            "as a file of rows came": [folder for folder in folders if folder.name == "data" and BOOK not in str(folder)],
            "as rows were committed": [f for f in folders if f.name == "_versions" and BOOK not in str(f)],
            "as the position was recorded": [f for f in folders if f.name in ("data", "_versions") and BOOK in str(f)],
            "as the index was made": [self._vectors.index],
        }
        aim = self._roll.choice([*(name for name, watched in aims.items() if watched), "at random"])
        if aim == "at random":
            time.sleep(self._roll.uniform(0, 1.5))
            return aim
        with FolderWatch(aims[aim]) as watch:
            self._vectors.append(1)
            seen = watch.wait(ANY, seconds=3.0, given_up=lambda: not child.is_live())
        return aim if seen else "at random"

    def _raise_to(self, count: int) -> None:
        while len(self._children) < count:
            self._start()

    def _start(self) -> Child:
        self._children.append(self._nursery.start(*COMMAND))
        return self._children[-1]

    def _bury(self, child: Child) -> None:
        judge(child, (-signal.SIGKILL,))
        self.tally["fenced"] += child.fenced()
        self._children.remove(child)


def wait_until_ready(child: Child) -> None:
    wait_for(lambda: child.is_ready() or not child.is_live(), "a process to be ready", pause=0.02)


def positions(index: Path) -> list[Any]:
    """What the index's book says now, read by LanceDB itself."""
    database = lancedb.connect(str(index))
    if not (index / f"{BOOK}.lance").exists():
        return []
    rows: list[Any] = database.open_table(BOOK).to_arrow().select(["stored_in", "position"]).to_pylist()
    return rows


def standing(index: Path) -> tuple[list[Any], list[int]]:
    """The positions, and the versions of the rows' tables, which move before them."""
    database = lancedb.connect(str(index))
    entries = positions(index)
    return entries, [database.open_table(entry["stored_in"]).version for entry in entries]


def held(index: Path) -> list[tuple[int, tuple[int, list[float]]]]:
    """Every row of the index, read by LanceDB itself."""
    [entry] = positions(index)
    rows = lancedb.connect(str(index)).open_table(entry["stored_in"]).to_arrow().to_pylist()
    return [(row["id"], (row["turn"], list(row["vector"]))) for row in rows]


def check(index: Path, expected: Rows) -> None:
    rows = held(index)
    assert len(rows) == len({key for key, _ in rows}), "a key is in the index twice"
    found = dict(rows)
    wrong = {key: (found.get(key), expected.get(key)) for key in found.keys() | expected if found.get(key) != expected.get(key)}
    assert not wrong, f"{len(wrong)} keys differ, index against table: {dict(list(wrong.items())[:5])}"


def test_the_index_holds_the_last_row_of_every_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("LAKEFLOW_CHAOS_SEED") or random.randrange(1_000_000))
    print(f"LAKEFLOW_CHAOS_SEED={seed}")
    vectors = Vectors(tmp_path / "project", seed)
    vectors.append(3)
    with Nursery(vectors.root, tmp_path / "logs") as nursery:
        track = Track(vectors, nursery, seed)
        track.play(KILLS)
        track.end()
        nursery.run("run")
        nursery.run("run", "--exit-on-empty", str(NOTHING_LEFT), expected=NOTHING_LEFT)
    check(vectors.index, vectors.expected)
    assert track.tally["killed"] >= KILLS
    lines = [f"\nindex, seed {seed}: {len(vectors.expected)} keys, each there once with its last row"]
    lines += [f"  {what:<80}{count:>6}" for what, count in sorted(track.tally.items())]
    tell("\n".join(lines), capsys)
