from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import Origin, TableSpec
from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.landing.cut import Limits
from lakeflow.landing.spec import METADATA_COLUMNS, LandingSpec, OnError, is_landed, landing_spec

DEFAULTS = Limits(rows=100, bytes=2000, seconds=30.0)
SCHEMA = pa.schema([("id", pa.int64()), ("carrier", pa.string())])
ORIGIN = Origin(Path("tables/flights.sql"), 3)


def declared(options: dict[str, str], schema: pa.Schema = SCHEMA) -> TableSpec:
    return TableSpec("bronze.flights", schema, options, origin=ORIGIN)


def spec_of(options: dict[str, str], schema: pa.Schema = SCHEMA) -> LandingSpec:
    table = declared({"connector": "kafka", "topic": "flights", **options}, schema)
    return landing_spec(table, table.options, DEFAULTS)


def refusal(options: dict[str, str], schema: pa.Schema = SCHEMA) -> str:
    with pytest.raises((DeclarationError, UnknownName)) as caught:
        spec_of(options, schema)
    assert "tables/flights.sql:3: table bronze.flights" in caught.value.message
    return caught.value.message


def test_without_options_the_defaults_hold() -> None:
    spec = spec_of({})
    assert (spec.table, spec.topic, spec.value_format) == ("bronze.flights", "flights", "json")
    assert (spec.on_error, spec.metadata, spec.limits) == (OnError.SUSPEND, (), DEFAULTS)
    assert spec.stored.schema == SCHEMA
    assert dict(spec.properties) == {}


def test_every_option_is_read() -> None:
    spec = spec_of(
        {
            "value.format": "avro",
            "on_error": "dead_letter",
            "commit.rows": "7",
            "commit.bytes": "1e3",
            "commit.seconds": "0.5",
            "properties.fetch.min.bytes": "1",
            "json.unknown-fields": "refuse",
            "scan.startup.mode": "latest-offset",
        }
    )
    assert (spec.value_format, spec.on_error) == ("avro", OnError.DEAD_LETTER)
    assert spec.limits == Limits(7, 1000, 0.5)
    assert dict(spec.properties) == {"fetch.min.bytes": "1"}
    assert spec.options["json.unknown-fields"] == "refuse"


@pytest.mark.parametrize("choice", list(OnError))
def test_each_choice_of_on_error_is_valid(choice: OnError) -> None:
    assert spec_of({"on_error": str(choice)}).on_error is choice


def test_an_unknown_option_is_refused_with_the_nearest() -> None:
    said = refusal({"on_eror": "skip"})
    assert "'on_eror'; did you mean 'on_error'?" in said
    assert "properties.*" in said


def test_a_missing_topic_is_refused() -> None:
    assert "names no topic; add 'topic' = '..'" in refusal({"topic": ""})


def test_a_wrong_on_error_is_refused_with_the_nearest() -> None:
    said = refusal({"on_error": "dead_leter"})
    assert "'on_error' is 'dead_leter'; did you mean " in said
    assert said.endswith("valid: dead_letter, skip, suspend")


@pytest.mark.parametrize("option", ["commit.rows", "commit.bytes", "commit.seconds"])
@pytest.mark.parametrize("text", ["0", "-1", "many", "nan", "inf", ""])
def test_a_limit_is_a_number_above_nothing(option: str, text: str) -> None:
    assert f"{option!r} is {text!r}; valid: a number above 0" in refusal({option: text})


def test_metadata_columns_stand_behind_the_declared_ones_in_the_order_given() -> None:
    spec = spec_of({"metadata.columns": "offset, partition,offset"})
    assert spec.metadata == ("offset", "partition")
    assert spec.stored.schema.names == ["id", "carrier", "kafka_offset", "kafka_partition"]
    assert spec.stored.schema.types[2:] == [pa.int64(), pa.int32()]
    assert spec.declared.schema == SCHEMA


def test_all_metadata_columns_at_once() -> None:
    assert spec_of({"metadata.columns": "all"}).metadata == tuple(METADATA_COLUMNS)


def test_an_unknown_metadata_column_is_refused_with_the_nearest() -> None:
    assert "'metadata.columns' names 'ofset'; did you mean 'offset'?" in refusal({"metadata.columns": "ofset"})


def test_a_metadata_column_that_is_declared_already_is_refused() -> None:
    schema = SCHEMA.append(pa.field("kafka_offset", pa.int64()))
    with pytest.raises(DeclarationError, match=r"tables/flights.sql:3: table bronze.flights declares 'kafka_offset'"):
        spec_of({"metadata.columns": "offset"}, schema)
    assert spec_of({"metadata.columns": "partition"}, schema).metadata == ("partition",)


def test_a_secret_that_was_filled_in_is_not_shown() -> None:
    table = declared({"connector": "kafka", "topic": "flights", "properties.sasl.password": "{{ secret.KAFKA }}"})
    spec = landing_spec(table, {**table.options, "properties.sasl.password": "hunter22"}, DEFAULTS)
    assert spec.properties["sasl.password"] == "hunter22"
    assert "hunter22" not in repr(spec)


@pytest.mark.parametrize(
    ("options", "landed"), [({"connector": "kafka"}, True), ({"connector": "iceberg"}, False), ({}, False)]
)
def test_a_table_is_landed_by_its_connector(options: dict[str, str], landed: bool) -> None:
    assert is_landed(declared(options)) is landed


def test_an_unknown_connector_is_refused_with_the_nearest() -> None:
    with pytest.raises(DeclarationError, match=r"tables/flights.sql:3.*'connector' is 'kafak'; did you mean 'kafka'"):
        is_landed(declared({"connector": "kafak"}))
