"""Watches the tables' snapshots from beside, past the bad weather, and says what all of them together did."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.real_project import APPENDED, TABLES

EVERY = 0.7
PROGRESS = "lakeflow.progress.landing"


@dataclass(slots=True)
class Seen:
    """The snapshots of one table, by id, and the newest metadata."""

    snapshots: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def take(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        self.snapshots.update((snapshot["snapshot-id"], snapshot) for snapshot in metadata.get("snapshots", ()))

    @property
    def commits(self) -> int:
        return int(self.metadata.get("last-sequence-number", 0))

    @property
    def expired(self) -> int:
        return self.commits - len(self.metadata.get("snapshots", ()))

    def in_order(self) -> list[Mapping[str, Any]]:
        return sorted(self.snapshots.values(), key=lambda snapshot: int(snapshot["sequence-number"]))

    def is_whole(self) -> bool:
        """Whether no snapshot came and went between two looks."""
        return len(self.snapshots) == self.commits


class Watch:
    """A thread that looks at all tables, by the catalog itself. Use in a `with`."""

    def __init__(self, catalog: str) -> None:
        self.seen = {table: Seen() for table in TABLES}
        self.failure: BaseException | None = None
        self._catalog = catalog
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def look(self) -> None:
        for table, seen in self.seen.items():
            namespace, name = table.split(".")
            try:
                with urllib.request.urlopen(f"{self._catalog}/v1/namespaces/{namespace}/tables/{name}", timeout=30) as answer:
                    seen.take(json.load(answer)["metadata"])
            except urllib.error.HTTPError as error:
                if error.code != 404:
                    raise

    def facts(self) -> dict[str, int]:
        """What was done to the tables, in all."""
        rewrites = [s for seen in self.seen.values() for s in seen.snapshots.values() if s["summary"]["operation"] == "replace"]
        merged = Counter({"files": sum(int(s["summary"].get("deleted-data-files", 0)) for s in rewrites)})
        return {
            **{f"commits to {table}": seen.commits for table, seen in self.seen.items()},
            "snapshots expired": sum(seen.expired for seen in self.seen.values()),
            "snapshots that compacted or merged manifests": len(rewrites),
            "data files compacted away": merged["files"],
        }

    def check(self, records: int) -> None:
        """Progress never went back; where all snapshots were seen, the records read add up.

        Raises AssertionError, where a thread could not look too.
        """
        assert self.failure is None, f"the tables could not be watched: {self.failure}"
        for table, seen in self.seen.items():
            at: dict[tuple[str, str], int] = {}
            for snapshot in seen.in_order():
                now = _offsets(snapshot["summary"].get(PROGRESS, "{}"))
                back = {place: (at[place], now.get(place)) for place in at if now and now.get(place, -1) < at[place]}
                assert not back, f"{table} went back in snapshot {snapshot['snapshot-id']}: {back}"
                at |= now
        appended = self.seen[APPENDED]
        if appended.is_whole():
            read = sum(int(snapshot["summary"].get("lakeflow.records-read", 0)) for snapshot in appended.snapshots.values())
            assert read == records, f"commits to {APPENDED} read {read:,} records, the topics hold {records:,}"

    def _run(self) -> None:
        try:
            while not self._over.wait(EVERY):
                self.look()
        except (OSError, ValueError, KeyError) as error:
            self.failure = error


def _offsets(text: str) -> dict[tuple[str, str], int]:
    shown = {topic: parts for topic, parts in json.loads(text).items() if not topic.startswith("#")}
    return {(topic, partition): offset for topic, parts in shown.items() for partition, offset in parts.items()}
