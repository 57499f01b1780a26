"""One column of vectors as a job makes it: what is known is taken, and the model is asked for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakeflow.models.answering import Answers
from lakeflow.models.embeddings import ASKED, REUSED, Embeddings, content_hashes
from lakeflow.models.usage import Asked

if TYPE_CHECKING:
    from lakeflow.models.registry import Model

Ask = Callable[[NDArray[np.bool_]], Answers]
"""Answers to the rows that are marked, null for the others."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """The column `column` of vectors of a model; `hash_into` is the column of their hashes, where there is to be one."""

    model: Model
    fingerprint: str
    embeddings: Embeddings
    column: str
    hash_into: str | None = None

    def answered(
        self, rows: pa.RecordBatch, wanted: NDArray[np.bool_], ask: Ask
    ) -> tuple[pa.RecordBatch, Sequence[str | None]]:
        """OUTPUT for the rows that are wanted, and the hash that each vector is known by: none of what another model gave, and
        of what is no vector. Raises ModelError for vectors of several widths."""
        hashes: list[str | None] = [None] * rows.num_rows
        if self.hash_into is not None:
            every = content_hashes(rows.column(0), self.fingerprint)
            hashes = [one if mine else None for one, mine in zip(every, wanted, strict=True)]
        known, vectors = self._known(hashes)
        unknown = wanted & ~known
        answers = ask(unknown) if unknown.any() or not rows.num_rows else self._nothing(rows.num_rows)
        self.embeddings.count(ASKED, int(unknown.sum()))
        given = answers.rows
        if known.any():
            given = self._with_known(given, known, vectors)
            self.embeddings.count(REUSED, int(known.sum()))
            self.model.usage.count(self.model.spec.name, Asked(reused=int(known.sum())))
        found = given.column(0)
        self.embeddings.saw(self.column, found)
        is_own = known | np.array([one == self.model.spec.name for one in answers.answered_by], dtype=bool)
        is_own &= np.asarray(found.is_valid())
        return given, [one if own else None for one, own in zip(hashes, is_own, strict=True)]

    def _nothing(self, rows: int) -> Answers:
        """No answer for so many rows, without asking."""
        schema = self.model.spec.output
        columns = [pa.nulls(rows, column.type) for column in schema]
        return Answers(pa.RecordBatch.from_arrays(columns, schema=schema), answered_by=[None] * rows)

    def _known(self, hashes: Sequence[str | None]) -> tuple[NDArray[np.bool_], pa.Array]:
        recall = self.embeddings.recall
        if recall is None or self.hash_into is None:
            return np.zeros(len(hashes), dtype=bool), pa.nulls(0)
        return recall.vectors(self.hash_into, self.column, hashes)

    def _with_known(self, given: pa.RecordBatch, known: NDArray[np.bool_], vectors: pa.Array) -> pa.RecordBatch:
        """The answers with vectors that are known in their places; other columns of OUTPUT are null there."""
        places = np.arange(given.num_rows)
        places[known] = given.num_rows + np.arange(int(known.sum()))
        kind = given.schema.field(0).type
        both = pa.concat_arrays([given.column(0), vectors.cast(kind)])
        return given.set_column(0, given.schema.field(0), both.take(pa.array(places)))
