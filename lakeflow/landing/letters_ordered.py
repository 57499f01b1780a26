"""A table's dead letters in the order of their places, a window at a time, in bounded memory.

lakeflow.dead_letters is in the order of its commits. Each window therefore reads the places of all letters behind the one
before and keeps the smallest; then it reads the letters at these. That is one reading of a few narrow columns for each
16,384 letters, and nothing is held or spilled but the window.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.lake.catalog import Table
from lakeflow.lake.read import Split, read
from lakeflow.lake.schema import fit
from lakeflow.landing.dead_letters import DEAD_LETTERS, LETTER_BYTES, SCHEMA, Place
from lakeflow.landing.letters_read import PLACE, Wanted
from lakeflow.landing.rows import TIMESTAMP_TYPES
from lakeflow.topics.source import Records, TopicPartition

WINDOW_LETTERS = 16_384
_TYPE_OF = {name: number for number, name in TIMESTAMP_TYPES.items()}
_PLACE_SCHEMA = pa.schema([*(SCHEMA.field(name) for name in PLACE), pa.field("split", pa.int32())])
_ORDER = [(name, "ascending") for name in PLACE]


@dataclass(frozen=True, slots=True)
class OrderedLetters:
    """The letters in `splits` of lakeflow.dead_letters that are `wanted`, and where given in one partition only.

    A window holds `most_letters` letters, of `most_bytes` bytes or a single one.
    """

    table: Table
    splits: tuple[Split, ...]
    wanted: Wanted
    partition: TopicPartition | None = None
    most_letters: int = WINDOW_LETTERS
    most_bytes: int = 64 << 20

    def windows(self, chosen: Callable[[Collection[Place]], Collection[Place]]) -> Iterator[Records]:
        """The letters as records, window after window, of each place one. `chosen` says which places of a window are read.

        Raises StorageUnavailable, and Terminal where a file of the letters is gone.
        """
        after: Place | None = None
        while (places := self._places(after)).num_rows:
            columns = (places.column(name).to_pylist() for name in PLACE)
            all_of_it = list(zip(*columns, strict=True))
            keep = set(chosen(set(all_of_it)))
            splits = [self.splits[number] for number in sorted(set(places.column("split").to_pylist()))]
            after = all_of_it[-1]
            while keep:
                letters, rest = self._letters(splits, keep)
                yield records_of(letters)
                keep = rest

    def _places(self, after: Place | None) -> pa.Table:
        """The smallest places behind `after`, in their order, each with the number of its split."""
        kept = _PLACE_SCHEMA.empty_table()
        columns = ("table", *PLACE, *(("kind",) if self.wanted.kind is not None else ()))
        for number, split in enumerate(self.splits):
            for batch in read(self.table, [split], columns):
                some = _behind(self._mine(batch), after).select(list(PLACE))
                of_split = pa.array(np.full(some.num_rows, number, np.int32))
                kept = pa.concat_tables([kept, pa.table([*some.columns, of_split], schema=_PLACE_SCHEMA)])
                if kept.num_rows > 2 * self.most_letters:
                    kept = kept.sort_by(_ORDER).slice(0, self.most_letters).combine_chunks()
        return kept.sort_by(_ORDER).slice(0, self.most_letters)

    def _letters(self, splits: Collection[Split], places: set[Place]) -> tuple[pa.Table, set[Place]]:
        """The first letters at `places` that fit, in order, and the places of those that did not."""
        letters = SCHEMA.empty_table()
        left: set[Place] = set()
        columns = [name for name in SCHEMA.names if name in self.table.schema().column_names]
        for batch in read(self.table, list(splits), columns):
            mine = self._mine(batch)
            found = [place in places and place not in left for place in _places_in(mine)]
            some = pa.Table.from_batches([mine.filter(pa.array(found, pa.bool_()))])
            letters = pa.concat_tables([letters, fit(some, SCHEMA, DEAD_LETTERS)])
            if _bytes_of(letters).sum() > self.most_bytes:
                letters, cut = self._cut(letters)
                left |= {place for place in places if place >= cut} if cut else set()
        letters, cut = self._cut(letters)
        left |= {place for place in places if place >= cut} if cut else set()
        return letters, left

    def _cut(self, letters: pa.Table) -> tuple[pa.Table, Place | None]:
        """The first letters that fit, in order and each place once, and the first place that did not."""
        letters = _once(letters.sort_by(_ORDER))
        fits = int(np.searchsorted(np.cumsum(_bytes_of(letters)), self.most_bytes, side="right"))
        count = max(1, fits)
        if count >= letters.num_rows:
            return letters, None
        (cut,) = _places_in(letters.slice(count, 1))
        return letters.slice(0, count).combine_chunks(), cut

    def _mine(self, letters: pa.RecordBatch) -> pa.RecordBatch:
        mine = self.wanted.among(letters)
        if self.partition is not None:
            topic, number = self.partition
            mine = mine.filter(pc.and_(pc.equal(mine.column("topic"), topic), pc.equal(mine.column("partition"), number)))
        return mine


def records_of(letters: pa.Table) -> Records:
    """The records that rows of lakeflow.dead_letters were. Headers that were not read then are none."""
    stamps = pc.fill_null(pc.divide(letters.column("timestamp").cast(pa.int64()), 1000), -1)
    headers = letters.column("headers").to_pylist()
    return Records(
        topics=letters.column("topic").to_pylist(),
        partitions=letters.column("partition").to_pylist(),
        offsets=letters.column("offset").to_pylist(),
        timestamps=stamps.to_pylist(),
        timestamp_types=[_TYPE_OF.get(name, 0) for name in letters.column("timestamp_type").to_pylist()],
        keys=letters.column("key").to_pylist(),
        values=letters.column("value").to_pylist(),
        headers=[None if of is None else [(pair["key"], pair["value"]) for pair in of] for of in headers],
        leader_epochs=letters.column("leader_epoch").to_pylist(),
    )


def _behind(letters: pa.RecordBatch, after: Place | None) -> pa.RecordBatch:
    if after is None:
        return letters
    topic, partition, offset = (letters.column(name) for name in PLACE)
    later = pc.greater(offset, after[2])
    later = pc.or_(pc.greater(partition, after[1]), pc.and_(pc.equal(partition, after[1]), later))
    return letters.filter(pc.or_(pc.greater(topic, after[0]), pc.and_(pc.equal(topic, after[0]), later)))


def _places_in(letters: pa.RecordBatch | pa.Table) -> list[Place]:
    return list(zip(*(letters.column(name).to_pylist() for name in PLACE), strict=True))


def _bytes_of(letters: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """What each letter takes in memory, about."""
    sizes = np.full(letters.num_rows, LETTER_BYTES, np.int64)
    for name in ("key", "value"):
        lengths = pc.fill_null(pc.binary_length(letters.column(name)), 0)
        sizes += lengths.to_numpy().astype(np.int64)
    return sizes


def _once(letters: pa.Table) -> pa.Table:
    """Sorted letters without those at a place that has one already."""
    places = _places_in(letters)
    is_first = [number == 0 or places[number - 1] != place for number, place in enumerate(places)]
    return letters if all(is_first) else letters.filter(pa.array(is_first, pa.bool_()))
