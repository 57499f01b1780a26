from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lakeflow.errors import DeclarationError, IndexMismatch, Terminal
from lakeflow.index.vectors import Identity, UpsertCounts, check_identity, scores

IDENTITY = Identity("gold.docs", "uuid-1", "embedding", "doc_id", "cosine", 4, "minilm", None)


def test_an_identity_survives_its_string() -> None:
    assert Identity.loads(IDENTITY.dumps()) == IDENTITY


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"table": "a", "more": 1}'])
def test_a_string_that_is_no_identity_is_refused(text: str) -> None:
    with pytest.raises(Terminal, match="identity of an index is not readable"):
        Identity.loads(text)


def test_the_same_identity_passes_and_every_difference_is_named() -> None:
    check_identity("docs", IDENTITY, replace(IDENTITY))
    with pytest.raises(IndexMismatch) as refused:
        check_identity("docs", IDENTITY, replace(IDENTITY, width=8, model=None))
    assert "width is 4, asked for 8; model is 'minilm', asked for None" in str(refused.value)
    assert refused.value.next_step == "lakeflow index build docs"


def test_metric_and_width_are_valid_ones() -> None:
    with pytest.raises(DeclarationError, match=r"metric of an index on gold\.docs is 'cosin'; did you mean 'cosine'"):
        replace(IDENTITY, metric="cosin")
    with pytest.raises(DeclarationError, match=r"width .* is 0"):
        replace(IDENTITY, width=0)


def test_counts_add_up() -> None:
    assert UpsertCounts(5, 1, 1, 1, 1, 1, 1) + UpsertCounts(2, 2) == UpsertCounts(7, 3, 1, 1, 1, 1, 1)


@pytest.mark.parametrize("metric", ["cosine", "l2", "dot"])
def test_scores_fall_as_distances_rise(metric: str) -> None:
    found = scores(np.array([0.0, 0.5, 2.0], np.float32), metric)
    assert found.dtype == np.float32
    assert found[0] == 1.0
    assert (np.diff(found) < 0).all()
