"""How well vectors find documentation: queries with one known answer each, ranked against every row of the corpus.

Three kinds of query, each from the corpus itself:

    name            the object's name, split into words, is to find its own text, out of which the name was taken
    name, kept      the same with the texts as they are
    first sentence  the text's first sentence is to find the rest of that text

Rows with the same text as an earlier one are left out, since no query could tell them apart. A tie counts against the answer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from docs_corpus import Doc
from numpy.typing import NDArray

Embed = Callable[[Sequence[str]], Any]
"""Texts -> one row a text, dense or sparse, of length 1: the inner product is the cosine."""

HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
SENTENCE = re.compile(r"(.+?[.:])\s+(.+)", re.DOTALL)
FEWEST_QUERY_WORDS, FEWEST_ANSWER_WORDS = 4, 8


@dataclass(frozen=True, slots=True)
class Task:
    """Queries and the texts they are ranked against; the answer to `queries[i]` is `texts[i]`."""

    name: str
    ids: tuple[str, ...]
    queries: tuple[str, ...]
    texts: tuple[str, ...]


def words(name: str) -> str:
    """`JSONDecoder.raw_decode` -> `JSONDecoder raw decode`, `TextCalendar` -> `Text Calendar`."""
    return HUMP.sub(" ", name).replace("_", " ").replace(".", " ")


def without_name(doc: Doc) -> str:
    """The text, each part of the object's name taken out wherever it stands as an identifier."""
    parts = "|".join(re.escape(part) for part in doc.name.split("."))
    return re.sub(rf"(?<![A-Za-z0-9_])(?:{parts})(?![A-Za-z0-9_])", " ", doc.text, flags=re.IGNORECASE)


def tasks(docs: Sequence[Doc]) -> list[Task]:
    """The three kinds of query over a corpus."""
    unique = list({doc.text: doc for doc in reversed(docs)}.values())[::-1]
    ids, names = tuple(doc.doc_id for doc in unique), tuple(words(doc.name) for doc in unique)
    split = [
        (doc.doc_id, found[1], found[2]) for doc in unique if (found := SENTENCE.match(doc.text)) and _is_long_enough(found)
    ]
    return [
        Task("name", ids, names, tuple(map(without_name, unique))),
        Task("name, kept", ids, names, tuple(doc.text for doc in unique)),
        Task("first sentence", *(tuple(column) for column in zip(*split, strict=True))),
    ]


def _is_long_enough(found: re.Match[str]) -> bool:
    return len(found[1].split()) >= FEWEST_QUERY_WORDS and len(found[2].split()) >= FEWEST_ANSWER_WORDS


def part(doc_id: str) -> str:
    """Where a row belongs, by the hash of its id: `choose` (a tenth), `held out` (a tenth) or `train`."""
    tenth = int(hashlib.sha256(doc_id.encode()).hexdigest()[:8], 16) % 10
    return {0: "choose", 1: "held out"}.get(tenth, "train")


def measure(embed: Embed, over: Sequence[Task], of_part: str | None = None) -> dict[str, dict[str, float]]:
    """Recall at 1 and 10 and the mean reciprocal rank for each task; queries of one part only, or of all."""
    return {task.name: _measure_task(embed, task, of_part) for task in over}


def _measure_task(embed: Embed, task: Task, of_part: str | None) -> dict[str, float]:
    asked = np.array([i for i, doc_id in enumerate(task.ids) if of_part in (None, part(doc_id))])
    ranks = rank_of_answers(embed([task.queries[i] for i in asked]), embed(task.texts), asked)
    return {
        "queries": len(asked),
        "recall@1": round(float((ranks <= 1).mean()), 4),
        "recall@10": round(float((ranks <= 10).mean()), 4),
        "mrr": round(float((1 / ranks).mean()), 4),
    }


def rank_of_answers(queries: Any, texts: Any, answers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of `texts[answers[i]]` among all texts by their inner product with `queries[i]`, from 1."""
    ranks = []
    for start in range(0, len(answers), 500):
        block = queries[start : start + 500] @ texts.T
        scores = np.asarray(block if isinstance(block, np.ndarray) else block.toarray())
        own = scores[np.arange(len(scores)), answers[start : start + 500]]
        ranks.append((scores >= own[:, None]).sum(axis=1))
    return np.concatenate(ranks)


def mean_mrr(figures: Mapping[str, Mapping[str, float]]) -> float:
    """One figure to choose by: the mean over the tasks that give nothing away."""
    return round((figures["name"]["mrr"] + figures["first sentence"]["mrr"]) / 2, 4)
