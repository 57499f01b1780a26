"""Tables, models and searches for tests of queries that ask them: answers that are plain to see, and calls that are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import pyarrow as pa

from lakeflow.declare import IndexSpec
from lakeflow.errors import UnknownName
from lakeflow.sql.compile import compile_query
from lakeflow.sql.compiled import Call, Compiled, Function, Moment, PredictCall, SearchCall, Signature
from lakeflow.sql.execute import Limits, run_compiled
from lakeflow.sql.relations import ArrowRelation

ROWS = 20_000
VECTOR = pa.list_(pa.float32())
UTC = pa.timestamp("us", tz="UTC")

DELAY = Signature(
    "delay",
    "classification",
    pa.schema([("hour", pa.int32()), ("distance", pa.float64())]),
    pa.schema([("late", pa.float64())]),
)
"""`late` is hour times ten, and the distance."""

LABEL = Signature(
    "label",
    "classification",
    pa.schema([("hour", pa.int32())]),
    pa.schema([("label", pa.string()), ("sure", pa.float64())]),
)
"""`label` is even or odd."""

EMBED = Signature("embed", "embedding", pa.schema([("text", pa.string())]), pa.schema([("vector", VECTOR)]))
"""`vector` is the length of the text, and 1."""

LLM = Signature("llm", "text_generation", pa.schema([("prompt", pa.string())]), pa.schema([("answer", pa.string())]))
"""`answer` is the prompt in capitals."""

LOSSY = Signature("lossy", "text_generation", LLM.input, LLM.output, loses_rows=True)
"""As llm, and rows whose prompt ends with 1 are lost."""

MODELS = {one.name: one for one in (DELAY, LABEL, EMBED, LLM, LOSSY)}

TABLES: Mapping[str, pa.Table] = {
    "bronze.flights": pa.table(
        {
            "id": pa.array(range(ROWS), pa.int64()),
            "hour": pa.array([row % 24 for row in range(ROWS)], pa.int64()),
            "distance": pa.array([1.0] * ROWS, pa.float32()),
            "carrier": pa.array([f"c{row % 10}" for row in range(ROWS)]),
            "time": pa.array([row * 60_000_000 for row in range(ROWS)], UTC),
        }
    ),
    "dim.carriers": pa.table({"carrier": [f"c{row}" for row in range(10)], "name": [f"Carrier {row}" for row in range(10)]}),
    "gold.docs": pa.table(
        {
            "doc": pa.array(["a", "b", "c"]),
            "title": pa.array(["A", "B", "C"]),
            "vec": pa.array([[0.0, 1], [1, 1], [5, 1]], VECTOR),
        }
    ),
    "bronze.odd names": pa.table({"a b": pa.array([1, 2], pa.int64()), "sel'ect": pa.array(["x", "y"])}),
}


class FakeNames:
    """A project with the tables and models above; `moments` is what was asked of tables."""

    def __init__(self, indexes: tuple[IndexSpec, ...] = ()) -> None:
        self.indexes = indexes
        self.moments: list[tuple[str, Moment | None]] = []

    def table(self, name: str, at: Moment | None) -> pa.Schema:
        self.moments.append((name, at))
        if name not in TABLES:
            raise UnknownName("table", name, TABLES)
        return TABLES[name].schema

    def model(self, name: str) -> Signature:
        plain = name.partition("$")[0]
        if plain not in MODELS:
            raise UnknownName("model", name, MODELS)
        found = MODELS[plain]
        return Signature(name, found.task, found.input, found.output, found.loses_rows)

    def index(self, table: str, column: str) -> IndexSpec | None:
        return next((one for one in self.indexes if (one.table, one.column) == (table, column)), None)


class Asked:
    """Queries, run; `calls` is how many rows each model or search was asked for since the last."""

    def __init__(self, names: FakeNames | None = None, tables: Mapping[str, pa.Table] = TABLES) -> None:
        self.names = names or FakeNames()
        self.tables = tables
        self.calls: Counter[str] = Counter()
        self.compiled: Compiled | None = None

    def __call__(self, text: str) -> list[dict[str, object]]:
        """The rows of a query."""
        return list(self.table(text).to_pylist())

    def values(self, text: str) -> list[tuple[object, ...]]:
        """The rows of a query as tuples, for columns that share a name."""
        found = self.table(text)
        return list(zip(*(column.to_pylist() for column in found.columns), strict=True))

    def table(self, text: str) -> pa.Table:
        """The answer of a query, whose columns are held against what the compiler said of them."""
        self.calls.clear()
        self.compiled = compile_query(text, self.names)
        relations = {read.view: stream(self.tables[read.name]) for read in self.compiled.reads}
        behind = [Function(call.function, parameters(call), call.result, self._behind(call)) for call in self.compiled.calls]
        found = run_compiled(self.compiled, relations, behind, Limits(threads=1)).read_all()
        if len(self.compiled.columns):
            assert found.schema.names == self.compiled.columns.names
            assert found.schema.types == self.compiled.columns.types
        return found

    def _behind(self, call: Call) -> Callable[[pa.RecordBatch], pa.Array]:
        def ask(rows: pa.RecordBatch) -> pa.Array:
            assert rows.schema.types == list(parameters(call))
            if isinstance(call, SearchCall):
                self.calls["search"] += rows.num_rows
                return searched(call, rows)
            assert isinstance(call, PredictCall)
            self.calls[call.model.name] += rows.num_rows
            return predicted(call, rows)

        return ask


def stream(table: pa.Table) -> ArrowRelation:
    return ArrowRelation(table.schema, lambda: table.to_reader(max_chunksize=2048))


def parameters(call: Call) -> tuple[pa.DataType, ...]:
    assert isinstance(call, PredictCall | SearchCall)
    return tuple(call.model.input.types) if isinstance(call, PredictCall) else (call.query,)


def predicted(call: PredictCall, rows: pa.RecordBatch) -> pa.Array:
    answers = [_answer(call.model.name.partition("$")[0], list(row.values())) for row in rows.to_pylist()]
    return pa.array(answers, call.result)


def _answer(model: str, given: list[object]) -> dict[str, object] | None:
    first = given[0]
    match model:
        case "delay":
            assert isinstance(given[1], float | None)
            return {"late": None if first is None else int(str(first)) * 10 + (given[1] or 0)}
        case "label":
            return {"label": "odd" if int(str(first)) % 2 else "even", "sure": 0.5}
        case "embed":
            return {"vector": [float(len(str(first))), 1.0]}
        case "lossy" if str(first).endswith("1"):
            return None
        case _:
            return {"answer": None if first is None else str(first).upper()}


def searched(call: SearchCall, rows: pa.RecordBatch) -> pa.Array:
    """The nearest by l2 over the table itself; a text is the title of the row that it finds."""
    table = TABLES[call.table].to_pylist()
    found: list[list[dict[str, object]]] = []
    for query in rows.column(0).to_pylist():
        if query is None:
            found.append([])
            continue
        if isinstance(query, str):
            scored = [{**row, "score": 1.0} for row in table if row["title"] == query]
        else:
            scored = [{**row, "score": -_distance(row["vec"], query)} for row in table]
        scored.sort(key=lambda row: -row["score"])
        found.append([{field.name: row[field.name] for field in call.result.value_type} for row in scored[: call.k]])
    return pa.array(found, call.result)


def _distance(left: list[float], right: list[float]) -> float:
    return float(sum((one - other) ** 2 for one, other in zip(left, right, strict=True)))
