"""Each row is read exactly once and in its order, whatever is appended, read, compacted and expired in which turn."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from pathlib import Path

import pyarrow as pa
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st
from pyiceberg.manifest import DataFile

from lakeflow.declare import PartitionField
from lakeflow.errors import SourceChanged
from lakeflow.job import Caps
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.compact import compact, plan_compaction
from lakeflow.lake.compact_plan import Readers, Sizes
from lakeflow.lake.maintain_expiry import Keep, expire
from lakeflow.lake.read import appended, cut, read
from lakeflow.lake.write import DataWriter
from lakeflow.progress import SnapshotPosition
from tests.lakes import NAME, made, open_lake, query

SCHEMA = pa.schema([("id", pa.int64()), ("part", pa.int64())])
ALL = Caps()


class Do(Enum):
    """What happens beside appends and reads."""

    COMPACT = auto()
    EXPIRE = auto()


@dataclass(frozen=True)
class Append:
    """A commit of files, each with rows of these partitions."""

    files: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class ReadOn:
    """A reader takes one batch of so many files at the most."""

    reader: int
    files: int | None


@dataclass
class Reader:
    """One that goes by positions alone. `known` ones are told to the compaction; the others may be refused, and begin anew."""

    known: bool
    position: SnapshotPosition | None = None
    seen: list[int] = field(default_factory=list)

    def read_on(self, lake: Lake, caps: Caps) -> int:
        table = lake.table(NAME)
        try:
            batch = next(cut(appended(table, self.position), caps, table), None)
        except SourceChanged:
            assert not self.known
            event("a stranger is refused")
            self.position, self.seen = None, []
            return 1
        if batch is None:
            return 0
        self.seen += [row for rows in read(table, batch.splits, ["id"]) for row in rows.column("id").to_pylist()]
        self.position = SnapshotPosition.loads(batch.end.dumps())
        return len(batch.splits)


@dataclass
class Scene:
    """A table, its readers, and the order in which its rows were first to be read."""

    lake: Lake
    keep: int
    sizes: Sizes
    by_key: bool
    readers: list[Reader] = field(default_factory=lambda: [Reader(True), Reader(True), Reader(False)])
    order: list[int] = field(default_factory=list)
    rows: int = 0

    def commit(self, append: Append) -> None:
        table = self.lake.table(NAME)
        files: list[DataFile] = []
        for part, partitions in enumerate(append.files):
            writer = DataWriter(table, part=part)
            numbers = range(self.rows, self.rows + len(partitions))
            writer.write(pa.table({"id": list(numbers), "part": list(partitions)}, schema=SCHEMA))
            files += writer.finish()
            self.rows += len(partitions)
        landed = Committer(self.lake, keep_snapshots=self.keep).commit(Change(NAME, tuple(files)))
        table = self.lake.table(NAME)
        sequence = table.metadata.snapshot_by_id(landed.snapshot_id).sequence_number  # type: ignore[union-attr]
        new = [split for split in appended(table, None) if split.sequence == sequence]
        self.order += [row for rows in read(table, new, ["id"]) for row in rows.column("id").to_pylist()]

    def known(self) -> Readers:
        known = [reader for reader in self.readers if reader.known]
        begun = tuple(reader.position for reader in known if reader.position is not None)
        return Readers(begun, tuple("one" for reader in known if reader.position is None), self.by_key)

    def compact(self) -> None:
        table = self.lake.table(NAME)
        before = sorted(query(table))
        committer = Committer(self.lake, keep_snapshots=self.keep)
        done = compact(self.lake, committer, NAME, plan_compaction(table, self.known(), self.sizes), self.sizes)
        event(f"compacted: {bool(done.snapshots)}")
        assert sorted(query(self.lake.table(NAME))) == before
        assert done.files_after <= done.files_before

    def expire(self) -> None:
        needed = min((position.sequence for position in self.known().positions), default=None)
        expire(self.lake, NAME, Keep(self.keep, datetime.now(UTC) + timedelta(minutes=1), needed))

    def play(self, step: Append | ReadOn | Do) -> None:
        match step:
            case Append():
                self.commit(step)
            case ReadOn(reader, files):
                self.readers[reader].read_on(self.lake, Caps(files=files))
            case Do.COMPACT:
                self.compact()
            case Do.EXPIRE:
                self.expire()


partitions = st.lists(st.integers(0, 1), min_size=1, max_size=2).map(tuple)
appends = st.builds(Append, st.lists(partitions, min_size=1, max_size=2).map(tuple))
reads = st.builds(ReadOn, st.integers(0, 2), st.none() | st.integers(1, 2))
steps = st.lists(appends | reads | st.sampled_from(Do), min_size=4, max_size=18)


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    steps=steps,
    keep=st.integers(2, 6),
    partitioned=st.booleans(),
    by_key=st.booleans(),
    target=st.sampled_from([1600, 1 << 20]),
)
def test_each_row_is_read_once_and_in_order(
    steps: list[Append | ReadOn | Do], keep: int, partitioned: bool, by_key: bool, target: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lake = open_lake(Path(folder))
        made(lake, SCHEMA, [PartitionField("part")] if partitioned else [])
        scene = Scene(lake, keep, Sizes(1 << 20, target, least_files=2), by_key or not partitioned)
        for step in [*steps, Append(((0, 1),))]:
            scene.play(step)
        for reader in scene.readers:
            while reader.read_on(lake, ALL):
                pass
            assert sorted(reader.seen) == list(range(scene.rows))
            if scene.by_key:
                assert reader.seen == scene.order
        scene.compact()
        fresh = Reader(False)
        fresh.read_on(lake, ALL)
        assert sorted(fresh.seen) == list(range(scene.rows))
        assert not scene.by_key or fresh.seen == scene.order
