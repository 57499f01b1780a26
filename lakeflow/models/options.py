"""Readers of a model's WITH pairs: a text in, a value out, a DeclarationError with the valid ones where it does not fit."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from lakeflow.errors import DeclarationError, UnknownName, did_you_mean

if TYPE_CHECKING:
    from lakeflow.models.spec import ModelSpec, Task

Choice = TypeVar("Choice", bound=StrEnum)

TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


FAILING_OPTIONS = (
    "on_error",
    "error_columns",
    "fallback_model",
    "default_value",
    "answered_by",
    "error_handling_strategy",
    "retry_fallback_strategy",
)
"""Of every provider: what becomes of a row without an answer; failing.py reads them."""


def refuse_unknown(spec: ModelSpec, valid: Collection[str]) -> None:
    """Raises UnknownName for the first option that is not in `valid`, nor one that every provider has."""
    for name in sorted(spec.options):
        if name not in valid and name not in FAILING_OPTIONS:
            raise UnknownName(f"option of {spec.label}", name, [*valid, *FAILING_OPTIONS, "provider", "task"])


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


def is_host(name: str | None) -> bool:
    """Whether a URL's host can be looked up at all: some text without blanks, of labels as the DNS has them."""
    if not name or any(sign.isspace() or not sign.isprintable() for sign in name):
        return False
    try:
        return bool(name.encode("idna"))
    except UnicodeError:
        return False


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


def fraction(spec: ModelSpec, name: str, *, least: float | None = None, most: float | None = None) -> float | None:
    """A finite number in that range, both ends in it; None where nothing is said."""
    text = spec.options.get(name)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (least is not None and number < least) or (most is not None and number > most):
        bounds = "".join([f" from {least:g}" if least is not None else "", f" to {most:g}" if most is not None else ""])
        raise DeclarationError(f"{spec.label}: option '{name}' is {text!r}; valid: a number{bounds}")
    return number


def seconds(spec: ModelSpec, name: str, default: float) -> float:
    """A duration above zero with its unit, as '500 ms', '30s', '3 min', in seconds."""
    text = spec.options.get(name)
    if text is None:
        return default
    found = re.fullmatch(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([a-z]+)\s*", text.lower())
    if found is None or found[2] not in _UNITS or not float(found[1]):
        raise DeclarationError(
            f"{spec.label}: option '{name}' is {text!r}; valid: a duration with its unit, as '500 ms', '30 s', '3 min'"
        )
    return float(found[1]) * _UNITS[found[2]]


_UNITS = {"ms": 0.001, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "min": 60.0, "minute": 60.0, "minutes": 60.0}
_UNITS |= {"h": 3600.0, "hour": 3600.0, "hours": 3600.0}


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
