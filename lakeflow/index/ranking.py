"""How rankings become one, and how hits are chosen that differ from each other. Pure."""

from __future__ import annotations

import numpy as np

RRF_K = 60
Array = np.ndarray


def places(groups: Array) -> Array:
    """The place of each item within its group, from 1; `groups` is ascending."""
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]]) if len(groups) else np.zeros(0, dtype=np.int64)
    lengths = np.diff(np.r_[starts, len(groups)])
    return np.asarray(np.arange(len(groups)) - np.repeat(starts, lengths) + 1)


def reciprocal_ranks(groups: Array) -> Array:
    """What an item's place in one ranking adds to its score: 1 / (60 + place), float64; `groups` as in `places`.

    The sum over all rankings is the item's score: Cormack, Clarke and Buettcher, Reciprocal Rank Fusion outperforms
    Condorcet and individual Rank Learning Methods, SIGIR 2009, with their k = 60.
    """
    return np.asarray(1.0 / (RRF_K + places(groups)))


def scaled(relevance: Array) -> Array:
    """Scores brought to 0..1, the lowest 0; all 1 where they are equal."""
    lowest, highest = relevance.min(initial=np.inf), relevance.max(initial=-np.inf)
    return np.ones(len(relevance)) if not highest > lowest else np.asarray((relevance - lowest) / (highest - lowest))


def directions(vectors: Array) -> Array:
    """Vectors of length 1, float64; a zero vector stays one."""
    wide = vectors.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, None]
    return np.asarray(np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0))


def chosen_apart(relevance: Array, vectors: Array, k: int, balance: float) -> Array:
    """The places of `k` items, chosen one by one: `balance` * relevance - (1 - `balance`) * the greatest cosine similarity to
    those already chosen is highest; of equals the first.

    Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking, SIGIR 1998; `balance` is their lambda. Holds one row of
    similarities at a time.
    """
    units = directions(vectors)
    left = np.ones(len(relevance), dtype=bool)
    nearest = np.full(len(relevance), -np.inf)
    chosen: list[int] = []
    for _ in range(min(k, len(relevance))):
        worth = balance * relevance - (1.0 - balance) * (nearest if chosen else 0.0)
        best = int(np.argmax(np.where(left, worth, -np.inf)))
        chosen.append(best)
        left[best] = False
        nearest = np.maximum(nearest, units @ units[best])
    return np.array(chosen, dtype=np.int64)
