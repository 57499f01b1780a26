"""What is a dead letter stays one until a replay lands it, whatever the declaration says by then.

Letters land just before the rows of their batch. A landing that dies in between reads the batch again, and so does one whose
table was rolled back. Where the declaration was mended meanwhile, a record of which there is a letter would give a row now;
the letter would still wait, and a replay would land the record a second time. So such a record is left to the replay.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pyarrow as pa

from lakeflow.expect import OnViolation
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import CommitProtocol
from lakeflow.landing.dead_letters import DEAD_LETTERS, Place, Taken, held_places, letters_writer
from lakeflow.landing.decode import RecordDecoder
from lakeflow.landing.expected import keeps_letters
from lakeflow.landing.fitting import places_of
from lakeflow.landing.ledger import WRITER as LANDING
from lakeflow.landing.spec import LandingSpec
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.formats.format import Decoded, Format, Part, Reject, RejectKind
from lakeflow.topics.source import Records, TopicPartition

STAYS = "it is among the dead letters already: lakeflow deadletters replay lands it"


class KeptLetters:
    """Which records have a letter in lakeflow.dead_letters, of the table as it is now.

    How far the letters reach beyond the landing's progress is looked up at the first records, and after `look_anew`, which
    is to be called where partitions come that others held. What this very landing rejects, it has read.
    """

    def __init__(self, lake: Lake, commits: CommitProtocol, table: str) -> None:
        self._lake = lake
        self._commits = commits
        self._table = table
        self._since = 0
        self._ahead: dict[TopicPartition, int] | None = None

    def among(self, records: Records) -> set[int]:
        """The places in `records` of those that have a letter. Raises CatalogUnavailable, StorageUnavailable."""
        if self._ahead is None:
            self._look()
        if not self._ahead:
            return set()
        doubtful: dict[Place, int] = {}
        for index, place in enumerate(zip(records.topics, records.partitions, records.offsets, strict=True)):
            if place[2] < self._ahead.get(place[:2], 0):
                doubtful[place] = index
        behind = {*zip(records.topics, records.partitions, strict=True)} - {place[:2] for place in doubtful}
        self._ahead = {place: end for place, end in self._ahead.items() if place not in behind}
        return {doubtful[place] for place in held_places(self._lake, self._table, self._since, doubtful)}

    def look_anew(self) -> None:
        """Others may have left letters of partitions that are read from now on."""
        self._ahead = None

    def _look(self) -> None:
        """Where the letters of each partition end, if the landing's progress is not there yet."""
        self._ahead = {}
        if not self._lake.exists(DEAD_LETTERS):
            return
        table_uuid = str(self._lake.table(self._table).metadata.table_uuid)
        taken = Taken.loads(self._commits.progress(DEAD_LETTERS, letters_writer(self._table, table_uuid)))
        landed = KafkaOffsets.loads(self._commits.progress(self._table, LANDING))
        self._since = taken.since
        self._ahead = {place: end for place, end in taken.offsets.offsets.items() if end > (landed.next_offset(*place) or 0)}


class StayingDecoder(RecordDecoder):
    """Decodes as RecordDecoder, but for records of which there is a letter: they are rejected again where rejects become
    letters in the table, which holds them already, and passed over elsewhere.
    """

    def __init__(self, spec: LandingSpec, values: Format, keys: Format | None, kept: KeptLetters) -> None:
        super().__init__(spec, values, keys)
        self._kept = kept
        self._rejects = keeps_letters(spec) and spec.letter_topic is None

    def decode(self, records: Records) -> Decoded:
        decoded = super().decode(records)
        staying = self._kept.among(records)
        return _without(decoded, staying, rejected=self._rejects) if staying else decoded


def _without(decoded: Decoded, staying: Collection[int], *, rejected: bool) -> Decoded:
    """`decoded` with the records at these places rejected, or else passed over. Pure."""
    told = {reject.index: reject for reject in decoded.rejects}
    stay = (told.get(place) or Reject(place, RejectKind.MISFIT, STAYS) for place in staying)
    again = [replace(reject, on_violation=OnViolation.DEAD_LETTER) for reject in stay]
    others = [reject for place, reject in told.items() if place not in staying]
    return replace(
        decoded,
        parts=tuple(_part_without(part, staying) for part in decoded.parts),
        deletes=tuple(_part_without(part, staying) for part in decoded.deletes),
        truncates=tuple(place for place in decoded.truncates if place not in staying),
        passed=tuple(sorted({*decoded.passed, *staying} if not rejected else set(decoded.passed) - set(staying))),
        rejects=tuple(sorted([*others, *again] if rejected else others, key=lambda reject: reject.index)),
    )


def _part_without(part: Part, staying: Collection[int]) -> Part:
    places = places_of(part)
    keep = pa.array([place not in staying for place in places.tolist()], pa.bool_())
    return Part(part.rows.filter(keep), pa.array(places, pa.int64()).filter(keep))
