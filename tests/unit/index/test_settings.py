from __future__ import annotations

from datetime import timedelta

import pytest

from lakeflow.declare import IndexSpec
from lakeflow.errors import DeclarationError
from lakeflow.index.settings import IndexSettings, settings_of


def spec(name: str = "docs", **options: str) -> IndexSpec:
    return IndexSpec(name, "gold.docs", "embedding", "doc_id", options=options)


def test_without_options_the_defaults_hold() -> None:
    assert settings_of(spec()) == IndexSettings()


def test_every_option_has_its_effect() -> None:
    given = spec(
        kind="ivf_sq", flat_below="10", probes="3", refine="4", unindexed="0", keep_versions_minutes="5", chunk_mib="2",
        bits="4", key="doc_id", metric="l2", model="minilm", columns="a,b", filter_columns="a, b",
        text_columns="body", language="German",
    )  # fmt: skip
    assert settings_of(given) == IndexSettings(
        "ivf_sq", 10, 3, 4, 0, timedelta(minutes=5), 2 << 20, ("a", "b"), ("body",), "german", 4
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flat_bellow": "10"}, "unknown option 'flat_bellow'; did you mean 'flat_below'"),
        (
            {"kind": "hnsw"},
            "kind is 'hnsw'; valid: auto, flat, ivf_flat, ivf_hnsw_flat, ivf_hnsw_pq, ivf_hnsw_sq, ivf_pq, ivf_rq, ivf_sq",
        ),
        ({"bits": "9"}, "bits is '9'; valid: a whole number from 1 to 8"),
        ({"probes": "0"}, "probes is '0'; valid: a whole number from 1"),
        ({"refine": "many"}, "refine is 'many'; valid: a whole number"),
        ({"flat_below": "1e9"}, "flat_below is '1e9'"),
        ({"text_column": "body"}, "unknown option 'text_column'; did you mean 'text_columns'"),
        ({"text_columns": "body, body"}, "text_columns is 'body, body'; valid: each column once"),
        ({"filter_columns": "a,,b"}, "filter_columns is 'a,,b'; valid: each column once"),
        ({"filter_columns": ""}, "filter_columns is ''"),
        ({"language": "englsh"}, "language is 'englsh'; did you mean 'english'"),
        ({"keep_versions_minutes": "0"}, "keep_versions_minutes is '0'"),
    ],
)
def test_an_option_that_is_not_valid_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        settings_of(spec(**options))


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a'b", "../docs", "a.b"])
def test_a_name_that_could_be_a_path_or_sql_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError, match="letters, digits and underscores"):
        settings_of(spec(name))


@pytest.mark.parametrize(
    ("kind", "rows", "width", "expected"),
    [
        ("auto", 49_999, 384, "flat"),
        ("auto", 50_000, 384, "ivf_rq"),
        ("auto", 50_000, 100, "ivf_sq"),
        ("flat", 10_000_000, 384, "flat"),
        ("ivf_rq", 1, 384, "ivf_rq"),
    ],
)
def test_the_kind_follows_from_rows_and_width(kind: str, rows: int, width: int, expected: str) -> None:
    assert IndexSettings(kind=kind).kind_for(rows, width) == expected
