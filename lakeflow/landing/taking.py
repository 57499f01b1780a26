"""What the records of one poll come to for a table, and where a landing must stop among them. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from lakeflow.errors import Suspended
from lakeflow.lake.evolution import Evolved
from lakeflow.landing.decode import RecordDecoder
from lakeflow.landing.expected import fate
from lakeflow.landing.fitting import Fitting, Unfit
from lakeflow.landing.rows import before
from lakeflow.landing.spec import ChangelogMode, LandingSpec, OnError
from lakeflow.topics.formats.format import Decoded, Reject, RejectKind
from lakeflow.topics.source import Records, TopicPartition


@dataclass(frozen=True, slots=True)
class Taken:
    """`records` of a poll, without those from a suspension on; `mine` are those of the table's route, `decoded` what they
    came to, `evolved` what the table must become for them. `suspended` is raised once all of this has landed.
    """

    records: Records
    mine: Records
    decoded: Decoded
    evolved: Evolved | None
    suspended: Suspended | None

    @property
    def filtered(self) -> int:
        """Records that are another table's, or change nothing by the rules of their format."""
        return len(self.records) - len(self.mine) + len(self.decoded.passed)


def take(records: Records, spec: LandingSpec, decoder: RecordDecoder, fitting: Fitting) -> Taken:
    """What `records` come to. Raises SourceUnavailable where a schema registry is away."""
    suspended: Suspended | None = None
    while True:
        mine = records if spec.route is None else records.chosen(spec.route.places(records))
        decoded = _for_mode(fitting.checked(decoder.decode(mine)), spec)
        evolved = fitting.evolution(decoded.parts, decoded.deletes)
        stops, reason, remedy = _stops(decoded, evolved, spec)
        if not stops:
            assert not isinstance(evolved, Unfit)
            return Taken(records, mine, decoded, evolved, suspended)
        suspended = suspended or _suspension(mine, stops[0], reason, remedy, spec)
        records = before(records, _first(mine, stops))


REJECT = "mend the declaration, or set 'on_error' = 'dead_letter' or 'skip'"
EXPECTED = "mend what the topic is given, or the CONSTRAINT, or say ON VIOLATION DEAD LETTER or DROP ROW there"
UNFIT = "mend the declaration, or land the topic in a new table"


def _stops(decoded: Decoded, evolved: Evolved | Unfit | None, spec: LandingSpec) -> tuple[list[int], str, str]:
    """The places of records that must not be passed, in their order, what is wrong with the first, and what mends it."""
    if stops := [reject for reject in decoded.rejects if fate(reject, spec) is OnError.SUSPEND]:
        return [reject.index for reject in stops], stops[0].reason, REJECT if stops[0].on_violation is None else EXPECTED
    if isinstance(evolved, Unfit):
        return sorted(evolved.places), evolved.message, UNFIT
    return [], "", ""


def _for_mode(decoded: Decoded, spec: LandingSpec) -> Decoded:
    """A table that only grows has no place for a truncate."""
    if spec.mode is ChangelogMode.UPSERT or not decoded.truncates:
        return decoded
    reason = "it empties the table, which 'changelog.mode' = 'append' cannot show; land it with 'upsert' and a PRIMARY KEY"
    added = (Reject(place, RejectKind.MISFIT, reason) for place in decoded.truncates)
    rejects = tuple(sorted([*decoded.rejects, *added], key=lambda reject: reject.index))
    return replace(decoded, rejects=rejects, truncates=())


def _first(records: Records, places: Iterable[int]) -> dict[TopicPartition, int]:
    """For each partition with one of `places`, which ascend, the offset of the first."""
    first: dict[TopicPartition, int] = {}
    for place in places:
        first.setdefault((records.topics[place], records.partitions[place]), records.offsets[place])
    return first


def _suspension(records: Records, at: int, reason: str, remedy: str, spec: LandingSpec) -> Suspended:
    return Suspended(
        f"landing of {spec.table} is suspended at topic {records.topics[at]!r}, partition {records.partitions[at]}, "
        f"offset {records.offsets[at]}: {reason}",
        left_behind="every record before it is in the table; this one and those after it in its partition are not",
        next_step=f"{remedy} ({spec.declared.origin}), then: lakeflow land {spec.table}",
    )
