"""What a landing would read now: from which offset to which, in each partition. Reads metadata only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lakeflow.config import Settings, fill
from lakeflow.declare import TableSpec
from lakeflow.errors import ConfigError, DeclarationError, SourceUnavailable, Terminal
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import CommitProtocol
from lakeflow.landing.cut import Limits
from lakeflow.landing.ledger import WRITER
from lakeflow.landing.reading import Topical, begin_offsets
from lakeflow.landing.spec import LandingSpec, landing_spec, topics_declared
from lakeflow.landing.target import shape_of
from lakeflow.progress import KafkaOffsets
from lakeflow.topics.kafka import KafkaSource
from lakeflow.topics.names import includes
from lakeflow.topics.source import start_of


@dataclass(frozen=True, slots=True)
class Part:
    """A partition: the next offset to be read, and the offset after its last record now."""

    topic: str
    partition: int
    start: int
    end: int

    @property
    def waiting(self) -> int:
        """Records at the most: transaction markers and compacted records take offsets too."""
        return max(0, self.end - self.start)


@dataclass(frozen=True, slots=True)
class LandingPlan:
    """A landing as of now. `is_new` says that the table is not there yet, `changes` how its declaration alters one that is.

    Where the topic could not be asked, `problem` says why and there are no parts; `would_fail` tells whether a landing
    would fail for it too, in place of waiting for the brokers.
    """

    table: str
    topic: str | None
    is_new: bool
    parts: tuple[Part, ...] = ()
    changes: tuple[str, ...] = ()
    problem: str | None = None
    would_fail: bool = False

    @property
    def waiting(self) -> int | None:
        """Records that wait, at the most; None where that is not known."""
        return None if self.problem else sum(part.waiting for part in self.parts)


ORPHAN_MARGIN = 4
"""A batch in hand, whose files no snapshot names yet, is to be this much younger than what counts as an orphan."""


def declared_landing(table: TableSpec, settings: Settings) -> LandingSpec:
    """The landing of a table with connector kafka. Raises DeclarationError, ConfigError for a missing secret."""
    run = settings.run
    options = fill(table.options, settings.environment, str(table.origin))
    spec = landing_spec(table, options, Limits(run.commit_rows, run.commit_bytes, run.commit_seconds))
    oldest = settings.maintain.orphan_hours * 3600
    if spec.limits.seconds * ORPHAN_MARGIN > oldest:
        raise DeclarationError(
            f"{table.origin}: table {table.name}: 'commit.interval' is {spec.limits.seconds:g} s, and maintenance takes files "
            f"that no snapshot names for orphans after {oldest:g} s (orphan_hours under [maintain]); valid: up to "
            f"{oldest / ORPHAN_MARGIN:g} s"
        )
    return spec


def group_name(table: TableSpec, settings: Settings) -> str:
    """The consumer group that shows the lag of a table's landing."""
    return f"lakeflow.{settings.project.name}.{table.name}"


def committed_offsets(spec: LandingSpec, commits: CommitProtocol) -> KafkaOffsets:
    """The table's progress in its topics, without those that it was landed from before."""
    progress = KafkaOffsets.loads(commits.progress(spec.table, WRITER))
    return progress.only(lambda topic: includes(spec.topics, topic))


def plan_landings(
    tables: Iterable[TableSpec], settings: Settings, lake: Lake, commits: CommitProtocol, *, timeout: float
) -> Iterator[LandingPlan]:
    """What `lakeflow land` would read for each of the tables. Brokers get `timeout` seconds for an answer, once.

    What stands in the way of one landing is its `problem`. Raises CatalogUnavailable.
    """
    away: dict[str, SourceUnavailable] = {}
    for table in tables:
        topic = topics_declared(table)
        is_new = not lake.exists(table.name)
        changes: tuple[str, ...] = ()
        try:
            spec = declared_landing(table, settings)
            changes = () if is_new else _changes(spec, lake)
            yield LandingPlan(table.name, topic, is_new, _parts(spec, settings, commits, timeout, away), changes)
        except (SourceUnavailable, NoBrokers) as error:
            yield LandingPlan(table.name, topic, is_new, changes=changes, problem=error.message)
        except Terminal as error:
            yield LandingPlan(table.name, topic, is_new, problem=error.message, would_fail=True)


def _changes(spec: LandingSpec, lake: Lake) -> tuple[str, ...]:
    shape, wider = shape_of(spec, lake)
    return lake.changes(shape, wider=wider)


class NoBrokers(ConfigError):
    """The project names no brokers, which is all right for one that lands nothing here."""


def _brokers(settings: Settings) -> Mapping[str, str]:
    try:
        return settings.kafka_options()
    except ConfigError as error:
        raise NoBrokers(error.message, next_step=error.next_step) from error


def _parts(
    spec: LandingSpec,
    settings: Settings,
    commits: CommitProtocol,
    timeout: float,
    away: dict[str, SourceUnavailable],
) -> tuple[Part, ...]:
    """From where to where each partition would be read. Brokers that are in `away` are not asked again."""
    options = {**_brokers(settings), **spec.properties}
    servers = options["bootstrap.servers"]
    if servers in away:
        raise away[servers]
    start = start_of(spec.options)
    committed = committed_offsets(spec, commits)
    try:
        with KafkaSource(options, spec.topics, group_name(spec.declared, settings), request_timeout=timeout) as source:
            found = Topical(spec.topics, source.bounds(), source.topic_ids())
            begin = begin_offsets(found, start, committed, source.offsets_at)
    except SourceUnavailable as error:
        away[servers] = error
        raise
    return tuple(Part(*place, begin[place], bound.end) for place, bound in sorted(found.bounds.items()))
