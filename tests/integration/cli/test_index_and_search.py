"""Vectors into an index and rows out of it, by the commands alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lakeflow.declare import IndexSpec
from lakeflow.index.lance import LanceIndex
from tests.integration.cli.conftest import DOCS, Shop


@pytest.fixture
def embedded(shop: Shop) -> Shop:
    shop.docs()
    assert shop("run", "embed").code == 0
    return shop


def test_an_index_is_built_searched_and_kept_up_to_date(embedded: Shop) -> None:
    assert embedded.json("index", "status")[0]["state"] == "not built"
    [plan] = embedded.json("plan", "docs_index")["indexes"]
    assert (plan["rows"], plan["rebuild"], plan["would_fail"]) == (3, "it was not there yet", False)

    [built] = embedded.json("index", "update")
    assert (built["status"], built["read"], built["written"], built["rebuilt"]) == ("done", 3, 3, True)
    [status] = embedded.json("index", "status", "docs_index")
    assert (status["rows"], status["state"], status["width"], status["rows_behind"]) == (3, "up to date", 256, 0)

    found = embedded.json("search", "docs_index", "delay execution for some seconds", "--top-k", "2")
    assert [list(row) for row in found] == [["score", "doc_id", "text", "distance"]] * 2
    assert found[0]["doc_id"] == "sleep"
    assert found[0]["score"] > found[1]["score"]
    text = embedded("search", "docs_index", "sort a list", "--columns", "doc_id").out.splitlines()
    assert text[0].split() == ["score", "doc_id"]
    assert text[1].split()[1] == "sort"
    where = embedded.json("search", "docs_index", "sort a list", "--where", "doc_id = 'strip'")
    assert [row["doc_id"] for row in where] == ["strip"]

    embedded.docs(DOCS.slice(0, 1).set_column(0, "doc_id", [["again"]]))
    embedded("run", "embed")
    [behind] = embedded.json("index", "status")
    assert (behind["state"], behind["rows_behind"], behind["files_behind"]) == ("behind", 1, 1)
    [plan] = embedded.json("plan", "docs_index")["indexes"]
    assert (plan["rows"], plan["rebuild"], plan["problem"], plan["would_fail"]) == (1, None, None, False)
    status = next(one for one in embedded.json("status") if one["kind"] == "index")
    assert (status["state"], status["behind"]) == ("behind", 1)
    [updated] = embedded.json("index", "update", "docs_index")
    assert (updated["read"], updated["rebuilt"]) == (1, False)
    [again] = embedded.json("index", "update")
    assert (again["status"], again["read"]) == ("empty", 0)
    [rebuilt] = embedded.json("index", "build", "docs_index")
    assert (rebuilt["read"], rebuilt["rebuilt"]) == (4, True)
    runs = [(run["mode"], run["status"]) for run in embedded.json("runs", "--name", "docs_index")]
    assert runs == [("rebuild", "done"), ("incremental", "empty"), ("incremental", "done"), ("incremental", "done")]

    for words, told in (
        (("search", "docs_index", "x", "--top-k", "0"), "k is 0"),
        (("search", "docs_index", "x", "--columns", "tekst"), "tekst"),
        (("search", "docs_index", "x", "--where", "txt = 'a'"), "txt"),
        (("search", "docs_indx", "x"), "did you mean 'docs_index'"),
        (("search", "docs_index", "  "), "empty"),
        (("index", "update", "docs_indx"), "did you mean 'docs_index'"),
    ):
        ran = embedded(*words)
        assert ran.code == 2, words
        assert told in ran.err
        assert ran.out == ""


@pytest.fixture
def worded(embedded: Shop) -> Shop:
    """The same with an index of words and of values."""
    declared = (embedded.folder / "tables" / "shop.sql").read_text(encoding="utf-8")
    more = "'columns' = 'text', 'text_columns' = 'text', 'filter_columns' = 'doc_id'"
    embedded.declare("tables/shop.sql", declared.replace("'columns' = 'text'", more))
    assert embedded("index", "build").code == 0
    return embedded


def _queried(shop: Shop, text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shop("query", text, "--output", "json").out.splitlines()]


def test_words_both_and_the_checks_of_an_index(worded: Shop) -> None:
    found = worded.json("search", "docs_index", "LISTS; DROP", "--mode", "fts")
    assert [list(row) for row in found] == [["score", "doc_id", "text", "text_score"]]
    assert found[0]["doc_id"] == "sort"
    both = worded.json("search", "docs_index", "sorted lists", "--mode", "hybrid", "--k", "3", "--output-columns", "doc_id")
    assert [list(row) for row in both] == [["score", "doc_id", "distance", "text_score"]] * 3
    assert (both[0]["doc_id"], both[0]["score"]) == ("sort", pytest.approx(2 / 61))
    assert worded("search", "docs_index", "sort", "--mode", "hybrid", "--mmr", "0.5", "--exact").code == 0
    near = worded.json("search", "docs_index", "sort a list", "--max-distance", "0.0001")
    assert near == []

    search = "VECTOR_SEARCH(TABLE gold.doc_vectors, DESCRIPTOR(embedding), {}, 2, MAP[{}])"
    hybrid = search.format("'sorted lists'", "'mode', 'hybrid', 'output_columns', 'doc_id, text_score, distance'")
    hits = _queried(worded, f"SELECT * FROM {hybrid} ORDER BY score DESC")
    assert [list(hit) for hit in hits] == [["doc_id", "distance", "text_score", "score"]] * 2
    assert [(hit["doc_id"], hit["score"]) for hit in hits] == [(row["doc_id"], row["score"]) for row in both[:2]]
    lateral = search.format("t.q", "'mode', 'fts', 'filter', 'doc_id IS NOT NULL', 'output_columns', 'doc_id'")
    asked = "SELECT t.q, d.doc_id FROM (VALUES ('list'), ('seconds'), ('zzz')) AS t(q)"
    hits = _queried(worded, f"{asked}, LATERAL TABLE({lateral}) AS d ORDER BY 1, 2")
    assert [(hit["q"], hit["doc_id"]) for hit in hits] == [("list", "sort"), ("seconds", "sleep")]

    [status] = worded.json("index", "status")
    assert [(one["column"], one["kind"]) for one in status["columns"]] == [("doc_id", "btree"), ("text", "text")]
    assert "doc_id (btree), text (text)" in worded("index", "status").out
    [verified] = worded.json("index", "verify")
    assert (verified["rows"], verified["missing"], verified["keys"]) == (3, 0, [])
    [measured] = worded.json("index", "evaluate", "--k", "2", "--sample", "3")
    assert (measured["recall"], measured["kind"], measured["sample"]) == (1.0, "flat", 3)

    for words, told in (
        (("search", "docs_index", "x", "--mode", "word"), "'word'"),
        (("search", "docs_index", "x", "--k", "1000000"), "k is 1000000"),
        (("search", "docs_index", "x" * 20_000, "--mode", "fts"), "20,000 characters"),
        (("search", "docs_index", "x", "--mode", "fts", "--where", "text = 'a' OR"), "not understood"),
        (("search", "docs_index", "x", "--rerank", "docs_embedding"), "cannot rank texts"),
        (("index", "evaluate", "--sample", "0"), "the sample is 0"),
    ):
        ran = worded(*words)
        assert ran.code in (1, 2), words
        assert told in ran.err
        assert ran.out == ""


def test_a_search_as_of_a_snapshot_of_the_table(worded: Shop) -> None:
    head = worded.project.lake.table("gold.doc_vectors").current_snapshot()
    assert head is not None
    then, words = str(head.snapshot_id), ("search", "docs_index", "suspend", "--k", "9", "--columns", "doc_id")
    before = worded.json(*words)
    worded.docs(DOCS.slice(0, 1).set_column(0, "doc_id", [["again"]]))
    worded("run")
    assert len(worded.json(*words)) == len(before) + 1
    pinned = worded.json(*words, "--snapshot-id", then)
    assert [row["doc_id"] for row in pinned] == [row["doc_id"] for row in before]
    assert [row["distance"] for row in pinned] == pytest.approx([row["distance"] for row in before], abs=1e-5)
    search = "VECTOR_SEARCH(TABLE gold.doc_vectors, DESCRIPTOR(embedding), 'suspend', 9, MAP['snapshot_id', '{}'])"
    found = _queried(worded, f"SELECT doc_id, score FROM {search.format(then)} ORDER BY score DESC")
    assert [row["doc_id"] for row in found] == [row["doc_id"] for row in before]
    for ran, told in (
        (worded(*words, "--snapshot-id", "7"), "unknown snapshot of gold.doc_vectors '7'"),
        (worded(*words, "--snapshot-id", then, "--mode", "fts"), "valid with snapshot_id: vector"),
        (worded("query", f"FROM {search.format('now')}"), "snapshot_id is 'now'"),
    ):
        assert (ran.code, ran.out) == (2, "")
        assert told in ran.err


def test_drift_of_an_index_is_a_failed_check_until_it_is_mended(worded: Shop) -> None:
    index = LanceIndex(
        IndexSpec("docs_index", "gold.doc_vectors", "embedding", "doc_id", columns=("text",)),
        str(worded.folder / ".lakeflow/index"),
    )
    state = index.state()
    assert state.position is not None
    index.writer(state.identity, index.schema()).delete(["sleep"], state.position.sequence)
    ran = worded("index", "verify")
    assert ran.code == 1
    assert "index docs_index: 'sleep' is missing" in ran.err
    [mended] = worded.json("index", "verify", "--repair")
    assert (mended["missing"], mended["mended"]) == (1, True)
    assert worded("index", "verify").code == 0


def test_an_index_without_words_says_what_to_add(embedded: Shop) -> None:
    embedded("index", "build")
    ran = embedded("search", "docs_index", "sort", "--mode", "hybrid")
    assert ran.code == 2
    assert "'text_columns'" in ran.err


def test_an_index_that_was_never_built_says_what_to_run(embedded: Shop) -> None:
    ran = embedded("search", "docs_index", "anything")
    assert ran.code == 2
    assert "lakeflow index build docs_index" in ran.err


def test_an_index_without_its_table(shop: Shop) -> None:
    [status] = shop.json("index", "status")
    assert status["state"] == "waits for gold.doc_vectors, not there yet"
    ran = shop("index", "update")
    assert ran.code == 2
    assert "gold.doc_vectors" in ran.err


def test_an_index_of_another_model_is_refused(embedded: Shop) -> None:
    embedded("index", "build")
    declared = (embedded.folder / "tables" / "shop.sql").read_text(encoding="utf-8")
    embedded.declare("tables/shop.sql", declared.replace("'key' = 'doc_id'", "'key' = 'text'"))
    [status] = embedded.json("index", "status")
    assert status["state"].startswith("refused")
    planned = embedded("plan", "docs_index", "--output", "json")
    assert planned.code == 1
    assert planned.json["indexes"][0]["would_fail"] is True
    assert planned.json["indexes"][0]["problem"] == status["state"]
    assert embedded("index", "update").code == 1
