"""Formats are opened by name."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.topics.formats import Opening, open_format

SCHEMA = pa.schema([("a", pa.int32())])


def test_json_is_there() -> None:
    decoded = open_format("json", Opening(SCHEMA, {"topic": "t", "value.format": "json"})).decode([b'{"a": 1}'])
    assert decoded.rows.to_pylist() == [{"a": 1}]


def test_an_unknown_format_names_the_valid_ones() -> None:
    with pytest.raises(UnknownName, match=r"unknown format 'jsn'; did you mean 'json'\? valid: .*\bjson\b"):
        open_format("jsn", Opening(SCHEMA))


def test_an_unknown_option_of_the_format_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"did you mean 'json\.unknown-fields'"):
        open_format("json", Opening(SCHEMA, {"json.unknown-field": "refuse"}))


def test_an_options_value_is_one_of_the_valid_ones() -> None:
    with pytest.raises(DeclarationError, match=r"'json\.unknown-fields' is 'fail'; valid: ignore, refuse"):
        open_format("json", Opening(SCHEMA, {"json.unknown-fields": "fail"}))


@pytest.mark.parametrize(
    ("type_", "message"),
    [
        (pa.uint32(), "column a is of uint32, which JSON cannot give; valid: BOOLEAN, TINYINT"),
        (pa.timestamp("ns"), r"column a is of timestamp\[ns\]"),
        (pa.struct([("b", pa.list_(pa.large_string()))]), r"column a\.b\[\] is of large_string"),
        (pa.map_(pa.int32(), pa.int32()), "column a is a map with keys of int32; in JSON keys are of STRING"),
        (pa.struct([]), "a has no fields"),
    ],
)
def test_a_column_that_json_cannot_give_is_named(type_: pa.DataType, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        open_format("json", Opening(pa.schema([("a", type_)]), {}))


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline"])
def test_a_name_that_the_decoder_cannot_look_for_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match="has a name that JSON cannot give"):
        open_format("json", Opening(pa.schema([(name, pa.int32())]), {}))


def test_a_schema_without_columns_is_refused() -> None:
    with pytest.raises(DeclarationError, match="the schema has no fields"):
        open_format("json", Opening(pa.schema([]), {}))
