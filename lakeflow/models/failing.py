"""What becomes of a row that a model gives no answer to: the options of every provider, remote or local. Opens nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

import pyarrow as pa

from lakeflow.errors import DeclarationError, LakeflowError, ModelError, ProviderUnavailable, UnknownName
from lakeflow.models import options
from lakeflow.models.remote.dialect import Answer, ErrorKind
from lakeflow.models.shapes import answer_of

if TYPE_CHECKING:
    from lakeflow.models.spec import ModelSpec

ERROR_COLUMNS = ("error_kind", "error_message")
ANSWERED_BY = "answered_by"
DEFAULT = "default_value"
"""What column answered_by says where the default stands in."""

_HEADERS = pa.map_(pa.string(), pa.list_(pa.string()))
FLINK_COLUMNS: Mapping[str, pa.DataType] = {
    "error_string": pa.string(),
    "http_status_code": pa.int32(),
    "http_headers_map": _HEADERS,
}
"""Source: Apache Flink's provider openai, "Available metadata": columns that OUTPUT may declare."""


class OnError(StrEnum):
    """What becomes of a row that has no answer after all retries, and none from a fallback."""

    FAIL = "fail"
    IGNORE = "ignore"
    SKIP = "skip"
    DEAD_LETTER = "dead_letter"


class Strategy(StrEnum):
    """Flink's 'error-handling-strategy'."""

    RETRY = "retry"
    FAILOVER = "failover"
    IGNORE = "ignore"


class Fallen(StrEnum):
    """Flink's 'retry-fallback-strategy': what follows once retries are spent."""

    FAILOVER = "failover"
    IGNORE = "ignore"


_MEANS = {Fallen.FAILOVER: OnError.FAIL, Fallen.IGNORE: OnError.IGNORE}


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a row has no answer. `status` and `headers` are of the service's last reply, where there was one."""

    kind: ErrorKind
    message: str
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Failing:
    """The options in values. `told` are the OUTPUT columns that lakeflow fills, by the name that says what with."""

    on_error: OnError = OnError.FAIL
    fallback_model: str | None = None
    default: Answer | None = None
    told: Mapping[str, str] = field(default_factory=dict)

    @property
    def replaced(self) -> bool:
        """Whether something else answers in the model's place."""
        return self.fallback_model is not None or self.default is not None

    @property
    def loses_rows(self) -> bool:
        """Whether rows without an answer are left out."""
        return self.on_error in (OnError.SKIP, OnError.DEAD_LETTER)


def read_failing(spec: ModelSpec) -> Failing:
    """Of a spec with all its OUTPUT columns. Raises DeclarationError for options that contradict each other."""
    on_error = read_on_error(spec)
    told = told_columns(spec.output, spec.options, on_error)
    for name, what in told.items():
        given, kind = spec.output.field(name).type, FLINK_COLUMNS.get(what, pa.string())
        if not given.equals(kind):
            raise DeclarationError(f"{spec.label}: OUTPUT {name!r} tells of errors, so it is {kind}, not {given}")
    if options.truth(spec, "error_columns") and on_error is not OnError.IGNORE:
        raise DeclarationError(
            f"{spec.label}: 'error_columns' = 'true' needs 'on_error' = 'ignore'; with '{on_error}' no such row is left"
        )
    fallback = options.required(spec, "fallback_model") if "fallback_model" in spec.options else None
    columns = [column for column in spec.output if column.name not in told]
    return Failing(on_error, fallback, _default(spec, columns), told)


def read_on_error(spec: ModelSpec) -> OnError:
    """'on_error', or what Flink's two options mean by it. Raises DeclarationError where they say different things."""
    own = options.choice(spec, "on_error", OnError)
    strategy = options.choice(spec, "error_handling_strategy", Strategy)
    fallen = options.choice(spec, "retry_fallback_strategy", Fallen)
    if fallen is not None and strategy not in (None, Strategy.RETRY):
        raise DeclarationError(
            f"{spec.label}: 'retry_fallback_strategy' follows retries, and 'error_handling_strategy' = '{strategy}' makes none"
        )
    match strategy:
        case Strategy.FAILOVER | Strategy.IGNORE:
            meant: OnError | None = _MEANS[Fallen(strategy)]
        case Strategy.RETRY:
            meant = _MEANS[fallen or Fallen.FAILOVER]
        case None:
            meant = None if fallen is None else _MEANS[fallen]
        case never:
            assert_never(never)
    if own is not None and meant not in (None, own):
        said = "error_handling_strategy" if fallen is None else "retry_fallback_strategy"
        raise DeclarationError(
            f"{spec.label}: 'on_error' = '{own}' and '{said}' = '{fallen or strategy}', which means '{meant}', contradict each "
            "other; give one of them"
        )
    return own or meant or OnError.FAIL


def never_retries(spec: ModelSpec) -> bool:
    """Whether 'error_handling_strategy' says so. Raises DeclarationError where 'retry_num' says otherwise."""
    strategy = options.choice(spec, "error_handling_strategy", Strategy)
    if strategy in (None, Strategy.RETRY):
        return False
    if "retry_num" in spec.options:
        raise DeclarationError(
            f"{spec.label}: 'error_handling_strategy' = '{strategy}' makes no retries; leave out 'retry_num'"
        )
    return True


def told_columns(output: pa.Schema, given: Mapping[str, str], on_error: OnError) -> Mapping[str, str]:
    """Column -> what it tells: those of errors, of who answered, and Flink's, which OUTPUT declares with dashes or without."""
    asked: list[str] = []
    if options.TRUTHS.get(given.get("error_columns", "").lower(), False):
        asked += ERROR_COLUMNS
    if options.TRUTHS.get(given.get("answered_by", "").lower(), False):
        asked.append(ANSWERED_BY)
    if on_error is OnError.IGNORE:
        asked += FLINK_COLUMNS
    named = {name: name.lower().replace("-", "_") for name in output.names}
    return {name: what for name, what in named.items() if what in asked}


def with_told(output: pa.Schema, given: Mapping[str, str]) -> pa.Schema:
    """OUTPUT with the columns that options ask for, where it does not declare them itself."""
    asked = [
        name
        for option, names in (("error_columns", ERROR_COLUMNS), ("answered_by", (ANSWERED_BY,)))
        if options.TRUTHS.get(given.get(option, "").lower(), False)
        for name in names
    ]
    return pa.schema([*output, *(pa.field(name, pa.string()) for name in asked if name not in output.names)])


def asked_of(spec: ModelSpec) -> ModelSpec:
    """The spec as its provider sees it: without the columns that tell of errors. Raises DeclarationError."""
    told = read_failing(spec).told
    if not told:
        return spec
    columns = [column for column in spec.output if column.name not in told]
    if not columns:
        raise DeclarationError(f"{spec.label}: OUTPUT has no column for the answer, only {', '.join(told)}")
    return replace(spec, output=pa.schema(columns))


def fallbacks(specs: Mapping[str, ModelSpec], name: str) -> Sequence[str]:
    """The models that answer in the place of one, in their order. Raises UnknownName, DeclarationError for a cycle or one of
    another INPUT or OUTPUT."""
    chain = [name]
    while (following := read_failing(specs[chain[-1]]).fallback_model) is not None:
        last = specs[chain[-1]]
        if following not in specs:
            others = [one for one in specs if one != name]
            raise UnknownName(f"model in option 'fallback_model' of {last.label}", following, others)
        if following in chain:
            raise DeclarationError(
                f"{last.label}: 'fallback_model' leads back to itself: {' -> '.join([*chain, following])}",
                next_step="let the last one have no fallback_model, or a 'default_value'",
            )
        _require_alike(last, specs[following])
        chain.append(following)
    return chain[1:]


def _require_alike(spec: ModelSpec, other: ModelSpec) -> None:
    mine, others = asked_of(spec), asked_of(other)
    for part, left, right in (("INPUT", mine.input, others.input), ("OUTPUT", mine.output, others.output)):
        shown, found = (", ".join(f"{one.name} {one.type}" for one in schema) for schema in (left, right))
        if shown != found:
            raise DeclarationError(
                f"{spec.label}: its 'fallback_model' {other.name!r} has another {part}: {found}; this one has {shown}"
            )


def _default(spec: ModelSpec, columns: Sequence[pa.Field]) -> Answer | None:
    """An object by column; a bare value where OUTPUT is one column, and any text where that is a STRING."""
    text = spec.options.get(DEFAULT)
    if text is None:
        return None
    try:
        value: object = json.loads(text)
    except ValueError:
        value = text
    if len(columns) == 1 and not (isinstance(value, dict) and list(value) == [columns[0].name]):
        is_text = pa.types.is_string(columns[0].type) and not isinstance(value, str) and value is not None
        value = {columns[0].name: text if is_text else value}
    try:
        return answer_of(value, columns)
    except ModelError as error:
        names = ", ".join(f"{one.name} {one.type}" for one in columns)
        said = error.message.replace("the answer", f"'{DEFAULT}'")
        raise DeclarationError(
            f"{spec.label}: option '{DEFAULT}' does not fit OUTPUT ({names}): {said}",
            next_step='write an object of JSON, as \'{"label": "unknown", "sure": null}\'; a single column takes a bare value',
        ) from error


_NEXT = {
    ErrorKind.UNAUTHORIZED: "check the secret that its api_key names, and what the account may use",
    ErrorKind.QUOTA: "see to the account's credit with the service, then run again; what was answered is in the cache",
    ErrorKind.MISUSED: "mend the options in its CREATE MODEL",
}
_OF_A_ROW = (
    "mend or leave out the row in the job, or say 'on_error' = 'skip', 'dead_letter' or 'ignore', which makes its answer null"
)
_LATER = "run again later; what was answered is in the cache, unless it is off"


def error_of(label: str, failed: Failed) -> LakeflowError:
    """The error of the tree for a row that has no answer, or for a service that answers none."""
    text = f"{label}: {failed.kind}: {failed.message}"
    if failed.kind in (ErrorKind.RATE_LIMITED, ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT):
        return ProviderUnavailable(text, next_step=_LATER)
    return ModelError(text, next_step=_NEXT.get(failed.kind, _OF_A_ROW))
