"""Searches read out of JSON: what is taken, what is refused, and with which words."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from lakeflow.config import ServeSettings
from lakeflow.errors import UnknownName, UsageError
from lakeflow.index.query import Mode, Query
from lakeflow.serve.asking import Request, request_of

BOUNDS = ServeSettings("127.0.0.1:0", None, 1 << 20, max_k=50, max_queries=3, max_requests=2, seconds=1.0)


def asked(**fields: Any) -> Request:
    return request_of(json.dumps(fields).encode(), BOUNDS)


def test_a_text_is_one_query_with_the_defaults() -> None:
    request = asked(text="sort a list")
    assert (request.query, request.texts, request.vectors, request.rerank) == (Query(k=10), ("sort a list",), None, None)
    assert (request.count, request.by_text, request.lists) == (1, True, None)


def test_every_field_arrives() -> None:
    request = asked(
        texts=["a", "b"], vectors=[[1, 2.5], [3, 4]], k=7, mode="hybrid", where="n > 1", columns=["id"], exact=True,
        max_distance=0.5, probes=3, refine=2, candidates=40, mmr=0.5, rerank="ranks",
    )  # fmt: skip
    assert request.query == Query(7, Mode.HYBRID, "n > 1", ("id",), True, 0.5, 3, 2, 40, 0.5)
    assert (request.texts, request.rerank, request.count, request.by_text) == (("a", "b"), "ranks", 2, False)
    assert request.vectors is not None
    assert request.lists is not None
    assert np.array_equal(request.vectors, np.array([[1, 2.5], [3, 4]], np.float32))
    assert request.lists.to_pylist() == [[1.0, 2.5], [3.0, 4.0]]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "no query; valid: one of text, texts, vector, vectors"),
    ({"text": " "}, "empty, or no text"),
    ({"text": 1}, "empty, or no text"),
    ({"texts": "a"}, "texts of a search is str; valid: a list"),
    ({"texts": []}, "0 queries; valid: 1 to 3"),
    ({"texts": ["a"] * 4}, "4 queries; valid: 1 to 3 (max_queries of [serve])"),
    ({"text": "a", "texts": ["a"]}, "both text and texts"),
    ({"texts": ["a", "b"], "vector": [1]}, "2 texts beside 1 vectors"),
    ({"text": "a", "k": 0}, "k is 0"),
    ({"text": "a", "k": 51}, "k is 51; valid: 1 to 50 hits a query (max_k of [serve])"),
    ({"text": "a", "k": "3"}, "k of a search is str; valid: a whole number"),
    ({"text": "a", "k": True}, "k of a search is True; valid: a whole number"),
    ({"text": "a", "k": 1.5}, "k of a search is 1.5; valid: a whole number"),
    ({"text": "a", "candidates": 501}, "candidates of a search is 501; valid: up to 500"),
    ({"text": "a", "mode": "fuzzy"}, "the mode of a search is 'fuzzy'"),
    ({"text": "a", "columns": [1]}, "columns of a search holds what is no text"),
    ({"text": "a", "where": ["x"]}, "where of a search is list; valid: a condition, as text"),
    ({"text": "a", "exact": 1}, "exact of a search is 1; valid: true or false"),
    ({"text": "a", "mmr": 2}, "mmr of a search is 2"),
    ({"vector": [1.0], "mode": "fts"}, "mode fts looks for words"),
    ({"vector": []}, "not all lists of numbers of one length, 1 or more"),
    ({"vectors": [[1.0], [1.0, 2.0]]}, "not all lists of numbers of one length"),
    ({"vector": [None]}, "holds what is no number"),
    ({"vector": [True]}, "holds what is no number"),
    ({"vector": [1e39]}, "no 32-bit float can hold"),
    ({"vector": [10**400]}, "no float can hold"),
    ({"vector": [1.0], "max_distance": 10**400}, "max_distance of a search has 401 digits; valid: a number of 64 bits"),
    ({"vector": [1.0], "snapshot_id": -(10**30)}, "snapshot_id of a search has 31 digits"),
    ({"text": "half \ud800"}, "text of a search holds half of a pair of surrogates"),
    ({"texts": ["a", "\udfff"]}, "texts of a search holds half"),
    ({"text": "a", "where": "name = '\ud800'"}, "where of a search holds half"),
    ({"text": "a", "columns": ["\ud800"]}, "columns of a search holds half"),
]


@pytest.mark.parametrize(("fields", "told"), REFUSED, ids=[told for _, told in REFUSED])
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        asked(**fields)
    assert told in caught.value.message


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "is no JSON"),
        (b"\xff", "is no JSON"),
        (b"[1]", "is list; valid: a JSON object"),
        (b'{"vector": [NaN]}', "NaN is no number of JSON"),
        (b'{"vector": [-Infinity]}', "-Infinity is no number of JSON"),
        (b"[" * 100_000, "is no JSON"),
    ],
)
def test_bodies_that_are_no_object_of_json_are_refused(body: bytes, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        request_of(body, BOUNDS)


def test_a_field_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown field of a search 'colums'; did you mean 'columns'"):
        asked(text="a", colums=["id"])
