"""Real processes of the command line: started, stopped, continued, killed, and judged when they end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

FENCED = re.compile(r"^error: .*another process", re.MULTILINE)
"""What a process says that was fenced, by a table's progress or by an index's position."""
PATIENCE = 120.0
"""Seconds after which something that must happen counts as never happening. Nothing here is timed against it."""
TERMINATED = 128 + signal.SIGTERM
_SIGTERM_BIT = 1 << (signal.SIGTERM - 1)


class Misbehaved(AssertionError):
    """A process did what it must not; the message holds its stderr."""


@dataclass(slots=True)
class Child:
    """One `python -m lakeflow ..`. What it says goes to files, which outlive it."""

    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes]
    stderr: Path
    born: float = field(default_factory=time.monotonic)
    stopped: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_live(self) -> bool:
        return self.process.poll() is None

    def is_ready(self) -> bool:
        """Whether its imports are done: it handles SIGTERM and has opened the catalog."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
            opened = [os.readlink(link) for link in Path(f"/proc/{self.pid}/fd").iterdir()]
        except (FileNotFoundError, ProcessLookupError):
            return False
        if not any(name.endswith("/catalog.db") for name in opened):
            return False
        caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
        return bool(int(caught.split()[1], 16) & _SIGTERM_BIT)

    def said(self) -> str:
        return self.stderr.read_text(encoding="utf-8", errors="replace")

    def fenced(self) -> int:
        """How often it has said that it was fenced."""
        return len(FENCED.findall(self.said()))

    def stop(self) -> None:
        """SIGSTOP, and wait until all its threads stand still. One that ended meanwhile stays as it is."""
        self.process.send_signal(signal.SIGSTOP)
        self.stopped = True
        wait_for(lambda: self._state() in ("T", "Z", ""), "a process to stop")

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.stopped = False

    def kill(self) -> bool:
        """SIGKILL, and wait for the end. Whether that was what ended it."""
        self.process.kill()
        self.process.wait()
        return self.process.returncode == -signal.SIGKILL

    def end(self) -> None:
        """SIGTERM, and wait for the end. Raises Misbehaved, with the stacks of its threads, where it does not come."""
        self.process.send_signal(signal.SIGTERM)
        self.wait()

    def wait(self) -> int:
        """Wait for the end; the exit code. Raises Misbehaved, with the stacks of its threads, where it does not come."""
        self.wait_until(lambda: not self.is_live(), "its end")
        return int(self.process.returncode)

    def wait_until(self, happened: Callable[[], bool], what: str) -> None:
        """Wait for what this process should do. Raises Misbehaved, with the stacks of its threads, where it does not."""
        try:
            wait_for(happened, what, pause=0.02)
        except Misbehaved as error:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait()
            raise Misbehaved(f"lakeflow {' '.join(self.arguments)} (pid {self.pid}): {error}:\n{self.said()}") from None

    def _state(self) -> str:
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return ""


class Nursery:
    """Starts processes in a project, and leaves none behind, however its block ends."""

    def __init__(self, project: Path, logs: Path) -> None:
        self._project = project
        self._logs = logs
        self._children: list[Child] = []
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for child in self._children:
            if child.is_live():
                child.kill()

    def start(self, *arguments: str) -> Child:
        number = len(self._children)
        log = self._logs / f"{number:03d}-{arguments[0]}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LAKEFLOW_")}
        with log.with_suffix(".out").open("wb") as out, log.with_suffix(".err").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "lakeflow", *arguments, "--project", str(self._project)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=self._project,
                env=environment | {"PYTHONFAULTHANDLER": "1"},
            )
        child = Child(arguments, process, log.with_suffix(".err"))
        self._children.append(child)
        return child

    def run(self, *arguments: str, expected: int = 0) -> None:
        """A process that ends by itself. Raises Misbehaved where it ends otherwise than with `expected`."""
        child = self.start(*arguments)
        code = child.wait()
        if code != expected:
            raise Misbehaved(f"lakeflow {' '.join(arguments)} ended with {code}, not {expected}:\n{child.said()}")


def judge(child: Child, allowed: Sequence[int]) -> None:
    """That a process ended in one of the allowed ways, and complained of nothing but having been fenced.

    Raises Misbehaved otherwise.
    """
    said = child.said()
    code = child.process.returncode
    complaints = [line for line in said.splitlines() if line.startswith(("error: ", "Traceback", "Fatal Python error"))]
    strange = [line for line in complaints if not FENCED.match(line)]
    if strange or code not in allowed or (code == 1 and not complaints):
        raise Misbehaved(
            f"lakeflow {' '.join(child.arguments)} (pid {child.pid}) ended with {code}, allowed {sorted(allowed)}:\n{said}"
        )


def wait_for(happened: Callable[[], bool], what: str, patience: float = PATIENCE, pause: float = 0.002) -> None:
    """Wait until `happened()`. Raises Misbehaved where it does not."""
    end = time.monotonic() + patience
    while not happened():
        if time.monotonic() > end:
            raise Misbehaved(f"waited {patience:g} s for {what}")
        time.sleep(pause)
