"""What `'debezium.*'` options ask for.

debezium.as                     rows (default): rows to upsert and to delete; changes: a row for each change
debezium.columns                op, ts, source.<name>, transaction.id: columns debezium_op, debezium_ts, .. beside the row's
debezium.schema-include         plain JSON: whether values are {"schema", "payload"}; by default where no columns are declared
debezium.time.precision.mode    plain JSON without schema: the connector's own setting (adaptive is its default too)
debezium.timestamp.unit         the same: how TIMESTAMP is written, where the connector's setting leaves it to the column
debezium.time.unit              the same of TIME
debezium.decimal.mode           the same: the connector's decimal.handling.mode
debezium.unavailable            reject (default) or keep the connector's placeholder for a value that it could not read
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from lakeflow.errors import DeclarationError, UnknownName, did_you_mean
from lakeflow.topics.formats import logical_reads as reads
from lakeflow.topics.formats.logical import Logical, leaf, plain
from lakeflow.topics.formats.logical_types import MOMENT
from lakeflow.topics.formats.shape import JSON_TEXT

PREFIX = "debezium."
AS, COLUMNS, SCHEMA_INCLUDE = "debezium.as", "debezium.columns", "debezium.schema-include"
TIME_MODE, TIMESTAMP_UNIT, TIME_UNIT = "debezium.time.precision.mode", "debezium.timestamp.unit", "debezium.time.unit"
DECIMAL_MODE, UNAVAILABLE = "debezium.decimal.mode", "debezium.unavailable"

UNITS: Final[Mapping[str, int]] = {"milliseconds": 1000, "microseconds": 1, "nanoseconds": reads.NANOSECONDS}
MODE_UNITS: Final[Mapping[str, str]] = {
    "adaptive": "microseconds",
    "adaptive_time_microseconds": "microseconds",
    "connect": "milliseconds",
    "isostring": "",
    "microseconds": "microseconds",
    "nanoseconds": "nanoseconds",
}
"""The unit of TIME and TIMESTAMP for each of the connector's modes; text where there is none."""

CHOICES: Final[Mapping[str, Sequence[str]]] = {
    AS: ("rows", "changes"),
    SCHEMA_INCLUDE: ("true", "false"),
    TIME_MODE: tuple(MODE_UNITS),
    TIMESTAMP_UNIT: tuple(UNITS),
    TIME_UNIT: tuple(UNITS),
    DECIMAL_MODE: ("precise", "string", "double"),
    UNAVAILABLE: ("reject", "keep"),
}
PLAIN_ONLY = (SCHEMA_INCLUDE, TIME_MODE, TIMESTAMP_UNIT, TIME_UNIT, DECIMAL_MODE)

_TEXT = "version connector name db sequence schema table change_lsn commit_lsn gtid file query scn commit_scn rs_id user_name"
_TEXT += " collection lsid redo_sql row_id start_scn lcr_position partition keyspace cluster"
_WHOLE = "ts_ms ts_us ts_ns txId lsn xmin server_id pos row thread event_serial_no ord txnNumber ssn redo_thread"
SOURCE_TYPES: Final[Mapping[str, pa.DataType]] = {
    **dict.fromkeys(_TEXT.split(), pa.string()),
    **dict.fromkeys(_WHOLE.split(), pa.int64()),
    "snapshot": pa.string(),
}
"""The fields of `source` over all connectors: one type each, so that a column is the same whatever the converter."""


@dataclass(frozen=True, slots=True)
class Extra:
    """A column beside the row's: the field of the envelope that it is taken from, `path` deep."""

    path: tuple[str, ...]
    logical: Logical


@dataclass(frozen=True, slots=True)
class DebeziumOptions:
    """The options as values. Units are microseconds, as `logical_reads` takes them; None: text."""

    changes: bool
    extras: tuple[Extra, ...]
    schema_include: bool | None
    time_unit: int | None
    timestamp_unit: int | None
    decimal_mode: str
    reject_unavailable: bool

    def refuse_clashes(self, names: Sequence[str]) -> str | None:
        """Why the row's columns and the ones beside them cannot stand in one table; None where they can."""
        taken = {name.lower() for name in names}
        clashing = [extra.logical.kept.name for extra in self.extras if extra.logical.kept.name in taken]
        return f"column {clashing[0]!r} is there already, and {COLUMNS!r} adds it too" if clashing else None


def debezium_options(options: Mapping[str, str], *, plain: bool) -> DebeziumOptions:
    """The options of a table; `plain` is JSON without a registry. Raises UnknownName, DeclarationError, with what is valid."""
    valid = [COLUMNS, *(name for name in CHOICES if plain or name not in PLAIN_ONLY)]
    for name, value in options.items():
        if name.startswith(PREFIX):
            if name not in valid:
                raise UnknownName("option of format debezium", name, valid)
            if name in CHOICES and value not in CHOICES[name]:
                raise DeclarationError(f"option {name!r} is {value!r}{did_you_mean(value, CHOICES[name])}")
    unit = MODE_UNITS[options.get(TIME_MODE, "adaptive")]
    include = options.get(SCHEMA_INCLUDE)
    return DebeziumOptions(
        changes=options.get(AS) == "changes",
        extras=tuple(map(_extra, _listed(options.get(COLUMNS, "")))),
        schema_include=None if include is None else include == "true",
        time_unit=UNITS.get(options.get(TIME_UNIT, unit)),
        timestamp_unit=UNITS.get(options.get(TIMESTAMP_UNIT, unit)),
        decimal_mode=options.get(DECIMAL_MODE, "precise"),
        reject_unavailable=options.get(UNAVAILABLE) != "keep",
    )


def extra_columns(options: Mapping[str, str]) -> pa.Schema:
    """The columns that stand beside the row's. Raises DeclarationError for what is no such column."""
    return pa.schema([extra.logical.kept for extra in map(_extra, _listed(options.get(COLUMNS, "")))])


def _listed(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _extra(name: str) -> Extra:
    match name.split("."):
        case ["op"]:
            return Extra(("op",), plain("debezium_op", pa.string()))
        case ["ts"]:
            read = leaf("debezium_ts", pa.int64(), MOMENT, reads.moments(1000, MOMENT), "milliseconds since 1970-01-01")
            return Extra(("ts_ms",), read)
        case ["transaction", "id"]:
            return Extra(("transaction", "id"), plain("debezium_transaction_id", pa.string()))
        case ["source", "snapshot"]:
            # A truth value in older connectors, text (true, last, incremental, ..) in newer ones.
            return Extra(
                ("source", "snapshot"), leaf("debezium_source_snapshot", JSON_TEXT, pa.string(), reads.unquoted, "a word")
            )
        case ["source", field] if field in SOURCE_TYPES:
            return Extra(("source", field), plain(f"debezium_source_{field}", SOURCE_TYPES[field]))
        case _:
            known = ["op", "ts", "transaction.id", *(f"source.{field}" for field in SOURCE_TYPES)]
            raise DeclarationError(f"option {COLUMNS!r} names {name!r}{did_you_mean(name, known, most=len(known))}")
