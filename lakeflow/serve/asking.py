"""What a caller asks for, read out of JSON and held against the bounds of [serve]. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lakeflow.config import ServeSettings
from lakeflow.errors import UnknownName, UsageError
from lakeflow.index.query import Mode, Query, mode_of

QUERIES = ("text", "texts", "vector", "vectors")
KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "k": ((int,), "a whole number"),
    "mode": ((str,), "vector, fts or hybrid"),
    "where": ((str, type(None)), "a condition, as text"),
    "columns": ((list, type(None)), "a list of columns"),
    "exact": ((bool,), "true or false"),
    "max_distance": ((int, float, type(None)), "a number"),
    "probes": ((int, type(None)), "a whole number"),
    "refine": ((int, type(None)), "a whole number"),
    "candidates": ((int, type(None)), "a whole number"),
    "mmr": ((int, float, type(None)), "a number from 0 to 1"),
    "rerank": ((str, type(None)), "a model's name"),
    "snapshot_id": ((int, type(None)), "a snapshot of the index's table"),
}
"""The other fields of a request, what each may be, and that in words."""
NUMBERS = ("k", "max_distance", "probes", "refine", "candidates", "mmr", "snapshot_id")
MOST = (1 << 63) - 1
WORDS = ("text", "texts", "mode", "where", "columns", "rerank")


@dataclass(frozen=True, slots=True)
class Request:
    """A search: `texts` or `vectors` [queries, width] or, in mode hybrid, both, one of each a query."""

    query: Query
    texts: tuple[str, ...] | None
    vectors: np.ndarray | None
    rerank: str | None

    @property
    def count(self) -> int:
        """How many queries."""
        return len(self.texts or ()) if self.vectors is None else len(self.vectors)

    @property
    def by_text(self) -> bool:
        """Whether vectors are to be made of the texts."""
        return self.vectors is None

    @property
    def lists(self) -> pa.Array | None:
        """The vectors as Arrow has them."""
        if self.vectors is None:
            return None
        return pa.FixedSizeListArray.from_arrays(pa.array(self.vectors.ravel(), pa.float32()), self.vectors.shape[1])


def request_of(body: bytes, bounds: ServeSettings) -> Request:
    """The search that a body asks for. Raises UsageError, UnknownName for a field that is not there."""
    given = _object(body)
    for name in given:
        if name not in KINDS and name not in QUERIES:
            raise UnknownName("field of a search", name, [*QUERIES, *KINDS])
    for name, (kinds, valid) in KINDS.items():
        if name in given and (type(given[name]) not in kinds):
            raise UsageError(f"{name} of a search is {_shown(given[name])}; valid: {valid}")
    for name in NUMBERS:
        if isinstance(given.get(name), int) and abs(given[name]) > MOST:
            raise UsageError(f"{name} of a search has {len(str(abs(given[name])))} digits; valid: {KINDS[name][1]} of 64 bits")
    for name in WORDS:
        if not _is_text(given.get(name)):
            raise UsageError(
                f"{name} of a search holds half of a pair of surrogates, which is no character; valid: Unicode text"
            )
    texts, vectors = _texts(given), _vectors(given)
    query = _query(given, bounds)
    if texts is None and vectors is None:
        raise UsageError(f"a search has no query; valid: one of {', '.join(QUERIES)}")
    if texts is not None and vectors is not None and len(texts) != len(vectors):
        raise UsageError(f"a search has {len(texts)} texts beside {len(vectors)} vectors; valid: one of each a query")
    if vectors is not None and texts is None and query.mode is not Mode.VECTOR:
        raise UsageError(f"mode {query.mode} looks for words; valid: a text beside each vector, or texts alone")
    request = Request(query, texts, vectors, given.get("rerank"))
    if not 1 <= request.count <= bounds.max_queries:
        raise UsageError(f"a search has {request.count} queries; valid: 1 to {bounds.max_queries} (max_queries of [serve])")
    return request


def _query(given: Mapping[str, Any], bounds: ServeSettings) -> Query:
    columns = given.get("columns")
    if columns is not None and not all(isinstance(name, str) for name in columns):
        raise UsageError("columns of a search holds what is no text; valid: a list of columns")
    k = given.get("k", min(10, bounds.max_k))
    if k > bounds.max_k:
        raise UsageError(f"k is {k}; valid: 1 to {bounds.max_k} hits a query (max_k of [serve])")
    candidates = given.get("candidates")
    most = 10 * bounds.max_k
    if candidates is not None and candidates > most:
        raise UsageError(f"candidates of a search is {candidates}; valid: up to {most} (10 * max_k of [serve])")
    return Query(
        k=k,
        mode=mode_of(given.get("mode", str(Mode.VECTOR))),
        where=given.get("where"),
        columns=None if columns is None else tuple(columns),
        exact=given.get("exact", False),
        max_distance=given.get("max_distance"),
        probes=given.get("probes"),
        refine=given.get("refine"),
        candidates=candidates,
        mmr=given.get("mmr"),
        snapshot_id=given.get("snapshot_id"),
    )


def _object(body: bytes) -> dict[str, Any]:
    def refused(word: str) -> float:
        raise ValueError(f"{word} is no number of JSON")

    try:
        found = json.loads(body, parse_constant=refused)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the body of the request is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"the body of the request is {type(found).__name__}; valid: a JSON object")
    return found


def _one_of(given: Mapping[str, Any], single: str, several: str) -> Sequence[Any] | None:
    if single in given and several in given:
        raise UsageError(f"a search has both {single} and {several}; valid: one of them")
    if single in given:
        return [given[single]]
    if several in given and not isinstance(given[several], list):
        raise UsageError(f"{several} of a search is {type(given[several]).__name__}; valid: a list")
    return given.get(several)


def _texts(given: Mapping[str, Any]) -> tuple[str, ...] | None:
    texts = _one_of(given, "text", "texts")
    if texts is None:
        return None
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise UsageError("a text to search for is empty, or no text")
    return tuple(texts)


def _vectors(given: Mapping[str, Any]) -> np.ndarray | None:
    vectors = _one_of(given, "vector", "vectors")
    if vectors is None:
        return None
    widths = {len(vector) if isinstance(vector, list) else -1 for vector in vectors}
    if len(widths) > 1 or not widths or min(widths) < 1:
        raise UsageError("the vectors of a search are not all lists of numbers of one length, 1 or more")
    if not all(type(value) in (int, float) for vector in vectors for value in vector):
        raise UsageError("a vector of a search holds what is no number")
    try:
        with np.errstate(over="ignore"):
            found = np.array(vectors, dtype=np.float64).astype(np.float32)
    except OverflowError:
        raise UsageError("a vector of a search holds a number that no float can hold") from None
    if not np.isfinite(found).all():
        raise UsageError("a vector of a search holds a number that no 32-bit float can hold")
    return found


def _is_text(value: object) -> bool:
    """Whether all text in a field can be written as UTF-8: JSON may name halves of characters beyond the first 65,536."""
    try:
        "".join(one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)).encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(value: object) -> str:
    return repr(value) if isinstance(value, bool | int | float) else type(value).__name__
