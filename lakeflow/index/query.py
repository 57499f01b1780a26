"""What a search asks for beside its vectors and texts, as a plain value; and what may rank its hits anew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np

from lakeflow.errors import UsageError, did_you_mean
from lakeflow.index.vectors import MOST_RESULTS, check_k

FEWEST_CANDIDATES = 100
CANDIDATES_A_HIT = 4
MOST_CANDIDATES_APART = 1_000
"""Candidates of a query of which hits that differ from each other are chosen, at the most."""


class Mode(StrEnum):
    """By what rows are found: their vectors, their words, or both rankings fused."""

    VECTOR = "vector"
    FTS = "fts"
    HYBRID = "hybrid"


def mode_of(said: str) -> Mode:
    """The mode of that name. Raises UsageError where there is none."""
    if said.lower() not in list(Mode):
        raise UsageError(f"the mode of a search is {said!r}{did_you_mean(said.lower(), [str(mode) for mode in Mode])}")
    return Mode(said.lower())


class Reranker(Protocol):
    """Says how well texts answer queries, better and dearer than an index does."""

    def scores(self, queries: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        """How well each of `texts` answers the query at its place, any finite number, higher is better [texts]."""
        ...


@dataclass(frozen=True, slots=True)
class Query:
    """A search of `k` rows by `mode`. Raises UsageError for a number out of its bounds.

    `where`, `columns`, `exact`, `probes` and `refine` are as `VectorIndex.search` has them; `where` holds in every mode.
    `max_distance` keeps the rows found by their vectors that are no farther. `candidates` rows of each ranking are fused,
    ranked anew or chosen from: without it 4 a hit, 100 at the least. `mmr`, from 0 to 1, chooses hits that differ from each
    other, the more the lower it is. `snapshot_id` asks for the rows as the index's table had them then, every one compared.
    """

    k: int = 10
    mode: Mode = Mode.VECTOR
    where: str | None = None
    columns: tuple[str, ...] | None = None
    exact: bool = False
    max_distance: float | None = None
    probes: int | None = None
    refine: int | None = None
    candidates: int | None = None
    mmr: float | None = None
    snapshot_id: int | None = None

    def __post_init__(self) -> None:
        check_k(self.k)
        for name, value, most in (("probes", self.probes, 1 << 20), ("refine", self.refine, 1_000)):
            if value is not None and not 1 <= value <= most:
                raise UsageError(f"{name} of a search is {value}; valid: 1 to {most:,}")
        if self.max_distance is not None and math.isnan(self.max_distance):
            raise UsageError("max_distance of a search is not a number; valid: a distance of the index's metric")
        if self.max_distance is not None and self.mode is Mode.FTS:
            raise UsageError(f"max_distance is about vectors, and the mode of the search is {self.mode}; valid: vector, hybrid")
        if self.snapshot_id is not None and self.mode is not Mode.VECTOR:
            raise UsageError(
                f"a search as of snapshot {self.snapshot_id} compares vectors, and its mode is {self.mode}: words are looked "
                "up in the index as it is now; valid with snapshot_id: vector"
            )
        if self.mmr is not None and not 0.0 <= self.mmr <= 1.0:
            raise UsageError(f"mmr of a search is {self.mmr}; valid: 0 (differing) to 1 (nearest)")
        most = MOST_RESULTS if self.mmr is None else MOST_CANDIDATES_APART
        if self.k > most:
            raise UsageError(f"k is {self.k}; valid: 1 to {most:,} where mmr chooses them")
        if self.candidates is not None and not self.k <= self.candidates <= most:
            raise UsageError(f"candidates of a search is {self.candidates}; valid: {self.k} (k) to {most:,}")

    def depth(self, *, reranked: bool) -> int:
        """How many rows are asked of each ranking."""
        if self.mode is not Mode.HYBRID and self.mmr is None and not reranked:
            return self.k
        most = MOST_RESULTS if self.mmr is None else MOST_CANDIDATES_APART
        return self.candidates or min(most, max(FEWEST_CANDIDATES, CANDIDATES_A_HIT * self.k))
