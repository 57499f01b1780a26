"""Landings on real servers under fire, and the count of what they landed: python -m tests.chaos.real --minutes 20 --seed 7.

Three brokers, a catalog and an object store behind proxies with bad weather; producers with transactions; three
`lakeflow land --follow --share` processes that are killed, stopped and ended; brokers that are killed; partitions that are
added; `lakeflow maintain --follow` beside. Then it gets calm, one `lakeflow land` lands the rest, and everything is counted.
The seed repeats the choices, not the moments that the machine makes of them. tests/integration/test_real_landing.py is the
short form.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from lakeflow.lake.catalog import Lake
from tests.chaos.processes import Nursery
from tests.chaos.real_count import verify
from tests.chaos.real_fire import (
    Brokers,
    Landings,
    Maintenance,
    Partitions,
    Striker,
    Tally,
    judge,
    patiently,
    wait_for_replicas,
)
from tests.chaos.real_producers import Fates, Held, Producing, check_fates, committed_records, wait_until_closed
from tests.chaos.real_project import PARTITIONS, TOPICS, commit_in_large_batches, write_project
from tests.chaos.real_proxy import Climate, StormyProxy, Weather
from tests.chaos.real_report import Outcome, report
from tests.chaos.real_watch import Watch
from tests.rig.catalog import RestCatalog
from tests.rig.duck import DuckDB
from tests.rig.kafka import Kafka
from tests.rig.rig import Rig

NOTHING_LEFT = 7


@dataclass(frozen=True, slots=True)
class Servers:
    """Those that are played on; the cluster and the catalog are for this alone."""

    cluster: Kafka
    catalog: RestCatalog
    duckdb: DuckDB


@dataclass(frozen=True, slots=True)
class Plan:
    """How long the fire lasts, and how hot it is: seconds, and factors of the pauses between strikes."""

    seconds: float
    seed: int
    brokers: tuple[float, float] = (20.0, 60.0)
    pace: float = 1.0
    climates: tuple[Climate, Climate] = (Climate(0.02, 0.2, 45.0, 6.0, 8.0), Climate(0.01, 0.01, 60.0, 5.0, 6.0))
    """Of the catalog, and of the store."""

    @property
    def moments(self) -> list[float]:
        """When partitions are added."""
        return [self.seconds * 0.35, self.seconds * 0.6]


def play(servers: Servers, folder: Path, plan: Plan) -> Outcome:
    """Fire, calm, count. Raises AssertionError where anything is missing, repeated or wrong."""
    began = time.monotonic()
    partitions = dict.fromkeys(TOPICS, PARTITIONS)
    for topic in TOPICS:
        servers.cluster.create(topic, PARTITIONS, min_insync_replicas="2")
    options = servers.catalog.options()
    skies = tuple(Weather(climate, plan.seed + place) for place, climate in enumerate(plan.climates))
    with (
        StormyProxy(options["uri"], skies[0]) as catalog,
        StormyProxy(options["s3.endpoint"], skies[1]) as store,
        Watch(options["uri"]) as watch,
    ):
        behind = {**options, "uri": catalog.uri, "s3.endpoint": store.uri}
        root = write_project(folder / "project", servers.cluster.bootstrap, behind)
        with Nursery(root, folder / "logs") as nursery:
            tally, fates = fire(servers, nursery, partitions, skies, plan)
            commit_in_large_batches(root)
            records, ends = settled(servers, nursery, partitions, fates)
        watch.look()
    facts = verify(Lake.open(options), servers.duckdb, records, ends)
    watch.check(len(records))
    outcome = Outcome(plan.seed, plan.seconds, time.monotonic() - began, tally, fates, skies, facts | watch.facts())
    assert not tally.misbehaved, "\n\n".join([report(outcome), *tally.misbehaved])
    return outcome


def fire(
    servers: Servers, nursery: Nursery, partitions: dict[str, int], skies: tuple[Weather, ...], plan: Plan
) -> tuple[Tally, Fates]:
    """Everything at once, for the plan's seconds; then calm. Raises what any of the strikers raised."""
    over, tally = threading.Event(), Tally()
    landings = Landings(nursery, plan.seed, over, tally, plan.pace)
    brokers = Brokers(servers.cluster, plan.seed, over, tally, plan.brokers)
    strikers: list[Striker] = [
        landings,
        Maintenance(nursery, plan.seed, over, tally),
        Partitions(servers.cluster, partitions, over, tally, plan.moments),
    ]
    producing = Producing(servers.cluster.bootstrap, plan.seed, partitions)
    producing.start()
    for striker in strikers:
        striker.start()
    end = threading.Timer(plan.seconds, over.set)
    end.start()
    brokers.run()
    over.wait()
    end.cancel()
    tell(f"{plan.seconds:.0f} s are over: it gets calm")
    for sky in skies:
        sky.calm()
    for striker in strikers:
        striker.join()
    producing.stop()
    for striker in (brokers, *strikers):
        if striker.failure is not None:
            raise striker.failure
    tell("nobody strikes or writes any more: the landings end")
    landings.end_all()
    return tally, producing.fates


def settled(
    servers: Servers, nursery: Nursery, partitions: dict[str, int], fates: Fates
) -> tuple[list[Held], dict[tuple[str, int], int]]:
    """The rest is landed by one process, and nothing is left then. The committed records, and where the partitions end."""
    wait_for_replicas(servers.cluster)
    ends = wait_until_closed(servers.cluster.bootstrap, partitions)
    tell("all brokers are back, and no transaction is open: the rest is landed")
    for arguments, code in (
        (("land",), 0),
        (("maintain",), 0),
        (("land", "--exit-on-empty", str(NOTHING_LEFT)), NOTHING_LEFT),
    ):
        child = nursery.start(*arguments)
        patiently(lambda child=child: not child.is_live(), f"the end of lakeflow {' '.join(arguments)}", 900.0)  # type: ignore[misc]
        judge(child, code)
    tell("everything is counted")
    records = committed_records(servers.cluster.bootstrap, partitions)
    check_fates(records, fates)
    return records, ends


def tell(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.real", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="how long the fire lasts")
    parser.add_argument("--seed", type=int, default=None, help="repeats the choices of a run")
    parser.add_argument("--folder", type=Path, default=None, help="where the project and what its processes say are kept")
    given = parser.parse_args()
    seed = random.randrange(1_000_000) if given.seed is None else given.seed
    folder = given.folder or Path(tempfile.mkdtemp(prefix="lakeflow-chaos-"))
    print(f"seed {seed}, {given.minutes:g} minutes; what processes say is in {folder / 'logs'}", flush=True)
    with Rig() as rig:
        servers = Servers(rig.three_kafkas, rig.catalog, rig.duckdb)
        print(report(play(servers, folder, Plan(given.minutes * 60, seed))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
