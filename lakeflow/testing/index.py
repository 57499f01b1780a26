"""An index in memory: exact search, the same contract as the real one. For tests of whatever writes or reads an index."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, assert_never

import numpy as np
import pyarrow as pa

from lakeflow.declare import IndexSpec
from lakeflow.errors import Fenced, UnknownName, UsageError
from lakeflow.index.columns import ColumnIndex, column_indexes, require_text
from lakeflow.index.condition import Compare, Condition, Every, Holds, IsNull, Like, Not, Operand, Some, Truth, Value
from lakeflow.index.rows import (
    SEQUENCE,
    Layout,
    asked_columns,
    chunks,
    columns_to_add,
    kept_columns,
    layout_of,
    matched_of,
    query_matrix,
    result_of,
)
from lakeflow.index.settings import settings_of
from lakeflow.index.vectors import (
    ColumnState,
    Identity,
    IndexState,
    IndexWriter,
    UpsertCounts,
    Vectors,
    check_identity,
    check_k,
    check_position,
    check_texts,
)
from lakeflow.index.where import parse
from lakeflow.progress import SnapshotPosition
from lakeflow.testing.words import text_scores

Row = dict[str, Any]


@dataclass(slots=True)
class _Built:
    """One index as it stands: its rows by key."""

    layout: Layout
    rows: dict[str | int, Row] = field(default_factory=dict)
    position: SnapshotPosition | None = None
    revision: int = 0
    token: str = field(default_factory=lambda: secrets.token_hex(6))
    updated_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    columns: tuple[ColumnIndex, ...] = ()

    def state(self) -> IndexState:
        size = len(self.rows) * self.layout.identity.width * 4
        columns = tuple(ColumnState(one.column, one.kind, 0) for one in sorted(self.columns, key=lambda one: one.name))
        rows = len(self.rows)
        version = f"{self.token}.{self.revision}"
        return IndexState(self.layout.identity, self.position, rows, rows, size, "flat", self.updated_at, columns, version)

    def meeting(self, where: str | None) -> list[Row]:
        """The rows that meet a condition."""
        if where is None:
            return list(self.rows.values())
        condition = parse(where, self.layout.schema, self.layout.columns, self.layout.name)
        return [row for row in self.rows.values() if evaluate(condition, row) is True]


class MemoryIndex:
    """The index of `spec`, which lives as long as this object."""

    def __init__(self, spec: IndexSpec) -> None:
        self.name = spec.name
        self.settings = settings_of(spec)
        self._spec = spec
        self._columns = spec.columns
        self._built: _Built | None = None

    def state(self) -> IndexState:
        """As `VectorIndex.state`."""
        return self._need().state()

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
        """As `VectorIndex.search`; exact always."""
        check_k(k)
        built = self._need()
        layout = built.layout
        queries = query_matrix(self.name, layout.identity, vectors)
        asked = asked_columns(layout, columns)
        rows = built.meeting(where)
        kept = np.array([row[layout.identity.column] for row in rows], dtype=np.float32).reshape(-1, layout.identity.width)
        distances = _distances(queries, kept, layout.identity.metric)
        nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
        places = nearest.ravel()
        found = pa.Table.from_pylist([rows[place] for place in places], schema=layout.schema)
        each = np.repeat(np.arange(len(queries), dtype=np.int32), nearest.shape[1])
        return result_of(layout, asked, each, np.take_along_axis(distances, nearest, axis=1).ravel(), found)

    def match(
        self, texts: Sequence[str], k: int, *, where: str | None = None, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """As `VectorIndex.match`, of words as they are written: no language's."""
        check_k(k)
        check_texts(self.name, texts)
        text_columns = require_text(self.name, self.settings)
        built = self._need()
        asked = asked_columns(built.layout, columns)
        kept = {row[built.layout.identity.key] for row in built.meeting(where)}
        rows = list(built.rows.values())
        found: list[tuple[int, float, Row]] = []
        for query, text in enumerate(texts):
            scored = [text_scores(text, [row[column] for row in rows]) for column in text_columns]
            best = [(max(each), row) for *each, row in zip(*scored, rows, strict=True)]
            matching = [(score, row) for score, row in best if score > 0 and row[built.layout.identity.key] in kept]
            matching.sort(key=lambda one: (-one[0], one[1][built.layout.identity.key]))
            found += [(query, score, row) for score, row in matching[:k]]
        table = pa.Table.from_pylist([row for _, _, row in found], schema=built.layout.schema)
        queries, scores = (np.array([one[place] for one in found]) for place in (0, 1))
        return matched_of(built.layout, asked, queries.astype(np.int32), scores.astype(np.float32), table)

    def scan(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """As `VectorIndex.scan`."""
        built = self._need()
        wanted = [*kept_columns(built.layout, columns), SEQUENCE]
        table = pa.Table.from_pylist(list(built.rows.values()), schema=built.layout.schema).select(wanted)
        yield from table.to_batches()

    def schema(self) -> pa.Schema:
        """As `VectorIndex.schema`."""
        return self._need().layout.schema

    def writer(self, identity: Identity, schema: pa.Schema) -> IndexWriter:
        """As `VectorIndex.writer`."""
        if self._built is not None:
            check_identity(self.name, self._built.layout.identity, identity)
        layout = layout_of(self.name, identity, schema, self._columns)
        indexed = column_indexes(layout, self.settings)
        if self._built is None:
            self._built = _Built(layout)
        built = self._built
        for added in columns_to_add(self.name, built.layout.schema, layout.schema):
            built.layout = Layout(self.name, identity, built.layout.schema.append(added))
            for row in built.rows.values():
                row[added.name] = None
        return _MemoryWriter(built, indexed, self.settings.chunk_bytes, lambda: self._built is built)

    @contextmanager
    def rebuild(self, identity: Identity, schema: pa.Schema) -> Iterator[IndexWriter]:
        """As `VectorIndex.rebuild`."""
        old = self._built
        fresh = _Built(layout_of(self.name, identity, schema, self._columns))
        writer = _MemoryWriter(fresh, column_indexes(fresh.layout, self.settings), self.settings.chunk_bytes, lambda: True)
        yield writer
        writer.keep_up()
        if self._built is not old:
            raise Fenced(f"index {self.name!r} was rebuilt in the meantime", next_step=f"lakeflow index status {self.name}")
        self._built = fresh

    def can_revise(self) -> bool:
        """As `VectorIndex.can_revise`."""
        return True

    @contextmanager
    def revise(self, identity: Identity, schema: pa.Schema) -> Iterator[IndexWriter]:
        """As `VectorIndex.revise`."""
        old = self._need()
        revision = old.revision
        copy = MemoryIndex(self._spec)
        copy._built = _Built(old.layout, {key: dict(row) for key, row in old.rows.items()}, old.position, revision)
        writer = copy.writer(identity, schema)
        yield writer
        writer.keep_up()
        if self._built is not old or old.revision != revision:
            raise Fenced(f"index {self.name!r} was updated in the meantime", next_step=f"lakeflow index status {self.name}")
        self._built = copy._built

    def _need(self) -> _Built:
        if self._built is None:
            raise UnknownName("index", self.name, (), next_step=f"lakeflow index build {self.name}")
        return self._built


class _MemoryWriter:
    def __init__(self, built: _Built, columns: tuple[ColumnIndex, ...], chunk_bytes: int, stands: Callable[[], bool]) -> None:
        self._built, self._columns, self._chunk_bytes, self._stands = built, columns, chunk_bytes, stands
        self._revision, self._position = built.revision, built.position

    @property
    def position(self) -> SnapshotPosition | None:
        return self._position

    def upsert(self, batches: Iterable[pa.RecordBatch], sequence: int) -> UpsertCounts:
        counts = UpsertCounts()
        for chunk in chunks(batches, self._chunk_bytes):
            prepared = self._built.layout.prepare(chunk, sequence)
            removed = self.delete(prepared.without_vector.to_pylist(), sequence)
            counts += UpsertCounts(prepared.read, 0, 0, 0, prepared.repeated, len(prepared.without_vector), removed)
            for row in prepared.rows.to_pylist():
                counts += self._put(row)
        return counts

    def _put(self, row: Row) -> UpsertCounts:
        self._refuse_unless_standing()
        key = row[self._built.layout.identity.key]
        before = self._built.rows.get(key)
        if before is not None and before[SEQUENCE] > row[SEQUENCE]:
            return UpsertCounts(outdated=1)
        self._built.rows[key] = row
        return UpsertCounts(inserted=1) if before is None else UpsertCounts(updated=1)

    def delete(self, keys: Iterable[str | int], sequence: int) -> int:
        self._refuse_unless_standing()
        text = pa.types.is_string(self._built.layout.schema.field(self._built.layout.identity.key).type)
        removed = 0
        for key in keys:
            if isinstance(key, str) is not text or isinstance(key, bool):
                raise UsageError(
                    f"key {key!r} of the index {self._built.layout.name!r}; valid: {'text' if text else 'integer'}"
                )
            row = self._built.rows.get(key)
            if row is not None and row[SEQUENCE] <= sequence:
                del self._built.rows[key]
                removed += 1
        return removed

    def record(self, position: SnapshotPosition) -> IndexState:
        name = self._built.layout.name
        check_position(name, self._built.layout.identity, position)
        self._refuse_unless_standing()
        if self._built.revision != self._revision:
            raise Fenced(f"another recorded a position for the index {name!r}", next_step=f"lakeflow index update {name}")
        self._built.position = self._position = position
        self._built.revision = self._revision = self._revision + 1
        self._built.updated_at = datetime.now(UTC)
        return self.keep_up()

    def keep_up(self) -> IndexState:
        self._refuse_unless_standing()
        self._built.columns = self._columns
        return self._built.state()

    def _refuse_unless_standing(self) -> None:
        if not self._stands():
            name = self._built.layout.name
            raise Fenced(f"index {name!r} was rebuilt while this one wrote", next_step=f"lakeflow index update {name}")


def evaluate(condition: Condition, row: Mapping[str, Any]) -> bool | None:
    """Whether `row` meets the condition; None is SQL's neither true nor false."""
    match condition:
        case Compare(operator, operand, values):
            return _compare(operator, _value(operand, row), [_as_kept(operand, value) for value in values])
        case Like(operand, pattern):
            text = _value(operand, row)
            return None if text is None else re.fullmatch(_expression(pattern), text, re.DOTALL) is not None
        case Holds(function, operand, value):
            held = _value(operand, row)
            return None if held is None else _holds(function, held, value)
        case IsNull(operand):
            return _value(operand, row) is None
        case Truth(value):
            return _value(value, row) if isinstance(value, Operand) else value
        case Not(inner):
            opposite = evaluate(inner, row)
            return None if opposite is None else not opposite
        case Every(conditions):
            return _all([evaluate(each, row) for each in conditions])
        case Some(conditions):
            opposite = _all([None if met is None else not met for met in (evaluate(each, row) for each in conditions)])
            return None if opposite is None else not opposite
        case _:
            assert_never(condition)


def _all(met: list[bool | None]) -> bool | None:
    return False if False in met else None if None in met else True


def _value(operand: Operand, row: Mapping[str, Any]) -> Any:
    value = row[operand.column]
    if value is None or operand.function is None:
        return value.replace(tzinfo=None) if isinstance(value, datetime) else value
    return {"lower": str.lower, "upper": str.upper, "length": len}[operand.function](value)


def _as_kept(operand: Operand, value: Value) -> Any:
    """A literal at the precision of its column: a 32-bit float compares with one."""
    if pa.types.is_float32(operand.result) and isinstance(value, int | Decimal):
        return float(np.float32(float(value)))
    if pa.types.is_floating(operand.result) and isinstance(value, Decimal):
        return float(value)
    return value


def _compare(operator: str, left: Any, values: list[Any]) -> bool | None:
    if left is None:
        return None
    match operator:
        case "in" | "=":
            return left in values
        case "<":
            return bool(left < values[0])
        case "<=":
            return bool(left <= values[0])
        case ">":
            return bool(left > values[0]) or left != left
        case ">=":
            return bool(left >= values[0]) or left != left
        case _:
            raise ValueError(operator)


def _holds(function: str, held: Any, value: Value) -> bool:
    match function:
        case "starts_with":
            return bool(held.startswith(value))
        case "ends_with":
            return bool(held.endswith(value))
        case _:
            return value in held


def _expression(pattern: str) -> str:
    """A LIKE pattern as a regular expression."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    return "".join({"%": ".*", "_": "."}.get(part, re.escape(part[-1])) for part in parts)


def _distances(queries: np.ndarray, kept: np.ndarray, metric: str) -> np.ndarray:
    products = queries.astype(np.float64) @ kept.astype(np.float64).T
    if metric == "dot":
        return np.asarray(1.0 - products)
    left, right = (np.einsum("ij,ij->i", each, each, dtype=np.float64) for each in (queries, kept))
    if metric == "cosine":
        return np.asarray(1.0 - products / np.sqrt(np.outer(left, right)))
    return np.asarray(np.maximum(left[:, None] + right[None, :] - 2.0 * products, 0.0))
