"""One round: a lake of its own under fire, a clean run to the end, and the count."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from lakeflow.topics.embedded import EmbeddedBroker
from tests.chaos.processes import Nursery
from tests.chaos.project import Project
from tests.chaos.records import PARTITIONS, Records, place_rows
from tests.chaos.report import Outcome
from tests.chaos.scene import Scene, Waves
from tests.chaos.track import LAND, RUN, Track
from tests.chaos.verify import verify
from tests.independent_reader import locations, stored_table, unreferenced

ALL_SNAPSHOTS = 10_000
"""A table that keeps so many has its whole history in the end."""
NOTHING_LEFT = 7


def play_round(folder: Path, seed: int, quotas: Mapping[str, int], max_snapshots: int) -> Outcome:
    """One round in a lake of its own: fire, then a clean run to the end, then the count."""
    began = time.monotonic()
    records = Records(seed)
    with EmbeddedBroker(PARTITIONS) as broker:
        project = Project(folder / "project", broker.bootstrap, max_snapshots)
        broker.create("orders")
        broker.create("pings")
        broker.produce("places", [(None, json.dumps(row).encode()) for row in place_rows()])
        with Nursery(project.root, folder / "logs") as nursery:
            nursery.run("land", "dim.places")
            scene = Scene(project, nursery, records, quotas=quotas)
            fire(scene, broker, seed)
            nursery.run("land")
            nursery.run("run")
            nursery.run("land", "--exit-on-empty", str(NOTHING_LEFT), expected=NOTHING_LEFT)
            nursery.run("run", "--exit-on-empty", str(NOTHING_LEFT), expected=NOTHING_LEFT)
    verify(project, records, whole_history=max_snapshots == ALL_SNAPSHOTS)
    return Outcome(seed, scene.tally, facts(project, records), time.monotonic() - began)


def fire(scene: Scene, broker: EmbeddedBroker, seed: int) -> None:
    """Both tracks side by side, with waves of records under them. Raises what any of the threads raised."""
    tracks = [Track(role, scene, seed * 10 + place) for place, role in enumerate((LAND, RUN))]
    threads = [threading.Thread(target=track.run, daemon=True) for track in tracks]
    waves = Waves(scene, broker, seed)
    waves.start()
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        scene.over.set()
        waves.join()
    for failure in (*(track.failure for track in tracks), waves.failure):
        if failure is not None:
            raise failure


def facts(project: Project, records: Records) -> dict[str, int]:
    """What was compared, and what lies about."""
    commits = {
        name: stored_table(name, location).metadata["last-sequence-number"]
        for name, location in locations(project.catalog).items()
    }
    return {
        "orders produced": len(records.orders.records),
        "  of them rows, all in bronze.orders once": len(records.orders.good),
        "  of them rejects, all in lakeflow.dead_letters once": len(records.orders.bad),
        "pings produced": len(records.pings.records),
        "  of them rows, all in bronze.pings once": len(records.pings.good),
        "commits to the tables landed": sum(commits[name] for name in LAND.tables),
        "commits to the tables of jobs": sum(commits[name] for name in RUN.tables),
        "runs recorded": commits["lakeflow.runs"],
        "files left that no snapshot leads to": len(unreferenced(project.catalog, project.warehouse)),
    }
