"""Records in the registry's wire format: a zero byte, the schema's id in four bytes (big endian), the body.

https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format

What a body is differs by the language of its schema; how a schema is found, and that one batch holds several, does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import repeat

import pyarrow as pa

from lakeflow.errors import ConfigError, DeclarationError, SchemaMismatch
from lakeflow.topics.formats.format import Decoded, Format, Opening, Part, Reject, RejectKind
from lakeflow.topics.registered import RegisteredSchema, Registry, SchemaKind

MAGIC = 0
HEAD = 5
"""Bytes before the body."""

BodyFormat = Callable[[RegisteredSchema, Registry], Format]
"""Opens the format of bodies written with one schema. Raises SchemaMismatch for a schema that no table can hold."""


class FramedFormat:
    """The Format for registered schemas of one kind: unframes, and hands the bodies of each schema to a format of its own."""

    def __init__(self, opening: Opening, kind: SchemaKind, open_body: BodyFormat) -> None:
        if opening.registry is None:
            raise ConfigError(
                f"the format of {opening.side}s of {opening.named} needs a schema registry",
                next_step='set url under [registry] in lakeflow.toml, as in url = "http://localhost:8081"',
            )
        self._registry = opening.registry
        self._subjects = tuple(f"{topic}-{opening.side}" for topic in opening.topics)
        self._kind = kind
        self._open_body = open_body
        self._bodies: dict[int, Format | str] = {}
        """By schema id: the format, or why its records give no rows."""

    def schema(self) -> pa.Schema:
        """The columns of the latest schema of the first topic's subject.

        Raises DeclarationError where the topics are those of a pattern.
        """
        if not self._subjects:
            raise DeclarationError(
                "a table that is made takes its columns from the schema of the first topic that it names, and 'topic-pattern' "
                "names none",
                next_step="declare its columns, which records may go beyond with 'schema.evolution' = 'on'",
            )
        latest = self._registry.latest(self._subjects[0])
        body = self._opened(latest.id, latest)
        if isinstance(body, str):
            raise SchemaMismatch(f"the latest schema of subject {self._subjects[0]!r}: {body}")
        return body.schema()

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """The rows of `values`; see the protocol."""
        if (only := _only_head(values)) is not None:
            return self._decode_group(only, values, range(len(values)))
        groups: dict[int, list[int]] = {}
        rejects: list[Reject] = []
        for place, value in enumerate(values):
            if value is None:
                rejects.append(Reject(place, RejectKind.TOMBSTONE, "the record has no value"))
            elif len(value) < HEAD or value[0] != MAGIC:
                rejects.append(Reject(place, RejectKind.MALFORMED, _unframed(value)))
            else:
                groups.setdefault(int.from_bytes(value[1:HEAD], "big"), []).append(place)
        return merged([self._decode_group(schema_id, values, places) for schema_id, places in groups.items()], rejects)

    def _decode_group(self, schema_id: int, values: Sequence[bytes | None], places: Sequence[int]) -> Decoded:
        body = self._opened(schema_id)
        if isinstance(body, str):
            return Decoded((), tuple(Reject(place, RejectKind.SCHEMA, body) for place in places))
        if len(places) == len(values):
            return body.decode([value[HEAD:] for value in values])  # type: ignore[index]
        return placed(body.decode([values[place][HEAD:] for place in places]), places)  # type: ignore[index]

    def _opened(self, schema_id: int, known: RegisteredSchema | None = None) -> Format | str:
        """A schema never changes, so what was opened stays; one that is not there may come."""
        if (body := self._bodies.get(schema_id)) is not None:
            return body
        try:
            schema = known or self._registry.by_id(schema_id)
            if schema is None:
                return f"schema {schema_id} is not in the registry"
            body = self._bodies[schema_id] = self._open(schema)
        except SchemaMismatch as error:
            body = self._bodies[schema_id] = f"schema {schema_id}: {error.message}"
        return body

    def _open(self, schema: RegisteredSchema) -> Format | str:
        if schema.kind is not self._kind:
            return f"schema {schema.id} is of {schema.kind}, and the format reads {self._kind}"
        return self._open_body(schema, self._registry)


def _only_head(values: Sequence[bytes | None]) -> int | None:
    """The schema's id where all values are framed alike; None where they are not."""
    if not values or values[0] is None or len(values[0]) < HEAD or values[0][0] != MAGIC:
        return None
    head = values[0][:HEAD]
    alike = None not in values and all(map(bytes.startswith, values, repeat(head)))  # type: ignore[arg-type]
    return int.from_bytes(head[1:], "big") if alike else None


def _unframed(value: bytes) -> str:
    if len(value) < HEAD:
        return f"{len(value)} bytes are too few for the registry's wire format, which begins with {HEAD}"
    return f"the first byte is {value[0]:#04x}, and the registry's wire format begins with 0x00"


def placed(decoded: Decoded, places: Sequence[int]) -> Decoded:
    """`decoded` of the values at `places`, by the places of all."""
    everywhere = pa.array(places, pa.int64())

    def part(one: Part) -> Part:
        return Part(one.rows, everywhere if one.kept is None else everywhere.take(one.kept))

    return Decoded(
        tuple(map(part, decoded.parts)),
        tuple(replace(reject, index=places[reject.index]) for reject in decoded.rejects),
        tuple(map(part, decoded.deletes)),
        tuple(places[place] for place in decoded.truncates),
        tuple(places[place] for place in decoded.passed),
    )


def merged(decoded: Sequence[Decoded], rejects: Sequence[Reject]) -> Decoded:
    """What several groups of one batch came to, and `rejects` of none of them."""
    everything = [*rejects, *(reject for one in decoded for reject in one.rejects)]
    return Decoded(
        tuple(part for one in decoded for part in one.parts),
        tuple(sorted(everything, key=lambda reject: reject.index)),
        tuple(part for one in decoded for part in one.deletes),
        tuple(sorted(place for one in decoded for place in one.truncates)),
        tuple(sorted(place for one in decoded for place in one.passed)),
    )
