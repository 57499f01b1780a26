"""Models as containers serve them: rows in one of the common forms in, JSON out. Hosts of endpoints pass it all through.

The score of a row is made of its values alone. Bodies follow "Common data formats for inference" of SageMaker, MLflow's
"Inference server specification" and the toolkits of Hugging Face.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.services.answers import vector_of

POISON = -13.0
"""A value over which the model's code fails."""
PARAMETERS = {"inputs": {"parameters"}, "input_data": {"params"}, "dataframe_split": {"params"}, "instances": {"configuration"}}
PARAMETERS |= {"messages": {"max_tokens", "temperature"}}


@dataclass
class ModelFailed(Exception):
    """What the container answers in place of a 200."""

    status: int
    message: str


def answer_of(model: str, content_type: str, body: bytes) -> Any:
    """What the model of that name says to a body. Raises ModelFailed."""
    rows = _rows(content_type, body)
    for row in rows:
        values = list(row.values()) if isinstance(row, dict) else row if isinstance(row, list) else [row]
        if POISON in values:
            raise ModelFailed(500, "ValueError: negative distance in score.py line 31")
    match model:
        case "scores":
            return {"predictions": [{"score": _score(row), "label": _label(row)} for row in rows]}
        case "pairs":
            return [[_score(row), 1.0 - _score(row)] for row in rows]
        case "columns":
            return {"outputs": {"p": [_score(row) for row in rows], "label": [_label(row) for row in rows]}}
        case "single":
            return {"score": _score(rows[0]), "label": _label(rows[0])}
        case "generate":
            return [{"generated_text": str(row).upper()} for row in rows]
        case "embed":
            return [vector_of(str(row), 4) for row in rows]
        case "wrapped":
            return json.dumps([{"score": _score(row), "label": _label(row)} for row in rows])
        case "chat":
            said = {"role": "assistant", "content": str(rows[0]).upper()}
            return {"choices": [{"index": 0, "message": said}], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
        case _:
            raise ModelFailed(404, f"no model {model}")


def _rows(content_type: str, body: bytes) -> list[Any]:
    if content_type == "text/csv":
        return [[_read(cell) for cell in line] for line in csv.reader(io.StringIO(body.decode()))]
    if content_type != "application/json":
        raise ModelFailed(415, f"Content type {content_type} is not supported")
    match json.loads(body):
        case [*rows]:
            return rows
        case {"instances": [*rows], **others}:
            _known("instances", others)
            return [row["features"] if isinstance(row, dict) and set(row) == {"features"} else row for row in rows]
        case {"inputs": str() | list() as texts, **others}:
            _known("inputs", others)
            return texts if isinstance(texts, list) else [texts]
        case {"input_data": {"columns": columns, "index": index, "data": data, **rest}, **others} if not rest:
            _known("input_data", others)
            if len(index) != len(data):
                raise ModelFailed(400, "index and data differ in length")
            return [dict(zip(columns, row, strict=True)) for row in data]
        case {"dataframe_split": {"columns": columns, "data": data, **rest}, **others} if not rest:
            _known("dataframe_split", others)
            return [dict(zip(columns, row, strict=True)) for row in data]
        case {"messages": [{"role": "user", "content": str(text)}], **others}:
            _known("messages", others)
            return [text]
        case other:
            raise ModelFailed(400, f"unexpected input: {str(other)[:80]}")


def _known(field: str, others: Mapping[Any, Any]) -> None:
    if unknown := sorted(set(others) - PARAMETERS[field]):
        raise ModelFailed(400, f"unexpected field {unknown[0]}")


def _read(cell: str) -> Any:
    try:
        return float(cell)
    except ValueError:
        return cell or None


def _score(row: Any) -> float:
    """Between 0 and 1, of the values in any form."""
    values = row.values() if isinstance(row, dict) else row if isinstance(row, list) else [row]
    total = 0.0
    for place, value in enumerate(values):
        is_number = isinstance(value, int | float) and math.isfinite(value)
        total += (place + 1) * (float(value) if is_number else float(len(str(value or ""))))
    return round(abs(total) % 101.0 / 101.0, 6)


def _label(row: Any) -> str:
    return "late" if _score(row) > 0.5 else "on time"
