"""Keeps a table well: small files compacted, manifests merged, old snapshots dropped, files that nothing names deleted.

Nothing here changes a row, blocks a writer or makes its commit fail for good; what another commit takes first is left for the
next time, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import CommitProtocol
from lakeflow.lake.compact import Compacted, compact, merge_manifests, plan_compaction
from lakeflow.lake.compact_plan import Readers, Sizes
from lakeflow.lake.maintain_expiry import Expired, Keep, due, expire
from lakeflow.lake.orphans import Removed, find_orphans, remove_orphans


@dataclass(frozen=True, slots=True)
class Upkeep:
    """How a table is kept. `sizes` with `below_bytes` of 0 compacts nothing; without `orphan_age` orphans are not looked for.

    More than `most_manifests` small manifests are merged. `keep_snapshots` is the most that stay, `snapshot_age` the oldest.
    """

    sizes: Sizes
    most_manifests: int
    keep_snapshots: int
    snapshot_age: timedelta
    orphan_age: timedelta | None
    buffer_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class Maintained:
    """What was done to a table, or would be."""

    table: str
    compacted: Compacted = field(default_factory=Compacted)
    merged: tuple[int, ...] = ()
    expired: Expired = field(default_factory=Expired)
    removed: Removed = field(default_factory=Removed)

    @property
    def snapshots(self) -> tuple[int, ...]:
        """The snapshots that were made."""
        return self.compacted.snapshots + self.merged

    @property
    def left(self) -> tuple[str, ...]:
        """What was left as it is, and why."""
        return self.compacted.left + self.expired.left + self.removed.left

    @property
    def did_nothing(self) -> bool:
        return not (self.snapshots or self.expired.snapshots or self.removed.orphans)


def maintain_table(
    lake: Lake,
    commits: CommitProtocol,
    name: str,
    upkeep: Upkeep,
    readers: Callable[[], Readers],
    now: datetime,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Maintained]:
    """Do what is due, a kind of work after the other; after each, what was done so far.

    `readers` is asked anew before each kind, since they move on. Raises UnknownName for a table that is not there,
    CatalogUnavailable, StorageUnavailable and StorageFull; what was done before stands.
    """
    done = Maintained(name)
    if upkeep.sizes.below_bytes and not stop():
        plan = plan_compaction(lake.table(name), readers(), upkeep.sizes)
        compacted = compact(lake, commits, name, plan, upkeep.sizes, buffer_bytes=upkeep.buffer_bytes, stop=stop)
        done = Maintained(name, compacted)
        yield done
    if not stop():
        done = Maintained(name, done.compacted, merge_manifests(lake, commits, name, upkeep.most_manifests))
        yield done
    if not stop():
        expired = expire(lake, name, keep_of(upkeep, readers(), now), stop)
        done = Maintained(name, done.compacted, done.merged, expired)
        yield done
    if upkeep.orphan_age is not None and not stop():
        removed = remove_orphans(lake, name, now - upkeep.orphan_age, stop)
        yield Maintained(name, done.compacted, done.merged, done.expired, removed)


def plan_maintenance(lake: Lake, name: str, upkeep: Upkeep, readers: Readers, now: datetime) -> Maintained:
    """What `maintain_table` would do, as far as it can be told; changes nothing. Files of expired snapshots are not counted."""
    table = lake.table(name)
    compacted = Compacted()
    if upkeep.sizes.below_bytes:
        plan = plan_compaction(table, readers, upkeep.sizes)
        size = sum(run.bytes for run in plan.runs)
        files = sum(-(-run.bytes // upkeep.sizes.target_bytes) for run in plan.runs)
        compacted = Compacted(plan.files, files, size, size, left=plan.left)
    expired = Expired(len(due(table, keep_of(upkeep, readers, now)).snapshot_ids))
    removed = Removed() if upkeep.orphan_age is None else find_orphans(lake, name, now - upkeep.orphan_age)
    return Maintained(name, compacted, (), expired, removed)


def keep_of(upkeep: Upkeep, readers: Readers, now: datetime) -> Keep:
    """Which snapshots stay: none goes that a reader has not passed."""
    needed = min((position.sequence for position in readers.positions), default=None)
    return Keep(upkeep.keep_snapshots, now - upkeep.snapshot_age, needed)
