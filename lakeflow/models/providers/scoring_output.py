"""Where in an answer the values of OUTPUT columns stand.

A path is written `predictions[].score`: names with dots between them, `[1]` for a place in a list, and `[]` once for the
list that has a value for each row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lakeflow.errors import DeclarationError, ModelError
from lakeflow.models import options
from lakeflow.models.providers.http_errors import MOST_SHOWN
from lakeflow.models.remote.dialect import Answer
from lakeflow.models.shapes import check_answer
from lakeflow.models.spec import ModelSpec

TEXT_FIELD = "generated_text"
"""Where containers of Hugging Face put a text."""

_STEP = re.compile(r"(?:(?:^|\.)(?P<name>[^.\[\]]+))|\[(?P<place>\d+)\]|(?P<rows>\[\])")


Steps = tuple[str | int, ...]
"""Names of fields and places in lists."""


def at(value: Any, steps: Steps, missing: Callable[[], ModelError]) -> object:
    """What some steps lead to. Raises what `missing` makes where there is no such part."""
    for step in steps:
        kind = list if isinstance(step, int) else dict
        holds = isinstance(value, kind) and (step < len(value) if isinstance(step, int) else step in value)
        if not holds:
            raise missing()
        value = value[step]
    return value


def steps_of(text: str) -> list[str | int | None] | None:
    """The steps of a path, None among them for the list of rows; None in their place where it is no path."""
    steps: list[str | int | None] = []
    end = 0
    for found in _STEP.finditer(text):
        if found.start() != end:
            return None
        end = found.end()
        steps.append(found["name"] or (None if found["rows"] else int(found["place"])))
    return steps if steps and end == len(text) else None


def paths_by_column(
    spec: ModelSpec, columns: Sequence[pa.Field], paths: Iterable[tuple[str, str]], missing: Callable[[str], DeclarationError]
) -> dict[str, str]:
    """The option 'outputs' as paths by column. Raises UnknownName for a column that OUTPUT does not declare, and what
    `missing` makes of one that is left out."""
    names = [column.name for column in columns]
    named = options.by_column(spec, "outputs", paths, names)
    for name in names:
        if name not in named:
            raise missing(name)
    return named


def whole(value: object, kind: pa.DataType) -> object:
    """Services write labels, clusters and counts as reals: 2.0 is a whole number here, 2.5 is none."""
    return int(value) if isinstance(value, float) and value.is_integer() and pa.types.is_integer(kind) else value


@dataclass(frozen=True, slots=True)
class AnswerPath:
    """`before` leads to the list of rows, `after` from a row to its value; without `after` a value stands for the one row."""

    text: str
    before: Steps
    after: Steps | None

    def values(self, answer: object, rows: int) -> list[object]:
        """A value for each row. Raises ModelError, saying where the answer is of another shape."""
        if self.after is None:
            return [self._go(answer, self.before, answer)]
        return [self._go(row, self.after, answer) for row in _of_rows(self.listed(answer), rows)]

    def listed(self, answer: object) -> object:
        """What stands where the list of rows is expected. Raises ModelError."""
        return self._go(answer, self.before, answer)

    def _go(self, value: object, steps: Steps, answer: object) -> object:
        return at(value, steps, lambda: ModelError(f"the answer has no {self.text}: {_shown(answer)}"))


@dataclass(frozen=True, slots=True)
class Output:
    """`paths` by OUTPUT column; where there are none, a row is an object with the columns' names, or the one value."""

    columns: tuple[pa.Field, ...]
    paths: Mapping[str, AnswerPath]

    def read(self, answer: object, rows: int) -> tuple[Answer, ...]:
        """Raises ModelError where values are missing or do not fit their columns."""
        if self.paths:
            by_column = [self.paths[column.name].values(answer, rows) for column in self.columns]
            answers: list[Answer] = list(zip(*by_column, strict=True))
        else:
            answers = [self._of_row(row) for row in _of_rows(_rows_in(answer, rows), rows)]
        answers = [tuple(whole(value, column.type) for value, column in zip(one, self.columns, strict=True)) for one in answers]
        for one in answers:
            check_answer(one, self.columns)
        return tuple(answers)

    def miscounts(self, answer: object, rows: int) -> bool:
        """Whether it has another number of rows, as where a model took the first and left the others."""
        found = [path.listed(answer) for path in self.paths.values() if path.after is not None] or [_rows_in(answer, rows)]
        return any(not isinstance(one, list) or len(one) != rows for one in found)

    def _of_row(self, row: object) -> Answer:
        names = [column.name for column in self.columns]
        if not isinstance(row, dict):
            if len(names) == 1:
                return (row,)
            raise ModelError(f"a row's answer is {_shown(row)}, and OUTPUT declares {', '.join(names)}; say 'outputs'")
        if len(names) == 1 and names[0] not in row and TEXT_FIELD in row:
            return (row[TEXT_FIELD],)
        for name in names:
            if name not in row:
                raise ModelError(f"a row's answer has no {name!r}: {_shown(row)}; 'outputs' says where it stands")
        return tuple(row[name] for name in names)


def read_outputs(spec: ModelSpec, columns: Sequence[pa.Field], rows_a_request: int, default: str = "") -> Output:
    """The option `outputs`: `'predictions[].label:late, predictions[].score:p'`. Raises DeclarationError and UnknownName."""
    names = [column.name for column in columns]
    if "outputs" not in spec.options:
        return Output(tuple(columns), {names[0]: _path(spec, default)} if default and len(names) == 1 else {})
    split = [part.rpartition(":") for part in options.parts(spec, "outputs")]
    named = paths_by_column(
        spec, columns, [(name.strip(), path.strip()) for path, _, name in split], lambda name: _left_out(spec, name)
    )
    paths = {name: _path(spec, text) for name, text in named.items()}
    for path in paths.values():
        if path.after is None and rows_a_request > 1:
            raise DeclarationError(
                f"{spec.label}: the path {path.text!r} in option 'outputs' has no [], so it tells of one row only",
                next_step=f"mark the list of rows with [], or say 'batch_size' = '1' in place of {rows_a_request}",
            )
    return Output(tuple(columns), paths)


def _left_out(spec: ModelSpec, name: str) -> DeclarationError:
    return DeclarationError(
        f"{spec.label}: option 'outputs' says nothing of OUTPUT {name!r}",
        next_step=f"add 'predictions[].{name}:{name}' with the place where it stands in an answer",
    )


def _path(spec: ModelSpec, text: str) -> AnswerPath:
    steps = steps_of(text)
    if steps is None or steps.count(None) > 1:
        raise DeclarationError(
            f"{spec.label}: {text!r} in option 'outputs' is no path; it is written 'predictions[].score:column', "
            "with [] once for the list of rows and [1] for a place in a list"
        )
    place = steps.index(None) if None in steps else len(steps)
    before, after = _steps(steps[:place]), _steps(steps[place + 1 :])
    return AnswerPath(text, before, after if None in steps else None)


def _steps(steps: Sequence[str | int | None]) -> Steps:
    return tuple(step for step in steps if step is not None)


def _rows_in(answer: object, rows: int) -> object:
    """The list of rows; a single row may be the answer itself."""
    match answer:
        case {"predictions": found} | found if isinstance(found, list):
            return found
        case _:
            return [answer] if rows == 1 else answer


def _of_rows(found: object, rows: int) -> list[object]:
    if isinstance(found, list) and len(found) == rows:
        return found
    many = f"{len(found)} answers" if isinstance(found, list) else _shown(found)
    raise ModelError(f"{rows} rows were asked, and {many} came")


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)[:MOST_SHOWN]
