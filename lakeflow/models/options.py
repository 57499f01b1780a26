"""Readers of a model's WITH pairs: a text in, a value out, a DeclarationError with the valid ones where it does not fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from lakeflow.errors import DeclarationError, UnknownName, did_you_mean

if TYPE_CHECKING:
    from lakeflow.models.spec import ModelSpec, Task

Choice = TypeVar("Choice", bound=StrEnum)

TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def refuse_unknown(spec: ModelSpec, valid: Collection[str]) -> None:
    """Raises UnknownName for the first option that is not in `valid`."""
    for name in sorted(spec.options):
        if name not in valid:
            raise UnknownName(f"option of {spec.label}", name, [*valid, "provider", "task"])


def require_task(spec: ModelSpec, valid: Collection[Task]) -> None:
    """Raises UnknownName where the provider does not do the declared task."""
    if spec.task not in valid:
        raise UnknownName(f"task of {spec.label} for provider {spec.provider!r}", str(spec.task), [str(task) for task in valid])


def required(spec: ModelSpec, name: str) -> str:
    """The option's text. Raises DeclarationError where it is missing or blank."""
    text = spec.options.get(name, "").strip()
    if not text:
        raise DeclarationError(
            f"{spec.label}: option '{name}' is missing, which provider {spec.provider!r} needs",
            next_step=f"add '{name}' = '..' to its WITH (..)",
        )
    return text


def whole_number(spec: ModelSpec, name: str, default: int, *, least: int = 1) -> int:
    """A whole number of at least `least`."""
    text = spec.options.get(name)
    if text is None:
        return default
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise DeclarationError(f"{spec.label}: option '{name}' is {text!r}; valid: a whole number of at least {least}")
    return number


def truth(spec: ModelSpec, name: str) -> bool | None:
    """true or false; None where nothing is said."""
    text = spec.options.get(name)
    if text is None:
        return None
    if text.lower() not in TRUTHS:
        raise DeclarationError(f"{spec.label}: option '{name}' is {text!r}; valid: true, false")
    return TRUTHS[text.lower()]


def choice(spec: ModelSpec, name: str, kind: type[Choice]) -> Choice | None:
    """One of the values of `kind`; None where nothing is said."""
    text = spec.options.get(name)
    if text is None:
        return None
    if text.lower() not in list(kind):
        raise DeclarationError(f"{spec.label}: option '{name}' is {text!r}{did_you_mean(text, [str(one) for one in kind])}")
    return kind(text.lower())


def by_column(spec: ModelSpec, name: str, parts: Iterable[tuple[str, str]], columns: Collection[str]) -> dict[str, str]:
    """`(column, value)` parts of an option as a dict. Raises UnknownName for a column not in `columns`, DeclarationError
    for one that is named twice."""
    read: dict[str, str] = {}
    for column, value in parts:
        if column not in columns:
            raise UnknownName(f"column in option '{name}' of {spec.label}", column, columns)
        if column in read:
            raise DeclarationError(f"{spec.label}: option '{name}' names {column!r} twice: {spec.options[name]!r}")
        read[column] = value
    return read


def parts(spec: ModelSpec, name: str) -> list[str]:
    """The pieces between commas, trimmed, blank ones left out."""
    return [piece.strip() for piece in spec.options.get(name, "").split(",") if piece.strip()]
