"""The models that the cases of the corpus ask: plain functions of a row, which count how many rows they are asked about."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lakeflow.declare import IndexSpec
from lakeflow.errors import ModelError, UnknownName
from lakeflow.sql.compiled import Compiled, Function, Moment, PredictCall, SearchCall, Signature

Answer = Callable[..., Mapping[str, Any]]


def signature(name: str, task: str, given: Mapping[str, pa.DataType], told: Mapping[str, pa.DataType]) -> Signature:
    return Signature(name, task, pa.schema(list(given.items())), pa.schema(list(told.items())))


def _fail(x: int | None) -> Mapping[str, Any]:
    if x == 13:
        raise ModelError("model 'unlucky' does not take 13", next_step="leave 13 out")
    return {"lucky": x}


TEXT, REAL, WHOLE = pa.string(), pa.float64(), pa.int32()
DECLARED: list[tuple[Signature, Answer]] = [
    (signature("double", "regression", {"x": REAL}, {"twice": REAL}), lambda x: {"twice": 2 * x}),
    (signature("add", "regression", {"a": WHOLE, "b": WHOLE}, {"total": WHOLE}), lambda a, b: {"total": a + b}),
    (
        signature("classify", "classification", {"text": TEXT}, {"label": TEXT, "score": REAL}),
        lambda text: {"label": "long" if len(text) > 5 else "short", "score": len(text) / 10},
    ),
    (
        signature("embed", "embedding", {"text": TEXT}, {"vector": pa.list_(pa.float32())}),
        lambda text: {"vector": [float(text.count("a")), float(text.count("b")), float(len(text))]},
    ),
    (signature("chat", "text_generation", {"prompt": TEXT}, {"answer": TEXT}), lambda prompt: {"answer": f"<{prompt}>"}),
    (
        signature("agent", "text_generation", {"prompt": TEXT}, {"answer": TEXT}),
        lambda prompt: {"answer": f'{{"action": "{prompt.split()[0]}", "arguments": {{"words": {len(prompt.split())}}}}}'},
    ),
    (signature("unlucky", "regression", {"x": WHOLE}, {"lucky": WHOLE}), _fail),
    (signature("my model", "regression", {"x": REAL}, {"my answer": REAL}), lambda x: {"my answer": x + 1}),
]
MODELS = {one.name: (one, answer) for one, answer in DECLARED}


def _dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


NEARNESS: dict[str, Callable[[list[float], list[float]], float]] = {
    "dot": _dot,
    "cosine": lambda one, other: _dot(one, other) / math.sqrt(_dot(one, one) * _dot(other, other)),
    "l2": lambda one, other: 1 / (1 + sum((a - b) ** 2 for a, b in zip(one, other, strict=True))),
}
"""What `score` is, by its definition."""


@dataclass(slots=True)
class Asked:
    """`Names` over tables in memory and the models above, and what stands behind them."""

    tables: Mapping[str, pa.Table]
    rows: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def table(self, name: str, at: Moment | None) -> pa.Schema:
        if name not in self.tables:
            raise UnknownName("table", name, self.tables)
        return self.tables[name].schema

    def model(self, name: str) -> Signature:
        plain, _, version = name.partition("$")
        if plain not in MODELS or version not in ("", "1", "2"):
            raise UnknownName("model", name, MODELS)
        found = MODELS[plain][0]
        return Signature(name, found.task, found.input, found.output)

    def index(self, table: str, column: str) -> IndexSpec | None:
        return None

    def functions(self, compiled: Compiled) -> list[Function]:
        """What stands behind the models and searches that the query calls."""
        found = [self._function(call) for call in compiled.calls if isinstance(call, PredictCall)]
        return found + [self._search(call) for call in compiled.calls if isinstance(call, SearchCall)]

    def _search(self, call: SearchCall) -> Function:
        rows = self.tables[call.table].to_pylist()

        def answered(asked: pa.RecordBatch) -> pa.Array:
            return pa.array(
                [None if query is None else self._hits(call, rows, query) for query in asked[0].to_pylist()], call.result
            )

        return Function(call.function, (call.query,), call.result, answered)

    def _hits(self, call: SearchCall, rows: list[dict[str, Any]], query: list[float]) -> list[dict[str, Any]]:
        nearness = NEARNESS[call.config.get("distance", "cosine")]
        scored = [(nearness(query, row[call.column]), row) for row in rows if row[call.column] is not None]
        nearest = sorted(scored, key=lambda one: -one[0])[: call.k]
        return [{**{name: row[name] for name in call.columns.names}, "score": score} for score, row in nearest]

    def _function(self, call: PredictCall) -> Function:
        _, answer = MODELS[call.model.name.partition("$")[0]]
        nothing = dict.fromkeys(call.model.output.names)

        def answered(rows: pa.RecordBatch) -> pa.Array:
            with self.lock:
                self.rows[call.model.name] += rows.num_rows
            given = zip(*(column.to_pylist() for column in rows.columns), strict=True)
            return pa.array([nothing if None in row else answer(*row) for row in given], call.result)

        return Function(call.function, tuple(call.model.input.types), call.result, answered)
