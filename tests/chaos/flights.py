"""The year of New York flights in daily waves, out of order, with kills in between: the tables are what one snapshot makes.

    python -m tests.chaos.flights                          365 waves, one process
    python -m tests.chaos.flights --kills 60 --seed 7      the same, killed by SIGKILL in 60 places
    python -m tests.chaos.flights --waves 20 --kills 10
    python -m tests.chaos.flights --minutes 30             as many waves as come in half an hour

The project is the example as `lakeflow init --example flights` writes it. Each wave goes to the topics of an embedded broker
and through `lakeflow land` and `lakeflow run` of the jobs departures, hourly_departures and daily_departures; behind every
tenth, `lakeflow maintain` runs too. At the end each job runs once more, as a snapshot into a table of its own. DuckDB compares
the data files of both tables' heads, and what the jobs say with what its own queries make of the records that were sent.
The full year needs the extra `train`.
test_flights.py is the short form.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import polars as pl

from lakeflow.cli.examples import example, write_project
from lakeflow.topics.embedded import EmbeddedBroker
from tests.chaos.flights_check import AUDITED, Tables, check
from tests.chaos.flights_worker import Told, Worker

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"
sys.path.insert(0, str(EXAMPLE))  # its scripts import each other by their bare names
from arrivals import arrivals, waves  # noqa: E402
from nycflights import load  # noqa: E402
from waves import DATA, as_json  # noqa: E402

PARTITIONS = 8
JANUARY = 31
DAY = (
    ["land", "dim.weather", "bronze.flights"],
    ["run", "departures", "hourly_departures", "daily_departures"],
)
"""What is run for each wave."""
UPKEEP = ["maintain"]
UPKEEP_EVERY = 10
"""Behind how many waves the tables are maintained."""


@dataclass(slots=True)
class Outcome:
    """What was done and seen. `waves` has an entry each, `kills` counts them by the command under way."""

    seed: int
    waves: list[Told] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    facts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def play(folder: Path, seed: int, days: int, kills: int, minutes: float | None = None) -> Outcome:
    """The first `days` of the year with so many kills, or those that come within `minutes`.

    Raises AssertionError where a row is not as it must be, Misbehaved where a command fails.
    """
    began, roll, outcome = time.monotonic(), random.Random(seed), Outcome(seed)
    tables = tables_of(days)
    project = folder / "project"
    write_project(example("flights"), project)
    struck = Counter(roll.choices(range(days), k=kills))
    with EmbeddedBroker(PARTITIONS) as broker, Worker(project, broker.bootstrap, folder / "logs") as worker:
        broker.produce("carriers", [(None, row) for row in as_json(tables.carriers)])
        broker.produce("planes", [(None, row) for row in as_json(tables.planes)])
        worker.carry_out([["land", "dim.carriers", "dim.planes"]])
        for wave in waves(tables.flights, tables.weather, seed):
            broker.produce("weather", wave.weather)
            broker.produce("flights", wave.flights)
            commands = [*DAY, UPKEEP] if wave.number % UPKEEP_EVERY == UPKEEP_EVERY - 1 else DAY
            for _ in range(struck[wave.number]):
                outcome.kills[worker.struck(commands, roll, usual(outcome.waves))] += 1
            outcome.waves.append(told := worker.carry_out(commands))
            print(f"wave {wave.number}: {told.cpu:.1f} CPU-s, {told.resident >> 20} MiB", file=sys.stderr)
            if minutes is not None and time.monotonic() - began > minutes * 60:
                break
        worker.carry_out([["run", job, "--mode", "snapshot", "--into", into] for job, (_, into) in AUDITED.items()])
    known, sent = heard_of(tables, seed, len(outcome.waves))
    outcome.facts = {
        "flights": known.flights.height,
        "records of them": sent,
        **check(project / ".lakeflow", known, sent),
    }
    outcome.seconds = time.monotonic() - began
    return outcome


def tables_of(days: int) -> Tables:
    """The tables of the first `days`; those of January are in the repository."""
    if days <= JANUARY:
        named = {name: pl.read_parquet(DATA / f"{name}.parquet") for name in ("flights", "weather", "planes", "carriers")}
    else:
        named = {name: load(name) for name in ("flights", "weather", "planes")} | {"carriers": load("airlines")}
    day = pl.date("year", "month", "day").dt.ordinal_day()
    kept = {name: table.filter(day <= days) if name in ("flights", "weather") else table for name, table in named.items()}
    return Tables(**kept)


def heard_of(tables: Tables, seed: int, days: int) -> tuple[Tables, int]:
    """What the first `days` waves tell: of each flight its last record, the weather so far; and how many records there were."""
    sent = arrivals(tables.flights, seed).filter(pl.col("wave") < days).drop("wave")
    flights = sent.unique(["carrier", "flight", "time_hour"], keep="last", maintain_order=True)
    weather = tables.weather.filter(pl.date("year", "month", "day").dt.ordinal_day() <= days)
    return replace(tables, flights=flights, weather=weather), sent.height


def usual(done: Sequence[Told]) -> float:
    """Seconds that a wave takes."""
    return median(told.wall for told in done[-20:]) if done else 3.0


def report(outcome: Outcome) -> str:
    """What was counted and measured, as lines of a page."""
    done = outcome.waves
    tenth = max(1, len(done) // 10)
    first, last = done[:tenth], done[-tenth:]
    lines = [
        f"seed {outcome.seed}: {len(done)} waves in {outcome.seconds:.0f} s, {outcome.kills.total()} kills",
        "",
        *(f"{what:<72}{count:>12,}" for what, count in outcome.facts.items()),
        *(f"{'killed in lakeflow ' + command:<72}{count:>12,}" for command, count in sorted(outcome.kills.items())),
        "",
        f"{'of each wave, the median':<40}{'first tenth':>16}{'last tenth':>16}{'ratio':>8}",
        *(
            _line(f"CPU-s of lakeflow {command[0]}", *(_cpu(part, number) for part in (first, last)))
            for number, command in enumerate((*DAY, UPKEEP))
        ),
        _line("CPU-s of all", *(median(told.cpu for told in part) for part in (first, last))),
        _line("seconds by the clock", *(median(told.wall for told in part) for part in (first, last))),
        _line("resident memory behind it, MiB", *(median(told.resident for told in part) / 2**20 for part in (first, last))),
        _line("most that the process ever held, MiB", *(max(told.peak for told in part) / 2**20 for part in (first, last))),
    ]
    return "\n".join(lines)


def _cpu(part: Sequence[Told], command: int) -> float:
    return median([told.commands[command] for told in part if command < len(told.commands)] or [0.0])


def _line(what: str, first: float, last: float) -> str:
    return f"{what:<40}{first:>16.2f}{last:>16.2f}{last / max(first, 1e-9):>8.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waves", type=int, default=365)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--minutes", type=float, help="leave off behind the wave that is under way then")
    parser.add_argument("--folder", type=Path, help="where the project stays afterwards; without it, it is deleted")
    given = parser.parse_args(arguments)
    if given.folder is not None:
        print(report(play(given.folder, given.seed, given.waves, given.kills, given.minutes)))
        return 0
    with tempfile.TemporaryDirectory(prefix="lakeflow-flights-") as folder:
        print(report(play(Path(folder), given.seed, given.waves, given.kills, given.minutes)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
