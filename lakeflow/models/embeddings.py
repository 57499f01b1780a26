"""Columns of vectors that a run makes: of which model they are, and which are known already by the texts that they are of.

A vector is known by a hash: the first 16 bytes of SHA-256 over the model's fingerprint and the text, as hexadecimal digits. So
a vector is taken again only where the text, the model's artifacts and every option that changes its answers are the same.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lakeflow.errors import ModelError, Terminal, UsageError

PREFIX: Final = "lakeflow.embedding."
"""A table says in the property of this and a column's name whose vectors the column holds."""

HASH_BYTES: Final = 16
SPLIT, BLANK, REUSED, ASKED = "texts-split", "texts-blank", "vectors-reused", "vectors-asked"
"""What is counted: texts that were split, those without a chunk among them, vectors that were known, rows given to a model."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """Whose vectors a column holds; `width` is how many elements each has, None where there was none yet."""

    model: str
    version: int
    fingerprint: str
    width: int | None = None

    def dumps(self) -> str:
        """A JSON object with every field."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def loads(text: str, column: str) -> Embedded:
        """The inverse of `dumps`. Raises Terminal where the string is of another form."""
        try:
            found = json.loads(text)
            width = found["width"]
            return Embedded(
                str(found["model"]), int(found["version"]), str(found["fingerprint"]), None if width is None else int(width)
            )
        except (ValueError, KeyError, TypeError) as error:
            raise Terminal(f"property {PREFIX}{column} of a table is not readable: {text[:200]!r}") from error


def properties_of(columns: Mapping[str, Embedded]) -> dict[str, str]:
    """As properties of a table."""
    return {PREFIX + column: embedded.dumps() for column, embedded in columns.items()}


class Recall(Protocol):
    """Vectors that are known. Called from several threads."""

    def vectors(self, hashed: str, column: str, hashes: Sequence[str | None]) -> tuple[NDArray[np.bool_], pa.Array]:
        """Which of the hashes are known, and the vectors of those that are, in their order.

        `hashed` and `column` name the columns that hold hashes and vectors.
        """
        ...


@dataclass(slots=True)
class Embeddings:
    """What a part of a run notes of the columns of vectors that it makes. Called from several threads."""

    recall: Recall | None = None
    _counts: Counter[str] = field(default_factory=Counter)
    _columns: dict[str, Embedded] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def columns(self) -> Mapping[str, Embedded]:
        """By the columns' names."""
        with self._lock:
            return dict(self._columns)

    @property
    def counts(self) -> Mapping[str, int]:
        """What was counted, by name."""
        with self._lock:
            return dict(self._counts)

    def count(self, name: str, number: int) -> None:
        """Count something that a commit's summary tells."""
        with self._lock:
            self._counts[name] += number

    def declare(self, column: str, embedded: Embedded) -> None:
        """A column that is about to be made. Raises UsageError where one of its name is made by another model."""
        with self._lock:
            other = self._columns.setdefault(column, embedded)
        if other.fingerprint != embedded.fingerprint:
            raise UsageError(
                f"models {other.model!r} and {embedded.model!r} both make vectors into a column {column!r}, "
                "which cannot be compared",
                next_step="give each a column of its own: ml_embed(.., into=..)",
            )

    def saw(self, column: str, vectors: pa.Array) -> None:
        """Vectors of a declared column. Raises ModelError where they are not all of one width."""
        lengths = pc.unique(pc.list_value_length(vectors.drop_null())).to_pylist()
        with self._lock:
            known = self._columns[column]
            widths = sorted({*lengths, *([] if known.width is None else [known.width])})
            if len(widths) > 1:
                raise ModelError(
                    f"model {known.model!r} gave vectors of {' and '.join(map(str, widths))} elements for column {column!r}",
                    next_step=f"lakeflow models show {known.model}; a service may have changed what it answers",
                )
            if widths:
                self._columns[column] = replace(known, width=widths[0])


def content_hashes(texts: pa.Array, fingerprint: str) -> list[str | None]:
    """The hash of each text, of a null none."""
    of_model = hashlib.sha256(fingerprint.encode() + b"\0")
    found: list[str | None] = []
    for text in texts.to_pylist():
        digest = of_model.copy()
        if text is not None:
            digest.update(text.encode("utf-8", "surrogatepass"))
        found.append(None if text is None else digest.digest()[:HASH_BYTES].hex())
    return found
