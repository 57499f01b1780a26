"""Runs the `lakeflow` command in a project of a test, as its user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 120


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    out: str
    err: str

    def rows(self) -> list[dict[str, Any]]:
        """What `--output json` printed: one list, or an object a line."""
        if self.out.lstrip().startswith("["):
            return list(json.loads(self.out))
        return [json.loads(line) for line in self.out.splitlines() if line.strip()]


@dataclass(frozen=True, slots=True)
class Commands:
    """The project in `folder`; `variables` are set for each command."""

    folder: Path
    variables: Mapping[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LAKEFLOW_")}
        return subprocess.Popen(
            [sys.executable, "-m", "lakeflow", *arguments, "--project", str(self.folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**environment, **self.variables},
        )

    def run(self, *arguments: str) -> Ended:
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"lakeflow {' '.join(arguments)} did not end within {SECONDS} s:\n{err}") from None
        return Ended(process.returncode, out, err)

    def done(self, *arguments: str) -> list[dict[str, Any]]:
        """The rows of a command that must succeed."""
        ended = self.run(*arguments, "--output", "json")
        assert ended.code == 0, f"lakeflow {' '.join(arguments)} ended with {ended.code}:\n{ended.err}"
        return ended.rows()


def project(folder: Path, settings: str, declarations: str, jobs: str = "", **variables: str) -> Commands:
    """A project with one file of declarations and one of jobs."""
    (folder / "tables").mkdir(parents=True)
    (folder / "jobs").mkdir()
    (folder / "lakeflow.toml").write_text(settings, encoding="utf-8")
    (folder / "tables" / "tables.sql").write_text(declarations, encoding="utf-8")
    if jobs:
        (folder / "jobs" / "jobs.py").write_text(jobs, encoding="utf-8")
    return Commands(folder, variables)
