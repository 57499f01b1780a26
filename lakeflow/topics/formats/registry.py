"""The formats by their name in `'value.format' = '..'` and `'key.format'`. A new one is its own file and a line in FORMATS."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lakeflow.errors import UnknownName
from lakeflow.topics.formats.avro import open_avro
from lakeflow.topics.formats.debezium import (
    open_debezium_avro,
    open_debezium_json,
    open_debezium_json_schema,
    open_debezium_protobuf,
)
from lakeflow.topics.formats.format import Format, Opening
from lakeflow.topics.formats.json import open_json
from lakeflow.topics.formats.json_schema import open_json_schema
from lakeflow.topics.formats.raw import open_raw

Factory = Callable[[Opening], Format]


def _open_protobuf(opening: Opening) -> Format:
    from lakeflow.topics.formats.protobuf import open_protobuf  # 100 ms that only its tables pay

    return open_protobuf(opening)


FORMATS: Mapping[str, Factory] = {
    "json": open_json,
    "proto-registry": _open_protobuf,
    "avro-registry": open_avro,
    "json-registry": open_json_schema,
    "raw": open_raw,
    "debezium-json": open_debezium_json,
    "json-debezium-registry": open_debezium_json_schema,
    "avro-debezium-registry": open_debezium_avro,
    "proto-debezium-registry": open_debezium_protobuf,
}


OPTIONS: Mapping[str, tuple[str, ...]] = {
    "json": ("json.",),
    "proto-registry": ("proto-registry.",),
    "avro-registry": ("avro-registry.",),
    "json-registry": ("json-registry.", "json."),
    "raw": ("raw.",),
    "debezium-json": ("debezium.", "json."),
    "json-debezium-registry": ("debezium.", "json."),
    "avro-debezium-registry": ("debezium.", "avro-registry."),
    "proto-debezium-registry": ("debezium.", "proto-registry."),
}
"""What the names of each format's options begin with."""


def open_format(name: str, opening: Opening) -> Format:
    """The format `name`.

    Raises UnknownName for a format or an option that is not there, DeclarationError for an option's value or a
    column that the format cannot give, ConfigError where it needs a schema registry and there is none.
    """
    try:
        factory = FORMATS[name]
    except KeyError:
        raise UnknownName("format", name, FORMATS) from None
    return factory(opening)
