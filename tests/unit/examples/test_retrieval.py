"""Queries with known answers, and the ranks they are given."""

from __future__ import annotations

import numpy as np
import pytest
from docs_corpus import Doc
from retrieval import Task, mean_mrr, measure, part, rank_of_answers, tasks, without_name, words


def doc(name: str, text: str) -> Doc:
    return Doc(f"m.{name}", "m", name, "function", "", text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("raw_decode", "raw decode"),
        ("JSONDecoder.decode", "JSONDecoder decode"),
        ("TextCalendar", "Text Calendar"),
        ("getpid", "getpid"),
    ],
)
def test_words_of_a_name(name: str, expected: str) -> None:
    assert words(name) == expected


def test_the_name_is_taken_out_as_an_identifier_only() -> None:
    text = without_name(doc("Path.join", "Join paths. path.join(a, b); joined and rejoin stay"))
    assert text.split() == ["paths.", ".", "(a,", "b);", "joined", "and", "rejoin", "stay"]


def test_equal_texts_are_asked_for_once_and_short_ones_are_not_split() -> None:
    long = "One two three four. Five six seven eight nine ten eleven twelve."
    named, kept, sentences = tasks([doc("a", long), doc("b", long), doc("c", "Only this here.")])
    assert named.ids == kept.ids == ("m.a", "m.c")
    assert (sentences.ids, sentences.queries) == (("m.a",), ("One two three four.",))
    assert sentences.texts == ("Five six seven eight nine ten eleven twelve.",)


def test_a_tie_counts_against_the_answer() -> None:
    texts = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    queries = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
    assert rank_of_answers(queries, texts, np.array([0, 2, 1])).tolist() == [2, 1, 3]


def test_figures_of_a_perfect_and_of_a_blind_embedding() -> None:
    ids = tuple(map(str, range(40)))
    over = [Task(name, ids, ids, ids) for name in ("name", "first sentence")]
    perfect = measure(lambda texts: np.eye(40)[[int(text) for text in texts]], over)
    blind = measure(lambda texts: np.ones((len(texts), 1)), over)
    assert perfect["name"] == {"queries": 40, "recall@1": 1.0, "recall@10": 1.0, "mrr": 1.0}
    assert blind["name"] == {"queries": 40, "recall@1": 0.0, "recall@10": 0.0, "mrr": 0.025}
    assert (mean_mrr(perfect), mean_mrr(blind)) == (1.0, 0.025)


def test_parts_are_about_a_tenth_a_tenth_and_the_rest() -> None:
    parts = [part(f"m.f{i}") for i in range(3000)]
    assert {name: round(parts.count(name) / 3000, 1) for name in ("choose", "held out", "train")} == {
        "choose": 0.1,
        "held out": 0.1,
        "train": 0.8,
    }
