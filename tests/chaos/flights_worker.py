"""The process that carries out a day's commands, and its kills. Linux alone: it is watched by inotify and /proc."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.chaos.processes import Misbehaved, wait_for
from tests.chaos.watch import AIMS, FolderWatch

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 600.0
Commands = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Told:
    """What the commands of a wave took: CPU-seconds each, seconds by the clock, bytes of memory behind them and ever."""

    commands: tuple[float, ...]
    wall: float
    resident: int
    peak: int

    @property
    def cpu(self) -> float:
        return sum(self.commands)


class Worker:
    """`python -m tests.chaos.verbs` in a project, started anew where it was killed; leaves no process behind."""

    def __init__(self, project: Path, bootstrap: str, logs: Path) -> None:
        self._project = project
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("LAKEFLOW_")}
        self._environment |= {"LAKEFLOW_KAFKA": bootstrap, "PYTHONPATH": str(REPOSITORY), "PYTHONFAULTHANDLER": "1"}
        self._logs = logs
        self._lives = 0
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Worker:
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._kill()

    def carry_out(self, commands: Commands) -> Told:
        """Wait until all are done. Raises Misbehaved where one fails, or the process ends."""
        self._ask(commands)
        wait_for(lambda: self._is_done() or self._process.poll() is not None, f"lakeflow {commands}", PATIENCE, pause=0.01)
        told = self._told()[-1] if self._is_done() else {}
        if not told or any(one["code"] for one in told["done"]):
            raise Misbehaved(f"lakeflow {commands} went wrong: {told}\n{self._log('err').read_text(errors='replace')}")
        done = told["done"]
        cpu = tuple(one["cpu"] for one in done)
        return Told(cpu, sum(one["wall"] for one in done), told["resident"], told["peak"])

    def struck(self, commands: Commands, roll: random.Random, usual: float) -> str:
        """Begin `commands` and kill the process at a moment of `roll`'s: any, or one around a commit of a table. The command
        that was under way."""
        self._ask(commands)
        if roll.random() < 0.5:
            self._pause(roll.uniform(0, usual))
        else:
            self._take_aim(roll, usual)
        self._kill()
        under_way = self._under_way()
        self._start()
        return under_way

    def _take_aim(self, roll: random.Random, usual: float) -> None:
        """Wait for a sign of a commit in one of the tables' folders, and a moment more."""
        folders = [path for path in self._project.glob(".lakeflow/warehouse/*/*/metadata") if path.is_dir()]
        self._pause(roll.uniform(0, usual / 2))
        with FolderWatch([*folders, self._project / ".lakeflow"]) as watch:
            signs = AIMS[roll.choice([name for name in AIMS if "data file" not in name])]
            watch.wait(signs, seconds=usual, given_up=self._is_done)
        self._pause(roll.uniform(0, 0.02))

    def _pause(self, seconds: float) -> None:
        try:
            wait_for(self._is_done, "", patience=seconds)
        except Misbehaved:
            return

    def _start(self) -> None:
        self._lives += 1
        with self._log("out").open("wb") as out, self._log("err").open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.verbs"],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                cwd=self._project,
                env=self._environment,
            )
        self._asked = 0
        wait_for(lambda: bool(self._told()) or self._process.poll() is not None, "a process to start", PATIENCE)

    def _ask(self, commands: Commands) -> None:
        assert self._process.stdin is not None
        self._asked += 1
        self._process.stdin.write(json.dumps([list(command) for command in commands]).encode() + b"\n")
        self._process.stdin.flush()

    def _kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _is_done(self) -> bool:
        return sum("done" in told for told in self._told()) == self._asked

    def _under_way(self) -> str:
        begun = [told["begun"] for told in self._told() if "begun" in told]
        if self._is_done():
            return "nothing: all was done"
        return " ".join(begun[-1]) if begun else "nothing yet"

    def _told(self) -> list[dict[str, Any]]:
        """What the process has told so far, in whole lines."""
        text = self._log("out").read_bytes()
        return [json.loads(line) for line in text[: text.rfind(b"\n") + 1].splitlines()]

    def _log(self, kind: str) -> Path:
        return self._logs / f"{self._lives:03d}.{kind}"
