"""Options that several services of language models have alike, read into values. Nothing is opened here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import pyarrow as pa

from lakeflow.errors import DeclarationError
from lakeflow.models import options
from lakeflow.models.context import CHAT_TOKENS, read_context
from lakeflow.models.prompt import Prompt, read_prompt, require_no_bytes
from lakeflow.models.spec import ModelSpec, Task

Format = TypeVar("Format", bound=StrEnum)


def read_question(spec: ModelSpec) -> Prompt:
    """What a row asks. Raises UnknownName and DeclarationError, also where every row would ask the same."""
    prompt = read_prompt(spec)
    require_no_bytes(spec, prompt.columns)
    if not prompt.columns:
        raise DeclarationError(f"{spec.label}: option 'prompt' names no INPUT column, so every row would ask the same")
    return prompt


def within_context(spec: ModelSpec, prompt: Prompt, system: str, schema: Mapping[str, Any]) -> Prompt:
    """The prompt in the room that a context leaves beside the texts that go with every row. Raises DeclarationError."""
    context = read_context(spec)
    if context is None:
        return prompt
    return prompt.within(context.beside(system, json.dumps(schema) if schema else "", extra=CHAT_TOKENS))


def read_format(
    spec: ModelSpec, columns: Sequence[pa.Field], text: Format, typed: Format, becomes: str = "a JSON schema"
) -> Format:
    """The option 'response_format': `text` fills one STRING column, `typed` is how several are asked for where nothing is
    said; `becomes` names in a message what they become by it.

    Raises DeclarationError where `text` is asked for and OUTPUT is something else.
    """
    is_text = len(columns) == 1 and pa.types.is_string(columns[0].type)
    plain = text if is_text and spec.task is Task.TEXT_GENERATION else typed
    chosen = options.choice(spec, "response_format", type(text)) or plain
    if chosen is text and not is_text:
        raise DeclarationError(
            f"{spec.label}: option 'response_format' = '{text}' fills one STRING column; OUTPUT has "
            f"{', '.join(f'{one.name} {one.type}' for one in columns)}",
            next_step=f"leave response_format out: the answer's columns become {becomes}",
        )
    return chosen


def read_labels(spec: ModelSpec) -> tuple[str, ...]:
    """The option 'labels'. Raises DeclarationError where the task is no classification."""
    labels = tuple(options.parts(spec, "labels"))
    if labels and spec.task is not Task.CLASSIFICATION:
        raise DeclarationError(f"{spec.label}: option 'labels' goes with task 'classification', not {str(spec.task)!r}")
    return labels


def read_batch_size(spec: ModelSpec, default: int, most: int, of: str = "") -> int:
    """The option 'batch_size', from 1 to `most`, the limit of the service or of what `of` names. Raises DeclarationError."""
    size = options.whole_number(spec, "batch_size", default)
    if size > most:
        raise DeclarationError(f"{spec.label}: option 'batch_size' is {size}; valid{of and f' for {of}'}: 1 to {most}")
    return size


def key_missing(spec: ModelSpec, name: str, secret: str, service: str) -> DeclarationError:
    """For a service that is asked without a key. `secret` is the name that its key usually has."""
    return DeclarationError(
        f"{spec.label}: option '{name}' is missing, which {service} needs",
        next_step=f"add '{name}' = '{{{{ secret.{secret} }}}}' to WITH (..), and export LAKEFLOW_SECRET_{secret}",
    )


def alternative(spec: ModelSpec, name: str, other: str) -> str:
    """The one of two names of an option that is given. Raises DeclarationError where both are."""
    if name in spec.options and other in spec.options:
        raise DeclarationError(f"{spec.label}: '{name}' and '{other}' mean the same; give one of them")
    return other if other in spec.options else name
