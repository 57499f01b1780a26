"""python -m benchmarks [NAME..]: measure, print, and keep the results of a full run under benchmarks/results/."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from benchmarks.harness import Result, Settings
from benchmarks.report import load, page

BENCHMARKS = (
    "start_time",
    "commit_time",
    "landing_speed",
    "landing_memory",
    "predict_speed",
    "remote_speed",
    "job_memory",
    "merge",
    "keyed",
    "windows",
    "flights_year",
    "tpch",
)
WITH_SERVERS = ("connect", "landing_formats")
"""Run by their names only: they need real servers (make rig)."""
WITH_MODELS = ("index_kinds", "search_speed", "retrieval")
"""Run by their names only: they embed texts by a model that LAKEFLOW_TEST_MODELS names, which takes a quarter of an hour."""
BY_NAME = WITH_SERVERS + WITH_MODELS
RESULTS = Path(__file__).parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 where every bar holds, 1 where one is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory of lakeflow, measured.")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(BENCHMARKS)}; without any, all of these; and {', '.join(BY_NAME)}",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full amount of data; below 1 nothing is kept")
    parser.add_argument("--rounds", type=int, default=3, help="how often each figure is measured; the best counts")
    given = parser.parse_args(arguments)
    for name in given.names:
        if name not in BENCHMARKS + BY_NAME:
            parser.error(f"unknown benchmark {name!r}; valid: {', '.join(BENCHMARKS + BY_NAME)}")
    missed = [
        bar.what for name in given.names or BENCHMARKS for bar in measure(name, given.scale, given.rounds).bars if not bar.holds
    ]
    if missed:
        print(f"{len(missed)} bars are missed: {'; '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def measure(name: str, scale: float, rounds: int) -> Result:
    """Run one benchmark, print its page, and keep it where it was a full run."""
    print(f"{name} ..", file=sys.stderr, flush=True)
    busy, started = load(), time.monotonic()
    cache = Path(tempfile.gettempdir()) / "lakeflow-benchmarks"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"lakeflow-{name}-") as folder:
        result: Result = import_module(f"benchmarks.{name}").run(Settings(Path(folder), cache, scale, rounds))
    text = page(result, f"python -m benchmarks {name}" + ("" if scale == 1 else f" --scale {scale:g}"), busy, load())
    print(text)
    print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if scale == 1:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text(text)
    return result


if __name__ == "__main__":
    sys.exit(main())
