"""How the values of a call meet the INPUT of a model, and how OUTPUT columns are told from those that are there. Pure.

The rules are those of models over frames, so that a job means the same in SQL and in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import pyarrow as pa

from lakeflow.errors import UsageError
from lakeflow.sql.compiled import Signature


def output_names(existing: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """`wanted`, with the first free number behind each name that is taken, in any case: `late0`. The rule is Flink's."""
    taken = {name.lower() for name in existing}
    names: list[str] = []
    for name in wanted:
        free, number = name, 0
        while free.lower() in taken:
            free, number = f"{name}{number}", number + 1
        taken.add(free.lower())
        names.append(free)
    return names


def input_types(model: Signature, given: Sequence[pa.DataType], columns: Sequence[str] = ()) -> tuple[pa.DataType, ...]:
    """What values of the types `given` are cast to. `columns` names them, where they are columns.

    Raises UsageError where a value cannot stand for its INPUT column.
    """
    for place, (kind, declared) in enumerate(zip(given, model.input, strict=True)):
        if not castable(kind, declared.type):
            what = f"column {columns[place]!r}" if columns else f"value {place + 1}"
            raise UsageError(
                f"{what} is {kind}, INPUT {declared.name!r} of model {model.name!r} is {declared.type}; "
                "such a cast is not made",
                next_step="cast it in the query: CAST(.. AS ..), or change INPUT",
            )
    return tuple(model.input.types)


def castable(given: pa.DataType, declared: pa.DataType) -> bool:
    """Whether values of one type are meant where INPUT declares another.

    Numbers widen and narrow within their kind, integers become fractions, truths numbers, categories strings. Nothing
    becomes a string, no string a number, no fraction an integer: each of these has a silent wrong answer in it.
    """
    if given.equals(declared) or pa.types.is_null(given):
        return True
    if pa.types.is_dictionary(given):
        return castable(given.value_type, declared)
    if is_list(given) and is_list(declared):
        return castable(given.value_type, declared.value_type)
    return any(given_kind(given) and declared_kind(declared) for given_kind, declared_kind in _MEANT)


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists of any length or of a fixed one."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether values are texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind)
    )


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind))


_MEANT: Final[tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], bool]], ...]] = (
    (is_text, is_text),
    (_is_number, pa.types.is_floating),
    (_is_whole, pa.types.is_integer),
    (pa.types.is_timestamp, pa.types.is_timestamp),
    (pa.types.is_decimal, pa.types.is_decimal),
    (pa.types.is_binary, pa.types.is_binary),
    (pa.types.is_large_binary, pa.types.is_binary),
)
