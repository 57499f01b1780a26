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
from typing import Final

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
SETTINGS: Final[Mapping[str, str]] = {
    "async": "async",
    "max_concurrent_operations": "max_concurrent_operations",
    "output_mode": "output_mode",
    "timeout": "timeout",
    "async_enabled": "async",
    "max_parallelism": "max_concurrent_operations",
    "client_timeout": "timeout",
    "retry_count": "retry_num",
}
"""Settings of one call, and the option of a model that each stands for: Flink's four, then Confluent's names."""

SHOWN_SETTINGS: Final = tuple(name.replace("_", "-") if place < 4 else name for place, name in enumerate(SETTINGS))
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
    return PredictRows(model, arguments.rows(slots["INPUT"]), columns, _config(arguments, slots.get("CONFIG"), model))


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
    return PredictValues(signature, [arguments.value(one) for one in given], _config(arguments, config, signature))


def _config(arguments: Arguments, given: Argument | None, model: Signature) -> Mapping[str, str]:
    """The settings of a call, each of which the model may have. That their values fit is known once the model is opened."""
    config = arguments.config(given)
    said: dict[str, str] = {}
    for name in config:
        if name not in SETTINGS:
            known = UnknownName(f"setting in CONFIG for model {model.name!r}", name.replace("_", "-"), SHOWN_SETTINGS)
            raise arguments.unknown(known, given)
        if SETTINGS[name] in said:
            arguments.fail(f"CONFIG says {said[SETTINGS[name]]!r} and {name!r}, which are the same setting", given)
        said[SETTINGS[name]] = name
    if config and not model.is_asked:
        arguments.fail(
            f"CONFIG for model {model.name!r} does not go with it: it answers in this process, and has no settings of a call",
            given,
            next_step="leave CONFIG out; its settings are of models that a service answers for",
        )
    return config


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
