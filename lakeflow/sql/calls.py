"""What a call of one of lakeflow's functions means: its model or table, what it is given, and its settings.

    ML_PREDICT(TABLE t, MODEL m, DESCRIPTOR(a, b) [, CONFIG])      the rows of t and the model's OUTPUT columns
    ML_PREDICT(MODEL m, a, b [, CONFIG])                           OUTPUT for the values a and b
    ML_EMBED(MODEL m, text), AI_EMBEDDING('m', text)               the vector of a text
    AI_COMPLETE('m', text)                                         the answer to a text

Wherever MODEL m stands, 'm' may. Pure but for the questions to `Names`; errors point into the query. Forms and names are
Flink's (SqlMLPredictTableFunction) and Confluent's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from sqlglot import exp

from lakeflow.errors import UnknownName
from lakeflow.sql.calls_arguments import Arguments, is_config
from lakeflow.sql.compiled import Call, Names, Signature
from lakeflow.sql.flink import AiCall, Argument, TableArgument

Decide = Callable[[tuple[pa.DataType, ...], str], tuple[tuple[pa.DataType, ...], Call]]
"""For the types of the arguments, and the name of the function: what the arguments are cast to, and the call."""

USAGES = {
    "ML_PREDICT": "ML_PREDICT(TABLE t, MODEL m, DESCRIPTOR(a, ..) [, MAP['key', 'value', ..]]) or ML_PREDICT(MODEL m, a, ..)",
    "ML_EMBED": "ML_EMBED(MODEL m, text)",
    "AI_EMBEDDING": "AI_EMBEDDING('m', text)",
    "AI_COMPLETE": "AI_COMPLETE('m', text, ..)",
}
TASKS = {"ML_EMBED": "embedding", "AI_EMBEDDING": "embedding", "AI_COMPLETE": "text_generation"}
"""The task that a function's model must have."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The SELECT that a call within FROM becomes, and whether it gives exactly one row."""

    text: str
    one_row: bool = False


@dataclass(frozen=True, slots=True)
class PredictRows:
    """The rows of a relation, and OUTPUT for the columns that DESCRIPTOR names."""

    model: Signature
    rows: TableArgument
    columns: Sequence[exp.Identifier]
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PredictValues:
    """OUTPUT for expressions."""

    model: Signature
    values: Sequence[exp.Expr]
    config: Mapping[str, str] = field(default_factory=dict)


def read_predict(text: str, call: AiCall, names: Names, *, gives_rows: bool) -> PredictRows | PredictValues:
    """What a call means where it stands: `gives_rows` within FROM. Raises UsageError and UnknownName."""
    arguments = Arguments(text, call, USAGES[call.this])
    first = arguments.all[0] if arguments.all else None
    named = {one.args.get("name") for one in arguments.all}
    if first is None or not (named & {"INPUT", "ARGS"} or isinstance(first.this, TableArgument | exp.Subquery)):
        return _values(arguments, names)
    if call.this != "ML_PREDICT":
        arguments.fail(f"{call.this} takes values, not a table: {arguments.usage}", first)
    if not gives_rows:
        arguments.fail("ML_PREDICT over a table gives rows and stands in FROM; for a value: ML_PREDICT(MODEL m, a, ..)")
    slots = arguments.slots(("INPUT", "MODEL", "ARGS", "CONFIG"), 3)
    model = _model(arguments, slots["MODEL"], names)
    columns = arguments.descriptor(slots["ARGS"])
    _require_count(arguments, model, columns, slots["ARGS"])
    return PredictRows(model, arguments.rows(slots["INPUT"]), columns, arguments.config(slots.get("CONFIG")))


def _values(arguments: Arguments, names: Names) -> PredictValues:
    given = [one for one in arguments.all if one.args.get("name") not in ("MODEL", "CONFIG")]
    model = next((one for one in arguments.all if one.args.get("name") == "MODEL"), None)
    config = next((one for one in arguments.all if one.args.get("name") == "CONFIG"), None)
    strange = next((one for one in given if one.args.get("name")), None)
    if strange is not None:
        arguments.fail(f"{arguments.function} has no argument {strange.args['name']}: {arguments.usage}", strange)
    if model is None and given:
        model = given.pop(0)
    if config is None and given and is_config(given[-1]):
        config = given.pop()
    if model is None:
        arguments.fail(f"{arguments.function} needs a model: {arguments.usage}")
    signature = _model(arguments, model, names)
    _require_count(arguments, signature, given, arguments.call)
    return PredictValues(signature, [arguments.value(one) for one in given], arguments.config(config))


def _model(arguments: Arguments, argument: Argument, names: Names) -> Signature:
    try:
        model = names.model(arguments.model(argument))
    except UnknownName as error:
        raise arguments.unknown(error, argument) from error
    if model.name.endswith("$all"):
        arguments.fail(f"{model.name!r} stands for all versions, which only ML_EVALUATE takes; valid: m, m$2", argument)
    task = TASKS.get(arguments.function, model.task)
    if model.task != task:
        arguments.fail(
            f"{arguments.function} needs a model with the task {task!r}; {model.name!r} has {model.task!r}",
            argument,
            next_step="use ML_PREDICT for this model, or name another; `lakeflow models list` shows them",
        )
    return model


def _require_count(arguments: Arguments, model: Signature, given: Sequence[exp.Expr], at: exp.Expr) -> None:
    if len(given) != len(model.input):
        declared = ", ".join(f"{column.name} {column.type}" for column in model.input)
        arguments.fail(f"model {model.name!r} takes {len(model.input)} values, given: {len(given)}; INPUT: {declared}", at)
