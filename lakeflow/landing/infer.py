"""Proposes the columns of a table from its topic: those of the registry's latest schema, or what its JSON records show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pyarrow as pa

from lakeflow.config import Settings
from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError
from lakeflow.landing.open import open_decoder, open_registry
from lakeflow.landing.plan import declared_landing, group_name
from lakeflow.landing.spec import LandingSpec
from lakeflow.topics.formats.json_infer import Inferred, infer
from lakeflow.topics.kafka import KafkaSource

FROM_RECORDS = ("json",)
POLL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Proposal:
    """The declaration with its columns, and what is to be known of them. `records` were read, 0 where a registry told."""

    table: TableSpec
    notes: tuple[str, ...]
    records: int
    broken: int


def propose(table: TableSpec, settings: Settings, *, records: int) -> Proposal:
    """Columns for a declared table, whatever columns it declares already. Reads the newest `records` at the most.

    Raises DeclarationError where its format knows of no columns or the topic holds none, and what opening the topic or the
    registry raises.
    """
    spec = declared_landing(replace(table, schema=pa.schema([])), settings)
    if spec.value_format not in FROM_RECORDS:
        with ExitStack() as held:
            columns = open_decoder(spec, open_registry(settings, held)).columns()
        return Proposal(replace(table, schema=columns), _missing(table, columns), 0, 0)
    inferred = _from_records(spec, settings, records)
    if not inferred.columns.names:
        raise DeclarationError(
            f"{table.origin}: table {table.name}: none of the {inferred.records} newest records of {spec.topics} shows "
            "a column",
            next_step="land the topic as it is: 'value.format' = 'raw'",
        )
    notes = (*inferred.notes, *_missing(table, inferred.columns))
    return Proposal(replace(table, schema=inferred.columns), notes, inferred.records, inferred.broken)


def _missing(table: TableSpec, columns: pa.Schema) -> tuple[str, ...]:
    """What the rest of the declaration asks of columns that were not found, or not as it needs them."""
    known = {*columns.names, *(each.column.name for each in table.metadata)}
    parts = [("PARTITIONED BY", part.column) for part in table.partitioning]
    keys = [("PRIMARY KEY", column) for column in table.primary_key]
    gone = [f"{clause} names {name}, which was not found: declare it" for clause, name in parts + keys if name not in known]
    declared = [column.name for column in table.schema if not column.nullable and column.name in columns.names]
    looser = [name for name in declared if columns.field(name).nullable]
    return (
        *gone,
        *(f"{name} is declared NOT NULL, and proposed without: put it back where each record has one" for name in looser),
    )


def _from_records(spec: LandingSpec, settings: Settings, records: int) -> Inferred:
    run = settings.run
    source = KafkaSource(
        {**settings.kafka_options(), **spec.properties},
        spec.topics,
        group_name(spec.declared, settings),
        request_timeout=run.connect_seconds,
        poll_bytes=run.buffer_bytes,
    )
    with source:
        return infer(_newest(source, records))


def _newest(source: KafkaSource, records: int) -> Iterator[bytes | None]:
    """The newest values, about as many of each partition. Transaction markers make them fewer."""
    bounds = {place: bound for place, bound in source.bounds().items() if bound.end > bound.begin}
    if not bounds:
        return
    each = -(-records // len(bounds))
    left = {place: bound.end for place, bound in bounds.items()}
    source.assign({place: max(bound.begin, bound.end - each) for place, bound in bounds.items()})
    while left and records > 0:
        polled = source.poll(min(records, 1000), POLL_SECONDS)
        yield from polled.values
        records -= len(polled)
        seen = zip(polled.topics, polled.partitions, polled.offsets, strict=True)
        after = {(topic, partition): offset + 1 for topic, partition, offset in seen} | dict(polled.ends)
        left = {place: end for place, end in left.items() if after.get(place, 0) < end}
