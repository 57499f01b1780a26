"""Okapi BM25 over texts at hand: what an index of words gives whose 'language' is 'none'. Pure.

Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009; k1 = 1.2, b = 0.75, and the inverse
document frequency ln(1 + (N - n + 0.5) / (n + 0.5)), which is above 0.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

K1, B = 1.2, 0.75
LONGEST_WORD = 40


def words(text: str) -> list[str]:
    """The words of a text: letters and digits in a row, in lower case, without accents; none of more than 40 bytes."""
    found = (_folded(word) for word in re.findall(r"[^\W_]+", text.lower()))
    return [word for word in found if len(word.encode()) < LONGEST_WORD]


def text_scores(query: str, texts: Sequence[str | None]) -> list[float]:
    """How well each text matches the words of `query`; 0.0 where none of them is in it."""
    documents = [Counter(words(text)) if text is not None else None for text in texts]
    held = [document for document in documents if document is not None]
    mean = sum(document.total() for document in held) / max(len(held), 1)
    weights = Counter(words(query))
    rarity = {word: _rarity(sum(word in document for document in held), len(held)) for word in weights}
    return [_score(document, weights, rarity, mean) if document else 0.0 for document in documents]


def _score(document: Counter[str], weights: Counter[str], rarity: dict[str, float], mean: float) -> float:
    norm = K1 * (1 - B + B * document.total() / mean)
    return sum(
        times * rarity[word] * document[word] * (K1 + 1) / (document[word] + norm)
        for word, times in weights.items()
        if word in document
    )


def _rarity(having: int, total: int) -> float:
    return math.log(1 + (total - having + 0.5) / (having + 0.5))


def _folded(word: str) -> str:
    return "".join(part for part in unicodedata.normalize("NFKD", word) if not unicodedata.combining(part))
