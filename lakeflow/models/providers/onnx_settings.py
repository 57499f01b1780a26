"""The options of provider onnx, read into values. Nothing is opened here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.spec import ModelSpec, Task

SESSION_OPTIONS = (
    "model_path",
    "checksum",
    "fetch_mib",
    "fetch_timeout",
    "runtime",
    "outputs",
    "batch_size",
    "intra_op_threads",
    "inter_op_threads",
    "allow_spinning",
    "graph_optimization",
    "execution_provider",
)
TABULAR_OPTIONS = (*SESSION_OPTIONS, "null_policy", "null_fill", "nan", "text_pairs")
TEXT_OPTIONS = (*SESSION_OPTIONS, "batch_tokens", "max_tokens", "threads", "pooling", "normalize")
PAIR_OPTIONS = (*SESSION_OPTIONS, "text_pairs", "batch_tokens", "max_tokens")
TASKS = (Task.CLASSIFICATION, Task.REGRESSION, Task.CLUSTERING, Task.EMBEDDING)

ROWS = 10_000
TEXTS = 4_096
TOKENS = 1_024
PAIR_TOKENS = 4_096


class Runtime(StrEnum):
    """What runs a model in this process."""

    ONNX = "onnx"


class NullPolicy(StrEnum):
    """What becomes of a row with a null feature."""

    ERROR = "error"
    NULL = "null"
    FILL = "fill"


class NanPolicy(StrEnum):
    """Whether NaN counts as a null, or is given to the graph."""

    NULL = "null"
    PASS = "pass"


class Optimization(StrEnum):
    """How far ONNX Runtime rewrites the graph."""

    DISABLED = "disabled"
    BASIC = "basic"
    EXTENDED = "extended"
    ALL = "all"


class Pooling(StrEnum):
    """How the vectors of a text's tokens become the vector of the text."""

    MEAN = "mean"
    CLS = "cls"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """How ONNX Runtime runs a graph. One thread without spinning: the engine above runs several calls at once."""

    intra_op_threads: int = 1
    inter_op_threads: int = 1
    allow_spinning: bool = False
    optimization: Optimization = Optimization.ALL
    execution_provider: str = "CPUExecutionProvider"


@dataclass(frozen=True, slots=True)
class TensorRef:
    """An output of the graph, or one column of it."""

    tensor: str
    index: int | None = None

    def __str__(self) -> str:
        return self.tensor if self.index is None else f"{self.tensor}[{self.index}]"


@dataclass(frozen=True, slots=True)
class TabularSettings:
    """`outputs` maps OUTPUT columns to tensors; `fills` maps INPUT columns to the value that stands for a null."""

    session: SessionSettings
    outputs: Mapping[str, TensorRef]
    batch_size: int
    null_policy: NullPolicy
    nan: NanPolicy
    fills: Mapping[str, pa.Scalar]


@dataclass(frozen=True, slots=True)
class TextSettings:
    """`pooling`, `normalize` and `max_tokens` of None: as the model's own configuration says."""

    session: SessionSettings
    outputs: Mapping[str, TensorRef]
    batch_size: int
    batch_tokens: int
    threads: int
    max_tokens: int | None
    pooling: Pooling | None
    normalize: bool | None


@dataclass(frozen=True, slots=True)
class PairSettings:
    """Of a model over pairs of texts. `max_tokens` of None: as the model's own configuration says; it counts both texts."""

    session: SessionSettings
    outputs: Mapping[str, TensorRef]
    batch_size: int
    batch_tokens: int
    max_tokens: int | None


def is_text(spec: ModelSpec) -> bool:
    """Whether the model reads text: task embedding over one STRING column."""
    return spec.task is Task.EMBEDDING and [_is_string(column.type) for column in spec.input] == [True]


def is_pairs(spec: ModelSpec) -> bool:
    """Whether the model reads pairs of texts: 'text_pairs' says so. Raises DeclarationError where it cannot."""
    if not options.truth(spec, "text_pairs"):
        return False
    texts = [_is_string(column.type) for column in spec.input] == [True, True]
    if not texts or len(spec.output) != 1 or spec.task not in (Task.REGRESSION, Task.CLASSIFICATION):
        raise DeclarationError(
            f"{spec.label}: 'text_pairs' = 'true' takes task regression or classification, INPUT of two STRING columns and "
            f"OUTPUT of one; declared: task {spec.task}, {len(spec.input)} INPUT and {len(spec.output)} OUTPUT columns"
        )
    return True


def read_settings(spec: ModelSpec) -> TabularSettings | TextSettings | PairSettings:
    """The settings in a spec's options. Raises UnknownName and DeclarationError."""
    options.require_task(spec, TASKS)
    if "text_pairs" in spec.options and is_pairs(spec):
        options.refuse_unknown(spec, PAIR_OPTIONS)
        options.choice(spec, "runtime", Runtime)
        return _pair_settings(spec)
    options.refuse_unknown(spec, TEXT_OPTIONS if is_text(spec) else TABULAR_OPTIONS)
    options.choice(spec, "runtime", Runtime)
    return _text_settings(spec) if is_text(spec) else _tabular_settings(spec)


def _text_settings(spec: ModelSpec) -> TextSettings:
    return TextSettings(
        session=_session_settings(spec),
        outputs=_outputs(spec),
        batch_size=options.whole_number(spec, "batch_size", TEXTS),
        batch_tokens=options.whole_number(spec, "batch_tokens", TOKENS),
        threads=options.whole_number(spec, "threads", 1),
        max_tokens=options.whole_number(spec, "max_tokens", 0) or None,
        pooling=options.choice(spec, "pooling", Pooling),
        normalize=options.truth(spec, "normalize"),
    )


def _pair_settings(spec: ModelSpec) -> PairSettings:
    return PairSettings(
        session=_session_settings(spec),
        outputs=_outputs(spec),
        batch_size=options.whole_number(spec, "batch_size", TEXTS),
        batch_tokens=options.whole_number(spec, "batch_tokens", PAIR_TOKENS),
        max_tokens=options.whole_number(spec, "max_tokens", 0) or None,
    )


def _tabular_settings(spec: ModelSpec) -> TabularSettings:
    policy = options.choice(spec, "null_policy", NullPolicy) or NullPolicy.NULL
    if (policy is NullPolicy.FILL) != ("null_fill" in spec.options):
        raise DeclarationError(
            f"{spec.label}: 'null_policy' = 'fill' and 'null_fill' go together; "
            f"'null_policy' is {str(policy)!r}, 'null_fill' is {spec.options.get('null_fill')!r}"
        )
    return TabularSettings(
        session=_session_settings(spec),
        outputs=_outputs(spec),
        batch_size=options.whole_number(spec, "batch_size", ROWS),
        null_policy=policy,
        nan=options.choice(spec, "nan", NanPolicy) or NanPolicy.NULL,
        fills=_fills(spec) if policy is NullPolicy.FILL else {},
    )


def _session_settings(spec: ModelSpec) -> SessionSettings:
    return SessionSettings(
        intra_op_threads=options.whole_number(spec, "intra_op_threads", 1),
        inter_op_threads=options.whole_number(spec, "inter_op_threads", 1),
        allow_spinning=options.truth(spec, "allow_spinning") or False,
        optimization=options.choice(spec, "graph_optimization", Optimization) or Optimization.ALL,
        execution_provider=spec.options.get("execution_provider", "CPUExecutionProvider"),
    )


def _outputs(spec: ModelSpec) -> Mapping[str, TensorRef]:
    """`'label:late, probabilities[1]:late_probability'` as OUTPUT column -> tensor. Tensors' names may hold colons."""
    split = [part.rpartition(":") for part in options.parts(spec, "outputs")]
    named = [(column.strip(), tensor.strip()) for tensor, _, column in split]
    return {
        column: _tensor_ref(spec, column, tensor)
        for column, tensor in options.by_column(spec, "outputs", named, spec.output.names).items()
    }


def _tensor_ref(spec: ModelSpec, column: str, text: str) -> TensorRef:
    match = re.fullmatch(r"(.+?)(?:\[(\d+)\])?", text)
    if match is None:
        raise DeclarationError(
            f"{spec.label}: option 'outputs' names no tensor for column {column!r}; "
            "it is written 'tensor:column' or 'tensor[1]:column'"
        )
    return TensorRef(match[1], int(match[2]) if match[2] else None)


def _fills(spec: ModelSpec) -> Mapping[str, pa.Scalar]:
    """`'0, carrier:unknown'`: 'unknown' for a null carrier, 0 for every column that is not named."""
    plain = [part for part in options.parts(spec, "null_fill") if ":" not in part]
    named = [part.partition(":") for part in options.parts(spec, "null_fill") if ":" in part]
    if len(plain) > 1:
        raise DeclarationError(f"{spec.label}: option 'null_fill' holds two values for all columns: {', '.join(plain)}")
    given = options.by_column(
        spec, "null_fill", [(column.strip(), value.strip()) for column, _, value in named], spec.input.names
    )
    return {column.name: _fill(spec, column, given.get(column.name, *plain)) for column in spec.input}


def _fill(spec: ModelSpec, column: pa.Field, text: str | None) -> pa.Scalar:
    if text is None:
        raise DeclarationError(
            f"{spec.label}: option 'null_fill' has no value for INPUT column {column.name!r}; "
            "write 'column:value', or a value alone for all other columns"
        )
    try:
        return pa.scalar(text).cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DeclarationError(
            f"{spec.label}: option 'null_fill' is {text!r} for INPUT column {column.name!r}, which is {column.type}"
        ) from error


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
