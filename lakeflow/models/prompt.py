"""What a row asks: a template over INPUT columns, or the row itself, as far as the model's context has room."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time
from pathlib import Path

import pyarrow as pa

from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.models.context import Context, Part
from lakeflow.models.remote.dialect import Row
from lakeflow.models.spec import ModelSpec

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True, slots=True)
class Prompt:
    """`pieces` are texts and, at every odd place, names of columns. Without a template (None) the row is the prompt:
    the text of a single STRING column, else an object of JSON. `context` is the room that it has, None for any."""

    pieces: tuple[str, ...] | None
    columns: tuple[str, ...]
    context: Context | None = None

    def within(self, context: Context | None) -> Prompt:
        """The same, cut to that room."""
        return replace(self, context=context)

    def of(self, row: Row) -> str:
        """The text for a row, cut where it has to be."""
        return "".join(map(str, self.parts(row))) if self.context is None else self.context.fit(self.parts(row))

    def skips(self, row: Row) -> bool:
        """Whether a row is too long to be asked, so that its answer is null."""
        return self.context is not None and self.context.skips(self.parts(row))

    def check(self) -> None:
        """Opens the tokenizer. Raises ModelError where that fails, or where the fixed text leaves no room for a row."""
        if self.context is not None and self.context.room:
            self.context.counter.count("")

    def identity(self) -> Mapping[str, str | Path]:
        """What of the room decides the answers."""
        return {} if self.context is None else self.context.identity()

    def parts(self, row: Row) -> list[Part]:
        """The text in pieces, those of the row's own texts apart."""
        if self.pieces is not None:
            return [_part(row[piece]) if place % 2 else Part(piece) for place, piece in enumerate(self.pieces)]
        if len(row) == 1:
            return [_part(next(iter(row.values())))]
        parts = []
        for place, (name, value) in enumerate(row.items()):
            parts.append(Part(f"{', ' if place else '{'}{json.dumps(name, ensure_ascii=False)}: "))
            if isinstance(value, str):
                parts += [Part('"'), Part(value, free=True, quoted=True), Part('"')]
            else:
                parts.append(Part(json.dumps(_jsonable(value), ensure_ascii=False)))
        return [*parts, Part("}")]


def _part(value: object) -> Part:
    return Part(shown(value), free=isinstance(value, str))


def read_prompt(spec: ModelSpec) -> Prompt:
    """The option 'prompt'. Raises UnknownName for a column that INPUT does not declare, DeclarationError for a lone brace."""
    template = spec.options.get("prompt")
    if template is None:
        return Prompt(None, tuple(spec.input.names))
    pieces = [""]
    end = 0
    for found in _PIECE.finditer(template):
        pieces[-1] += template[end : found.start()]
        end = found.end()
        match found.group():
            case "{{" | "}}" as doubled:
                pieces[-1] += doubled[0]
            case "{" | "}" as lone:
                raise DeclarationError(
                    f"{spec.label}: option 'prompt' has a lone {lone!r} at character {found.start() + 1}",
                    next_step="write {column} for a column's value, and {{ or }} for a brace",
                )
            case _:
                pieces += [_column(spec, found[1].strip()), ""]
    pieces[-1] += template[end:]
    return Prompt(tuple(pieces), tuple(dict.fromkeys(pieces[1::2])))


def shown(value: object) -> str:
    """A value as text in a prompt; a null is no text."""
    match value:
        case None:
            return ""
        case str():
            return value
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            return json.dumps(_jsonable(value), ensure_ascii=False)


def is_missing(value: object) -> bool:
    """Whether a value is null, or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def _jsonable(value: object) -> object:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case list() | tuple():
            return [_jsonable(one) for one in value]
        case dict():
            return {str(name): _jsonable(one) for name, one in value.items()}
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            return str(value)


def _column(spec: ModelSpec, name: str) -> str:
    if name not in spec.input.names:
        raise UnknownName(f"INPUT column in option 'prompt' of {spec.label}", name, spec.input.names)
    return name


def require_no_bytes(spec: ModelSpec, columns: Sequence[str]) -> None:
    """Raises DeclarationError for a column of bytes: no prompt can hold one."""
    for name in columns:
        kind = spec.input.field(name).type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
            raise DeclarationError(
                f"{spec.label}: INPUT {name!r} is {kind}, which a text cannot hold; make it a STRING in the job"
            )
