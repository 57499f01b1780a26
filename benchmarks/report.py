"""A result as text: a table for the terminal and the pages under results/."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.harness import GIB, Bar, Result

LIBRARIES = (
    "lakeflow",
    "confluent-kafka",
    "duckdb",
    "lancedb",
    "msgspec",
    "numpy",
    "onnxruntime",
    "polars",
    "pyarrow",
    "pyiceberg",
)
CPUINFO = Path("/proc/cpuinfo")


def page(result: Result, command: str, before: float, after: float) -> str:
    """The Markdown page of a result, with all that is needed to judge it and to run it again. `before` and `after`: loads."""
    load = f"the machine's load was {before:.1f} before and {after:.1f} after"
    parts = [
        f"# {result.title}",
        result.data,
        table(result.columns, result.rows),
        table(("bar", "measured", "limit", ""), [_bar_row(bar) for bar in result.bars]) if result.bars else "",
        "\n".join(f"- {note}" for note in result.notes),
        f"Run on {date.today().isoformat()} with `{command}` on {machine()}; {load}.\n{libraries()}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, aligned so that it reads on a terminal too: the first column left, the others right."""
    lines = [tuple(columns), *rows]
    widths = [max(2, *(len(line[place]) for line in lines)) for place in range(len(columns))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    shown = [
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in [shown[0], rule, *shown[1:]])


def _bar_row(bar: Bar) -> tuple[str, str, str, str]:
    sign = "≥" if bar.at_least else "≤"
    return bar.what, f"{bar.measured:.2f}{bar.unit}", f"{sign} {bar.limit:g}{bar.unit}", "holds" if bar.holds else "MISSED"


def machine() -> str:
    """Processor, cores, memory, system and Python; nothing that names the machine itself."""
    memory = psutil.virtual_memory().total / GIB
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} {platform.machine()}, {python}"


def _processor() -> str:
    if CPUINFO.exists():
        for line in CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def libraries() -> str:
    return "Versions: " + ", ".join(f"{name} {version(name)}" for name in LIBRARIES) + "."


def load() -> float:
    """Processes that were running or waiting, on average over the last minute: more than there are cores blur the clock."""
    return os.getloadavg()[0]
