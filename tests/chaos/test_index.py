"""An index updated by real processes that are killed between its rows and its position, as it is optimized, copied and built
anew, stopped, and raced."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lancedb
import pytest

from tests.chaos.processes import TERMINATED, Child, Nursery, judge, wait_for
from tests.chaos.report import LONG, tell
from tests.chaos.vectors import Rows, Vectors
from tests.chaos.watch import CLOSE_WRITE, CREATE, MOVED_TO, FolderWatch, Sign, locks_of

KILLS = 24 if LONG else 3
BOOK = "_lakeflow_indexes"
ANY = (Sign(CREATE | CLOSE_WRITE | MOVED_TO, "*"),)
COMMAND = ("run", "--follow", "--every", "0.1")
FENCED_OUT = 1
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
            self._reap()
            self._raise_to(self._roll.choice((1, 1, 2)))
            if self._roll.random() < 0.25:
                self._resurrect()
            else:
                self._kill(self._roll.choice(self._children))

    def end(self) -> None:
        """SIGTERM ends what is left."""
        self._reap()
        for child in list(self._children):
            wait_until_ready(child)
            child.end()
            self._bury(child, TERMINATED)

    def _change_table(self) -> None:
        lot = self._roll.random()
        if lot < 0.1:
            self._vectors.replace()
        elif lot < 0.3:
            self._vectors.merge()
        self._vectors.append(self._roll.randrange(1, 4))

    def _kill(self, child: Child) -> None:
        before = standing(self._vectors.index)
        aim = self._take_aim(child)
        killed = child.kill()
        self._bury(child)
        if not killed:
            return
        self.tally["killed"] += 1
        self.tally[f"killed {aim}"] += 1
        after = standing(self._vectors.index)
        self.tally["killed with rows in and their position not"] += after[0] == before[0] and after[1] != before[1]

    def _resurrect(self) -> None:
        zombie = self._roll.choice(self._children)
        self._take_aim(zombie)
        zombie.stop()
        if locks_of(zombie.pid, self._vectors.catalog):
            zombie.go_on()  # nobody can commit while it holds the catalog's lock
            return
        for other in [child for child in self._children if child is not zombie]:
            self._kill(other)
        rival = self._start()
        wait_until_ready(rival)
        before = positions(self._vectors.index)
        self._vectors.append(2)
        rival.wait_until(lambda: positions(self._vectors.index) != before, "to update the index beside a stopped process")
        zombie.go_on()
        self.tally["zombies"] += 1

    def _take_aim(self, child: Child) -> str:
        """Wait for a moment to strike: as rows come, as rows are in and the position is not, as the position is, or any."""
        wait_until_ready(child)
        folders = [Path(place) for place, _, _ in os.walk(self._vectors.index)]  # which heeds no folder that goes meanwhile
        of_rows = [folder for folder in folders if BOOK not in str(folder)]
        index, book = self._vectors.index, [folder for folder in folders if BOOK in str(folder)]
        aims: dict[str, tuple[Sequence[Path], Callable[[], None]]] = {
            "as a file of rows came": (_named(of_rows, "data"), self._append),
            "as rows were committed": (_named(of_rows, "_versions"), self._append),
            "as the index was optimized": (_named(of_rows, "_indices"), self._append),
            "as the position was recorded": ([*_named(book, "data"), *_named(book, "_versions")], self._append),
            "as the index was built anew": ([index], self._vectors.replace),
            "as the index was copied": ([index], self._vectors.merge),
        }
        aim = self._roll.choice([*(name for name, (watched, _) in aims.items() if watched), "at random"])
        if aim == "at random":
            time.sleep(self._roll.uniform(0, 1.5))
            return aim
        watched, provoke = aims[aim]
        with FolderWatch(watched) as watch:
            provoke()
            seen = watch.wait(ANY, seconds=10.0, given_up=lambda: not child.is_live())
        if seen and watched == [index]:
            time.sleep(self._roll.uniform(0, 0.3))  # so that it is struck in its midst too, as it trains or as it is swapped in
        return aim if seen else "at random"

    def _append(self) -> None:
        self._vectors.append(1)

    def _raise_to(self, count: int) -> None:
        while len(self._children) < count:
            self._start()

    def _start(self) -> Child:
        self._children.append(self._nursery.start(*COMMAND))
        return self._children[-1]

    def _reap(self) -> None:
        """Bury what has ended. A process that was fenced has given the index up."""
        for child in list(self._children):
            if child.fenced():
                child.kill()
            if not child.is_live():
                self._bury(child)

    def _bury(self, child: Child, *also_allowed: int) -> None:
        judge(child, (-signal.SIGKILL, FENCED_OUT, *also_allowed))
        self.tally["fenced"] += child.fenced()
        self._children.remove(child)


def _named(folders: Sequence[Path], name: str) -> list[Path]:
    return [folder for folder in folders if folder.name == name]


def wait_until_ready(child: Child) -> None:
    wait_for(lambda: child.is_ready() or not child.is_live(), "a process to be ready", pause=0.02)


def positions(index: Path) -> list[Any]:
    """What the index's book says now, read by LanceDB itself."""
    if not versions(index, BOOK):
        return []
    book = lancedb.connect(str(index)).open_table(BOOK)
    rows: list[Any] = book.to_arrow().select(["stored_in", "position"]).to_pylist()
    return rows


def versions(index: Path, table: str) -> set[str]:
    """The versions of a LanceDB table, of which each write makes one; none while it is being made, or when it is gone."""
    return {path.name for path in (index / f"{table}.lance" / "_versions").glob("*.manifest")}


def standing(index: Path) -> tuple[list[Any], list[set[str]]]:
    """The positions, and the versions of the rows' tables, which move before them."""
    entries = positions(index)
    return entries, [versions(index, entry["stored_in"]) for entry in entries]


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
        nursery.run("index", "verify")  # whose exit code is 1 where it finds anything
    check(vectors.index, vectors.expected)
    assert track.tally["killed"] >= KILLS
    lines = [f"\nindex, seed {seed}: {len(vectors.expected)} keys, each there once with its last row"]
    lines += [f"  {what:<80}{count:>6}" for what, count in sorted(track.tally.items())]
    tell("\n".join(lines), capsys)
