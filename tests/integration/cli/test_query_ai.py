"""`lakeflow query` over the models and indexes of a project."""

from __future__ import annotations

import json

import pytest

from tests.integration.cli.conftest import Shop

VECTORS = "SELECT doc_id, text, ML_EMBED(MODEL docs_embedding, text) AS embedding FROM bronze.docs"


@pytest.fixture
def library(shop: Shop) -> Shop:
    """The project with documents."""
    shop.docs()
    return shop


def test_a_model_answers_in_a_query(library: Shop) -> None:
    ran = library("query", f"SELECT doc_id, len(embedding) > 8 AS wide FROM ({VECTORS}) ORDER BY 1", "--output", "json")
    assert [json.loads(line) for line in ran.out.splitlines()] == [
        {"doc_id": name, "wide": True} for name in ("sleep", "sort", "strip")
    ]
    assert ran.code == 0


def test_a_search_answers_in_a_query(library: Shop) -> None:
    assert library("run", "embed", "docs_index").code == 0
    text = """
    SELECT q.n, v.doc_id FROM (VALUES (1, 'wait some seconds'), (2, 'order the elements of a list')) q(n, question),
    LATERAL TABLE(VECTOR_SEARCH(TABLE gold.doc_vectors, DESCRIPTOR(embedding), {query}, 1, MAP['output_columns', 'doc_id'])) v
    ORDER BY 1
    """
    for query in ("ML_EMBED(MODEL docs_embedding, q.question)", "q.question"):
        ran = library("query", text.format(query=query), "--output", "csv")
        assert (ran.out.splitlines(), ran.err) == (["n,doc_id", "1,sleep", "2,sort"], "")


def test_what_is_wrong_is_pointed_at(library: Shop) -> None:
    ran = library("query", "SELECT ML_EMBED(MODEL docs_embeding, text) FROM bronze.docs")
    assert ran.code == 2
    assert "line 1:17: unknown model 'docs_embeding'; did you mean 'docs_embedding'?" in ran.err
    ran = library("query", "SELECT ML_EMBED(MODEL docs_embedding, txt) FROM bronze.docs")
    assert ran.code == 2
    assert "line 1:39: unknown column 'txt'; did you mean 'text'?" in ran.err
    assert ran.out == ""
