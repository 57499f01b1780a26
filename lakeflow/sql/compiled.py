"""What a query becomes before DuckDB runs it: text in DuckDB's own dialect, the tables that it reads and the functions of
lakeflow that it calls. Plain values: nothing is opened, and no model is asked, to make one.

    SELECT carrier, late FROM ML_PREDICT(TABLE bronze.flights, MODEL delay, DESCRIPTOR(hour)) WHERE late > 0.7

becomes a text in which ML_PREDICT is a call of `ai_0` over one column, and a `PredictCall` that says which model is behind
`ai_0`. DuckDB's optimizer then does what it does for any function that is not to be called twice: a filter on other columns
goes below it, a branch of CASE that is not taken does not call it, and where nothing of its result is used it is not called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from lakeflow.declare import INDEX_SNAPSHOT, IndexSpec


@dataclass(frozen=True, slots=True)
class AtSnapshot:
    """FOR VERSION AS OF 42: the table as that snapshot of it has it."""

    snapshot_id: int


@dataclass(frozen=True, slots=True)
class AtTime:
    """FOR SYSTEM_TIME AS OF TIMESTAMP '..': as it was then, in microseconds since the epoch."""

    microseconds: int


@dataclass(frozen=True, slots=True)
class AtRef:
    """FOR VERSION AS OF 'name': as a branch or a tag has it."""

    name: str


@dataclass(frozen=True, slots=True)
class AtStart:
    """FOR SYSTEM_TIME AS OF PROCTIME(), or AS OF o.proc_time of a join: a lookup, whole, as of the start of the run."""


@dataclass(frozen=True, slots=True)
class AtRow:
    """FOR SYSTEM_TIME AS OF o.event_time of a join: for each row the version that held at the time which that column says."""


Moment = AtSnapshot | AtTime | AtRef | AtStart | AtRow


@dataclass(frozen=True, slots=True)
class TableRead:
    """A table that the text reads, as `namespace.table`. `view` is the name by which the text reads it: one table at two
    moments has two views. `start` and `stop` are the characters of its name in the query as written.
    """

    name: str
    view: str
    at: Moment | None = None
    start: int = 0
    stop: int = 0


@dataclass(frozen=True, slots=True)
class Signature:
    """What the compiler knows of a model, by `m`, `m$2`: INPUT and OUTPUT with their types, and its task.

    One that no service is asked for (`is_asked` is False) answers in this process, and has no settings of calls. Where it
    `loses_rows` ('on_error' = 'skip' or 'dead_letter'), a row that is to be left out has NULL in place of the STRUCT of its
    answers; every other row has a STRUCT.
    """

    name: str
    task: str
    input: pa.Schema
    output: pa.Schema
    loses_rows: bool = False
    is_asked: bool = True


@dataclass(frozen=True, slots=True)
class PredictCall:
    """`function(c0, c1, ..)` gives a STRUCT of the model's OUTPUT columns, for columns in the order of INPUT."""

    function: str
    model: Signature
    config: Mapping[str, str] = field(default_factory=dict)

    @property
    def result(self) -> pa.DataType:
        return pa.struct(list(self.model.output))


@dataclass(frozen=True, slots=True)
class SearchCall:
    """`function(query[, ..])` gives a LIST of STRUCTs, the nearest rows of `table` by its column `column`, `score` last.

    `query` is a vector, or text where the index has a model or the mode asks for words; `k` how many at the most. `columns`
    are the columns of the table that a hit holds, `measured` of distance, text_score and index_snapshot_id those that it is
    to tell; `config` has mode, filter, exact and what else was said.
    """

    function: str
    table: str
    column: str
    k: int
    columns: pa.Schema
    query: pa.DataType
    config: Mapping[str, str] = field(default_factory=dict)
    measured: tuple[str, ...] = ()

    @property
    def result(self) -> pa.DataType:
        told = (pa.field(name, pa.int64() if name == INDEX_SNAPSHOT else pa.float64()) for name in (*self.measured, "score"))
        return pa.list_(pa.struct([*self.columns, *told]))


@dataclass(frozen=True, slots=True)
class PureCall:
    """`function(..)` is one of lakeflow's own functions, such as a splitter of texts, which asks nobody."""

    function: str
    name: str
    parameters: tuple[pa.DataType, ...]
    result: pa.DataType


@dataclass(frozen=True, slots=True)
class EvaluateCall:
    """One of the two functions of an ML_EVALUATE, which belong together by `evaluation`.

    The first takes rows in, `function(feature, .., label)`, and gives 1 for each; the other, which `tells`, gets how many there
    were and gives a LIST of STRUCTs of `columns`, one a version of the model.
    """

    function: str
    evaluation: str
    model: Signature
    features: tuple[str, ...]
    label: str
    task: str
    parameters: tuple[pa.DataType, ...]
    columns: pa.Schema
    tells: bool = False

    @property
    def result(self) -> pa.DataType:
        return pa.list_(pa.struct(list(self.columns))) if self.tells else pa.int64()


Call = PredictCall | SearchCall | EvaluateCall | PureCall


@dataclass(frozen=True, slots=True)
class Compiled:
    """A query as DuckDB runs it. `written` is the text as the user wrote it, for messages.

    `columns` are what it gives, as far as Arrow names their types; none for DESCRIBE and SUMMARIZE. `types` are DuckDB's names
    of those types.
    """

    written: str
    text: str
    reads: tuple[TableRead, ...]
    calls: tuple[Call, ...] = ()
    columns: pa.Schema = field(default_factory=lambda: pa.schema([]))
    types: tuple[str, ...] = ()


class Names(Protocol):
    """What the compiler asks of the project. Raises UnknownName."""

    def table(self, name: str, at: Moment | None) -> pa.Schema:
        """The columns of a table, at that moment."""
        ...

    def model(self, name: str) -> Signature:
        """A model by `m` or `m$2`."""
        ...

    def index(self, table: str, column: str) -> IndexSpec | None:
        """The vector index over a column; None where there is none and a search compares every row."""
        ...


@dataclass(frozen=True, slots=True)
class Function:
    """What stands behind a call while a query runs: `call` gets the arguments of some rows as columns, and gives a value for
    each. It is called from several threads.
    """

    name: str
    parameters: tuple[pa.DataType, ...]
    result: pa.DataType
    call: Callable[[pa.RecordBatch], pa.Array]
