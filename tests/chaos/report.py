"""The table that is printed when all is over."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from tests.chaos.scene import Tally
from tests.chaos.watch import Phase

LONG = os.environ.get("LAKEFLOW_CHAOS") == "long"
ROLES = ("land", "run", "index")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One round that held."""

    seed: int
    tally: Tally
    facts: dict[str, int]
    seconds: float


def report(outcomes: list[Outcome]) -> str:
    """Rounds, kills by phase, zombies and what was compared."""
    tally = sum((outcome.tally for outcome in outcomes), Tally())
    roles = [role for role in ROLES if tally.started[role]]
    lines = ["", "round seeds: " + ", ".join(f"{outcome.seed} ({outcome.seconds:.0f} s)" for outcome in outcomes), ""]
    lines.append(_line("killed by SIGKILL", *roles, "all"))
    for phase in Phase:
        counts = [tally.kills[role, phase] for role in roles]
        lines.append(_line(f"  {phase}", *counts, sum(counts)))
    lines.append(_line("  in all", *map(tally.kills_of, roles), tally.all_kills))
    lines.append(_line("  while two raced two", tally.rivals["two against two"]))
    lines.append(_line("zombies, by SIGSTOP and SIGCONT", *roles))
    for outcome in sorted({outcome for _, outcome in tally.zombies}):
        lines.append(_line(f"  {outcome}", *(tally.zombies[role, outcome] for role in roles)))
    lines.append(_line("ended by SIGTERM, nothing half done", *(tally.terminated[role] for role in roles)))
    lines.append(_line("times fenced", *(tally.fenced[role] for role in roles)))
    lines.append(_line("processes started", *(tally.started[role] for role in roles)))
    for fact in dict.fromkeys(fact for outcome in outcomes for fact in outcome.facts):
        counts = [outcome.facts.get(fact, 0) for outcome in outcomes]
        lines.append(_line(fact, *(counts if len(counts) > 1 else ()), sum(counts)))
    return "\n".join(lines)


def _line(name: str, *cells: object) -> str:
    return f"{name:<64}" + "".join(f"{cell:>9,}" if isinstance(cell, int) else f"{cell:>9}" for cell in cells)


def tell(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Print a report: past pytest's capture in the long form, which is run to see it."""
    if not LONG:
        print(text)
        return
    with capsys.disabled():
        print(text)
