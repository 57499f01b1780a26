"""An even sample of rows in bounded memory. Pure but for a seeded generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]


class Sample:
    """All rows up to `most`, an even sample of `most` rows beyond, the same one for the same rows and seed.

    Each row draws a number, and those with the `most` lowest stay (bottom-k sampling), so rows may come in any cutting. Up to
    a quarter more than `most` rows are held.
    """

    def __init__(self, most: int, seed: int) -> None:
        self._most = max(1, most)
        self._random = np.random.default_rng(seed)
        self._parts: list[tuple[Column, ...]] = []
        self._held = 0
        self._below = 1.0

    def add(self, *columns: Column) -> None:
        """More rows: arrays of the same length, of the same kinds at each call."""
        drawn = self._random.random(len(columns[0]))
        stays = drawn < self._below
        part = (drawn, *columns) if stays.all() else tuple(column[stays] for column in (drawn, *columns))
        self._parts.append(part)
        self._held += len(part[0])
        if self._held > self._most + self._most // 4:
            self._cut()

    def columns(self) -> tuple[Column, ...]:
        """The sampled rows, in their order; no column where no row was added."""
        if self._held > self._most or len(self._parts) > 1:
            self._cut()
        return self._parts[0][1:] if self._parts else ()

    def _cut(self) -> None:
        """Column by column, so that no more than one is there twice."""
        drawn = np.concatenate([part[0] for part in self._parts])
        if len(drawn) > self._most:
            lowest = np.sort(np.argpartition(drawn, self._most - 1)[: self._most])
            self._below = float(drawn[lowest].max())
        else:
            lowest = np.arange(len(drawn))
        del drawn
        columns = zip(*self._parts, strict=True)
        self._parts = [tuple(np.concatenate(column)[lowest] for column in columns)]
        self._held = len(lowest)
