"""A process that carries out command lines of lakeflow one after the other, as they come on stdin, and tells how that went.

    python -m tests.chaos.verbs

Each line of stdin is a JSON list of command lines, each a list of words. On stdout stand JSON objects: `begun` as a command
begins, `done` when all of a line are, with the seconds of each. It stands for a machine that runs the same commands
day by day, without the second that Python takes to start.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from lakeflow.cli.app import main


def serve(requests: TextIO, answers: TextIO) -> None:
    """Until `requests` end."""
    tell(answers, {"ready": True})
    for line in requests:
        commands: list[list[str]] = json.loads(line)
        tell(answers, {"done": [carried_out(command, answers) for command in commands], **memory()})


def carried_out(command: list[str], answers: TextIO) -> dict[str, Any]:
    """One command line; what it prints goes nowhere, but where it fails."""
    tell(answers, {"begun": command})
    said = io.StringIO()
    wall, cpu = time.monotonic(), time.process_time()
    with contextlib.redirect_stdout(said):
        code = main(command)
    if code:
        sys.stderr.write(said.getvalue())
    return {"command": command, "code": code, "wall": time.monotonic() - wall, "cpu": time.process_time() - cpu}


def memory() -> dict[str, int]:
    """Bytes that the process holds resident, and the most that it ever held (Linux)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(status[field].split()[0]) * 1024 for name, field in (("resident", "VmRSS"), ("peak", "VmHWM"))}


def tell(answers: TextIO, what: dict[str, Any]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
