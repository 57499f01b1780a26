"""What an index of vectors is to the rest of lakeflow: plain values, and the protocols of reading and writing one.

An index is derived from a table. It holds one row a key: the key, the vector, and the columns kept for filters and
results. With it, in the same place, it holds its identity (what it was built from) and its position (how far it has
read its table), so that deleting the place deletes all three.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from lakeflow.errors import DeclarationError, IndexMismatch, Terminal, UsageError, did_you_mean
from lakeflow.progress import SnapshotPosition

METRICS = ("cosine", "l2", "dot")
MOST_RESULTS = 10_000
MOST_TEXT = 10_000
"""Characters of a text whose words are looked for."""
Vectors = np.ndarray | Sequence[Sequence[float]] | Sequence[float] | Sequence[np.ndarray]


@dataclass(frozen=True, slots=True)
class Identity:
    """What an index is built from. An index is refused where any field differs from what is asked for.

    `width` is the number of elements of a vector; `model_fingerprint` tells two models of one name apart.
    """

    table: str
    table_uuid: str
    column: str
    key: str
    metric: str
    width: int
    model: str | None = None
    model_fingerprint: str | None = None

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise DeclarationError(f"metric of an index on {self.table} is {self.metric!r}{did_you_mean(self.metric, METRICS)}")
        if self.width < 1:
            raise DeclarationError(f"width of the vectors in {self.table}.{self.column} is {self.width}; valid: 1 or more")

    def dumps(self) -> str:
        """A JSON object with every field, keys sorted: equal identities are equal strings."""
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True)

    @staticmethod
    def loads(text: str) -> Identity:
        """The inverse of `dumps`. Raises Terminal where the string is not of this form."""
        try:
            return Identity(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise Terminal(f"identity of an index is not readable: {text[:200]!r}") from error


def check_identity(name: str, built: Identity, asked: Identity) -> None:
    """Raises IndexMismatch where the index `name` was built from something else than `asked`."""
    differing = [f.name for f in fields(Identity) if getattr(built, f.name) != getattr(asked, f.name)]
    if differing:
        each = "; ".join(f"{field} is {getattr(built, field)!r}, asked for {getattr(asked, field)!r}" for field in differing)
        raise IndexMismatch(f"index {name!r} was built from something else: {each}", next_step=f"lakeflow index build {name}")


def check_position(name: str, identity: Identity, position: SnapshotPosition) -> None:
    """Raises IndexMismatch where `position` is a place in another table than the one that the index is built from."""
    if position.table_uuid != identity.table_uuid:
        raise IndexMismatch(
            f"index {name!r} is built from the table {identity.table} with uuid {identity.table_uuid!r}; "
            f"the position is in the table with uuid {position.table_uuid!r}",
            next_step=f"lakeflow index build {name}",
        )


@dataclass(frozen=True, slots=True)
class ColumnState:
    """What conditions (btree, bitmap, label_list) or words (text) are looked up in; `unindexed_rows` are read through."""

    column: str
    kind: str
    unindexed_rows: int


@dataclass(frozen=True, slots=True)
class IndexState:
    """An index as it stands.

    `position` is None until the first rows were recorded. `unindexed_rows` are those that a search compares one by
    one: all of them while `kind` is flat. `size_bytes` is on disk, without old versions. `updated_at` is UTC. `columns` are
    those that are indexed beside the vectors. `version` is another each time a position is recorded or the index is built.
    """

    identity: Identity
    position: SnapshotPosition | None
    rows: int
    unindexed_rows: int
    size_bytes: int
    kind: str
    updated_at: datetime
    columns: tuple[ColumnState, ...] = ()
    version: str = ""


@dataclass(frozen=True, slots=True)
class UpsertCounts:
    """Where each row of an upsert went: read = inserted + updated + outdated + repeated + without_vector.

    `outdated` rows met a newer row of their key in the index and left it alone. `repeated` rows were followed by a
    row of the same key. `without_vector` rows have none (null, or all zeros under cosine): the row of their key was
    taken out of the index, if there was one; `removed` of them had one. Beside those that were read, `deleted` rows were taken
    out because the table has none of their key any longer.
    """

    read: int = 0
    inserted: int = 0
    updated: int = 0
    outdated: int = 0
    repeated: int = 0
    without_vector: int = 0
    removed: int = 0
    deleted: int = 0

    def __add__(self, other: UpsertCounts) -> UpsertCounts:
        return UpsertCounts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(UpsertCounts)))


class IndexWriter(Protocol):
    """Brings rows into one index, then records how far it has read. Not for use by two threads.

    Rows first, position after: a crash in between leaves rows that the next writer upserts again, to the same end.
    """

    @property
    def position(self) -> SnapshotPosition | None:
        """The position that this writer goes on from: the one it found, then the one that it recorded last."""
        ...

    def upsert(self, batches: Iterable[pa.RecordBatch], sequence: int) -> UpsertCounts:
        """Insert or replace the row of each key; the last row of a key wins, in the order given.

        `sequence` is the sequence number of the table up to which these rows were read: a row already there that was
        read at a later one stays, so that a writer that was left behind cannot undo a newer one's work. Vectors may
        be lists or fixed-size lists of any float type, and are kept as 32-bit floats. Memory is bounded by a setting,
        not by what `batches` holds.

        Raises SchemaMismatch for a null key, a vector of another width, a null, NaN or infinity in a vector, and a
        column of another type than the index keeps; UnknownName where the key or the vector column is missing;
        StorageUnavailable, CommitConflict and StorageFull of the place. What came before in the call may be in the
        index then: the position is not, so the next run brings the same rows again.
        """
        ...

    def delete(self, keys: Iterable[str | int], sequence: int) -> int:
        """Take the rows of `keys` out, but those read at a later sequence number than `sequence`; how many went."""
        ...

    def record(self, position: SnapshotPosition) -> IndexState:
        """Record that every row up to `position` is in, and do the upkeep that the new rows call for.

        Raises Fenced where another writer recorded since this one started, and IndexMismatch where `position` is in
        another table.
        """
        ...

    def keep_up(self) -> IndexState:
        """Do the upkeep that the rows and the declaration call for as they stand; records nothing."""
        ...


class Searchable(Protocol):
    """Rows with vectors, that can be searched."""

    def schema(self) -> pa.Schema:
        """The columns as they are kept: the key first, the vector and the sequence among them."""
        ...

    def search(
        self,
        vectors: Vectors,
        k: int,
        *,
        where: str | None = None,
        columns: Sequence[str] | None = None,
        exact: bool = False,
        probes: int | None = None,
        refine: int | None = None,
    ) -> pa.Table:
        """The `k` nearest rows to each of `vectors` [queries, width] (or one vector [width]).

        Columns: query_index (int32, the place in `vectors`), the asked `columns` (None: all that are kept but the
        vector), distance and score (float32); ordered by query_index, then nearest first, then key. `distance` is 1 -
        cosine similarity, the square of the Euclidean distance, or 1 - dot product; see `scores` for `score`.
        `where` keeps only the rows that meet the condition (see where.py), and is applied first: k rows come back
        if so many meet it. `exact` compares every row, in place of the approximate index; `probes` and `refine` stand for
        the declared ones (settings.py), where there is an approximate index.

        Raises UsageError for a `k` out of 1..10,000, a query of another width, with a NaN, an infinity or (cosine)
        all zeros, and a condition that is none; UnknownName for a column or an index that is not there.
        """
        ...

    def match(
        self, texts: Sequence[str], k: int, *, where: str | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The `k` rows whose text columns match the words of each of `texts` best.

        Columns: query_index (int32, the place in `texts`), the asked `columns` as in `search`, text_score (float32); ordered by
        query_index, then the highest score first, then key. A row matches where it has any of the words; of several text
        columns the best counts. `text_score` is Okapi BM25 (Robertson and Zaragoza 2009; k1 = 1.2, b = 0.75), above 0, and
        compares within one query alone. A text is data: it has no operators. One without a word finds nothing.

        Raises UsageError for a `k` or a condition as `search` does, for a text of more than 10,000 characters, and where the
        index has no text columns; UnknownName for a column or an index that is not there.
        """
        ...


class VectorIndex(Searchable, Protocol):
    """One named index in one place."""

    def state(self) -> IndexState:
        """Raises UnknownName where the index was never built."""
        ...

    def scan(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows, in no order, with the key, the vector, or any kept column among `columns`; SEQUENCE (rows.py) too."""
        ...

    def writer(self, identity: Identity, schema: pa.Schema) -> IndexWriter:
        """A writer that goes on where the last one ended; makes the index where there is none.

        `schema` is that of the batches to come. A column that it has and the index has not is added, null in the rows
        already there. Raises IndexMismatch where the index was built from another identity, or keeps a column as
        another type; DeclarationError for a column name that an index cannot keep, and for a column that cannot be indexed as
        the declaration says.
        """
        ...

    def rebuild(self, identity: Identity, schema: pa.Schema) -> AbstractContextManager[IndexWriter]:
        """A writer into a new, empty index that takes the place of the old one when the block ends.

        Readers see the old one until then. When the block raises, or the process dies, the old one stays; what a dead
        process left is removed by the next rebuild. Raises Fenced where another rebuild came in between.
        """
        ...

    def can_revise(self) -> bool:
        """Whether the index lies where it can be copied at little cost: see `revise`."""
        ...

    def revise(self, identity: Identity, schema: pa.Schema) -> AbstractContextManager[IndexWriter]:
        """A writer into a copy of the index that takes the place of the old one when the block ends, as in `rebuild`.

        It goes on from the position of the old one. So rows can be taken out for good: a writer that was left behind
        writes to what was replaced. Raises what `writer` does, and Fenced where another writer recorded a position or rebuilt
        the index in between.
        """
        ...


def check_k(k: int) -> None:
    """Raises UsageError where `k` is not in 1..10,000."""
    if not 1 <= k <= MOST_RESULTS:
        raise UsageError(f"k is {k}; valid: 1 to {MOST_RESULTS:,} results a query")


def check_texts(name: str, texts: Sequence[str]) -> None:
    """Raises UsageError where one of `texts` is too long to look for its words in the index `name`."""
    for place, text in enumerate(texts):
        if len(text) > MOST_TEXT:
            raise UsageError(
                f"text {place} for index {name!r} has {len(text):,} characters; valid: {MOST_TEXT:,} at the most",
                next_step=f"cut it, in SQL by LEFT(text, {MOST_TEXT}), or search by its vector alone",
            )


def scores(distances: np.ndarray, metric: str) -> np.ndarray:
    """`score` for `distance`, float32: higher is nearer.

    cosine: 1 - distance, the cosine similarity, in -1..1. dot: 1 - distance, the dot product. l2: 1 / (1 + distance)
    of the squared distance, in 0..1.
    """
    result: Any = 1.0 / (1.0 + distances) if metric == "l2" else 1.0 - distances
    return np.asarray(result, dtype=np.float32)
