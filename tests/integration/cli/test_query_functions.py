"""`lakeflow query` with models, searches and lakeflow's own functions, whose requests a service counts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from lakeflow.errors import Interrupted
from lakeflow.runner.project import Project
from lakeflow.runner.sql_query import query_project
from lakeflow.sql.execute import Limits
from tests.integration.cli.conftest import Shop
from tests.services.http import Server
from tests.services.openai import KEY, OpenAI

MODELS = """
CREATE MODEL shout INPUT (order_id STRING) OUTPUT (note STRING)
WITH ('provider' = 'openai', 'task' = 'text_generation', 'endpoint' = '{url}/v1', 'model' = 'gpt-4.1-mini',
      'api-key' = '{{{{ secret.OPENAI }}}}', 'prompt' = '{{order_id}}', 'cache' = 'off'{more});

CREATE MODEL remote_embedding INPUT (text STRING) OUTPUT (embedding ARRAY<FLOAT>)
WITH ('provider' = 'openai', 'task' = 'embedding', 'endpoint' = '{url}/v1', 'model' = 'text-embedding-3-small',
      'api-key' = '{{{{ secret.OPENAI }}}}', 'cache' = 'off');
"""


@pytest.fixture
def service() -> OpenAI:
    return OpenAI(refused_text="o2")


@pytest.fixture
def server(service: OpenAI) -> Iterator[Server]:
    with Server(service) as server:
        yield server


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFLOW_SECRET_OPENAI", KEY)


def declare(shop: Shop, server: Server, more: str = "") -> None:
    shop.declare("tables/models.sql", MODELS.format(url=server.url, more=more))


def query(shop: Shop, sql: str) -> list[dict[str, Any]]:
    ran = shop("query", sql, "--output", "json")
    assert ran.code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


def asked(service: OpenAI) -> Counter[str]:
    """The questions that were answered."""
    return Counter({text.strip(): count for text, count in service.answered.items()})


def test_a_filter_on_other_columns_comes_before_the_service_is_asked(stocked: Shop, server: Server, service: OpenAI) -> None:
    declare(stocked, server)
    found = query(
        stocked,
        "SELECT order_id, note FROM ML_PREDICT(TABLE bronze.orders, MODEL shout, DESCRIPTOR(order_id)) "
        "WHERE amount > 200 AND note LIKE 'O%' ORDER BY 1",
    )
    assert found == [{"order_id": "o3", "note": "O3"}, {"order_id": "o4", "note": "O4"}]
    assert asked(service) == {"o3": 1, "o4": 1}


def test_a_branch_that_is_not_taken_asks_nothing(stocked: Shop, server: Server, service: OpenAI) -> None:
    declare(stocked, server)
    found = query(
        stocked,
        "SELECT order_id, CASE WHEN amount > 300 THEN AI_COMPLETE('shout', order_id) ELSE 'small' END AS note "
        "FROM bronze.orders ORDER BY 1",
    )
    assert [row["note"] for row in found] == ["small", "small", "O3", "small"]
    assert asked(service) == {"o3": 1}


def test_what_waits_for_a_service_ends_on_request(stocked: Shop, server: Server, service: OpenAI) -> None:
    """Where answers are kept, so that nothing that is paid for is lost."""
    service.latency = 3.0
    stocked.declare("tables/models.sql", MODELS.format(url=server.url, more="").replace(", 'cache' = 'off'", ""))
    text = "SELECT note FROM ML_PREDICT(TABLE bronze.orders, MODEL shout, DESCRIPTOR(order_id))"
    with ExitStack() as held, pytest.raises(Interrupted):
        query_project(text, Project.open(stocked.folder), Limits(), held, lambda: True).read_all()


def test_rows_that_a_model_skips_are_not_there(stocked: Shop, server: Server) -> None:
    declare(stocked, server, ", 'on_error' = 'skip'")
    found = query(stocked, "SELECT order_id FROM ML_PREDICT(TABLE bronze.orders, MODEL shout, DESCRIPTOR(order_id)) ORDER BY 1")
    assert [row["order_id"] for row in found] == ["o1", "o3", "o4"]


def test_config_bounds_how_many_requests_are_under_way(shop: Shop, server: Server, service: OpenAI) -> None:
    service.latency = 0.02
    shop.orders(*((f"x{number}", "ann", 1.0) for number in range(24)))
    declare(shop, server, ", 'max-concurrent-operations' = '8'")
    sql = "SELECT count(note) AS n FROM ML_PREDICT(TABLE bronze.orders, MODEL shout, DESCRIPTOR(order_id){config})"
    assert query(shop, sql.format(config=", MAP['max-concurrent-operations', '2', 'timeout', '60s']")) == [{"n": 24}]
    assert server.most_under_way == 2
    assert query(shop, sql.format(config="")) == [{"n": 24}]
    assert server.most_under_way == 8


def test_what_is_wrong_with_config_is_said_before_a_row_is_asked(stocked: Shop, server: Server, service: OpenAI) -> None:
    declare(stocked, server)
    sql = "SELECT * FROM ML_PREDICT(TABLE bronze.orders, MODEL shout, DESCRIPTOR(order_id), MAP['tmeout', '1s'])"
    ran = stocked("query", sql)
    assert ran.code == 2
    assert "unknown setting in CONFIG for model 'shout' 'tmeout'; did you mean 'timeout'?" in ran.err
    assert not service.answered


def test_a_setting_that_a_local_model_does_not_have_is_refused(shop: Shop) -> None:
    shop.docs()
    sql = "SELECT * FROM ML_PREDICT(TABLE bronze.docs, MODEL docs_embedding, DESCRIPTOR(text), MAP['timeout', '1s'])"
    ran = shop("query", sql)
    assert ran.code == 2
    assert "CONFIG for model 'docs_embedding' does not go with it" in ran.err


SEARCH = """
SELECT d.doc_id, d.score FROM (VALUES ('wait some seconds'), (NULL)) AS q(text),
LATERAL TABLE(VECTOR_SEARCH(TABLE gold.doc_vectors, DESCRIPTOR(embedding), {query}, 2,
                            MAP['output_columns', 'doc_id,text'])) AS d
ORDER BY d.score DESC
"""


def embedded(shop: Shop) -> None:
    shop.docs()
    ran = shop("run", "embed", "docs_index")
    assert ran.code == 0, ran.err


def undeclare_index(shop: Shop) -> None:
    text = (shop.folder / "tables" / "shop.sql").read_text(encoding="utf-8")
    shop.declare("tables/shop.sql", text[: text.index("CREATE VECTOR INDEX")])


def test_a_search_by_text_in_an_index_and_by_vector_without_one_find_the_same(shop: Shop) -> None:
    embedded(shop)
    by_text = query(shop, SEARCH.format(query="q.text"))
    by_vector = query(shop, SEARCH.format(query="ML_EMBED(MODEL docs_embedding, q.text)"))
    undeclare_index(shop)
    without = query(shop, SEARCH.format(query="ML_EMBED(MODEL docs_embedding, q.text)"))
    assert [row["doc_id"] for row in by_text] == [row["doc_id"] for row in without]
    assert by_text[0]["doc_id"] == "sleep"
    assert by_text == by_vector
    for indexed, exact in zip(by_text, without, strict=True):
        assert indexed["score"] == pytest.approx(exact["score"], abs=1e-5)


def test_an_index_that_keeps_some_columns_gives_those(shop: Shop) -> None:
    embedded(shop)
    sql = "SELECT * FROM VECTOR_SEARCH(TABLE gold.doc_vectors, DESCRIPTOR(embedding), 'sort it', 1)"
    assert [list(row) for row in query(shop, sql)] == [["doc_id", "text", "embedding", "score"]]
    text = (shop.folder / "tables" / "shop.sql").read_text(encoding="utf-8")
    shop.declare("tables/shop.sql", text.replace("'columns' = 'text'", "'columns' = 'doc_id'"))
    assert [list(row) for row in query(shop, sql)] == [["doc_id", "embedding", "score"]]
    ran = shop("query", sql.replace("'sort it', 1)", "'sort it', 1, MAP['output_columns', 'text'])"))
    assert ran.code == 2
    assert "index 'docs_index' keeps doc_id, embedding, and a hit is to have text too" in ran.err


def test_a_search_by_text_without_a_model_says_how_to_embed_it(shop: Shop) -> None:
    embedded(shop)
    undeclare_index(shop)
    ran = shop("query", SEARCH.format(query="q.text"))
    assert ran.code == 2
    assert "ML_EMBED(MODEL m, text)" in ran.err


def test_the_chain_of_splitting_embedding_and_searching(shop: Shop, server: Server, service: OpenAI) -> None:
    declare(shop, server)
    shop.docs()
    found = query(
        shop,
        "WITH parts AS (SELECT UNNEST(ML_RECURSIVE_TEXT_SPLITTER(text, 20, 0)) AS part FROM bronze.docs WHERE doc_id = 'sort') "
        "SELECT part, len(AI_EMBEDDING('remote_embedding', part)) AS width FROM parts",
    )
    assert found == [
        {"part": "Sort the list in", "width": 4},
        {"part": "ascending order and", "width": 4},
        {"part": "return None.", "width": 4},
    ]
    assert asked(service) == {row["part"]: 1 for row in found}


def test_pure_functions_point_at_what_is_wrong_with_their_arguments(stocked: Shop) -> None:
    assert query(stocked, "SELECT ML_BUCKETIZE(amount, ARRAY[100, 300]) AS b FROM bronze.orders ORDER BY amount") == [
        {"b": "bin_1"},
        {"b": "bin_2"},
        {"b": "bin_2"},
        {"b": "bin_3"},
    ]
    ran = stocked("query", "SELECT ML_NORMALIZER(order_id, 2) FROM bronze.orders")
    assert ran.code == 2
    assert "argument 1, value, is string; valid: a number" in ran.err
    assert "^" in ran.err
    ran = stocked("query", "SELECT ML_BUCKETIZE(amount, ARRAY[3, 1]) FROM bronze.orders")
    assert ran.code == 2
    assert "splitBucketPoints must ascend, and 1 follows 3" in ran.err


def test_a_table_as_it_was(stocked: Shop) -> None:
    first, *_ = stocked.project.lake.table("bronze.orders").snapshots()
    assert query(stocked, f"SELECT count(*) AS n FROM bronze.orders FOR VERSION AS OF {first.snapshot_id}") == [{"n": 2}]
    assert query(stocked, "SELECT count(*) AS n FROM bronze.orders") == [{"n": 4}]
