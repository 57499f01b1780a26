"""Rows as the body of a request to a deployed model, in the forms that the common containers read."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from typing import Any

from lakeflow.models.prompt import Prompt
from lakeflow.models.remote.dialect import Row


class InputFormat(StrEnum):
    """How rows are written. `text` and `openai_chat` send what a row asks, the others its values."""

    RECORDS = "records"
    JSON_ARRAY = "json_array"
    INSTANCES = "instances"
    FEATURES = "features"
    PANDAS_DATAFRAME = "pandas_dataframe"
    INPUT_DATA = "input_data"
    CSV = "csv"
    TEXT = "text"
    OPENAI_CHAT = "openai_chat"

    @property
    def asks_a_text(self) -> bool:
        return self in (InputFormat.TEXT, InputFormat.OPENAI_CHAT)

    @property
    def is_flat(self) -> bool:
        """Whether a row is one list without names, into which the values of an ARRAY go one by one."""
        return self in (InputFormat.JSON_ARRAY, InputFormat.FEATURES, InputFormat.CSV)

    @property
    def content_type(self) -> str:
        return "text/csv" if self is InputFormat.CSV else "application/json"


PARAMETERS_IN: Mapping[InputFormat, str | None] = {
    InputFormat.INSTANCES: None,
    InputFormat.FEATURES: None,
    InputFormat.OPENAI_CHAT: None,
    InputFormat.TEXT: "parameters",
    InputFormat.PANDAS_DATAFRAME: "params",
    InputFormat.INPUT_DATA: "params",
}
"""The formats that take parameters, and the field that holds them; with None they stand beside the rows."""


@dataclass(frozen=True, slots=True)
class Input:
    """`columns` in the order of INPUT; `prompt` is what a row asks, in the formats that ask a text."""

    format: InputFormat
    columns: tuple[str, ...]
    prompt: Prompt
    parameters: Mapping[str, Any]

    def body(self, rows: Sequence[Row]) -> bytes:
        """The body for some rows. A number that JSON does not have is sent as its name, for the model to judge."""
        if self.format is InputFormat.CSV:
            return _csv([self._flat(row) for row in rows])
        body = self._rows(rows)
        if self.parameters:
            field = PARAMETERS_IN[self.format]
            body = {**body, **(self.parameters if field is None else {field: self.parameters})}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")

    def _rows(self, rows: Sequence[Row]) -> Any:
        match self.format:
            case InputFormat.RECORDS:
                return [self._named(row) for row in rows]
            case InputFormat.JSON_ARRAY:
                return [self._flat(row) for row in rows]
            case InputFormat.INSTANCES:
                return {"instances": [self._named(row) for row in rows]}
            case InputFormat.FEATURES:
                return {"instances": [{"features": self._flat(row)} for row in rows]}
            case InputFormat.PANDAS_DATAFRAME:
                return {"dataframe_split": {"columns": self.columns, "data": self._split(rows)}}
            case InputFormat.INPUT_DATA:
                index = list(range(len(rows)))
                return {"input_data": {"columns": self.columns, "index": index, "data": self._split(rows)}}
            case InputFormat.TEXT:
                texts = [self.prompt.of(row) for row in rows]
                return {"inputs": texts[0] if len(texts) == 1 else texts}
            case InputFormat.OPENAI_CHAT:
                [row] = rows
                return {"messages": [{"role": "user", "content": self.prompt.of(row)}]}
            case InputFormat.CSV:
                raise AssertionError("CSV is no JSON")

    def _named(self, row: Row) -> Mapping[str, object]:
        return {name: plain(row[name]) for name in self.columns}

    def _split(self, rows: Sequence[Row]) -> list[list[object]]:
        return [[plain(row[name]) for name in self.columns] for row in rows]

    def _flat(self, row: Row) -> list[object]:
        return list(_spliced(plain(row[name]) for name in self.columns))


def plain(value: object) -> object:
    """A value as JSON has it: null for NaN, text in ISO 8601 for dates and times, a number for a DECIMAL."""
    for kinds, reading in _READINGS:
        if isinstance(value, kinds):
            return reading(value)
    return value


def _real(value: float) -> object:
    return value if math.isfinite(value) else None if math.isnan(value) else str(value)


_READINGS: tuple[tuple[tuple[type, ...], Callable[[Any], object]], ...] = (
    ((float,), _real),
    ((Decimal,), float),
    ((datetime, date, time), lambda value: value.isoformat()),
    ((list, tuple), lambda value: [plain(one) for one in value]),
    ((dict,), lambda value: {str(name): plain(one) for name, one in value.items()}),
)


def _spliced(values: Iterable[object]) -> Iterable[object]:
    for value in values:
        if isinstance(value, list):
            yield from _spliced(value)
        else:
            yield value


def _csv(rows: Sequence[Sequence[object]]) -> bytes:
    """Lines without a header, a null as nothing. Source: RFC 4180."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([str(one).lower() if isinstance(one, bool) else one for one in row] for row in rows)
    return text.getvalue().encode("utf-8", "replace")
