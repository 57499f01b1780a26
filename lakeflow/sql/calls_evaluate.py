"""ML_EVALUATE: how good a model's answers to some rows are, a row a model version.

    ML_EVALUATE(TABLE t, MODEL m, DESCRIPTOR(label), DESCRIPTOR(a, b) [, 'classification'])
    ML_EVALUATE(INPUT => TABLE t, MODEL => MODEL m$all, LABEL => DESCRIPTOR(label), ARGS => DESCRIPTOR(a, b), TASK => '..')

Names of arguments are Flink's. It becomes two functions: one takes the rows in and counts them, the other tells what came of
them once all are in; a sum stands between them, which DuckDB does not give before its last row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from sqlglot import exp

from lakeflow.errors import UnknownName
from lakeflow.sql.calls_arguments import Arguments
from lakeflow.sql.compiled import Names, Signature
from lakeflow.sql.flink import AiCall, TableArgument

USAGE: Final = "ML_EVALUATE(TABLE t, MODEL m, DESCRIPTOR(label), DESCRIPTOR(a, ..) [, 'task'])"
SLOTS: Final = ("INPUT", "MODEL", "LABEL", "ARGS", "TASK")
AVERAGES: Final = ("precision", "recall", "f1")
METRICS: Final[Mapping[str, Sequence[str]]] = {
    "classification": (
        "accuracy",
        *AVERAGES,
        *(f"{name}_{kind}" for kind in ("macro", "weighted") for name in AVERAGES),
        *("log_loss", "roc_auc", "pr_auc"),
    ),
    "regression": ("mae", "mse", "rmse", "mape", "r2", "mean_error", "max_error"),
    "clustering": ("davies_bouldin", "intra_cluster_variance", "silhouette", "clusters", "adjusted_rand"),
    "embedding": ("mean_cosine", "mean_jaccard", "mean_euclidean"),
    "text_generation": ("bleu", "rouge_1", "rouge_2", "rouge_l", "exact_match"),
}
"""The metrics of each task; NULL where the rows do not define one."""


@dataclass(frozen=True, slots=True)
class Evaluate:
    """What a call asks for."""

    rows: TableArgument
    model: Signature
    label: exp.Identifier
    features: Sequence[exp.Identifier]
    task: str


def read_evaluate(text: str, call: AiCall, names: Names) -> Evaluate:
    """What a call means. Raises UsageError and UnknownName, pointing at the argument."""
    arguments = Arguments(text, call, USAGE)
    slots = arguments.slots(SLOTS, 4)
    try:
        model = names.model(arguments.model(slots["MODEL"]))
    except UnknownName as error:
        raise arguments.unknown(error, slots["MODEL"]) from error
    features = arguments.descriptor(slots["ARGS"])
    if len(features) != len(model.input):
        declared = ", ".join(f"{column.name} {column.type}" for column in model.input)
        message = f"model {model.name!r} takes {len(model.input)} values, given: {len(features)}; INPUT: {declared}"
        arguments.fail(message, slots["ARGS"])
    task = model.task
    if "TASK" in slots:
        said = slots["TASK"].this
        if not isinstance(said, exp.Literal) or not said.is_string:
            arguments.fail("TASK is written out, as a text: 'classification'", slots["TASK"])
        task = str(said.this).lower()
    if task not in METRICS:
        raise arguments.unknown(UnknownName("task", task, METRICS), slots.get("TASK", slots["MODEL"]))
    label = arguments.descriptor(slots["LABEL"], 1)[0]
    return Evaluate(arguments.rows(slots["INPUT"]), model, label, features, task)


def evaluation_columns(task: str) -> pa.Schema:
    """The columns of an evaluation: what was evaluated, how many rows, the metrics of the task."""
    facts = [("model", pa.string()), ("version", pa.int32()), ("task", pa.string()), ("label", pa.string())]
    counts = [("rows", pa.int64()), ("left_out", pa.int64())]
    details = [("confusion_matrix", pa.string()), ("per_class", pa.string())] if task == "classification" else []
    return pa.schema([*facts, *counts, *((name, pa.float64()) for name in METRICS[task]), *details])
