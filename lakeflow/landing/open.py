"""Opens the landing that a table declares, with the real Kafka at its source."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from lakeflow.config import Settings
from lakeflow.declare import TableSpec
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import CommitProtocol
from lakeflow.landing.counts import Counts, Landed, Sizes
from lakeflow.landing.dead_letters import Letters
from lakeflow.landing.decode import RecordDecoder
from lakeflow.landing.letter_topic import open_letter_topic
from lakeflow.landing.plan import declared_landing, group_name
from lakeflow.landing.reading import OwnReading, Reading, SharedReading
from lakeflow.landing.route import ByHeader
from lakeflow.landing.spec import ChangelogMode, LandingSpec
from lakeflow.landing.staying import KeptLetters, StayingDecoder
from lakeflow.landing.writer import Landing
from lakeflow.topics.formats import Format, Opening, open_format
from lakeflow.topics.kafka import KafkaSource
from lakeflow.topics.kafka_shared import SharedKafkaSource
from lakeflow.topics.names import NamedTopics
from lakeflow.topics.prefetch import POLLS, Prefetching
from lakeflow.topics.registered import Registry
from lakeflow.topics.source import start_of


def open_landing(
    table: TableSpec,
    settings: Settings,
    lake: Lake,
    commits: CommitProtocol,
    *,
    shared: bool = False,
    on_progress: Callable[[Counts, int], None] = lambda counts, left: None,
    on_commit: Callable[[Landed], None] = lambda landed: None,
) -> tuple[Landing, Callable[[], None]]:
    """The landing of a table with connector kafka, and what closes its source and registry.

    With `shared` it takes part in a consumer group with all others that are. Raises DeclarationError, ConfigError for what is
    declared wrong, UnknownName for a topic that is not there, SourceUnavailable where no broker or registry answers,
    SchemaMismatch where the table exists with columns that the declared ones do not evolve to.
    """
    spec = declared_landing(table, settings)
    with ExitStack() as held:
        kept = KeptLetters(lake, commits, spec.table)
        decoder = open_staying_decoder(spec, open_registry(settings, held), kept)
        reading = _reading(spec, settings, held, kept if shared else None)
        landing = Landing(
            spec,
            reading,
            decoder,
            lake,
            commits,
            letters=_letters(spec, settings, held),
            sizes=sizes_of(spec, settings),
            on_progress=on_progress,
            on_commit=on_commit,
        )
        return landing, held.pop_all().close
    raise AssertionError("no error is swallowed")


def open_decoder(spec: LandingSpec, registry: Registry | None) -> RecordDecoder:
    """What decodes the records of a landing. Raises as `open_format` does."""
    return RecordDecoder(spec, *_formats(spec, registry))


def open_staying_decoder(spec: LandingSpec, registry: Registry | None, kept: KeptLetters) -> RecordDecoder:
    """The same for the landing itself: what is a dead letter stays one. Raises as `open_format` does."""
    if spec.mode is ChangelogMode.UPSERT:  # whose letters no replay lands
        return open_decoder(spec, registry)
    return StayingDecoder(spec, *_formats(spec, registry), kept)


def _formats(spec: LandingSpec, registry: Registry | None) -> tuple[Format, Format | None]:
    topics = spec.topics.names if isinstance(spec.topics, NamedTopics) else ()
    values = open_format(spec.value_format, Opening(spec.value_columns, spec.options, "value", topics, registry))
    if spec.key is None:
        return values, None
    return values, open_format(spec.key.format, Opening(spec.key_columns, spec.key.options, "key", topics, registry))


def sizes_of(spec: LandingSpec, settings: Settings) -> Sizes:
    """How much memory a landing uses, and how large its files get."""
    run = settings.run
    return Sizes(run.buffer_bytes, spec.target_file_bytes or run.target_file_bytes, run.poll_seconds, settings.spool())


def open_registry(settings: Settings, held: ExitStack) -> Registry | None:
    """The Schema Registry of the settings, None where they name none; `held` closes it."""
    if not settings.registry:
        return None
    from lakeflow.topics.registry_client import HttpRegistry

    registry = HttpRegistry(settings.registry)
    held.callback(registry.close)
    return registry


def _letters(spec: LandingSpec, settings: Settings, held: ExitStack) -> Letters | None:
    """Where the rejects go in place of lakeflow.dead_letters."""
    if spec.letter_topic is None:
        return None
    options = {**settings.kafka_options(), **spec.properties}
    letters, producer = open_letter_topic(spec, options, request_timeout=settings.run.connect_seconds)
    held.callback(producer.close)
    return letters


def _needs_headers(spec: LandingSpec) -> bool:
    """A letter in a topic keeps its own headers; one in the table those that are read anyway."""
    is_routed = spec.route is not None and isinstance(spec.route.by, ByHeader)
    return "headers" in spec.metadata or is_routed or spec.letter_topic is not None


def _reading(spec: LandingSpec, settings: Settings, held: ExitStack, shared_letters: KeptLetters | None) -> Reading:
    """Polled ahead only where no group may take a partition away from between what was polled and what is in hand."""
    run, shared = settings.run, shared_letters is not None
    source = (SharedKafkaSource if shared else KafkaSource)(
        {**settings.kafka_options(), **spec.properties},
        spec.topics,
        group_name(spec.declared, settings),
        headers=_needs_headers(spec),
        leader_epochs="leader_epoch" in spec.metadata,
        request_timeout=run.connect_seconds,
        poll_bytes=run.buffer_bytes if shared else run.buffer_bytes // (1 + POLLS),
    )
    held.callback(source.close)
    start = start_of(spec.options)
    if isinstance(source, SharedKafkaSource):
        assert shared_letters is not None
        anew = shared_letters.look_anew
        return SharedReading(spec.topics, source, start, group=source, identity=source, on_gained=anew)
    ahead = Prefetching(source)
    held.callback(ahead.close)
    return OwnReading(spec.topics, ahead, start, group=ahead, identity=ahead)
