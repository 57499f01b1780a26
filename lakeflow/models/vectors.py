"""Vectors that a model gives, held to what a vector is: finite numbers, as many as in those before."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.models.failing import Failed
from lakeflow.models.remote.dialect import ErrorKind


@dataclass(slots=True)
class Widths:
    """How many elements the vectors of an opened model have: as many as the first that it gave. Thread-safe."""

    _width: int | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def of(self, lengths: pa.Array) -> int | None:
        """The width, of vectors of these lengths; None where there was none yet."""
        with self._lock:
            if self._width is None:
                self._width = next(iter(pc.drop_null(lengths).to_pylist()), None)
            return self._width


def unfit(vectors: pa.Array, widths: Widths) -> Mapping[int, Failed]:
    """The places of what is no vector, and why. A null is none that was given, and fits."""
    lengths = pc.list_value_length(vectors)
    width = widths.of(lengths)
    if width is None:
        return {}
    return {place: Failed(ErrorKind.MISFIT, why) for place, why in _unfit(vectors, lengths, width)}


def _unfit(vectors: pa.Array, lengths: pa.Array, width: int) -> Iterator[tuple[int, str]]:
    flat = pc.list_flatten(vectors)
    if pa.types.is_floating(flat.type):
        broken = pc.fill_null(pc.invert(pc.is_finite(flat)), True)
        if pc.any(broken).as_py():
            for place in np.unique(pc.list_parent_indices(vectors).filter(broken)):
                yield int(place), "the vector has a NaN, an infinity or a null in it; valid: finite numbers"
    other = pc.fill_null(pc.not_equal(lengths, width), False)
    for place in np.flatnonzero(other):
        yield int(place), f"the vector has {lengths[int(place)].as_py()} elements, those before have {width}"


def without(rows: pa.RecordBatch, places: Mapping[int, Failed]) -> pa.RecordBatch:
    """The answers with nulls in some places."""
    kept = np.ones(rows.num_rows, dtype=bool)
    kept[list(places)] = False
    return rows.take(pa.array(np.arange(rows.num_rows), mask=~kept))
