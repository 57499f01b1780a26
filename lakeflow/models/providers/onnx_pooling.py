"""From token ids to one vector a text: how texts share a run, and how token vectors become one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from lakeflow.models.providers.onnx_settings import Pooling

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

SMALLEST_COUNT = 1e-9
SMALLEST_NORM = 1e-12


def cut_by_tokens(lengths: Sequence[int], budget: int, *, equal_lengths: bool = False) -> list[slice]:
    """Cuts texts, sorted by length, into runs of at most `budget` tokens after padding; a longer text runs alone.

    With `equal_lengths` no run mixes lengths, so that nothing is padded.
    """
    cuts: list[slice] = []
    start = 0
    for stop in range(1, len(lengths) + 1):
        full = stop < len(lengths) and lengths[stop] * (stop + 1 - start) > budget
        other = equal_lengths and stop < len(lengths) and lengths[stop] != lengths[start]
        if stop == len(lengths) or full or other:
            cuts.append(slice(start, stop))
            start = stop
    return cuts


def padded(tokens: Sequence[Sequence[int]], pad: int) -> tuple[Ids, Ids]:
    """Ids and mask [texts, longest], padded on the right; the mask is 1 where a token stands."""
    longest = max(map(len, tokens))
    ids = np.full((len(tokens), longest), pad, dtype=np.int64)
    mask = np.zeros((len(tokens), longest), dtype=np.int64)
    for row, text in enumerate(tokens):
        ids[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return ids, mask


def pooled(vectors: npt.NDArray[Any], mask: Ids, pooling: Pooling) -> Floats:
    """[texts, tokens, width] and its mask -> [texts, width]: mean or maximum over the tokens, or the first one's vector.

    Source: N. Reimers, I. Gurevych, "Sentence-BERT", 2019, section 3.
    """
    match pooling:
        case Pooling.CLS:
            return np.ascontiguousarray(vectors[:, 0], dtype=np.float32)
        case Pooling.MAX:
            return np.asarray(np.where(mask[:, :, None] == 1, vectors, -np.inf).max(axis=1), dtype=np.float32)
        case Pooling.MEAN:
            weights = mask[:, :, None].astype(np.float32)
            counts = np.maximum(weights.sum(axis=1), SMALLEST_COUNT)
            return np.asarray((vectors * weights).sum(axis=1) / counts, dtype=np.float32)
        case _ as never:
            assert_never(never)


def normalized(vectors: Floats) -> Floats:
    """Every vector divided by its Euclidean norm; a zero vector stays one."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, SMALLEST_NORM), dtype=np.float32)
