"""Deployed models that are asked with rows of values, whoever hosts them: what they are sent and how they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from lakeflow.errors import DeclarationError, ModelError
from lakeflow.models import options
from lakeflow.models.prompt import require_no_bytes
from lakeflow.models.providers.declared import json_object, require_vector
from lakeflow.models.providers.scoring_input import PARAMETERS_IN, Input, InputFormat
from lakeflow.models.providers.scoring_output import Output, read_outputs
from lakeflow.models.providers.service_answers import BYTES_A_TOKEN
from lakeflow.models.providers.service_options import read_question
from lakeflow.models.remote.dialect import Blame, ErrorKind, Reading, Request, Row
from lakeflow.models.shapes import parsed
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.models.usage import Tokens

SCORING_OPTIONS = ("input_format", "outputs", "parameters", "batch_size")
ROWS_A_REQUEST = 64
CHAT_PATH = "choices[0].message.content"


@dataclass(frozen=True, slots=True)
class Scoring:
    """The half of a `Dialect` that is about rows. `batch_size` is how many go into one request."""

    input: Input
    output: Output
    batch_size: int

    @property
    def columns(self) -> tuple[str, ...]:
        """The INPUT columns that a question holds."""
        return self.input.prompt.columns if self.input.format.asks_a_text else self.input.columns

    def identity(self) -> Mapping[str, str]:
        """See `Dialect`."""
        return {
            "input_format": str(self.input.format),
            "parameters": json.dumps(self.input.parameters, sort_keys=True),
            "prompt": json.dumps(self.input.prompt.pieces),
            "columns": json.dumps(self.columns),
            "outputs": json.dumps({name: path.text for name, path in self.output.paths.items()}),
        }

    def request(self, rows: Sequence[Row]) -> Request:
        """See `Dialect`."""
        body = self.input.body(rows)
        return Request(body, Tokens(len(body) // BYTES_A_TOKEN) if self.input.format.asks_a_text else Tokens())

    def read(self, body: bytes, rows: int) -> Reading | Blame:
        """See `Dialect`. Several rows that give one answer are too many for the model: fewer are sent from then on."""
        tokens = Tokens()
        try:
            answer = parsed(body)
            tokens = _tokens(answer)
            if rows > 1 and self.output.miscounts(answer, rows):
                return Blame(ErrorKind.TOO_LARGE, f"{rows} rows were asked, and as many answers did not come", tokens=tokens)
            return Reading(self.output.read(answer, rows), tokens)
        except ModelError as error:
            return Blame(ErrorKind.BROKEN_ANSWER, error.message, tokens=tokens)


def read_scoring(spec: ModelSpec, columns: Sequence[pa.Field], default: InputFormat) -> Scoring:
    """The options that say how rows go out and come back; `columns` are the OUTPUT columns but those of errors.

    Raises DeclarationError and UnknownName.
    """
    if spec.task is Task.EMBEDDING:
        require_vector(spec, columns)
    chosen = _format(spec, default)
    if "prompt" in spec.options and not chosen.asks_a_text:
        raise DeclarationError(
            f"{spec.label}: option 'prompt' goes with 'input_format' = 'text' or 'openai_chat', not {chosen}"
        )
    require_no_bytes(spec, spec.input.names)
    prompt = read_question(spec)
    if chosen.is_flat:
        _require_flat(spec, chosen)
    parameters = json_object(spec, "parameters")
    if parameters and chosen not in PARAMETERS_IN:
        valid = ", ".join(sorted(PARAMETERS_IN))
        raise DeclarationError(f"{spec.label}: 'input_format' = '{chosen}' has no place for 'parameters'; valid: {valid}")
    size = options.whole_number(spec, "batch_size", 1 if chosen.asks_a_text else ROWS_A_REQUEST)
    if chosen is InputFormat.OPENAI_CHAT and size > 1:
        raise DeclarationError(f"{spec.label}: option 'batch_size' is {size}; valid for 'openai_chat': 1")
    output = read_outputs(spec, columns, size, CHAT_PATH if chosen is InputFormat.OPENAI_CHAT else "")
    return Scoring(Input(chosen, tuple(spec.input.names), prompt, parameters), output, size)


def kind_of_model(status: int) -> ErrorKind:
    """What it means that the model's own container answered with `status`, where its host passes that on.

    A 500 is mostly the model's code that failed over one of the rows: it is asked again a few times, then by halves.
    """
    match status:
        case 408 | 504:
            return ErrorKind.TIMEOUT
        case 413:
            return ErrorKind.TOO_LARGE
        case 429:
            return ErrorKind.RATE_LIMITED
        case 500:
            return ErrorKind.BROKEN_ANSWER
        case _ if 400 <= status < 500:
            return ErrorKind.REFUSED
        case _:
            return ErrorKind.UNAVAILABLE


def _format(spec: ModelSpec, default: InputFormat) -> InputFormat:
    """Confluent writes these names with dashes, and `tf-serving` for `instances`."""
    if "input_format" not in spec.options:
        return default
    text = spec.options["input_format"].strip().lower().replace("-", "_")
    if text == "tf_serving":
        return InputFormat.INSTANCES
    if text not in list(InputFormat):
        return options.choice(spec, "input_format", InputFormat) or default
    return InputFormat(text)


def _require_flat(spec: ModelSpec, chosen: InputFormat) -> None:
    for column in spec.input:
        kind = column.type
        while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            kind = kind.value_type
        if pa.types.is_nested(kind):
            raise DeclarationError(
                f"{spec.label}: INPUT {column.name!r} is {column.type}, which a row of {chosen} cannot hold",
                next_step="say 'input_format' = 'records', or name its fields as columns in the job",
            )


def _tokens(answer: object) -> Tokens:
    """The field `usage` of containers that speak as OpenAI does."""
    match answer:
        case {"usage": {"prompt_tokens": int(asked), "completion_tokens": int(said)}}:
            return Tokens(max(0, asked), max(0, said))
        case _:
            return Tokens()
