from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import Origin, TableSpec
from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.landing.cut import Limits
from lakeflow.landing.spec import METADATA_COLUMNS, ChangelogMode, KeySpec, LandingSpec, OnError, is_landed, landing_spec
from lakeflow.topics.formats.registry import FORMATS, OPTIONS
from lakeflow.topics.names import NamedTopics, TopicPattern

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
    assert (spec.table, spec.topics, spec.value_format) == ("bronze.flights", NamedTopics(("flights",)), "json")
    assert (spec.on_error, spec.metadata, spec.limits) == (OnError.SUSPEND, (), DEFAULTS)
    assert spec.stored(SCHEMA).schema == SCHEMA
    assert (spec.key, spec.mode, spec.evolves, spec.route) == (None, ChangelogMode.APPEND, False, None)
    assert dict(spec.properties) == {}


def test_a_landed_table_may_say_from_when_its_rows_are_valid() -> None:
    plain, said = spec_of({}), spec_of({"valid_from": "since", "valid_until": "until"})
    assert replace(said, declared=plain.declared, options=plain.options) == plain


def test_every_option_is_read() -> None:
    spec = spec_of(
        {
            "value.format": "json-registry",
            "on_error": "dead_letter",
            "commit.max-rows": "7",
            "commit.max-bytes": "1 kb",
            "commit.interval": "500 ms",
            "properties.fetch.min.bytes": "1",
            "json.unknown-fields": "refuse",
            "scan.startup.mode": "latest-offset",
        }
    )
    assert (spec.value_format, spec.on_error) == ("json-registry", OnError.DEAD_LETTER)
    assert spec.limits == Limits(7, 1024, 0.5)
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
    assert "option 'topic' is ''" in refusal({"topic": ""})
    table = declared({"connector": "kafka"})
    with pytest.raises(DeclarationError, match="no topic is named"):
        landing_spec(table, table.options, DEFAULTS)


def test_a_wrong_on_error_is_refused_with_the_nearest() -> None:
    said = refusal({"on_error": "dead_leter"})
    assert "'on_error' is 'dead_leter'; did you mean " in said
    assert said.endswith("valid: dead_letter, skip, suspend")


@pytest.mark.parametrize(
    ("option", "valid"),
    [
        ("commit.max-rows", "a whole number above 0"),
        ("commit.max-bytes", "a size above 0, such as '64 mb'"),
        ("target-file-size", "a size above 0, such as '64 mb'"),
        ("commit.interval", "a duration above 0, such as '10 s', '1 min'"),
    ],
)
@pytest.mark.parametrize("text", ["0", "-1", "many", "nan", "inf", "", "5 parsecs"])
def test_a_limit_is_above_nothing(option: str, text: str, valid: str) -> None:
    assert f"{option!r} is {text!r}; valid: {valid}" in refusal({option: text})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2", 2.0), ("0.5", 0.5), ("250 ms", 0.25), ("3 s", 3.0), ("1 min", 60.0), ("2h", 7200.0), ("1 D", 86400.0)],
)
def test_an_interval_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    assert spec_of({"commit.interval": text}).limits.seconds == seconds


@pytest.mark.parametrize(("text", "size"), [("512", 512), ("4 kb", 4096), ("64MB", 64 << 20), ("1.5 gib", 3 << 29)])
def test_a_size_has_a_unit_or_is_of_bytes(text: str, size: int) -> None:
    assert spec_of({"target-file-size": text}).target_file_bytes == size


def test_several_topics_or_a_pattern_are_read() -> None:
    assert spec_of({"topic": "a;b"}).topics == NamedTopics(("a", "b"))
    table = declared({"connector": "kafka", "topic-pattern": "sales-.*"})
    assert landing_spec(table, table.options, DEFAULTS).topics == TopicPattern("sales-.*")


KEYED = pa.schema([pa.field("id", pa.int64(), nullable=False), ("carrier", pa.string())])


def keyed(options: dict[str, str], schema: pa.Schema = KEYED) -> LandingSpec:
    table = replace(declared({"connector": "kafka", "topic": "flights", **options}, schema), primary_key=("id",))
    return landing_spec(table, table.options, DEFAULTS)


def test_a_table_by_key_is_asked_for() -> None:
    assert keyed({}).mode is ChangelogMode.APPEND
    assert keyed({"changelog.mode": "upsert"}).mode is ChangelogMode.UPSERT
    assert "'changelog.mode' = 'upsert' needs a key; add PRIMARY KEY" in refusal({"changelog.mode": "upsert"})


@pytest.mark.parametrize("name", ["debezium-json", "avro-debezium-registry"])
def test_a_change_log_with_a_primary_key_is_a_table_by_key(name: str) -> None:
    assert keyed({"value.format": name}).mode is ChangelogMode.UPSERT
    assert keyed({"value.format": name}).options["debezium.as"] == "rows"
    appending = keyed({"value.format": name, "changelog.mode": "append"})
    assert (appending.mode, appending.options["debezium.as"]) == (ChangelogMode.APPEND, "changes")


def test_keys_give_the_columns_of_the_primary_key_unless_others_are_named() -> None:
    spec = keyed({"key.format": "json", "key.json.unknown-fields": "refuse"})
    assert spec.key == KeySpec("json", ("id",), "", True, {"format": "json", "json.unknown-fields": "refuse"})
    assert spec.key_columns == pa.schema([KEYED.field("id")])
    assert spec.value_columns == KEYED


def test_columns_of_the_key_alone_are_not_looked_for_in_the_value() -> None:
    schema = pa.schema([("k_id", pa.int64()), ("carrier", pa.string())])
    options = {"key.format": "json", "key.fields": "k_id", "key.fields-prefix": "k_", "value.fields-include": "EXCEPT_KEY"}
    spec = spec_of(options, schema)
    assert spec.key_columns == pa.schema([("id", pa.int64())])
    assert spec.value_columns == pa.schema([("carrier", pa.string())])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key.fields": "id"}, "'key.fields' goes with 'key.format'"),
        ({"value.fields-include": "ALL"}, "'value.fields-include' goes with 'key.format'"),
        ({"key.format": "json"}, "'key.format' gives no column"),
        ({"key.format": "json", "key.fields": "idd"}, "did you mean 'id'"),
        (
            {"key.format": "json", "key.fields": "id", "key.fields-prefix": "k_"},
            "does not begin with 'key.fields-prefix' = 'k_'",
        ),
        ({"key.format": "json", "key.fields": "id", "key.fields-prefix": "i"}, "needs 'value.fields-include' = 'EXCEPT_KEY'"),
        ({"key.format": "json", "key.fields": "id;carrier", "value.fields-include": "EXCEPT_KEY"}, "values give none"),
        ({"dead_letter.topic": "letters"}, "'dead_letter.topic' has no effect with 'on_error' = 'suspend'"),
        ({"schema.evolution": "maybe"}, "'schema.evolution' is 'maybe'"),
        ({"route.values": "a"}, "'route.values' goes with 'route.by'"),
        ({"route.by": "header:kind"}, "'route.by' goes with 'route.values'"),
        ({"route.by": "headr:kind", "route.values": "a"}, "'route.by' is 'headr:kind'; valid: 'header:NAME'"),
        ({"route.by": "field:kind", "route.values": "a", "value.format": "raw"}, "not 'raw'; valid there: 'header:NAME'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, str], message: str) -> None:
    assert message in refusal(options)


def test_a_table_without_declared_columns_follows_its_topic() -> None:
    spec = spec_of({"value.format": "avro-registry"}, pa.schema([]))
    assert (spec.columns, spec.evolves) == (None, True)
    assert spec_of({"schema.evolution": "on", "value.format": "avro-registry"}).evolves
    assert "has no effect with 'value.format' = 'json'" in refusal({"schema.evolution": "on"})


def test_the_columns_of_the_primary_key_are_stored_as_not_null() -> None:
    spec = keyed({"metadata.columns": "offset"}, pa.schema([]))
    stored = spec.stored(pa.schema([("id", pa.int64()), ("v", pa.string())])).schema
    assert [(column.name, column.nullable) for column in stored] == [("id", False), ("v", True), ("kafka_offset", True)]
    with pytest.raises(UnknownName, match="column in PRIMARY KEY"):
        spec.stored(pa.schema([("v", pa.string())]))


def test_metadata_columns_stand_behind_the_declared_ones_in_the_order_given() -> None:
    spec = spec_of({"metadata.columns": "offset, partition,offset"})
    assert spec.metadata == ("offset", "partition")
    assert spec.stored(SCHEMA).schema.names == ["id", "carrier", "kafka_offset", "kafka_partition"]
    assert spec.stored(SCHEMA).schema.types[2:] == [pa.int64(), pa.int32()]
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


@pytest.mark.parametrize(
    ("options", "unknown"),
    [
        ({"avro-registry.nanoseconds": "floor"}, "avro-registry.nanoseconds"),
        ({"value.format": "raw", "json.unknown-fields": "refuse"}, "json.unknown-fields"),
        ({"key.json.unknown-fields": "refuse"}, "key.json.unknown-fields"),
        ({"key.feilds": "id", "key.format": "json", "key.fields": "id"}, "key.feilds"),
    ],
)
def test_options_of_a_format_that_is_not_used_are_refused(options: dict[str, str], unknown: str) -> None:
    assert f"{unknown!r}" in refusal(options)


def test_every_format_says_what_its_options_begin_with() -> None:
    assert OPTIONS.keys() == FORMATS.keys()
