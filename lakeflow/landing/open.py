"""Opens the landing that a table declares, with the real Kafka at its source."""

from __future__ import annotations

from collections.abc import Callable

from lakeflow.config import Settings
from lakeflow.declare import TableSpec
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import CommitProtocol
from lakeflow.landing.plan import declared_landing, group_name
from lakeflow.landing.writer import Counts, Landing, Sizes
from lakeflow.topics.formats import Opening, open_format
from lakeflow.topics.kafka import KafkaSource
from lakeflow.topics.source import start_of


def open_landing(
    table: TableSpec,
    settings: Settings,
    lake: Lake,
    commits: CommitProtocol,
    *,
    on_progress: Callable[[Counts, int], None] = lambda counts, left: None,
) -> tuple[Landing, KafkaSource]:
    """The landing of a table with connector kafka, and its source, which the caller closes.

    Raises DeclarationError, ConfigError for what is declared wrong, UnknownName for a topic that is not there,
    SourceUnavailable where no broker answers, SchemaMismatch where the table exists with other columns.
    """
    run = settings.run
    spec = declared_landing(table, settings)
    decoder = open_format(spec.value_format, Opening(table.schema, spec.options))
    start = start_of(spec.options)
    source = KafkaSource(
        {**settings.kafka_options(), **spec.properties},
        (spec.topic,),
        group_name(table, settings),
        request_timeout=run.connect_seconds,
        poll_bytes=run.buffer_bytes,
    )
    try:
        landing = Landing(
            spec,
            source,
            decoder,
            lake,
            commits,
            start=start,
            group=source,
            sizes=Sizes(run.buffer_bytes, run.target_file_bytes, run.poll_seconds),
            on_progress=on_progress,
        )
    except BaseException:
        source.close()
        raise
    return landing, source
