"""The table that is printed when a run on real servers has held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from tests.chaos.real_fire import Tally
from tests.chaos.real_producers import Fates
from tests.chaos.real_proxy import Weather


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run that held. `skies` are the weather of the catalog and of the store."""

    seed: int
    fire_seconds: float
    seconds: float
    tally: Tally
    fates: Fates
    skies: tuple[Weather, ...]
    facts: Mapping[str, int]


def report(outcome: Outcome) -> str:
    """What was done, what came of it, and what was counted."""
    fates, tally = outcome.fates, outcome.tally
    lines = [f"seed {outcome.seed}: {outcome.fire_seconds:.0f} s of fire, {outcome.seconds:.0f} s in all"]
    lines += [line(what, times) for what, times in sorted(tally.done.items())]
    lines += [line(f"transactions {how}", times) for how, times in sorted(fates.transactions.items())]
    lines += [line("ids in aborted or abandoned transactions, none of them in a table", len(fates.aborted))]
    lines += [line("ids whose producer does not know what became of them", len(fates.unknown))]
    for name, sky in zip(("catalog", "store"), outcome.skies, strict=True):
        lines += [line(f"{name}: requests", sky.requests), line(f"{name}: outages", sky.outages)]
        lines += [line(f"{name}: {trouble}", times) for trouble, times in sorted(sky.met.items())]
    lines += [line(fact, number) for fact, number in outcome.facts.items()]
    if peaks := sorted(tally.peak_rss):
        lines += [line("peak memory of a landing, MiB: median", int(median(peaks)) >> 10), line("  highest", peaks[-1] >> 10)]
    lines += ["", "why landings were opened again, or ended:"]
    lines += [f"{times:>6,}  {cause}" for cause, times in tally.causes.most_common()]
    return "\n".join(lines)


def line(name: str, number: int) -> str:
    return f"{name:<72}{number:>12,}"
