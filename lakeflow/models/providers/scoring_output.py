"""Where in an answer the values of OUTPUT columns stand.

A path is written `predictions[].score`: names with dots between them, `[1]` for a place in a list, and `[]` once for the
list that has a value for each row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class AnswerPath:
    """`before` leads to the list of rows, `after` from a row to its value; without `after` a value stands for the one row."""

    text: str
    before: tuple[str | int, ...]
    after: tuple[str | int, ...] | None

    def values(self, answer: object, rows: int) -> list[object]:
        """A value for each row. Raises ModelError, saying where the answer is of another shape."""
        if self.after is None:
            return [self._go(answer, self.before, answer)]
        return [self._go(row, self.after, answer) for row in _of_rows(self.listed(answer), rows)]

    def listed(self, answer: object) -> object:
        """What stands where the list of rows is expected. Raises ModelError."""
        return self._go(answer, self.before, answer)

    def _go(self, value: Any, steps: Sequence[str | int], answer: object) -> object:
        for step in steps:
            holds = (
                isinstance(value, list) and step < len(value)
                if isinstance(step, int)
                else isinstance(value, dict) and step in value
            )
            if not holds:
                raise ModelError(f"the answer has no {self.text}: {_shown(answer)}")
            value = value[step]
        return value


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
        answers = [tuple(map(_whole, one, self.columns)) for one in answers]
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
    named = options.by_column(spec, "outputs", [(name.strip(), path.strip()) for path, _, name in split], names)
    missing = [name for name in names if name not in named]
    if missing:
        raise DeclarationError(
            f"{spec.label}: option 'outputs' says nothing of OUTPUT {missing[0]!r}",
            next_step=f"add 'predictions[].{missing[0]}:{missing[0]}' with the place where it stands in an answer",
        )
    paths = {name: _path(spec, text) for name, text in named.items()}
    for path in paths.values():
        if path.after is None and rows_a_request > 1:
            raise DeclarationError(
                f"{spec.label}: the path {path.text!r} in option 'outputs' has no [], so it tells of one row only",
                next_step=f"mark the list of rows with [], or say 'batch_size' = '1' in place of {rows_a_request}",
            )
    return Output(tuple(columns), paths)


def _path(spec: ModelSpec, text: str) -> AnswerPath:
    steps: list[str | int | None] = []
    end = 0
    for found in _STEP.finditer(text):
        if found.start() != end:
            break
        end = found.end()
        steps.append(found["name"] or (None if found["rows"] else int(found["place"])))
    if end != len(text) or not text or steps.count(None) > 1:
        raise DeclarationError(
            f"{spec.label}: {text!r} in option 'outputs' is no path; it is written 'predictions[].score:column', "
            "with [] once for the list of rows and [1] for a place in a list"
        )
    place = steps.index(None) if None in steps else len(steps)
    before, after = _steps(steps[:place]), _steps(steps[place + 1 :])
    return AnswerPath(text, before, after if None in steps else None)


def _steps(steps: Sequence[str | int | None]) -> tuple[str | int, ...]:
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


def _whole(value: object, column: pa.Field) -> object:
    """Containers write labels and clusters as reals: 2.0 is a whole number here, 2.5 is none."""
    is_whole = isinstance(value, float) and value.is_integer() and pa.types.is_integer(column.type)
    return int(value) if is_whole and isinstance(value, float) else value


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)[:MOST_SHOWN]
