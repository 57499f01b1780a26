"""How a frame's columns meet INPUT and OUTPUT: which casts are meant, and how names that clash are told apart. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from lakeflow.errors import ModelError
from lakeflow.models.spec import ModelSpec


def output_names(existing: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """`wanted`, with the first free number behind each name that is taken: `late0`. Source of the rule: Flink's ML_PREDICT."""
    taken = set(existing)
    names: list[str] = []
    for name in wanted:
        free, number = name, 0
        while free in taken:
            free, number = f"{name}{number}", number + 1
        taken.add(free)
        names.append(free)
    return names


def castable(given: pa.DataType, declared: pa.DataType) -> bool:
    """Whether values of one type are meant where INPUT declares another.

    Numbers widen and narrow within their kind, integers become fractions, truths numbers, categories strings. Nothing
    becomes a string, no string a number, no fraction an integer: each of these has a silent wrong answer in it.
    """
    if given.equals(declared) or pa.types.is_null(given):
        return True
    if pa.types.is_dictionary(given):
        return castable(given.value_type, declared)
    if _is_list(given) and _is_list(declared):
        return castable(given.value_type, declared.value_type)
    return any(given_kind(given) and declared_kind(declared) for given_kind, declared_kind in _MEANT)


def require_castable(spec: ModelSpec, name: str, given: pa.DataType, declared: pa.Field) -> None:
    """Raises ModelError where the frame's column `name` cannot stand for the INPUT column `declared`."""
    if not castable(given, declared.type):
        raise ModelError(
            f"{spec.label}: column {name!r} is {given}, INPUT {declared.name!r} is {declared.type}; such a cast is not made",
            next_step=f"cast the column in the job, for instance pl.col({name!r}).cast(..), or change INPUT",
        )


def input_rows(spec: ModelSpec, columns: Sequence[pa.Array]) -> pa.RecordBatch:
    """The columns, by position, as INPUT declares them. Raises ModelError where a value does not fit."""
    cast = [_cast(spec, column, declared) for column, declared in zip(columns, spec.input, strict=True)]
    return pa.RecordBatch.from_arrays(cast, schema=spec.input)


def _cast(spec: ModelSpec, column: pa.Array, declared: pa.Field) -> pa.Array:
    if column.type.equals(declared.type):
        return column
    try:
        return column.cast(declared.type, safe=not _is_real(declared.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ModelError(f"{spec.label}: a value does not fit INPUT {declared.name!r}, {declared.type}: {error}") from error


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_whole(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind))


def _is_real(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind)
    )


def _is_truth(kind: pa.DataType) -> bool:
    return bool(pa.types.is_boolean(kind))


_MEANT = (
    (_is_text, _is_text),
    (_is_number, _is_real),
    (_is_whole, _is_whole),
    (_is_truth, _is_whole),
    (pa.types.is_timestamp, pa.types.is_timestamp),
    (pa.types.is_decimal, pa.types.is_decimal),
    (pa.types.is_binary, pa.types.is_binary),
    (pa.types.is_large_binary, pa.types.is_binary),
)
