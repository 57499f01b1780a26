"""Opens the landing that a table declares, with the real Kafka at its source."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from lakeflow.config import Settings
from lakeflow.declare import TableSpec
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import CommitProtocol
from lakeflow.landing.counts import Counts, Landed, Sizes
from lakeflow.landing.decode import RecordDecoder
from lakeflow.landing.plan import declared_landing, group_name
from lakeflow.landing.reading import OwnReading, Reading, SharedReading
from lakeflow.landing.route import ByHeader
from lakeflow.landing.spec import LandingSpec
from lakeflow.landing.writer import Landing
from lakeflow.topics.formats import Format, Opening, open_format
from lakeflow.topics.kafka import KafkaSource
from lakeflow.topics.kafka_shared import SharedKafkaSource
from lakeflow.topics.names import NamedTopics
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
    run = settings.run
    with ExitStack() as held:
        decoder = open_decoder(spec, _registry(settings, held))
        reading = _reading(spec, settings, shared, held)
        landing = Landing(
            spec,
            reading,
            decoder,
            lake,
            commits,
            sizes=Sizes(
                run.buffer_bytes,
                spec.target_file_bytes or run.target_file_bytes,
                run.poll_seconds,
                settings.spool(),
            ),
            on_progress=on_progress,
            on_commit=on_commit,
        )
        return landing, held.pop_all().close
    raise AssertionError("no error is swallowed")


def open_decoder(spec: LandingSpec, registry: Registry | None) -> RecordDecoder:
    """What decodes the records of a landing. Raises as `open_format` does."""
    topics = spec.topics.names if isinstance(spec.topics, NamedTopics) else ()
    values = open_format(spec.value_format, Opening(spec.value_columns, spec.options, "value", topics, registry))
    keys: Format | None = None
    if spec.key is not None:
        keys = open_format(spec.key.format, Opening(spec.key_columns, spec.key.options, "key", topics, registry))
    return RecordDecoder(spec, values, keys)


def _registry(settings: Settings, held: ExitStack) -> Registry | None:
    if not settings.registry:
        return None
    from lakeflow.topics.registry_client import HttpRegistry

    registry = HttpRegistry(settings.registry)
    held.callback(registry.close)
    return registry


def _reading(spec: LandingSpec, settings: Settings, shared: bool, held: ExitStack) -> Reading:
    run = settings.run
    source = (SharedKafkaSource if shared else KafkaSource)(
        {**settings.kafka_options(), **spec.properties},
        spec.topics,
        group_name(spec.declared, settings),
        headers="headers" in spec.metadata or (spec.route is not None and isinstance(spec.route.by, ByHeader)),
        leader_epochs="leader_epoch" in spec.metadata,
        request_timeout=run.connect_seconds,
        poll_bytes=run.buffer_bytes,
    )
    held.callback(source.close)
    start = start_of(spec.options)
    if isinstance(source, SharedKafkaSource):
        return SharedReading(spec.topics, source, start, group=source, identity=source)
    return OwnReading(spec.topics, source, start, group=source, identity=source)
