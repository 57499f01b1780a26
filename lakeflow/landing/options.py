"""Reads the values of a landing's WITH options: numbers, sizes, durations, lists, choices. Pure.

Each raises DeclarationError that names the option, its value and the valid ones; `where` is what they stand in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from lakeflow.errors import DeclarationError, did_you_mean

Options = Mapping[str, str]

_SECONDS = {
    "": 1.0,
    **dict.fromkeys(("ms", "milli", "millis", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
}
_BYTES = {
    "": 1,
    **dict.fromkeys(("b", "byte", "bytes"), 1),
    **dict.fromkeys(("k", "kb", "kib"), 1 << 10),
    **dict.fromkeys(("m", "mb", "mib"), 1 << 20),
    **dict.fromkeys(("g", "gb", "gib"), 1 << 30),
}
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]*)")


def choice(options: Options, name: str, valid: Iterable[str], default: str, where: str) -> str:
    """One of the `valid` texts."""
    text = options.get(name, default)
    if text not in (names := [str(one) for one in valid]):
        raise DeclarationError(f"{where}: {name!r} is {text!r}{did_you_mean(text, names)}")
    return text


def listed(options: Options, name: str, separator: str = ";") -> tuple[str, ...]:
    """The texts between separators, each once; empty ones are left out."""
    return tuple(dict.fromkeys(part.strip() for part in options.get(name, "").split(separator) if part.strip()))


def count(options: Options, name: str, default: int, where: str) -> int:
    """A whole number above 0."""
    text = options.get(name)
    if text is None:
        return default
    if not re.fullmatch("[0-9]{1,15}", text) or int(text) == 0:
        raise DeclarationError(f"{where}: {name!r} is {text!r}; valid: a whole number above 0")
    return int(text)


def size(options: Options, name: str, default: int, where: str) -> int:
    """Bytes, as a number or with a unit that is a power of 1024, as Flink has them: '64 mb'."""
    return int(_quantity(options, name, _BYTES, default, f"{where}: %s; valid: a size above 0, such as '64 mb'", least=1))


def seconds(options: Options, name: str, default: float, where: str) -> float:
    """A duration in seconds, as a number or with a unit, as Flink has them: '500 ms', '10 s', '1 min'."""
    return _quantity(options, name, _SECONDS, default, f"{where}: %s; valid: a duration above 0, such as '10 s', '1 min'")


def _quantity(
    options: Options, name: str, units: Mapping[str, float], default: float, message: str, *, least: float = 0.001
) -> float:
    text = options.get(name)
    if text is None:
        return default
    found = _QUANTITY.fullmatch(text.strip())
    value = float(found[1]) * units[found[2].lower()] if found and found[2].lower() in units else 0.0
    if value < least:
        raise DeclarationError(message % f"{name!r} is {text!r}")
    return value
